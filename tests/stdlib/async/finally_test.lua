local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local sleep_for_ever = test.sleep_for_ever

test("finally gives the results of its function, nils among them, after the clean-up", function()
  local log = test.log()
  local function results() return 1, nil, nil end
  local n = select("#", async.finally(results, function() log "clean-up" end))
  test.eq(n, 3)
  test.eq(log, { "clean-up" })
end)

test("finally runs the clean-up when its function fails, and raises the error unchanged", function()
  local log, value = test.log(), { "any table" }
  local ok, err = pcall(async.finally, function() error(value) end, function() log "clean-up" end)
  assert(not ok and rawequal(err, value))
  test.eq(log, { "clean-up" })
end)

test("finally runs the clean-up when its task is cancelled, and the task is cancelled", function()
  local log = test.log()
  local task = async.spawn(async.finally, sleep_for_ever, function() log "clean-up" end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "clean-up" })
end)

test("the clean-up of a cancelled task may wait as often as it wants", function()
  local log = test.log()
  local task = async.spawn(async.finally, sleep_for_ever, function()
    for i = 1, 3 do
      async.sleep(0)
      log(i)
    end
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "1", "2", "3" })
end)

test("the function of finally may wait", function()
  test.eq(async.finally(function() return async.sleep(0, "result") end, function() end), "result")
end)

test("the results of the clean-up are dropped", function()
  test.eq({ async.finally(function() return 1 end, function() return 2, 3 end) }, { 1 })
end)

test("an error in the clean-up replaces the former one, which becomes its cause", function()
  local former = errors.new("OSError", "former")
  local err = test.raises("TimeoutError", async.finally, function() error(former) end, function()
    error(errors.new("TimeoutError", "from the clean-up"))
  end)
  assert(rawequal(err.cause, former))
end)

test("an error in the clean-up of a function that ended well is raised", function()
  test.raises("from the clean%-up", async.finally, function() return 1 end, function()
    error "from the clean-up"
  end)
end)

test("an error in the clean-up of a cancelled task is caused by the cancellation", function()
  local mine = errors.new("OSError", "from the clean-up")
  local task = async.spawn(async.finally, sleep_for_ever, function() error(mine) end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(not task:cancelled() and rawequal(task:error(), mine))
  assert(async.is_cancelled(mine.cause))
end)

test("a cancel that arrives during the clean-up waits until it is through", function()
  local event, log = async.Event(), test.log()
  local task = async.spawn(function()
    async.finally(function() end, function()
      event:wait()
      async.sleep(0)
      log "clean-up"
    end)
    log "after"
    async.sleep(0)
    log "not reached"
  end)
  async.sleep(0)
  task:cancel()
  test.turns(3)
  assert(not task:done())
  event:set()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "clean-up", "after" })
end)

test("a second cancel during the clean-up of the first interrupts nothing", function()
  local event, log = async.Event(), test.log()
  local task = async.spawn(async.finally, sleep_for_ever, function()
    event:wait()
    log "clean-up"
  end)
  async.sleep(0)
  task:cancel()
  async.sleep(0)
  task:cancel()
  test.turns(3)
  assert(not task:done())
  event:set()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "clean-up" })
end)

test("a timeout outside waits until the clean-up is through", function()
  local log = test.log()
  test.raises("TimeoutError", async.timeout, 0.002, function()
    async.finally(function() end, function()
      async.sleep(0.01)
      log "clean-up"
    end)
    async.sleep(0)
    log "not reached"
  end)
  test.eq(log, { "clean-up" })
end)

test("a timeout within the clean-up works", function()
  local log = test.log()
  local task = async.spawn(async.finally, sleep_for_ever, function()
    log(async.move_on_after(0.002, sleep_for_ever))
    local ok, err = pcall(async.wait_for, sleep_for_ever, 0.002)
    log(ok, err.kind)
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "false", "false TimeoutError" })
end)

test("a group within the clean-up works", function()
  local log = test.log()
  local task = async.spawn(async.finally, sleep_for_ever, function()
    local ok, err = pcall(async.group, function(g)
      g:spawn(error, "oops", 0)
      sleep_for_ever()
    end)
    log(ok, err.kind)
    log(async.group(function(g) return g:spawn(async.sleep, 0, "child"):await() end))
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "false ErrorGroup", "child" })
end)

test("clean-ups inside each other run from the inside out", function()
  local log = test.log()
  local task = async.spawn(async.finally, function()
    async.finally(sleep_for_ever, function()
      async.sleep(0)
      log "inner"
    end)
  end, function()
    async.sleep(0)
    log "outer"
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "inner", "outer" })
end)

test("a clean-up inside a clean-up runs to its end", function()
  local log = test.log()
  local task = async.spawn(async.finally, sleep_for_ever, function()
    async.finally(function() async.sleep(0) end, function()
      async.sleep(0)
      log "inner"
    end)
    async.sleep(0)
    log "outer"
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "inner", "outer" })
end)

test("clean-ups in a loop are each run to their end, and the cancellation goes on", function()
  local log = test.log()
  local task = async.spawn(function()
    for i = 1, 3 do
      async.finally(sleep_for_ever, function()
        async.sleep(0)
        log(i)
      end)
    end
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "1" })
end)

test("finally names its wrong argument, itself and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'finally' (function expected, got nil)",
    function() async.finally(nil, print) end
  )
  test.blames_caller(
    "bad argument #2 to 'finally' (function expected, got nil)",
    function() async.finally(print) end
  )
end)
