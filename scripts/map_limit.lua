-- async.map with a limit is a semaphore and a gather in one call: a function for each item of a
-- list, so many of them at once, results in the order of the list.
-- From "Mastering asyncio" (Semaphore and Concurrency Control). The pages come from a real server.
local async = require "rille.async"
local http = require "rille.http"

local function page()
  async.sleep(0.02)
  return "a page"
end

async.with(http.serve { handler = page }, function(server)
  local urls = {}
  for i = 0, 9 do urls[#urls + 1] = ("http://127.0.0.1:%d/page/%d"):format(server.port, i) end

  local results = async.map(urls, function(url)
    return { url = url, status = http.get(url).status }
  end, { limit = 3 })

  print(("Done: %d pages"):format(results.n))
end)
