-- Two tasks that take the same two locks in different order wait for each other for ever. Rille
-- sees that nothing can wake them any more, and wakes the main task with a DeadlockError. In the
-- same order, all is well.
-- From "Asyncio Concurrency Patterns" (Pitfall 6: Deadlocks with Locks). The document prints
-- nothing.
local async = require "rille.async"
local errors = require "rille.errors"

local lock1, lock2 = async.Lock(), async.Lock()

local function work(first, second)
  first:with(function()
    async.sleep(0.01)
    second:with(function() end)
  end)
end

local function run(a, b)
  local tasks = { async.spawn(work, lock1, lock2), async.spawn(work, a, b) }
  tasks[1]:set_name "task_a"
  tasks[2]:set_name "task_b"
  local ok, err = pcall(async.wait, tasks)
  if ok then
    print "Both are done"
  elseif errors.is(err, "DeadlockError") then
    print "Deadlock: each waits for the lock that the other holds"
    for _, task in ipairs(tasks) do task:cancel() end
    async.wait(tasks)
  else
    error(err, 0)
  end
end

run(lock2, lock1)
run(lock1, lock2)
