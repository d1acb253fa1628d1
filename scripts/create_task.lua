-- A task is scheduled when it is spawned and starts at the next wait, not at once: so the line
-- after the spawns comes first. (The documents say "starts immediately"; their own output shows
-- otherwise.)
-- From "Complete Guide to Asynchronous Programming" (Creating Tasks) and "Async Python Patterns"
-- (Pattern 3: Task Creation and Management), one after the other. Sleeps are ten times shorter.
local async = require "rille.async"

local function process_data(name, delay)
  print(name .. " starting processing")
  async.sleep(delay)
  print(name .. " processing complete")
  return name .. "_result"
end

local task1 = async.spawn(process_data, "Task 1", 0.2)
local task2 = async.spawn(process_data, "Task 2", 0.1)
print "Tasks created, doing other things..."
async.sleep(0.05)
print(("Results: %s, %s"):format(task1:await(), task2:await()))

local function background_task(name, delay)
  print(name .. " started")
  async.sleep(delay)
  print(name .. " completed")
  return "Result from " .. name
end

task1 = async.spawn(background_task, "Task 1", 0.2)
task2 = async.spawn(background_task, "Task 2", 0.1)
print "Main: doing other work"
async.sleep(0.05)
print(("Results: %s, %s"):format(task1:await(), task2:await()))
