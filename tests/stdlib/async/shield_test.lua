local async, test = require "rille.async", require "support.test"

test("shield gives the results of what it waits for, nils among them", function()
  local task = async.spawn(function() return 1, nil, nil end)
  test.eq(select("#", async.shield(task)), 3)
  test.eq(async.shield(function() return async.sleep(0, "function") end), "function")
end)

test("shield takes futures", function()
  local future = async.Future()
  async.call_soon(future.set_result, future, "future")
  test.eq(async.shield(future), "future")
end)

test("shield raises the error of what it waits for, unchanged", function()
  local value = { "any table" }
  local ok, err = pcall(async.shield, async.spawn(error, value))
  assert(not ok and rawequal(err, value))
end)

test("when the waiter is cancelled, the shielded task goes on", function()
  local event = async.Event()
  local inner = async.spawn(function()
    event:wait()
    return "went on"
  end)
  local waiter = async.spawn(async.shield, inner)
  test.turns(2)
  waiter:cancel()
  async.wait { waiter }
  assert(waiter:cancelled())
  assert(not inner:done() and not inner:cancelling())
  event:set()
  test.eq(inner:await(), "went on")
end)

test("when the waiter is cancelled, a shielded function goes on", function()
  local event, log = async.Event(), test.log()
  local waiter = async.spawn(async.shield, function()
    event:wait()
    log "went on"
  end)
  test.turns(2)
  waiter:cancel()
  async.wait { waiter }
  event:set()
  test.turns(2)
  test.eq(log, { "went on" })
end)

test("when the waiter is cancelled, a shielded future stays pending", function()
  local future = async.Future()
  local waiter = async.spawn(async.shield, future)
  test.turns(2)
  waiter:cancel()
  async.wait { waiter }
  assert(not future:done())
end)

test("a shielded task that is cancelled itself raises CancelledError in the waiter", function()
  local inner = async.spawn(async.sleep, 1000)
  async.call_soon(inner.cancel, inner)
  test.raises("CancelledError", async.shield, inner)
  async.sleep(0)
end)

test("an error of the inner task after the waiter was cancelled is not lost", function()
  local event = async.Event()
  local waiter = async.spawn(async.shield, function()
    event:wait()
    error("nobody waits any more", 0)
  end)
  test.turns(2)
  waiter:cancel()
  async.wait { waiter }
  event:set()
  test.turns(2)
  local reports = test.reports()
  test.eq(#reports, 1)
  test.eq(reports[1].error, "nobody waits any more")
end)

test("a shield in a gather keeps its task from the cancellation", function()
  local event = async.Event()
  local inner = async.spawn(event.wait, event)
  local gathering = async.spawn(async.gather, { function() async.shield(inner) end })
  test.turns(3)
  gathering:cancel()
  async.wait { gathering }
  assert(not inner:done())
  event:set()
  inner:await()
end)

test("shield names its wrong argument, itself and the caller's line", function()
  test.blames_caller("bad argument #1 to 'shield'", function() async.shield(nil) end)
  test.blames_caller("bad argument #1 to 'shield'", function() async.shield({}) end)
end)
