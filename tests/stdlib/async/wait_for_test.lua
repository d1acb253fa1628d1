local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local sleep_for_ever = test.sleep_for_ever

test("wait_for gives all results of its function, nils among them", function()
  test.eq(select("#", async.wait_for(function() return 1, nil, nil end, 1000)), 3)
end)

test("wait_for hands what follows the timeout to its function", function()
  local function count(...) return select("#", ...), ... end
  test.eq({ async.wait_for(count, 1000, nil, 2, nil) }, { 3, nil, 2 })
end)

test("wait_for waits for tasks and futures", function()
  local future = async.Future()
  async.call_soon(future.set_result, future, 1, nil, 3)
  test.eq({ async.wait_for(future, 1000) }, { 1, nil, 3 })
  test.eq(async.wait_for(async.spawn(function() return "task" end), 1000), "task")
end)

test("wait_for without a timeout waits without a limit", function()
  test.eq(async.wait_for(function() return async.sleep(0, "result") end, nil), "result")
end)

test("wait_for raises the error of its function unchanged", function()
  local value = { "any table" }
  local ok, err = pcall(async.wait_for, error, 1000, value)
  assert(not ok and rawequal(err, value))
end)

test("wait_for raises TimeoutError when its function was cancelled and has ended", function()
  local log = test.log()
  local err = test.raises("TimeoutError", async.wait_for, function()
    async.finally(sleep_for_ever, function()
      test.turns(3)
      log "cleaned up"
    end)
  end, 0.002)
  log "raised"
  test.eq(log, { "cleaned up", "raised" })
  assert(not async.is_cancelled(err))
end)

test("after a TimeoutError of wait_for waiting works as before", function()
  test.raises("TimeoutError", async.wait_for, sleep_for_ever, 0.002)
  async.sleep(0)
  assert(not async.current_task():cancelling())
end)

test("wait_for cancels a task at its timeout and waits for its end", function()
  local task = async.spawn(sleep_for_ever)
  test.raises("TimeoutError", async.wait_for, task, 0.002)
  assert(task:done() and task:cancelled())
end)

test("wait_for cancels a future at its timeout", function()
  local future = async.Future()
  test.raises("TimeoutError", async.wait_for, future, 0.002)
  assert(future:cancelled())
end)

test("wait_for with a shield leaves the inner task alone", function()
  local event = async.Event()
  local task = async.spawn(event.wait, event)
  test.raises("TimeoutError", async.wait_for, async.shield, 0.002, task)
  assert(not task:done() and not task:cancelling())
  event:set()
  task:await()
end)

test("a function that returns although wait_for has cancelled it has its results stand", function()
  local result = async.wait_for(function()
    async.pcall(async.sleep, 1000)
    return "lived on"
  end, 0.002)
  test.eq(result, "lived on")
end)

test("an error raised while the function is cancelled by wait_for is raised by it", function()
  local err = test.raises("oops", async.wait_for, function()
    async.finally(sleep_for_ever, function() error("oops", 0) end)
  end, 0.002)
  test.eq(err, "oops")
end)

test("wait_for with a timeout of 0 gives what is done and cancels what is not", function()
  local done = async.spawn(function() return "done" end)
  async.sleep(0)
  test.eq(async.wait_for(done, 0), "done")
  local slow = async.spawn(sleep_for_ever)
  async.sleep(0)
  test.raises("TimeoutError", async.wait_for, slow, 0)
  assert(slow:cancelled())
  test.raises("TimeoutError", async.wait_for, sleep_for_ever, 0)
  test.raises("TimeoutError", async.wait_for, sleep_for_ever, -1)
end)

test("whoever is cancelled in wait_for cancels what it waits for and waits for its end", function()
  local log = test.log()
  local inner = async.spawn(function()
    async.finally(sleep_for_ever, function()
      test.turns(3)
      log "inner"
    end)
  end)
  local waiter = async.spawn(function()
    async.finally(function() async.wait_for(inner, 1000) end, function() log "waiter" end)
  end)
  test.turns(2)
  waiter:cancel()
  async.wait { waiter }
  assert(waiter:cancelled() and inner:cancelled())
  test.eq(log, { "inner", "waiter" })
end)

test("whoever is cancelled in wait_for of a function cancels the function", function()
  local log = test.log()
  local waiter = async.spawn(async.wait_for, function()
    async.finally(sleep_for_ever, function() log "cleaned up" end)
  end, 1000)
  test.turns(2)
  waiter:cancel()
  async.wait { waiter }
  assert(waiter:cancelled())
  test.eq(log, { "cleaned up" })
end)

test("wait_for raises CancelledError when the task was cancelled by another", function()
  local task = async.spawn(sleep_for_ever)
  async.call_soon(task.cancel, task)
  local err = test.raises("CancelledError", async.wait_for, task, 1000)
  assert(not errors.is(err, "TimeoutError"))
end)

test("a timeout of wait_for loses no item of a queue", function()
  local queue = async.Queue()
  for _ = 1, 20 do
    local ok = pcall(async.wait_for, queue.get, 0, queue)
    assert(not ok)
    queue:put "item"
    local got, item = pcall(async.wait_for, queue.get, 0, queue)
    if not got then item = queue:get_nowait() end
    test.eq(item, "item")
    assert(queue:empty())
  end
end)

test("an item handed over in the turn in which the timeout expires is not lost", function()
  local queue = async.Queue()
  local deadline = async.time() + 0.003
  async.call_at(deadline, queue.put_nowait, queue, "item")
  local ok, item = pcall(async.timeout_at, deadline, function() return queue:get() end)
  if not ok then item = queue:get() end
  test.eq(item, "item")
end)

test("wait_for names its wrong argument, itself and the caller's line", function()
  test.blames_caller("bad argument #1 to 'wait_for'", function() async.wait_for(nil, 1) end)
  test.blames_caller("bad argument #1 to 'wait_for'", function() async.wait_for({}, 1) end)
  test.blames_caller(
    "bad argument #2 to 'wait_for' (number expected, got string)",
    function() async.wait_for(print, "x") end
  )
  test.blames_caller("bad argument #2 to 'wait_for'", function() async.wait_for(print, 0 / 0) end)
end)
