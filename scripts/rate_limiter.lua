-- A token bucket: five calls may go at once, then one every 10 ms, which is what the rate allows.
-- From "python-asyncio" (Additional References: token bucket rate limiter), which has no program.
local async = require "rille.async"
local patterns = require "rille.patterns"

local limiter = patterns.RateLimiter { rate = 100, burst = 5 }

local start = async.time()
for i = 1, 15 do
  limiter:acquire()
  print(("Call %d after %.2f seconds"):format(i, async.time() - start))
end
