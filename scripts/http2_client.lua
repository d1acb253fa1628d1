-- HTTP/2: a hundred requests at once on one connection, agreed on by TLS; the slow ones do not hold
-- up the quick ones. A client that knows HTTP/1.1 alone is served by the same port.
local async = require "rille.async"
local certificates = require "lib.certificates"
local http = require "rille.http"
local tempdir = require "lib.tempdir"

async.with(tempdir(), function(dir)
  local ca = certificates.authority(dir)
  local own = certificates.issue(dir, ca, "server", "DNS:localhost")

  local app = http.App()
  local peers, slow = {}, async.Event()
  app:use(function(req, next)
    peers[tostring(req.peer)] = true
    return next(req)
  end)
  app:get("/quick/{n}", function(req) return req.params.n end)
  app:get("/slow", function()
    slow:wait()
    return "at last"
  end)

  async.with(app:serve { tls = { cert = own.cert, key = own.key } }, function(server)
    local base = "https://localhost:" .. server.port
    async.with(http.Session { base_url = base, tls = { ca = ca.cert } }, function(session)
      print("version", session:get("/quick/0").version)
      async.group(function(group)
        local waiting = group:spawn(function() return session:get("/slow"):text() end)
        local numbers = {}
        for i = 1, 100 do numbers[i] = i end
        local answers = async.map(numbers, function(n)
          return tonumber(session:get("/quick/" .. n):text())
        end)
        local sum = 0
        for _, n in ipairs(answers) do sum = sum + n end
        print("sum", sum)
        slow:set()
        print("the slow one", waiting:await())
      end)
      local connections = 0
      for _ in pairs(peers) do connections = connections + 1 end
      print("connections", connections)
    end)
    local response = http.get(base .. "/quick/1", { tls = { ca = ca.cert } })
    print("by default", response.version)
    async.with(http.Session { http2 = false, tls = { ca = ca.cert } }, function(session)
      print("without HTTP/2", session:get(base .. "/quick/1").version)
    end)
  end)
end)
