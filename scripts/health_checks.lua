-- Health checks: whether a service lives, and whether it is ready. What it depends on is asked at
-- once, each with a limit, and the answer is kept for a moment, so that many who ask cost no more
-- than one.
local async = require "rille.async"
local http = require "rille.http"
local patterns = require "rille.patterns"

local app = http.App()
app.is_draining = false
local asked = 0

local checks = {
  database = function() async.sleep(0.01) end,
  cache = function() async.sleep(0.005) end,
  search = function()
    asked = asked + 1
    if asked == 1 then async.sleep(60) end -- it hangs once
  end,
}

local function check(name)
  local ok, e = pcall(async.timeout, 0.05, checks[name])
  return ok and "ok" or e.kind
end

local kept = patterns.Cache { ttl = 0.05 }
local function report()
  return kept:get("report", function()
    local names = { "cache", "database", "search" }
    local results = async.map(names, check)
    local status, found = "ok", {}
    for i, name in ipairs(names) do
      found[name] = results[i]
      if results[i] ~= "ok" then status = "failing" end
    end
    return { status = status, checks = found }
  end)
end

app:get("/live", function() return "alive" end)
app:get("/ready", function(req)
  if req.app.is_draining then return 503, { status = "draining" } end
  local result = report()
  return result.status == "ok" and 200 or 503, result
end)

async.with(app:serve {}, function(server)
  async.with(http.Session { base_url = "http://127.0.0.1:" .. server.port }, function(session)
    local function ask()
      local response = session:get "/ready"
      local result = response:json()
      local parts = {}
      for _, name in ipairs { "cache", "database", "search" } do
        if result.checks then parts[#parts + 1] = name .. " " .. result.checks[name] end
      end
      print(response.status, result.status, table.concat(parts, ", "))
    end
    print(session:get("/live").status, session:get("/live"):text())
    ask()
    async.sleep(0.06) -- what was found is forgotten
    async.gather { ask, ask, ask }
    print(("search was asked %d times"):format(asked))
    app.is_draining = true
    ask()
    print(session:get("/live").status, "alive all the same")
  end)
end)
