-- Debug mode (also: rille --debug, RILLE_DEBUG=1) reports on stderr what goes wrong without an
-- error: here a task that holds the loop for longer than it may, and where it stands.
-- From "Asyncio Concurrency Patterns" (Enable Debug Mode; Logging Slow Callbacks) and "Complete
-- Guide to Asynchronous Programming" (Enable asyncio Debug Mode). The limit is 20 ms instead of
-- 100.
local async = require "rille.async"

async.slow_callback_duration = 0.02
async.set_debug(true)

local function slow()
  local deadline = async.time() + 0.04
  while async.time() < deadline do end
  async.sleep(0) -- at the next wait the loop sees how long it took
end

local task = async.spawn(slow)
task:set_name "slow"
task:await()
print("Debug mode: " .. tostring(async.debug()))
