-- Two slow pages fetched at once take as long as the slower one.
-- From "Complete Guide to Asynchronous Programming" (aiohttp). The document asks
-- httpbin.org/delay/1 and /2; here a server in this script waits as long as its path says, in
-- tenths of a second.
local async = require "rille.async"
local http = require "rille.http"

local app = http.App()
app:get("/delay/{n}", function(req)
  async.sleep(req.params.n / 10)
  return "waited as asked\n"
end, { params = { n = "integer" } })

async.with(app:serve {}, function(server)
  local base = "http://127.0.0.1:" .. server.port
  async.with(http.Session { base_url = base }, function(session)
    local results = async.gather {
      function() return session:get("/delay/1"):text() end,
      function() return session:get("/delay/2"):text() end,
    }
    print(("Fetched %d responses"):format(results.n))
  end)
end)
