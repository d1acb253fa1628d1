local async, test = require "rille.async", require "support.test"

local function after(turns, ...)
  return async.spawn(function(...)
    test.turns(turns)
    return ...
  end, ...)
end

local function fail_after(turns)
  return async.spawn(function()
    test.turns(turns)
    error("oops", 0)
  end)
end

local function finish(tasks)
  for _, task in ipairs(tasks) do task:cancel() end
  async.wait(tasks)
end

test("wait gives the done and the pending, each in the order given", function()
  local a, b, c = after(3), after(1), after(2)
  local done, pending = async.wait { a, b, c }
  test.eq(done, { a, b, c })
  test.eq(pending, {})
end)

test("wait with FIRST_COMPLETED returns at the first end", function()
  local a, b, c = after(100), after(1), after(100)
  local done, pending = async.wait({ a, b, c }, { return_when = "FIRST_COMPLETED" })
  test.eq(done, { b })
  test.eq(pending, { a, c })
  finish(pending)
end)

test("wait with FIRST_COMPLETED takes tasks that are done already", function()
  local a, b = after(0), after(100)
  test.turns(2)
  local done, pending = async.wait({ b, a }, { return_when = "FIRST_COMPLETED" })
  test.eq(done, { a })
  test.eq(pending, { b })
  finish(pending)
end)

test("wait with FIRST_ERROR returns at the first error, not at the first end", function()
  local good, bad, slow = after(1), fail_after(3), after(100)
  local done, pending = async.wait({ good, bad, slow }, { return_when = "FIRST_ERROR" })
  test.eq(done, { good, bad })
  test.eq(pending, { slow })
  test.eq(bad:error(), "oops")
  finish(pending)
end)

test("wait with FIRST_ERROR and no error waits for all", function()
  local a, b = after(1), after(3)
  local done, pending = async.wait({ a, b }, { return_when = "FIRST_ERROR" })
  test.eq(done, { a, b })
  test.eq(pending, {})
end)

test("a cancelled task is no error for FIRST_ERROR", function()
  local cancelled, slow = after(100), after(5)
  async.call_soon(cancelled.cancel, cancelled)
  local done = async.wait({ cancelled, slow }, { return_when = "FIRST_ERROR" })
  test.eq(done, { cancelled, slow })
end)

test("a task that died of another's CancelledError is an error for FIRST_ERROR", function()
  local inner, slow = after(100), after(100)
  local outer = async.spawn(inner.await, inner)
  async.call_later(0, inner.cancel, inner)
  local done, pending = async.wait({ outer, slow }, { return_when = "FIRST_ERROR" })
  test.eq(done, { outer })
  assert(not outer:cancelled() and async.is_cancelled(outer:error()))
  finish(pending)
end)

test("wait never raises the error of a task", function()
  local bad = fail_after(1)
  local done = async.wait { bad }
  test.eq(done, { bad })
  test.eq(bad:error(), "oops")
end)

test("wait with a timeout cancels nothing and raises nothing", function()
  local event = async.Event()
  local task = async.spawn(event.wait, event)
  local done, pending = async.wait({ task }, { timeout = 0.002 })
  test.eq(done, {})
  test.eq(pending, { task })
  assert(not task:cancelling())
  event:set()
  task:await()
end)

test("wait with a timeout of 0 tells what is done now", function()
  local a, b = after(0), after(100)
  test.turns(2)
  local done, pending = async.wait({ a, b }, { timeout = 0 })
  test.eq(done, { a })
  test.eq(pending, { b })
  finish(pending)
end)

test("wait for what is done does not give the turn away", function()
  local a = after(0)
  test.turns(2)
  local log = test.log()
  local other = async.spawn(log, "other")
  async.wait { a }
  log "waited"
  other:await()
  test.eq(log, { "waited", "other" })
end)

test("a cancelled wait cancels none of its tasks", function()
  local event = async.Event()
  local task = async.spawn(event.wait, event)
  local waiter = async.spawn(async.wait, { task })
  test.turns(2)
  waiter:cancel()
  test.turns(2)
  assert(waiter:cancelled())
  assert(not task:done() and not task:cancelling())
  event:set()
  task:await()
end)

test("duplicates count once in wait", function()
  local a = after(1)
  test.eq({ async.wait { a, a } }, { { a }, {} })
end)

test("wait takes futures", function()
  local future = async.Future()
  async.call_soon(future.set_result, future)
  test.eq(async.wait { future }, { future })
end)

test("wait for an empty list is an error at the caller's line", function()
  test.blames_caller("bad argument #1 to 'wait'", function() async.wait {} end)
end)

test("wait refuses plain functions", function()
  test.blames_caller("wait", function() async.wait { print } end)
end)

test("wait names what is wrong with its arguments", function()
  local a = after(0)
  test.blames_caller(
    "bad argument #1 to 'wait' (table expected, got nil)",
    function() async.wait(nil) end
  )
  test.blames_caller(
    "FIRST_WHATEVER",
    function() async.wait({ a }, { return_when = "FIRST_WHATEVER" }) end
  )
  test.blames_caller("time_out", function() async.wait({ a }, { time_out = 1 }) end)
  test.blames_caller("timeout", function() async.wait({ a }, { timeout = "soon" }) end)
  test.blames_caller("timeout", function() async.wait({ a }, { timeout = 0 / 0 }) end)
  a:await()
end)
