-- Fetches pages of a site that is slow here, broken there, and says of each what came of it: an
-- error of one is a line in the report, and no reason to stop.
-- From "Async Python Patterns" (Web Scraping with aiohttp). The pages of httpbin.org are those of a
-- server in this script, which waits in tenths of a second; so addresses and lengths differ. The
-- last page never comes, to show a time-out; the limit is 0.5 seconds instead of 10.
local async = require "rille.async"
local http = require "rille.http"
local show = require "lib.show"

local site = http.App()
site:get("/delay/{n}", function(req)
  async.sleep(req.params.n / 10)
  return "here you are\n"
end, { params = { n = "integer" } })
site:get("/status/{code}", function(req) return req.params.code end,
  { params = { code = "integer" } })

local function fetch_url(url)
  local ok, result = pcall(http.get, url, { timeout = 0.5 })
  if not ok then return { url = url, error = result.kind } end
  return { url = url, status = result.status, length = #result:text() }
end

async.with(site:serve {}, function(server)
  local urls = {}
  for _, path in ipairs { "/delay/1", "/delay/2", "/status/404", "/delay/50" } do
    urls[#urls + 1] = "http://127.0.0.1:" .. server.port .. path
  end

  for _, result in ipairs(async.map(urls, fetch_url)) do print(show(result)) end
  server:close(0) -- cuts off the page that nobody waits for any more
end)
