-- Tries again after a failure, waiting twice as long each time. What is tried is a function without
-- arguments, so the options cannot be mistaken for its arguments, as they are in the document.
-- From "Asyncio Concurrency Patterns" (Pattern 3: Retry Logic) and "python-asyncio" (Additional
-- References). The unstable API is a real server that fails twice. Delays are twenty times shorter
-- and printed with two places.
local async = require "rille.async"
local http = require "rille.http"
local patterns = require "rille.patterns"

local requests = 0
local function unstable_api()
  requests = requests + 1
  if requests <= 2 then return 503 end
  return "stable at last"
end

async.with(http.serve { handler = unstable_api }, function(server)
  local url = "http://127.0.0.1:" .. server.port .. "/"

  local result = patterns.retry(function()
    return http.get(url):raise_for_status():text()
  end, {
    attempts = 5,
    base_delay = 0.05,
    on_retry = function(err, attempt, delay)
      print(("Attempt %d failed: %s"):format(attempt, err.message))
      print(("Retrying in %.2f seconds..."):format(delay))
    end,
  })

  print("Result: " .. result)
end)
