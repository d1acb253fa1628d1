-- Two kinds of callbacks: a function that is handed in and called with the result, and one that a
-- task calls when it is done.
-- From "Complete Guide to Asynchronous Programming" (Callback Functions). Sleeps are twenty times
-- shorter. A done callback runs soon after the end of its task, so the script waits one more turn.
local async = require "rille.async"

local function task_with_callback(value, callback)
  async.sleep(0.05)
  local result = value * 2
  callback(result)
  return result
end

local function on_complete(result)
  print("Task complete, result: " .. result)
end

task_with_callback(10, on_complete)

local task = async.spawn(task_with_callback, 20, on_complete)
task:add_done_callback(function(done)
  local ok, result = pcall(done.result, done)
  if ok then
    print("Result obtained via done_callback: " .. result)
  else
    print("Task exception: " .. tostring(result))
  end
end)
task:await()
async.sleep(0)
