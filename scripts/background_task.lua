-- Tasks work in the background while the script does something else; their results are collected
-- later. A task can be given a name, which reports and tracebacks then show.
-- From "Mastering asyncio" (Task: Background Execution) and "Asyncio Concurrency Patterns"
-- (Creating Tasks; Named Tasks). Sleeps are ten times shorter.
local async = require "rille.async"

local function background_task(name, delay)
  async.sleep(delay)
  return name .. " done"
end

local task1 = async.spawn(background_task, "Task-1", 0.1)
local task2 = async.spawn(background_task, "Task-2", 0.05)

print "Tasks created, doing other work..."
async.sleep(0.01)
print "Other work complete"

local result1 = task1:await()
local result2 = task2:await()
print(("%s, %s"):format(result1, result2))

local named = async.spawn(background_task, "Named", 0.01)
named:set_name "my-background-task"
print(named:name())
named:await()
