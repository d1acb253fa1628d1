local async, test = require "rille.async", require "support.test"

local function after(turns, result)
  return async.spawn(function()
    test.turns(turns)
    return result
  end)
end

test("as_completed gives the tasks in the order in which they finish", function()
  local log = test.log()
  for task in async.as_completed { after(5, "slow"), after(1, "fast"), after(3, "middle") } do
    assert(task:done())
    log(task:await())
  end
  test.eq(log, { "fast", "middle", "slow" })
end)

test("as_completed gives the very tasks of its list", function()
  local task = after(1)
  for done in async.as_completed { task } do test.eq(done, task) end
end)

test("as_completed gives tasks that are done already first", function()
  local slow, done = after(3, "slow"), after(0, "done")
  test.turns(2)
  local log = test.log()
  for task in async.as_completed { slow, done } do log(task:result()) end
  test.eq(log, { "done", "slow" })
end)

test("as_completed gives a task that failed like another", function()
  local bad = async.spawn(error, "oops", 0)
  for task in async.as_completed { bad } do test.eq(task:error(), "oops") end
end)

test("as_completed of nothing ends at once", function()
  for _ in async.as_completed {} do error "nothing to give" end
end)

test("as_completed counts duplicates once", function()
  local task, n = after(1), 0
  for _ in async.as_completed { task, task } do n = n + 1 end
  test.eq(n, 1)
end)

test("as_completed loses no task that ends while the body waits", function()
  local log = test.log()
  for task in async.as_completed { after(1, "a"), after(2, "b"), after(3, "c") } do
    log(task:result())
    test.turns(5)
  end
  test.eq(log, { "a", "b", "c" })
end)

test("as_completed takes functions and futures too", function()
  local future = async.Future()
  async.call_soon(future.set_result, future, "future")
  local log = test.log()
  for task in async.as_completed {
    function()
      test.turns(5)
      return "function"
    end,
    future,
  } do
    log(task:await())
  end
  test.eq(log, { "future", "function" })
end)

test("past its timeout as_completed raises TimeoutError, and the tasks go on", function()
  local event, log = async.Event(), test.log()
  local task = async.spawn(event.wait, event)
  test.raises("TimeoutError", function()
    for done in async.as_completed({ after(0, "done"), task }, { timeout = 0.005 }) do
      log(done:result())
    end
  end)
  test.eq(log, { "done" })
  assert(not task:done() and not task:cancelling())
  event:set()
  task:await()
end)

test("a loop over as_completed that is left early leaves the other tasks alone", function()
  local slow = after(5, "slow")
  for task in async.as_completed { after(1, "fast"), slow } do
    test.eq(task:result(), "fast")
    break
  end
  assert(not slow:done() and not slow:cancelling())
  test.eq(slow:await(), "slow")
end)

test("as_completed can be asked again by a task that acknowledged its cancellation", function()
  local event = async.Event()
  local inner = async.spawn(function()
    event:wait()
    return "result"
  end)
  local task = async.spawn(function()
    local next_done = async.as_completed { inner }
    async.pcall(next_done)
    return next_done():result()
  end)
  test.turns(2)
  task:cancel()
  test.turns(2)
  event:set()
  test.eq(task:await(), "result")
end)

test("as_completed names what is wrong with its arguments", function()
  test.blames_caller(
    "bad argument #1 to 'as_completed' (table expected, got nil)",
    function() async.as_completed(nil) end
  )
  test.blames_caller("time", function() async.as_completed({}, { time = 1 }) end)
  test.blames_caller("timeout", function() async.as_completed({}, { timeout = 0 / 0 }) end)
  test.blames_caller("as_completed", function() async.as_completed { 1 } end)
end)
