-- A cache that loads a value once, also when many ask for it at the same time: the others wait for
-- the load under way. After its time to live it is loaded again.
-- From "python-asyncio" (Additional References: async cache with TTL), which has no program.
local async = require "rille.async"
local http = require "rille.http"
local patterns = require "rille.patterns"

local requests = 0
local function slow_page()
  async.sleep(0.02)
  requests = requests + 1
  return "version " .. requests
end

async.with(http.serve { handler = slow_page }, function(server)
  local cache = patterns.Cache { ttl = 0.05, max = 100 }
  local function load()
    return http.get("http://127.0.0.1:" .. server.port .. "/"):text()
  end

  local askers = {}
  for i = 1, 10 do
    askers[i] = function() return cache:get("page", load) end
  end
  local answers = async.gather(askers)
  print(("%d asked, %d request, %s"):format(answers.n, requests, answers[10]))

  async.sleep(0.06)
  print("Later: " .. cache:get("page", load))
end)
