-- The rules of cancellation: how cancelled tasks end.
local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancelled, sleep_for_ever = test.cancelled, test.sleep_for_ever

test("a task that ends by cancellation is cancelled, not failed", function()
  local task = cancelled(sleep_for_ever)
  assert(task:done() and task:cancelled())
  test.eq(test.reports(), {})
end)

test("to wait for a cancelled task is an ordinary error of kind CancelledError", function()
  local task = cancelled(sleep_for_ever)
  local ok, err = pcall(task.await, task)
  assert(not ok)
  test.eq(err.kind, "CancelledError")
  assert(errors.is(err, "CancelledError") and not errors.is(err, "Cancelled"))
  async.sleep(0) -- the waiter is not cancelled
  for _ = 1, 3 do assert(not pcall(task.await, task)) end
end)

test("a task cancelled before its first step never runs its body", function()
  local log = test.log()
  local task = async.spawn(log, "ran")
  test.eq(task:cancel(), true)
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, {})
end)

test("a task that is cancelled while it runs and returns without a wait ends cancelled", function()
  local task = async.spawn(function()
    async.current_task():cancel()
    return "result"
  end)
  async.wait { task }
  assert(task:cancelled())
end)

test("a task that is cancelled while ready and returns without a wait ends cancelled", function()
  local task = async.spawn(function()
    async.sleep(0)
    return "result"
  end)
  async.sleep(0) -- it sleeps, and is ready again
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
end)

test("a task that caught its cancellation and returns ends with its results", function()
  local task = cancelled(function()
    pcall(sleep_for_ever)
    return "result"
  end)
  assert(not task:cancelled())
  test.eq(task:result(), "result")
end)

test("a task whose last wait ended with a hand-over ends with its results", function()
  local queue = async.Queue()
  local task = async.spawn(function() return queue:get() end)
  async.sleep(0)
  queue:put "item"
  task:cancel()
  async.wait { task }
  assert(not task:cancelled())
  test.eq(task:result(), "item")
end)

test("an error that a cancelled task raises instead is its error", function()
  local task = cancelled(function()
    pcall(sleep_for_ever)
    error("oops", 0)
  end)
  assert(not task:cancelled())
  test.eq(task:error(), "oops")
end)

test("a second cancel before the first was acknowledged changes nothing", function()
  local log = test.log()
  local task = async.spawn(function()
    local _, err = async.pcall(sleep_for_ever)
    log(err.reason)
    async.sleep(0)
    log "lives on"
  end)
  async.sleep(0)
  task:cancel "first"
  task:cancel "second"
  async.wait { task }
  assert(not task:cancelled())
  test.eq(log, { "first", "lives on" })
end)

test("a cancel after the first was acknowledged is a new one", function()
  local log = test.log()
  local task = async.spawn(function()
    for _ = 1, 2 do
      local _, err = async.pcall(sleep_for_ever)
      log(err.reason)
    end
  end)
  async.sleep(0)
  task:cancel "first"
  test.turns(2)
  task:cancel "second"
  task:await()
  test.eq(log, { "first", "second" })
end)

test("a task that dies of another's CancelledError has failed with it", function()
  local inner = async.spawn(sleep_for_ever)
  local outer = async.spawn(inner.await, inner)
  test.turns(2)
  inner:cancel()
  async.wait { outer }
  assert(not outer:cancelled())
  assert(errors.is(outer:error(), "CancelledError"))
end)

test("a CancelledError of another that nobody took is reported", function()
  local inner = async.spawn(sleep_for_ever)
  async.spawn(inner.await, inner)
  test.turns(2)
  inner:cancel()
  test.turns(3)
  local reports = test.reports()
  test.eq(#reports, 1)
  assert(errors.is(reports[1].error, "CancelledError"))
end)

test("a cancellation raised in another task is an ordinary error there", function()
  local kept
  cancelled(function()
    local _, err = pcall(sleep_for_ever)
    kept = err
    error(err, 0)
  end)
  local task = async.spawn(function()
    for _ = 1, 3 do
      local ok = pcall(error, kept, 0)
      assert(not ok)
      async.sleep(0)
    end
    error(kept, 0)
  end)
  async.wait { task }
  assert(task:done() and not task:cancelled())
  assert(rawequal(task:error(), kept))
end)
