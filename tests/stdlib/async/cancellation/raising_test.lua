-- The rules of cancellation: where it is raised.
local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancelled, sleep_for_ever = test.cancelled, test.sleep_for_ever

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
