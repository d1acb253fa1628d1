-- A decorator is a function that takes a function and gives one that does more: here one that says
-- how long a call took, around one that tries again. (rille.patterns has both ready made: timed,
-- retry.)
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Decorators). The API call of the
-- document fails by chance; here it goes to a server that fails twice and then works. Sleeps are
-- ten times shorter.
local async = require "rille.async"
local http = require "rille.http"

local function timer(name, fn)
  return function(...)
    local start = async.time()
    local result = fn(...)
    print(("%s took: %.2f seconds"):format(name, async.time() - start))
    return result
  end
end

local function retry(max_attempts, delay, fn)
  return function(...)
    for attempt = 1, max_attempts - 1 do
      local ok, result = pcall(fn, ...)
      if ok then return result end
      print(("Attempt %d failed: %s, retrying in %g seconds..."):format(attempt, result, delay))
      async.sleep(delay) -- a cancellation caught above is raised again here
    end
    return fn(...)
  end
end

local requests = 0
local function flaky()
  async.sleep(0.05)
  requests = requests + 1
  if requests < 3 then return 503 end
  return "Success"
end

async.with(http.serve { handler = flaky }, function(server)
  local unstable_api_call = timer("unstable_api_call", retry(3, 0.05, function()
    local response = http.get("http://127.0.0.1:" .. server.port .. "/")
    if response.status ~= 200 then error("API call failed", 0) end
    return response:text()
  end))

  local ok, result = pcall(unstable_api_call)
  print((ok and "Result: " or "Final failure: ") .. tostring(result))
end)
