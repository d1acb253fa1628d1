local async, test = require "rille.async", require "support.test"

local sleep_for_ever = test.sleep_for_ever

-- What both kinds have in common.
for _, name in ipairs { "Semaphore", "BoundedSemaphore" } do
  local Semaphore = async[name]

  test(name .. " gives its permits without giving the turn away", function()
    local sem, log = Semaphore(2), test.log()
    local other = async.spawn(log, "other")
    test.eq(sem:value(), 2)
    sem:acquire()
    test.eq(sem:value(), 1)
    test.eq(sem:locked(), false)
    sem:acquire()
    log "taken"
    test.eq(sem:value(), 0)
    test.eq(sem:locked(), true)
    sem:release()
    sem:release()
    test.eq(sem:value(), 2)
    other:await()
    test.eq(log, { "taken", "other" })
  end)

  test(name .. " without a permit makes others wait, first come first served", function()
    local sem, log, tasks = Semaphore(1), test.log(), {}
    sem:acquire()
    for i = 1, 4 do
      tasks[i] = async.spawn(function()
        sem:acquire()
        log(i)
        async.sleep(0)
        sem:release()
      end)
    end
    async.sleep(0)
    test.eq(log, {})
    sem:release()
    async.wait(tasks)
    test.eq(log, { "1", "2", "3", "4" })
    test.eq(sem:value(), 1)
  end)

  test(name .. " lets no more in than it has permits", function()
    local sem, inside, most, tasks = Semaphore(3), 0, 0, {}
    for i = 1, 10 do
      tasks[i] = async.spawn(sem.with, sem, function()
        inside = inside + 1
        most = math.max(most, inside)
        test.turns(2)
        inside = inside - 1
      end)
    end
    async.wait(tasks)
    test.eq(most, 3)
    test.eq(sem:value(), 3)
  end)

  test(name .. " hands a released permit to the first waiter, and nobody overtakes it", function()
    local sem, log = Semaphore(1), test.log()
    sem:acquire()
    local waiter = async.spawn(function()
      sem:acquire()
      log "waiter"
      sem:release()
    end)
    async.sleep(0)
    sem:release()
    test.eq(sem:value(), 0)
    test.eq(sem:try_acquire(), false)
    sem:acquire()
    log "newcomer"
    sem:release()
    waiter:await()
    test.eq(log, { "waiter", "newcomer" })
  end)

  test(name .. " tries for a permit without waiting", function()
    local sem = Semaphore(1)
    test.eq(sem:try_acquire(), true)
    test.eq(sem:try_acquire(), false)
    sem:release()
    test.eq(sem:value(), 1)
  end)

  test(name .. " may start with no permit", function()
    local sem = Semaphore(0)
    test.eq(sem:locked(), true)
    test.eq(sem:try_acquire(), false)
  end)

  test(name .. " holds a permit while the function of with runs, and gives its results", function()
    local sem = Semaphore(1)
    local n = select("#", sem:with(function(...)
      test.eq(sem:value(), 0)
      return ...
    end, 1, nil, nil))
    test.eq(n, 3)
    test.eq(sem:value(), 1)
    test.raises("oops", sem.with, sem, function() error "oops" end)
    test.eq(sem:value(), 1)
    test.eq(async.with(sem, function() return sem:value() end), 0)
    test.eq(sem:value(), 1)
  end)

  test(name .. " gets the permit of a cancelled with back", function()
    local sem = Semaphore(1)
    local task = async.spawn(sem.with, sem, sleep_for_ever)
    async.sleep(0)
    task:cancel()
    async.wait { task }
    test.eq(sem:value(), 1)
  end)

  test(name .. " loses no permit to a cancelled waiter", function()
    local sem = Semaphore(1)
    sem:acquire()
    local waiter = async.spawn(sem.acquire, sem)
    async.sleep(0)
    waiter:cancel()
    sem:release()
    async.sleep(0)
    sem:acquire() -- would hang, and reach the test's limit, had the permit been lost
    sem:release()
    test.eq(sem:value(), 1)
  end)

  test(name .. " gives a permit to a waiter that is cancelled after it was given it", function()
    local sem, log = Semaphore(1), test.log()
    sem:acquire()
    local waiter = async.spawn(function()
      sem:acquire()
      log "taken"
      sem:release()
      async.sleep(0)
      log "not reached"
    end)
    async.sleep(0)
    sem:release()
    waiter:cancel()
    async.wait { waiter }
    assert(waiter:cancelled())
    test.eq(log, { "taken" })
    test.eq(sem:value(), 1)
  end)

  test(name .. " loses no permit to a timeout", function()
    local sem = Semaphore(1)
    sem:acquire()
    test.raises("TimeoutError", async.wait_for, sem.acquire, 0.002, sem)
    sem:release()
    test.eq(sem:value(), 1)
  end)

  test(name .. " names a wrong number of permits, itself and the caller's line", function()
    local bad = "bad argument #1 to '" .. name .. "'"
    test.blames_caller(bad, function() Semaphore(-1) end)
    test.blames_caller(bad, function() Semaphore(0 / 0) end)
    test.blames_caller(bad, function() Semaphore(1.5) end)
    test.blames_caller(bad .. " (number expected, got string)", function() Semaphore("many") end)
  end)
end

test("a Semaphore may be given more permits than it started with", function()
  local sem = async.Semaphore(1)
  sem:release()
  test.eq(sem:value(), 2)
end)

test("a BoundedSemaphore refuses a release too many at the caller's line", function()
  local sem = async.BoundedSemaphore(1)
  test.raises("InvalidStateError", sem.release, sem)
  test.blames_caller("InvalidStateError", function() sem:release() end)
  test.eq(sem:value(), 1)
end)

test("with of a semaphore names its wrong argument and takes no permit", function()
  local sem = async.Semaphore(1)
  test.blames_caller("bad argument #1 to 'with'", function() sem:with(nil) end)
  test.eq(sem:value(), 1)
end)

test("a semaphore has one permit unless told otherwise", function()
  test.eq(async.Semaphore():value(), 1)
end)
