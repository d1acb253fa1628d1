-- Applications over HTTP/2: the same answers as over HTTP/1.1.
local async, test = require "rille.async", require "support.test"
local http, websocket = require "rille.http", require "rille.websocket"
local certificates = require "support.certificates"

local has_http2 = pcall(require, "rille.core.http2") and pcall(require, "rille.core.tls")

test("routes, limits, shapes, mounts and WebSockets beside them", function()
  if not has_http2 then return print "# skipped: HTTP/2 is not in this build" end
  local ca = certificates.authority(test.tmpdir())
  local own = ca:issue("localhost", { names = "DNS:localhost,IP:127.0.0.1" })
  local app, inner = http.App(), http.App()
  app:use(function(req, next)
    local response = next(req)
    response.headers["X-Version"] = req.version:sub(1, 1)
    return response
  end)
  app:get("/x/{id}", function(req) return { id = req.params.id } end,
    { params = { id = "integer" } })
  app:post("/json", function(req) return req:json() end,
    { request = { a = "integer" }, max_body_bytes = 20 })
  app:websocket("/live", function(ws) ws:send "hello" end)
  inner:get("/", function(req) return req.path end)
  app:mount("/in", inner)
  local server = app:serve { tls = { cert = own.cert, key = own.key } }
  test.defer(function() server:close(0) end)
  local base = "localhost:" .. server.port
  local session = http.Session { base_url = "https://" .. base, tls = { ca = ca.path } }
  async.with(session, function(client)
    local function status(method, path, options)
      local response = client:request(method, path, options)
      test.eq({ response.version:sub(1, 1), response.headers["x-version"] }, { "2", "2" }, path)
      return response.status, response.headers.allow
    end
    test.eq(client:get("/x/7"):json(), { id = 7 })
    test.eq((status("GET", "/x/a")), 422)
    test.eq((status("GET", "/nowhere")), 404)
    test.eq({ status("PUT", "/x/7") }, { 405, "GET, HEAD, OPTIONS" })
    test.eq({ status("OPTIONS", "/x/7") }, { 204, "GET, HEAD, OPTIONS" })
    test.eq((status("HEAD", "/x/7")), 200)
    test.eq((status("POST", "/json", { json = { a = 1 } })), 200)
    test.eq((status("POST", "/json", { json = { a = "x" } })), 422)
    test.eq((status("POST", "/json", { body = ("x"):rep(21) })), 413)
    test.eq(client:get("/in"):text(), "/in")
    test.eq((status("GET", "/live")), 426)
    test.eq(client:request("BREW", "/x/7").status, 501)
  end)
  local ws = websocket.connect("wss://" .. base .. "/live", { tls = { ca = ca.path } })
  test.eq({ ws:recv() }, { "hello", "text" })
  ws:close()
end)
