-- The rules of cancellation: timeouts, groups and the task itself.
local async, test = require "rille.async", require "support.test"
local cancelled, sleep_for_ever = test.cancelled, test.sleep_for_ever

test("a timeout cancels only what runs inside it", function()
  local event = async.Event()
  local outside = async.spawn(event.wait, event)
  test.raises("TimeoutError", async.timeout, 0.002, sleep_for_ever)
  assert(not outside:done() and not async.current_task():cancelling())
  event:set()
  outside:await()
end)

test("a pcall that caught the cancellation of one scope catches that of the next", function()
  local caught = 0
  local function try()
    local ok, err = pcall(sleep_for_ever)
    if not ok then caught = caught + 1 end
    error(err, 0)
  end
  for _ = 1, 3 do
    test.raises("TimeoutError", async.timeout, 0.001, try)
  end
  test.eq(caught, 3)
end)

test("a cancellation of the task passes through timeouts and groups as itself", function()
  local log = test.log()
  local task = cancelled(function()
    local _, err = pcall(async.timeout, 1000, function()
      async.group(function() sleep_for_ever() end)
    end)
    log(err.kind)
    error(err, 0)
  end)
  assert(task:cancelled())
  test.eq(log, { "Cancelled" })
end)

test("async.pcall inside a timeout acknowledges the cancellation of its task as well", function()
  local log = test.log()
  local task = cancelled(function()
    async.timeout(1000, function()
      async.pcall(sleep_for_ever)
      async.sleep(0)
      log "lives on"
    end)
    async.sleep(0)
    log "still lives"
  end)
  assert(not task:cancelled())
  test.eq(log, { "lives on", "still lives" })
end)

test("cancel of a task that runs no code any more wakes nobody", function()
  local event = async.Event()
  local task = async.spawn(event.wait, event)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  event:set() -- its waiter is gone
  test.eq(task:cancel(), false)
end)
