local async, test = require "rille.async", require "support.test"

local sleep_for_ever = test.sleep_for_ever

test("run gives the results of its function, nils among them, and hands on arguments", function()
  test.eq(select("#", async.run(function(...) return async.sleep(0, ...) end, 1, nil, nil)), 3)
end)

test("run runs its function as a task of its own", function()
  local own = async.current_task()
  assert(async.run(async.current_task) ~= own)
end)

test("run raises the error of its function unchanged", function()
  local value = { "any table" }
  local ok, err = pcall(async.run, error, value)
  assert(not ok and rawequal(err, value))
end)

test("run cancels what was spawned under it and waits for its clean-up", function()
  local log = test.log()
  test.eq(async.run(function()
    async.spawn(function()
      async.finally(sleep_for_ever, function()
        test.turns(3)
        log "cleaned up"
      end)
    end)
    async.sleep(0)
    log "end"
    return "result"
  end), "result")
  log "run"
  test.eq(log, { "end", "cleaned up", "run" })
end)

test("run cancels what is running under it when its function fails, too", function()
  local log = test.log()
  test.raises("oops", async.run, function()
    async.spawn(function()
      async.finally(sleep_for_ever, function() log "cleaned up" end)
    end)
    async.sleep(0)
    error "oops"
  end)
  test.eq(log, { "cleaned up" })
end)

test("spawned under run means all descendants", function()
  local log = test.log()
  async.run(function()
    async.spawn(function()
      async.spawn(function()
        async.finally(sleep_for_ever, function() log "grandchild" end)
      end)
    end) -- the child has ended long before the grandchild is cancelled
    test.turns(4)
  end)
  test.eq(log, { "grandchild" })
end)

test("spawned under run means through callbacks, too", function()
  local log = test.log()
  local function child(name)
    return function()
      async.finally(sleep_for_ever, function() log(name) end)
    end
  end
  async.run(function()
    async.call_soon(async.spawn, child "call_soon")
    async.call_later(0, async.spawn, child "call_later")
    local done = async.spawn(function() end)
    done:add_done_callback(function() async.spawn(child "done callback") end)
    async.sleep(0.005)
  end)
  table.sort(log)
  test.eq(log, { "call_later", "call_soon", "done callback" })
end)

test("run leaves tasks alone that were spawned elsewhere", function()
  local event = async.Event()
  local outside = async.spawn(event.wait, event)
  async.run(async.sleep, 0)
  assert(not outside:done() and not outside:cancelling())
  event:set()
  outside:await()
end)

test("a task that is spawned during the clean-up of run is ended, too", function()
  local log = test.log()
  async.run(function()
    async.spawn(function()
      async.finally(sleep_for_ever, function()
        async.spawn(function()
          async.finally(sleep_for_ever, function() log "late child" end)
        end)
        test.turns(3)
      end)
    end)
    async.sleep(0)
  end)
  test.eq(#async.all_tasks() >= 1, true)
  test.eq(log, { "late child" })
end)

test("whoever is cancelled in run cancels its function and what was spawned under it", function()
  local log = test.log()
  local task = async.spawn(async.run, function()
    async.spawn(function()
      async.finally(sleep_for_ever, function() log "child" end)
    end)
    async.finally(sleep_for_ever, function() log "function" end)
  end)
  test.turns(4)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  table.sort(log)
  test.eq(log, { "child", "function" })
end)

test("run may stand inside run", function()
  test.eq(async.run(function() return async.run(function() return "inner" end) end), "inner")
end)

test("run names its wrong argument, itself and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'run' (function expected, got nil)",
    function() async.run(nil) end
  )
end)
