-- After three failures in a row the breaker opens: calls fail at once and spare the service. When
-- it has had time to recover, one call probes it; after two successes the breaker closes again.
-- From "Asyncio Concurrency Patterns" (Pattern 4: Circuit Breaker). The document's breaker uses the
-- wall clock and lets any number of probes through; its service fails by chance. Here it is a
-- server that fails three times. Sleeps are fifty times shorter.
local async = require "rille.async"
local http = require "rille.http"
local patterns = require "rille.patterns"

local requests = 0
local function flaky_service()
  async.sleep(0.002)
  requests = requests + 1
  if requests <= 3 then return 500, "Service error" end
  return "Success"
end

async.with(http.serve { handler = flaky_service }, function(server)
  local breaker = patterns.CircuitBreaker { failure_threshold = 3, recovery_timeout = 0.1 }

  local function request()
    return http.get("http://127.0.0.1:" .. server.port .. "/"):raise_for_status():text()
  end

  for i = 0, 19 do
    local ok, result = pcall(breaker.call, breaker, request)
    print(("Request %d: %s - State: %s"):format(i, ok and result or "Failed", breaker:state()))
    async.sleep(0.01)
  end
end)
