-- What async.wait may wait for: the first task that is done, the first that fails, or all of them.
-- From "Asyncio Concurrency Patterns" (Pattern 2: Wait strategies), which has no program for it.
-- Note that wait raises no task's error: it says which tasks are done, and the rest is asked of
-- them.
local async = require "rille.async"

local function work(name, delay, fails)
  async.sleep(delay)
  if fails then error(name .. " failed", 0) end
  return name
end

local function names(tasks)
  local list = {}
  for i, task in ipairs(tasks) do list[i] = task:name() end
  return #list == 0 and "none" or table.concat(list, ", ")
end

local tasks = {}
local function start(name, ...)
  local task = async.spawn(work, name, ...)
  task:set_name(name)
  table.insert(tasks, task)
end
start("slow", 0.6)
start("broken", 0.3, true)
start("quick", 0.01)

for _, strategy in ipairs { "FIRST_COMPLETED", "FIRST_ERROR", "ALL_COMPLETED" } do
  local done, pending = async.wait(tasks, { return_when = strategy })
  print(("%-15s done: %s; pending: %s"):format(strategy, names(done), names(pending)))
end
print("Error: " .. tostring(tasks[2]:error()))
