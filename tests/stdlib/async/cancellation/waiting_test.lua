-- The rules of cancellation: what was handed over, and tasks that wait for others.
local async, test = require "rille.async", require "support.test"
local cancelled, sleep_for_ever = test.cancelled, test.sleep_for_ever

-- Hand-overs ------------------------------------------------------------------------------------

-- Each is given a wait, and what ends it.
for name, make in pairs {
  lock = function()
    local lock = async.Lock()
    lock:acquire()
    return function()
      lock:acquire()
      return lock:locked()
    end, function() lock:release() end
  end,
  permit = function()
    local sem = async.Semaphore(0)
    return function()
      sem:acquire()
      return sem:value() == 0
    end, function() sem:release() end
  end,
  item = function()
    local queue = async.Queue()
    return function() return queue:get() end, function() queue:put(true) end
  end,
  event = function()
    local event = async.Event()
    return function()
      event:wait()
      return event:is_set()
    end, function() event:set() end
  end,
  ["result of a future"] = function()
    local future = async.Future()
    return function() return future:await() end, function() future:set_result(true) end
  end,
} do
  test("a waiter already given the " .. name .. " gets it, and is cancelled later", function()
    local wait, give = make()
    local log = test.log()
    local task = async.spawn(function()
      log(wait())
      async.sleep(0)
      log "not reached"
    end)
    test.turns(2)
    give()
    task:cancel()
    async.wait { task }
    assert(task:cancelled())
    test.eq(log, { "true" })
  end)
end

test("a waiter already given the result of a task gets it, and is cancelled later", function()
  local event, log = async.Event(), test.log()
  local waiter
  local inner = async.spawn(function()
    event:wait()
    async.call_soon(waiter.cancel, waiter) -- called when this task has just ended
    return "result"
  end)
  waiter = async.spawn(function()
    log(inner:await())
    async.sleep(0)
    log "not reached"
  end)
  test.turns(2)
  event:set()
  async.wait { waiter }
  assert(waiter:cancelled() and not inner:cancelled())
  test.eq(log, { "result" })
end)

-- Waiting for others ----------------------------------------------------------------------------

test("whoever is cancelled while waiting for a task cancels that, and waits for its end", function()
  local log = test.log()
  local inner = async.spawn(function()
    async.finally(sleep_for_ever, function()
      test.turns(3)
      log "inner"
    end)
  end)
  local outer = cancelled(function()
    async.finally(function() inner:await() end, function() log "outer" end)
  end)
  assert(outer:cancelled() and inner:cancelled())
  test.eq(log, { "inner", "outer" })
end)

test("whoever is cancelled while waiting for a task is cancelled whatever came of that", function()
  for _, ending in ipairs { function() return "result" end, error } do
    local inner = async.spawn(function()
      pcall(sleep_for_ever)
      return ending "oops"
    end)
    local outer = cancelled(inner.await, inner)
    assert(outer:cancelled() and inner:done() and not inner:cancelled())
    pcall(inner.error, inner)
  end
end)

test("whoever is cancelled while waiting for a future cancels it", function()
  local future = async.Future()
  local task = cancelled(future.await, future)
  assert(task:cancelled() and future:cancelled())
end)

test("a chain of waiting tasks is cancelled from its inner end outwards", function()
  local log = test.log()
  local inner = async.spawn(function()
    async.finally(sleep_for_ever, function() log "inner" end)
  end)
  local middle = async.spawn(function()
    async.finally(function() inner:await() end, function() log "middle" end)
  end)
  local outer = cancelled(function()
    async.finally(function() middle:await() end, function() log "outer" end)
  end)
  assert(outer:cancelled() and middle:cancelled() and inner:cancelled())
  test.eq(log, { "inner", "middle", "outer" })
end)

test("a task with a cancellation pending that waits for another leaves that alone", function()
  local event = async.Event()
  local inner = async.spawn(event.wait, event)
  local outer = async.spawn(function()
    async.current_task():cancel()
    inner:await()
  end)
  async.wait { outer }
  assert(outer:cancelled())
  assert(not inner:done() and not inner:cancelling())
  event:set()
  inner:await()
end)

test("whatever a pending cancellation keeps from waiting leaves other tasks alone", function()
  local event = async.Event()
  local inner = async.spawn(event.wait, event)
  for _, wait in ipairs {
    function() async.gather { inner } end,
    function() async.wait_for(inner, 1000) end,
    function() async.wait { inner } end,
    function() async.shield(inner) end,
  } do
    local outer = async.spawn(function()
      async.current_task():cancel()
      wait()
    end)
    async.wait { outer }
    assert(outer:cancelled())
    assert(not inner:done() and not inner:cancelling())
  end
  event:set()
  inner:await()
end)

test("a cancellation raised again at a wait for another task leaves that alone", function()
  local event = async.Event()
  local inner = async.spawn(event.wait, event)
  local outer = cancelled(function()
    pcall(sleep_for_ever)
    inner:await()
  end)
  assert(outer:cancelled())
  assert(not inner:done() and not inner:cancelling())
  event:set()
  inner:await()
end)

test("a shield between them keeps the cancellation from the other task", function()
  local event = async.Event()
  local inner = async.spawn(event.wait, event)
  local outer = cancelled(async.shield, inner)
  assert(outer:cancelled() and not inner:done() and not inner:cancelling())
  event:set()
  inner:await()
end)
