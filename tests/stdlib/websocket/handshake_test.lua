-- The beginning of a WebSocket: what is asked for, what is refused, and through whom it goes.
local async, test = require "rille.async", require "support.test"
local http, websocket, net = require "rille.http", require "rille.websocket", require "rille.net"
local wire = require "stdlib.websocket.wire"

local echo, serve = wire.echo, wire.serve
local has_tls = pcall(require, "rille.core.tls")

local function url_of(port) return ("ws://127.0.0.1:%d/"):format(port) end

local function connect(port, options)
  local ws = websocket.connect(url_of(port), options)
  test.defer(function() ws:close() end)
  return ws
end

-- What a server answers to a request for an upgrade: its status and the head.
local function answer(port, request)
  local stream = net.connect { host = "127.0.0.1", port = port }
  stream:write(request)
  local ok, head = pcall(stream.read_until, stream, "\r\n\r\n")
  stream:close()
  return ok and tonumber(head:match "^HTTP/1.1 (%d+)"), head
end

test("requests that are no handshake are refused, each with its status", function()
  local port = serve(echo)
  local function status(change, extra)
    local request = wire.REQUEST
    if change then
      local n
      request, n = request:gsub(change[1], change[2])
      test.eq(n, 1, change[1])
    end
    return answer(port, request .. (extra or "") .. "\r\n")
  end
  test.eq((status()), 101)
  test.eq((status { "Upgrade: websocket", "Upgrade: WebSocket" }), 101)
  test.eq((status { "Upgrade: websocket", "Upgrade: h2c, websocket" }), 101)
  test.eq((status { "Connection: Upgrade", "Connection: keep-alive, UPGRADE" }), 101)
  test.eq((status { "Upgrade: websocket\r\n", "" }), 426)
  test.eq((status { "Connection: Upgrade\r\n", "" }), 426)
  test.eq((status { "GET", "POST" }), 405)
  test.eq((status { "GET", "HEAD" }), 426)
  test.eq((status { "HTTP/1.1", "HTTP/1.0" }), 400)
  test.eq((status { "Key: %S+\r\n", "Key: \r\n" }), 400)
  test.eq((status { "Key: %S+\r\n", "Key: c2hvcnQ=\r\n" }), 400)
  test.eq((status({ "ZQ==", "ZQ==" }, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")), 400)
  test.eq((status(nil, "Content-Length: 5\r\n\r\nhello")), 400)
  test.eq((status(nil, "Transfer-Encoding: chunked\r\n\r\n0\r\n")), 400)
  local code, head = status { "Version: 13", "Version: 7" }
  test.eq(code, 426)
  test.contains(head, "Sec-WebSocket-Version: 13\r\n")
  code, head = answer(port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
  test.eq(code, 426)
  test.contains(head, "Upgrade: websocket\r\n")
end)

test("frames that come together with the request are taken", function()
  local port = serve(echo)
  local stream = net.connect { host = "127.0.0.1", port = port }
  stream:write(wire.REQUEST, "\r\n", wire.frame(0x81, "early", true))
  stream:read_until "\r\n\r\n"
  test.eq(stream:read_exactly(7), wire.frame(0x81, "early"))
  stream:close()
end)

test("frames that come together with the answer are taken", function()
  local listener = net.listen { port = 0 }
  local task = async.spawn(function()
    local stream = listener:accept()
    local key = stream:read_until "\r\n\r\n":match "Key: (%S+)"
    stream:write("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
      "Sec-WebSocket-Accept: ", require("rille.websocket.handshake").accept(key), "\r\n\r\n",
      wire.frame(0x81, "early"), wire.frame(0x88, wire.code(1000)))
    while stream:read() do local _ = nil end
    stream:close()
  end)
  local ws = connect(listener:address().port)
  test.eq({ ws:recv() }, { "early", "text" })
  test.eq({ ws:recv(), ws.close_code }, { nil, 1000 })
  task:await()
  listener:close()
end)

test("origins: this host by default, those of a list, or all", function()
  local own = serve(echo)
  local some = serve(echo, { origins = { "https://good.test", "http://Other.test:8080" } })
  local all = serve(echo, { origins = { "*" } })
  local function status(port, origin)
    local field = origin and "Origin: " .. origin .. "\r\n" or ""
    return (answer(port, wire.REQUEST .. field .. "\r\n"))
  end
  for _, case in ipairs {
    { nil, 101, 101, 101 }, { "http://x", 101, 403, 101 }, { "https://X", 101, 403, 101 },
    { "http://x:80", 403, 403, 101 }, { "http://evil.test", 403, 403, 101 },
    { "http://evil.test/x", 403, 403, 101 }, { "null", 403, 403, 101 },
    { "https://good.test", 403, 101, 101 }, { "http://good.test", 403, 403, 101 },
    { "http://other.test:8080", 403, 101, 101 }, { "https://good.test.evil.test", 403, 403, 101 },
  } do
    local origin = case[1]
    test.eq({ status(own, origin), status(some, origin), status(all, origin) },
      { case[2], case[3], case[4] }, origin)
  end
end)

test("the first subprotocol that the client wants and the server speaks is taken", function()
  local port = serve(function(ws) ws:send(ws.subprotocol or "none") end,
    { subprotocols = { "v1", "v2" } })
  for _, case in ipairs { { { "v2", "v1" }, "v2" }, { { "v3", "v1" }, "v1" }, { { "v3" }, "none" },
    { nil, "none" }, { {}, "none" } } do
    local ws = connect(port, { subprotocols = case[1] })
    test.eq({ ws:recv(), ws.subprotocol or "none" }, { case[2], case[2] })
  end
end)

test("whatever a server refuses with is the status of an HTTPError", function()
  local app = http.App()
  for _, status in ipairs { 200, 301, 400, 401, 403, 404, 426, 429, 500, 503 } do
    app:get("/" .. status, function() return status, "no", { Location = "/elsewhere" } end)
  end
  local server = app:serve {}
  test.defer(function() server:close(0) end)
  for _, status in ipairs { 200, 301, 400, 401, 403, 404, 426, 429, 500, 503 } do
    local url = ("ws://user:secret@127.0.0.1:%d/%d"):format(server.port, status)
    local e = test.raises("HTTPError", websocket.connect, url)
    test.eq({ e.status, e.url }, { status, ("ws://127.0.0.1:%d/%d"):format(server.port, status) })
    assert(not tostring(e):find "secret")
    test.eq(e.headers.location, "/elsewhere")
  end
end)

test("auth, headers and cookies reach the server; credentials may stand in the URL", function()
  local port = serve(function(ws, req)
    ws:send((req.headers.authorization or "none") .. "|" .. (req.cookies.a or "none"))
  end)
  test.eq(connect(port, { auth = { user = "u", password = "p" } }):recv(), "Basic dTpw|none")
  test.eq(connect(port, { auth = { bearer = "t" }, headers = { Cookie = "a=b" } }):recv(),
    "Bearer t|b")
  local ws = websocket.connect(("ws://u:p@127.0.0.1:%d/"):format(port))
  test.eq({ ws:recv(), ws.url }, { "Basic dTpw|none", url_of(port) })
  ws:close()
end)

test("wrong options are named, on both sides, when they are given", function()
  local app = http.App()
  for _, case in ipairs {
    { { max_mesage = 1 }, "unknown option 'max_mesage'" },
    { { max_message = -1 }, "bad argument 'max_message'" },
    { { max_message = "x" }, "bad argument 'max_message'" },
    { { ping_interval = {} }, "bad argument 'ping_interval'" },
    { { ping_timeout = 0 / 0 }, "bad argument 'ping_timeout'" },
    { { close_timeout = -1 }, "bad argument 'close_timeout'" },
    { { subprotocols = { "a b" } }, "bad argument 'subprotocols'" },
  } do
    local options = case[1]
    test.blames_caller(case[2], function() app:websocket("/x", echo, options) end)
    test.blames_caller(case[2], function() websocket.connect("ws://127.0.0.1:1/", options) end)
  end
  test.blames_caller("bad argument 'origins'",
    function() app:websocket("/x", echo, { origins = "http://x" }) end)
  test.blames_caller("bad argument 'origins'",
    function() app:websocket("/x", echo, { origins = { 1 } }) end)
  test.blames_caller("function expected", function() app:websocket("/x") end)
  test.blames_caller("string expected, got nil", function() websocket.connect() end)
end)

test("middleware goes around WebSockets and sees them as 101", function()
  local app, log = http.App(), test.log()
  app:use(function(req, next)
    if req.headers["x-key"] ~= "right" then return 401 end
    local response = next(req)
    log(response.status)
    return response
  end)
  app:websocket("/", function(ws) ws:send "in" end)
  local server = app:serve {}
  test.defer(function() server:close(0) end)
  test.eq(test.raises("HTTPError", websocket.connect, url_of(server.port)).status, 401)
  local ws = connect(server.port, { headers = { ["X-Key"] = "right" } })
  test.eq({ ws:recv(), ws:recv() }, { "in", nil })
  ws:close()
  server:close()
  test.eq(log, { "101" })
end)

-- ---- proxies ------------------------------------------------------------------------------------

-- A proxy that knows CONNECT alone; `refuses`: the status that it answers with.
local function proxy(log, refuses)
  local listener = net.listen { port = 0 }
  local task = async.spawn(listener.serve, listener, function(stream)
    local head = stream:read_until "\r\n\r\n"
    log(head:match "^[^\r]*", head:match "Proxy%-Authorization: ([^\r]*)" or "")
    if refuses then
      stream:write("HTTP/1.1 ", refuses, " No\r\nContent-Length: 0\r\n\r\n")
      return
    end
    local host, port = head:match "^CONNECT ([^:]+):(%d+) "
    local target = net.connect { host = host, port = tonumber(port) }
    stream:write "HTTP/1.1 200 OK\r\n\r\n"
    async.with(target, function()
      async.group(function(group)
        local function pump(from, to)
          while true do
            local ok, data = pcall(from.read, from)
            if not ok or not data then break end
            to:write(data)
          end
          group:cancel()
        end
        group:spawn(pump, stream, target)
        group:spawn(pump, target, stream)
      end)
    end)
  end)
  test.defer(function()
    listener:close(0)
    task:await()
  end)
  return "http://joe:key@127.0.0.1:" .. listener:address().port
end

test("a WebSocket goes through a proxy, which is asked for a tunnel", function()
  local log = test.log()
  local port = serve(echo)
  local own = proxy(log)
  local ws = connect(port, { proxy = own })
  ws:send "through"
  test.eq(ws:recv(), "through")
  ws:close()
  test.eq(log, { ("CONNECT 127.0.0.1:%d HTTP/1.1 Basic am9lOmtleQ=="):format(port) })
  local e = test.raises("HTTPError", websocket.connect, url_of(port), { proxy = proxy(log, 407) })
  test.contains(e.message, "407")
  assert(not tostring(e):find "key")
  test.blames_caller("bad argument 'proxy'",
    function() websocket.connect("ws://127.0.0.1:1/", { proxy = 3 }) end)
  if not has_tls then return end
  local ca = require("support.certificates").authority(test.tmpdir())
  local server = ca:issue("localhost", { names = "DNS:localhost,IP:127.0.0.1" })
  port = serve(echo, nil, { tls = { cert = server.cert, key = server.key } })
  ws = websocket.connect(("wss://127.0.0.1:%d/"):format(port),
    { proxy = own, tls = { ca = ca.path } })
  ws:send "secret"
  test.eq(ws:recv(), "secret")
  ws:close()
end)
