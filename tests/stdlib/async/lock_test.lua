local async, test = require "rille.async", require "support.test"

local sleep_for_ever = test.sleep_for_ever

test("a free lock is taken without giving the turn away", function()
  local lock, log = async.Lock(), test.log()
  local other = async.spawn(log, "other")
  lock:acquire()
  log "taken"
  test.eq(lock:locked(), true)
  lock:release()
  test.eq(lock:locked(), false)
  other:await()
  test.eq(log, { "taken", "other" })
end)

test("a lock that is held makes others wait until it is released", function()
  local lock = async.Lock()
  lock:acquire()
  local waiter = async.spawn(lock.acquire, lock)
  test.turns(3)
  assert(not waiter:done())
  lock:release()
  waiter:await()
  assert(lock:locked())
  lock:release()
end)

test("the waiters of a lock get it first come first served", function()
  local lock, log, tasks = async.Lock(), test.log(), {}
  lock:acquire()
  for i = 1, 4 do
    tasks[i] = async.spawn(function()
      lock:acquire()
      log(i)
      async.sleep(0)
      lock:release()
    end)
  end
  async.sleep(0)
  lock:release()
  async.wait(tasks)
  test.eq(log, { "1", "2", "3", "4" })
end)

test("a released lock is handed to the first waiter, and nobody overtakes it", function()
  local lock, log = async.Lock(), test.log()
  lock:acquire()
  local waiter = async.spawn(function()
    lock:acquire()
    log "waiter"
    lock:release()
  end)
  async.sleep(0)
  lock:release()
  assert(lock:locked(), "it belongs to the waiter already")
  lock:acquire()
  log "newcomer"
  lock:release()
  waiter:await()
  test.eq(log, { "waiter", "newcomer" })
end)

test("a lock may be released by another task than took it", function()
  local lock = async.Lock()
  lock:acquire()
  async.spawn(lock.release, lock):await()
  test.eq(lock:locked(), false)
end)

test("a release of a lock that is not held is an InvalidStateError at the caller's line", function()
  local lock = async.Lock()
  test.raises("InvalidStateError", lock.release, lock)
  lock:acquire()
  lock:release()
  test.blames_caller("InvalidStateError", function() lock:release() end)
  assert(not lock:locked())
end)

test("with holds the lock while its function runs and gives its results", function()
  local lock = async.Lock()
  local n = select("#", lock:with(function()
    assert(lock:locked())
    return 1, nil, nil
  end))
  test.eq(n, 3)
  assert(not lock:locked())
end)

test("with hands its arguments to the function", function()
  test.eq({ async.Lock():with(function(...) return ... end, 1, 2) }, { 1, 2 })
end)

test("with releases the lock when its function fails", function()
  local lock = async.Lock()
  test.raises("oops", lock.with, lock, function() error "oops" end)
  assert(not lock:locked())
end)

test("with releases the lock when its task is cancelled", function()
  local lock = async.Lock()
  local task = async.spawn(lock.with, lock, sleep_for_ever)
  async.sleep(0)
  assert(lock:locked())
  task:cancel()
  async.wait { task }
  assert(task:cancelled() and not lock:locked())
end)

test("async.with takes and releases a lock", function()
  local lock = async.Lock()
  test.eq(async.with(lock, function() return lock:locked() end), true)
  assert(not lock:locked())
end)

test("a cancelled waiter takes no lock and holds up nobody", function()
  local lock = async.Lock()
  lock:acquire()
  local waiter = async.spawn(lock.acquire, lock)
  local next_one = async.spawn(lock.acquire, lock)
  async.sleep(0)
  waiter:cancel()
  lock:release()
  next_one:await()
  assert(waiter:cancelled() and lock:locked())
  lock:release()
end)

test("a waiter that was given the lock before it was cancelled has it", function()
  local lock, log = async.Lock(), test.log()
  lock:acquire()
  local waiter = async.spawn(function()
    lock:acquire()
    log "taken"
    lock:release()
    async.sleep(0)
    log "not reached"
  end)
  async.sleep(0)
  lock:release()
  waiter:cancel()
  async.wait { waiter }
  assert(waiter:cancelled() and not lock:locked())
  test.eq(log, { "taken" })
end)

test("with names its wrong argument and the caller's line, and leaves the lock free", function()
  local lock = async.Lock()
  test.blames_caller(
    "bad argument #1 to 'with' (function expected, got nil)",
    function() lock:with(nil) end
  )
  assert(not lock:locked())
end)
