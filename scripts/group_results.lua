-- After a group every task in it is done, so their results can be asked for without waiting.
-- From "Mastering asyncio" (TaskGroup) and "python-asyncio" (TaskGroup: process_all), which prints
-- nothing; its line here is the second. Sleeps are ten times shorter.
local async = require "rille.async"
local show = require "lib.show"

local function background_task(name, delay)
  async.sleep(delay)
  return name .. " done"
end

local task1, task2, task3
async.group(function(group)
  task1 = group:spawn(background_task, "A", 0.1)
  task2 = group:spawn(background_task, "B", 0.05)
  task3 = group:spawn(background_task, "C", 0.15)
end)
print(task1:result() .. " " .. task2:result() .. " " .. task3:result())

local function process_all(items)
  local tasks, results = {}, {}
  async.group(function(group)
    for i, item in ipairs(items) do
      tasks[i] = group:spawn(async.sleep, 0.01, "Processed: " .. item)
    end
  end)
  for i, task in ipairs(tasks) do results[i] = task:result() end
  return results
end

print(show(process_all { "one", "two", "three" }))
