local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local function ignore() end

test("await of a future waits for its results and gives them all, nils among them", function()
  local future = async.Future()
  local task = async.spawn(future.await, future)
  async.sleep(0)
  assert(not task:done() and not future:done())
  future:set_result(1, nil, nil)
  assert(future:done())
  test.eq(select("#", task:await()), 3)
  test.eq({ future:await() }, { 1, nil, nil })
end)

test("a future may have no result at all", function()
  local future = async.Future()
  future:set_result()
  test.eq(select("#", future:await()), 0)
end)

test("await of a future that is done does not give the turn away", function()
  local future, log = async.Future(), test.log()
  future:set_result(1)
  local other = async.spawn(log, "other")
  future:await()
  log "awaited"
  other:await()
  test.eq(log, { "awaited", "other" })
end)

test("the waiters of a future are woken in the order in which they came", function()
  local future, log, tasks = async.Future(), test.log(), {}
  for i = 1, 3 do
    tasks[i] = async.spawn(function() log(i, future:await()) end)
  end
  async.sleep(0)
  future:set_result "x"
  async.wait(tasks)
  test.eq(log, { "1 x", "2 x", "3 x" })
end)

test("the error of a future is raised unchanged in whoever waits for it", function()
  local future, value = async.Future(), { "any table" }
  local task = async.spawn(future.await, future)
  async.sleep(0)
  future:set_error(value)
  async.wait { task }
  assert(rawequal(task:error(), value))
  assert(rawequal(future:error(), value))
  local ok, err = pcall(future.result, future)
  assert(not ok and rawequal(err, value))
end)

test("result and error of a future that is not done are InvalidStateErrors", function()
  local future = async.Future()
  test.raises("InvalidStateError", future.result, future)
  test.raises("InvalidStateError", future.error, future)
end)

test("result gives all results, and error nothing, once there is a result", function()
  local future = async.Future()
  future:set_result(nil, 2)
  test.eq(select("#", future:result()), 2)
  test.eq(future:error(), nil)
end)

test("a result set twice is an InvalidStateError at the caller's line", function()
  local future = async.Future()
  future:set_result(1)
  test.raises("InvalidStateError", future.set_result, future, 2)
  test.raises("InvalidStateError", future.set_error, future, "oops")
  test.blames_caller("InvalidStateError", function() future:set_result(2) end)
  test.eq(future:result(), 1)
end)

test("cancel of a future raises CancelledError in its waiters", function()
  local future = async.Future()
  local task = async.spawn(future.await, future)
  async.sleep(0)
  test.eq(future:cancel(), true)
  assert(future:done() and future:cancelled())
  async.wait { task }
  assert(not task:cancelled(), "the waiter was not cancelled itself")
  assert(errors.is(task:error(), "CancelledError") and async.is_cancelled(task:error()))
end)

test("a cancelled future gives CancelledError and takes no result", function()
  local future = async.Future()
  future:cancel()
  test.raises("CancelledError", future.await, future)
  test.raises("CancelledError", future.result, future)
  test.raises("CancelledError", future.error, future)
  test.raises("InvalidStateError", future.set_result, future, 1)
end)

test("a CancelledError tells why the future was cancelled", function()
  local future = async.Future()
  future:cancel "no longer needed"
  test.eq(test.raises("CancelledError", future.await, future).reason, "no longer needed")
end)

test("cancel of a future that is done answers false and changes nothing", function()
  local future = async.Future()
  future:set_result(1)
  test.eq(future:cancel(), false)
  assert(not future:cancelled())
  test.eq(future:result(), 1)
end)

test("a future's waiter that is cancelled cancels the future, as in asyncio", function()
  local future = async.Future()
  local first = async.spawn(future.await, future)
  local second = async.spawn(future.await, future)
  async.sleep(0)
  first:cancel()
  async.wait { first, second }
  assert(future:cancelled())
  assert(first:cancelled())
  assert(not second:cancelled() and errors.is(second:error(), "CancelledError"))
end)

test("done callbacks of a future are called soon, in order, with the future", function()
  local future, log = async.Future(), test.log()
  future:add_done_callback(function(done) log("first", done == future) end)
  future:add_done_callback(function() log "second" end)
  future:set_result()
  log "set"
  test.turns()
  test.eq(log, { "set", "first true", "second" })
end)

test("a done callback added to a done future is called soon, not at once", function()
  local future, log = async.Future(), test.log()
  future:set_result()
  future:add_done_callback(function() log "callback" end)
  log "added"
  test.turns()
  test.eq(log, { "added", "callback" })
end)

test("a cancelled future calls its callbacks too", function()
  local future, log = async.Future(), test.log()
  future:add_done_callback(function(done) log(done:cancelled()) end)
  future:cancel()
  test.turns()
  test.eq(log, { "true" })
end)

test("remove_done_callback of a future tells how many it took away", function()
  local future = async.Future()
  future:add_done_callback(ignore)
  future:add_done_callback(ignore)
  test.eq(future:remove_done_callback(ignore), 2)
  test.eq(future:remove_done_callback(ignore), 0)
end)

test("an error in a done callback is reported, and the others are called", function()
  local future, log = async.Future(), test.log()
  future:add_done_callback(function() error("oops", 0) end)
  future:add_done_callback(function() log "called" end)
  future:set_result()
  test.turns()
  test.eq(log, { "called" })
  local reports = test.reports()
  test.eq(#reports, 1)
  test.eq(reports[1].error, "oops")
end)

test("a callback may set the result that a task waits for", function()
  local future = async.Future()
  async.call_soon(future.set_result, future, "from a callback")
  test.eq(future:await(), "from a callback")
end)

test("add_done_callback names its wrong argument, itself and the caller's line", function()
  local future = async.Future()
  test.blames_caller(
    "bad argument #1 to 'add_done_callback' (function expected, got number)",
    function() future:add_done_callback(1) end
  )
end)
