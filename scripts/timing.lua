-- How long something takes, by the loop's clock, which only goes forward.
-- From "Asyncio Concurrency Patterns" (Profiling Async Code: Basic Timing; Multiple Operations).
-- Sleeps are ten times shorter.
local async = require "rille.async"

local start = async.time()
async.sleep(0.1)
print(("Took %.2f seconds"):format(async.time() - start))

local function timed_task(name, duration)
  local began = async.time()
  async.sleep(duration)
  print(("%s took %.2fs"):format(name, async.time() - began))
  return name
end

async.gather {
  function() return timed_task("Task 1", 0.1) end,
  function() return timed_task("Task 2", 0.2) end,
  function() return timed_task("Task 3", 0.05) end,
}
