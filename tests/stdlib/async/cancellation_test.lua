-- Every sentence of the rules of cancellation, in the order in which they are written down.
local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local function sleep_for_ever() async.sleep(1000) end

-- Spawns fn, lets it come to its wait, cancels it, and gives the task when it has ended.
local function cancelled(fn, ...)
  local task = async.spawn(fn, ...)
  test.turns(2)
  task:cancel()
  async.wait { task }
  return task
end

-- Raising it ------------------------------------------------------------------------------------

test("cancel raises at the point where the task waits", function()
  local log = test.log()
  local task = cancelled(function()
    log "before"
    async.sleep(1000)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "before" })
end)

test("cancel raises at the next wait of a task that runs", function()
  local log = test.log()
  local task = async.spawn(function()
    async.current_task():cancel()
    log "runs on"
    async.sleep(0)
    log "not reached"
  end)
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "runs on" })
end)

test("cancel raises at the next wait of a task that is ready", function()
  local log, event = test.log(), async.Event()
  local task = async.spawn(function()
    event:wait()
    log "woken"
    async.sleep(0)
    log "not reached"
  end)
  async.sleep(0)
  event:set()
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "woken" })
end)

test("a call that need not wait does not raise a pending cancellation", function()
  local log, done = test.log(), async.spawn(function() return "done" end)
  done:await()
  local task = async.spawn(function()
    async.current_task():cancel()
    local lock, sem, event, queue = async.Lock(), async.Semaphore(1), async.Event(), async.Queue()
    lock:acquire()
    sem:acquire()
    event:set()
    event:wait()
    queue:put "item"
    log(queue:get(), done:await())
    async.sleep(0)
    log "not reached"
  end)
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "item done" })
end)

test("a cancellation is an error value that tells its kind, reason, asker and place", function()
  local seen
  local task = async.spawn(function()
    local _, err = pcall(sleep_for_ever)
    seen = err
    error(err, 0)
  end)
  async.sleep(0)
  local place = test.here(1)
  task:cancel "no longer needed"
  async.wait { task }
  test.eq(seen.kind, "Cancelled")
  test.eq(seen.reason, "no longer needed")
  test.eq(seen.by, async.current_task())
  test.eq(seen.at, place)
  assert(errors.is(seen, "Cancelled") and async.is_cancelled(seen))
  test.matches(tostring(seen), "^Cancelled: ")
end)

test("a cancellation by a callback without a reason has neither reason nor asker", function()
  local seen
  local task = async.spawn(function()
    local _, err = pcall(sleep_for_ever)
    seen = err
  end)
  async.sleep(0)
  async.call_soon(function() task:cancel() end)
  task:await()
  test.eq(seen.reason, nil)
  test.eq(seen.by, nil)
end)

test("Lua's own idiom of catching, cleaning up and raising again works", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = pcall(sleep_for_ever)
    log "clean-up"
    if not ok then error(err, 0) end
  end)
  assert(task:cancelled())
  test.eq(log, { "clean-up" })
end)

-- Catching it is not stopping it ----------------------------------------------------------------

test("caught by pcall it is raised again at the next wait, and so on", function()
  local log = test.log()
  local task = cancelled(function()
    pcall(async.sleep, 1000)
    log "first"
    pcall(async.sleep, 1000)
    log "second"
    pcall(async.sleep, 1000)
    log "third"
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "first", "second", "third" })
end)

test("caught by xpcall it is raised again at the next wait", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = xpcall(sleep_for_ever, function(e)
      log("handler", e.kind)
      return e
    end)
    log(ok, err.kind)
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "handler Cancelled", "false Cancelled" })
end)

test("caught by coroutine.resume it is raised again at the next wait", function()
  local log = test.log()
  local task = cancelled(function()
    local co = coroutine.create(sleep_for_ever)
    local ok, err = coroutine.resume(co)
    log(ok, err.kind, coroutine.status(co))
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "false Cancelled dead" })
end)

test("the same pcall in a loop catches one cancellation only once", function()
  local turns = 0
  local task = cancelled(function()
    while true do
      pcall(async.sleep, 1000)
      turns = turns + 1
    end
  end)
  assert(task:cancelled())
  test.eq(turns, 1)
end)

