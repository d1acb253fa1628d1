-- The task notices its cancellation and passes it on; whoever waits for the task learns of it.
-- From "Complete Guide to Asynchronous Programming" (Task Cancellation). Sleeps are fifty times
-- shorter.
local async = require "rille.async"

local function long_task(name)
  print(name .. " starting")
  local ok, cancellation = async.pcall(async.sleep, 0.2)
  if not ok then
    print(name .. " was cancelled")
    error(cancellation, 0) -- without this line the task would live on
  end
  print(name .. " complete")
end

local task = async.spawn(long_task, "Long Task")
async.sleep(0.04)
print "Cancelling task"
task:cancel()

local ok, err = pcall(task.await, task)
if not ok and async.is_cancelled(err) then print "Task confirmed cancelled" end
