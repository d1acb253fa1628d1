-- A session keeps its connections: one made for each request connects each time, one for all
-- connects as often as it needs to. The limit says how many connections it has at most.
-- From "Asyncio Concurrency Patterns" (Performance pitfall: sessions per request) and "Async Python
-- Patterns" (Performance 1: Use Connection Pools), which print nothing. The server is one of this
-- script's own, and counts who connects.
local async = require "rille.async"
local http = require "rille.http"

local ITEMS = 50

local seen, connections = {}, 0

local function serve_item(req)
  local peer = tostring(req.peer)
  if not seen[peer] then connections = connections + 1 end
  seen[peer] = true
  return "item" .. req.path
end

-- Runs fn(url, i) for every item, and says how many connections that took.
local function count(what, base, options, fn)
  seen, connections = {}, 0
  local items = {}
  for i = 1, ITEMS do items[i] = i end
  async.map(items, function(i) assert(fn(base .. "/" .. i) == "item/" .. i) end, options)
  print(("%-38s %2d connections"):format(what, connections))
end

async.with(http.serve { handler = serve_item }, function(server)
  local base = "http://127.0.0.1:" .. server.port

  count("A session for each request:", base, { limit = 5 }, function(url)
    return async.with(http.Session {}, function(session) return session:get(url):text() end)
  end)

  async.with(http.Session {}, function(session)
    count("One session, one request at a time:", base, { limit = 1 }, function(url)
      return session:get(url):text()
    end)
  end)

  async.with(http.Session { limit = 100, limit_per_host = 10 }, function(session)
    count("One session, all requests at once:", base, {}, function(url)
      return session:get(url):text()
    end)
  end)
end)