test("a pcall in a helper called again from the same place counts as the same", function()
  local turns = 0
  local function try()
    local ok = pcall(async.sleep, 1000)
    return ok
  end
  local task = cancelled(function()
    for _ = 1, 10 do
      local ok = try()
      turns = turns + (ok and 100 or 1)
    end
  end)
  assert(task:cancelled())
  test.eq(turns, 1)
end)

test("the same xpcall catches once, and then lets it through without its handler", function()
  local log = test.log()
  local task = cancelled(function()
    while true do
      xpcall(sleep_for_ever, function(e) log("handler", e.kind) end)
    end
  end)
  assert(task:cancelled())
  test.eq(log, { "handler Cancelled" })
end)

test("coroutine.resume in a loop catches one cancellation only once", function()
  local turns = 0
  local task = cancelled(function()
    while true do
      coroutine.resume(coroutine.create(sleep_for_ever))
      turns = turns + 1
    end
  end)
  assert(task:cancelled())
  test.eq(turns, 1)
end)

test("a retry loop cannot swallow it, nor spin on it", function()
  local attempts = 0
  local task = cancelled(function()
    local ok
    repeat
      attempts = attempts + 1
      ok = pcall(sleep_for_ever)
    until ok
  end)
  assert(task:cancelled())
  test.eq(attempts, 2)
end)

test("a pcall at another place starts afresh", function()
  local log = test.log()
  local task = cancelled(function()
    for i = 1, 2 do
      if i == 1 then
        pcall(async.sleep, 1000)
      else
        pcall(async.sleep, 1000)
      end
      log(i)
    end
    async.sleep(0)
  end)
  assert(task:cancelled())
  test.eq(log, { "1", "2" })
end)

test("a pcall at another depth starts afresh", function()
  local log = test.log()
  local function at_depth(depth)
    if depth > 0 then
      at_depth(depth - 1)
      return
    end
    pcall(async.sleep, 1000)
    log "caught"
  end
  local task = cancelled(function()
    for depth = 0, 2 do at_depth(depth) end
    async.sleep(0)
  end)
  assert(task:cancelled())
  test.eq(log, { "caught", "caught", "caught" })
end)

test("all deeper pcalls start afresh once one further out has caught it", function()
  local log = test.log()
  local function attempt()
    pcall(async.sleep, 1000)
    log "inner"
    async.sleep(0)
    log "not reached"
  end
  local task = cancelled(function()
    pcall(attempt)
    log "outer"
    pcall(attempt)
    log "outer"
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "inner", "outer", "inner", "outer" })
end)

test("after 64 catches no pcall catches it any more", function()
  local caught = 0
  local function catch_deeper_and_deeper()
    pcall(async.sleep, 1000)
    caught = caught + 1
    catch_deeper_and_deeper()
    return nil
  end
  local task = cancelled(function()
    pcall(catch_deeper_and_deeper)
    caught = caught + 1000
  end)
  assert(task:cancelled())
  test.eq(caught, 64)
end)

test("after 64 catches async.pcall still catches it", function()
  local caught, log = 0, test.log()
  local function catch_deeper_and_deeper()
    pcall(async.sleep, 1000)
    caught = caught + 1
    catch_deeper_and_deeper()
    return nil
  end
  local task = cancelled(function()
    local ok, err = async.pcall(catch_deeper_and_deeper)
    log(ok, async.is_cancelled(err))
    async.sleep(0)
    log "lives on"
  end)
  assert(not task:cancelled())
  test.eq(caught, 64)
  test.eq(log, { "false true", "lives on" })
end)

test("the same pcall catches each of several cancellations that were acknowledged", function()
  local caught = 0
  local task = async.spawn(function()
    for _ = 1, 3 do
      async.pcall(function()
        local ok, err = pcall(async.sleep, 1000)
        if not ok then caught = caught + 1 end
        error(err, 0)
      end)
    end
  end)
  for _ = 1, 3 do
    test.turns(2)
    task:cancel()
  end
  task:await()
  test.eq(caught, 3)
end)

test("pcall is what it was for everything but cancellations", function()
  local value = { "any table" }
  test.eq({ pcall(function(...) return ... end, 1, nil, 3) }, { true, 1, nil, 3 })
  for _ = 1, 100 do
    local ok, err = pcall(error, value)
    assert(not ok and rawequal(err, value))
  end
  local ok, err = pcall(function() error(nil) end)
  test.eq({ ok, err }, { false, nil })
  test.eq({ pcall(async.sleep, 0, "waits") }, { true, "waits" })
  test.eq(pcall(nil), false)
  test.raises("bad argument #1 to '?pcall", function() pcall() end)
end)

