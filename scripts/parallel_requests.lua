-- Fetches a list of pages concurrently and reports the status and size of each.
-- From "Asyncio Concurrency Patterns" (Example 1: Parallel HTTP Requests). The five sites of the
-- document are five pages of a server in this script; the lines differ in address and size.
local async = require "rille.async"
local http = require "rille.http"

local PAGES = { "/python", "/docs", "/pypi", "/github", "/peps" }

local function serve_page(req)
  async.sleep(0.05)
  return ("Welcome to %s\n"):format(req.path):rep(10)
end

local function fetch(url)
  local response = http.get(url)
  return { url = url, status = response.status, length = #response:text() }
end

async.with(http.serve { handler = serve_page }, function(server)
  local start = async.time()
  local results = async.map(PAGES, function(path)
    return fetch("http://127.0.0.1:" .. server.port .. path)
  end)
  local elapsed = async.time() - start

  for _, result in ipairs(results) do
    print(("%s: %d (%d bytes)"):format(result.url, result.status, result.length))
  end
  print(("\nFetched %d URLs in %.2f seconds"):format(#PAGES, elapsed))
end)
