-- Cancelling a task raises an error in it, at the point where it waits. Lua's own way of cleaning
-- up works: catch, clean up, raise again.
-- From "Asyncio Concurrency Patterns" (Task Cancellation; Pitfall 5) and "Async Python Patterns"
-- (Not Handling Cancellation). Sleeps are ten times shorter; the task is cancelled after two and a
-- half turns instead of three, so that it cannot finish the third at the very same moment.
local async = require "rille.async"

local function long_running_task()
  local ok, err = pcall(function()
    while true do
      async.sleep(0.1)
      print "Working..."
    end
  end)
  print "Task cancelled, cleaning up..."
  if not ok then error(err, 0) end
end

local task = async.spawn(long_running_task)
async.sleep(0.25)
task:cancel()

local ok, err = pcall(task.await, task)
if not ok and async.is_cancelled(err) then print "Task was cancelled" end
