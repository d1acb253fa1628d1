-- An error in a task belongs to whoever waits for it or owns its group. If nobody takes it, it is
-- printed with its traceback and the program ends with status 1: it is never lost in silence.
-- From "Asyncio Concurrency Patterns" (Task Exception Retrieval) and "python-asyncio" (Exception
-- Handling in Tasks), without its bad part, the exception that nobody looks at. Sleeps are fifty
-- times shorter.
local async = require "rille.async"
local errors = require "rille.errors"

local function failing_task(message)
  async.sleep(0.02)
  error(errors.new("ValueError", message))
end

-- Ask the task.
local task = async.spawn(failing_task, "Task 1 failed")
async.sleep(0.04)
if task:done() and task:error() then
  print("Task failed with: " .. task:error().message)
end

-- Wait for it: the error is raised here.
task = async.spawn(failing_task, "Task failed!")
local ok, err = pcall(task.await, task)
if not ok and errors.is(err, "ValueError") then print("Caught: " .. err.message) end

-- Or give it to a group, which collects the errors of all its tasks.
async.catch(function()
  async.group(function(group) group:spawn(failing_task, "Task failed!") end)
end, {
  ValueError = function(group)
    for _, failure in ipairs(group.errors) do print("Caught: " .. failure.message) end
  end,
})
