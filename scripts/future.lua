-- A Future is a result that somebody will set later: whoever awaits it sleeps until then.
-- From "Asyncio Concurrency Patterns" (Tasks and Futures). The document prints nothing.
local async = require "rille.async"

local future = async.Future()

async.spawn(function()
  async.sleep(0.02)
  print "Setting the result"
  future:set_result(42)
end)

print "Waiting for the result"
print("Result: " .. future:await())
