-- An orderly end in one object: at the signal nothing new is accepted, jobs under way may finish,
-- and those that take too long are cancelled.
-- From "python-asyncio" (Additional References: graceful shutdown handlers), which has no program.
-- The signal is a real one, which the script has sent to itself.
local async = require "rille.async"
local patterns = require "rille.patterns"
local process = require "rille.process"

local shutdown = patterns.GracefulShutdown { timeout = 0.15 }

local function job(name, seconds)
  local ok, err = pcall(async.sleep, seconds)
  print(name .. (ok and " finished" or " was cancelled"))
  if not ok then error(err, 0) end
end

shutdown:on_stop(function(signal) print(signal .. ": no new jobs from now on") end)
shutdown:spawn(job, "The short job", 0.1)
shutdown:spawn(job, "The long job", 60)

async.call_later(0.05, process.kill, process.pid(), "SIGTERM")
shutdown:wait()
shutdown:close()
print "All jobs have ended"
