-- Twenty requests to a real server, never more than three of them at once.
-- From "Async Python Patterns" (Pattern 9: Semaphore for Rate Limiting), "Asyncio Concurrency
-- Patterns" (Pattern 3: Semaphore) and "python-asyncio" (Semaphores for Rate Limiting). The lines
-- carry the server's address; the server counts for itself, and its finding is one line more.
local async = require "rille.async"
local http = require "rille.http"

local active, most = 0, 0
local function item_page()
  active = active + 1
  most = math.max(most, active)
  async.sleep(0.03)
  active = active - 1
  return "an item"
end

local function rate_limited_requests(urls, max_concurrent)
  local semaphore = async.Semaphore(max_concurrent)
  local function api_call(url)
    return semaphore:with(function()
      print("Calling " .. url)
      return { url = url, status = http.get(url).status }
    end)
  end
  return async.map(urls, api_call)
end

async.with(http.serve { handler = item_page }, function(server)
  local urls = {}
  for i = 0, 19 do urls[#urls + 1] = ("http://127.0.0.1:%d/item/%d"):format(server.port, i) end
  local results = rate_limited_requests(urls, 3)
  print(("Completed %d requests"):format(results.n))
  print(("The server saw %d at once at most"):format(most))
end)
