-- An object that owns its session: made when the object is entered, closed when it is left, and not
-- shared with others of its class.
-- From "Asyncio Concurrency Patterns" (Pitfall 2: Session as Class Variable), whose lines are shown
-- as they come from a server in this script. Its pitfall 1, a session made where no loop runs, has
-- no counterpart: a script's loop is always there.
local async = require "rille.async"
local http = require "rille.http"

local Api = {}
Api.__index = Api

local function new_api(base_url)
  return setmetatable({ base_url = base_url }, Api)
end

function Api:enter()
  self.session = http.Session { base_url = self.base_url }
  return self
end

function Api:exit()
  self.session:close()
end

function Api:fetch(path)
  return self.session:get(path):text()
end

async.with(http.serve { handler = function(req) return "This is " .. req.path end },
  function(server)
    local api = new_api("http://127.0.0.1:" .. server.port)
    async.with(api, function()
      print(api:fetch "/first")
      print(api:fetch "/second")
    end)

    local ok, err = pcall(api.fetch, api, "/third")
    print(ok, err)
  end)