test("xpcall is what it was for everything but cancellations", function()
  local function handler(err) return "handled " .. tostring(err) end
  test.eq({ xpcall(function(...) return ... end, handler, 1, nil, 3) }, { true, 1, nil, 3 })
  test.eq({ xpcall(error, handler, "oops", 0) }, { false, "handled oops" })
  test.eq({ xpcall(async.sleep, handler, 0, "waits") }, { true, "waits" })
  local function raiser()
    async.sleep(0)
    error "oops"
  end
  local _, traceback = xpcall(function()
    raiser()
    return nil
  end, debug.traceback)
  test.contains(traceback, "raiser")
end)

-- Acknowledging it ------------------------------------------------------------------------------

test("async.pcall catches and acknowledges it, and waiting works again", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = async.pcall(sleep_for_ever)
    log(ok, async.is_cancelled(err))
    async.sleep(0)
    log "lives on"
    return "result"
  end)
  assert(not task:cancelled() and not task:cancelling())
  test.eq(task:result(), "result")
  test.eq(log, { "false true", "lives on" })
end)

test("async.xpcall catches and acknowledges it", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = async.xpcall(sleep_for_ever, function(e) return e end)
    log(ok, async.is_cancelled(err))
    async.sleep(0)
    log "lives on"
  end)
  assert(not task:cancelled())
  test.eq(log, { "false true", "lives on" })
end)

test("async.pcall and async.xpcall are pcall and xpcall for everything else", function()
  test.eq({ async.pcall(function(...) return ... end, 1, nil, 3) }, { true, 1, nil, 3 })
  test.eq({ async.pcall(error, "oops", 0) }, { false, "oops" })
  test.eq({ async.xpcall(function(...) return ... end, print, 1, nil, 3) }, { true, 1, nil, 3 })
  local function handler(err) return "handled " .. err end
  test.eq({ async.xpcall(error, handler, "oops", 0) }, { false, "handled oops" })
  test.eq({ async.pcall(async.sleep, 0, "waits") }, { true, "waits" })
end)

test("async.pcall in a loop acknowledges each cancellation", function()
  local caught = 0
  local task = async.spawn(function()
    while caught < 3 do
      local ok = async.pcall(sleep_for_ever)
      if not ok then caught = caught + 1 end
    end
  end)
  for _ = 1, 3 do
    test.turns(2)
    task:cancel()
  end
  task:await()
  test.eq(caught, 3)
end)

test("a cancellation that async.pcall caught and error raises again goes on unwinding", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = async.pcall(sleep_for_ever)
    if not ok then
      log "clean-up"
      error(err, 0)
    end
  end)
  assert(task:cancelled())
  test.eq(log, { "clean-up" })
end)

test("is_cancelled is true of both kinds and of nothing else", function()
  local kinds = {}
  local inner = async.spawn(sleep_for_ever)
  local task = async.spawn(function()
    local _, err = async.pcall(sleep_for_ever)
    kinds[1] = err
  end)
  async.sleep(0)
  inner:cancel()
  task:cancel()
  async.wait { inner, task }
  local _, err = pcall(inner.await, inner)
  kinds[2] = err
  assert(async.is_cancelled(kinds[1]) and async.is_cancelled(kinds[2]))
  for _, other in ipairs { "Cancelled", 1, true, {}, errors.new("OSError", "x") } do
    test.eq(async.is_cancelled(other), false)
  end
  test.eq(async.is_cancelled(nil), false)
end)

test("async.xpcall acknowledges it whatever its handler makes of it", function()
  local task = cancelled(function()
    local ok, text = async.xpcall(sleep_for_ever, function(err) return "handled " .. err.kind end)
    async.sleep(0)
    return ok, text
  end)
  test.eq({ task:result() }, { false, "handled Cancelled" })
end)

test("async.pcall of another task's cancellation does not acknowledge one's own", function()
  local kept
  cancelled(function()
    local _, err = pcall(sleep_for_ever)
    kept = err
    error(err, 0)
  end)
  local log = test.log()
  local task = cancelled(function()
    pcall(sleep_for_ever)
    log(async.pcall(error, kept, 0))
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "false " .. tostring(kept) })
end)

-- What it makes of tasks ------------------------------------------------------------------------

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

-- Scopes ----------------------------------------------------------------------------------------

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
