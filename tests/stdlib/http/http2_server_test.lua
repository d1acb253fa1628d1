-- The server of HTTP/2: whatever a handler returns, and whatever a request may be, as in HTTP/1.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local errors = require "rille.errors"
local raw = require "stdlib.http.raw"
local frames = require "stdlib.http.frames"

if not frames.are_spoken() then return end

local start = frames.start

local function get(port, changes, more)
  return frames.connect(port):get(1, changes, more):answer(1)
end

-- Sends a request with a body and gives the answer.
local function post(port, body, more, changes)
  return frames.connect(port):post(1, changes, more):data(1, body, 1):answer(1)
end

local reported = raw.reported

test("a request is what it is in HTTP/1", function()
  local seen
  local port = start(function(req)
    seen = req
    return table.concat({ req.method, req.path, req.query.a, req.version, req.host, req.scheme,
      req.remote, req.headers["X-A"], req.headers.cookie, req.cookies.b,
      #req.headers:get_all "cookie", req.target }, " ")
  end)
  test.eq(get(port, { [":path"] = "/p%20q?a=1", [":authority"] = "h.example:80" },
    { "x-a", "1", "cookie", "a=1", "x-a", "2", "cookie", "b=2" }),
    "200 GET /p q 1 2.0 h.example:80 http 127.0.0.1 1, 2 a=1; b=2 2 1 /p%20q?a=1")
  test.eq(type(seen.id), "string")
  test.eq(seen.peer.host, "127.0.0.1")
  test.eq(get(port, { [":authority"] = false, [":path"] = "/?a=1" },
    { "host", "other", "x-a", "1", "cookie", "b=2" }):match "2%.0 (%S+)", "other")
end)

test("strings, numbers, tables, responses", function()
  local port = start(function(req)
    if req.path == "/number" then return 404 end
    if req.path == "/table" then return { a = 1 } end
    if req.path == "/empty" then return 204 end
    if req.path == "/abort" then http.abort(403, "no") end
    if req.path == "/redirect" then return http.redirect "/x" end
    return 201, "made", { ["X-A"] = { "1", "2" }, Connection = "keep-alive" }
  end)
  test.eq(get(port), "201 made")
  test.eq(get(port, { [":path"] = "/number" }), "404 Not Found")
  test.eq(get(port, { [":path"] = "/table" }), '200 {"a":1}')
  test.eq(get(port, { [":path"] = "/empty" }), "204")
  test.eq(get(port, { [":path"] = "/abort" }), "403 no")
  test.eq(get(port, { [":path"] = "/redirect" }), "302")
  test.eq(get(port, { [":method"] = "HEAD" }), "201")
end)

test("an error in a handler is a 500, and the connection goes on", function()
  local port = start(function(req)
    if req.path == "/nothing" then return end
    if req.path == "/" then error(errors.new("OSError", "secret"), 0) end
    return "ok"
  end)
  local peer = frames.connect(port)
  test.eq(peer:get(1):answer(1), "500 Internal Server Error")
  test.eq(reported(), { "error in the handler of GET /: OSError: secret" })
  test.eq(peer:get(3, { [":path"] = "/nothing" }):answer(3), "500 Internal Server Error")
  test.eq(reported(), { "error in the handler of GET /nothing: the handler returned nothing" })
  test.eq(peer:get(5, { [":path"] = "/x" }):answer(5), "200 ok")
end)

test("requests of a connection are served at the same time, in any order", function()
  local go = async.Event()
  local port = start(function(req)
    if req.path == "/wait" then go:wait() end
    if req.path == "/go" then go:set() end
    return req.path
  end)
  local peer = frames.connect(port)
  peer:get(1, { [":path"] = "/wait" })
  test.eq(peer:get(3, { [":path"] = "/x" }):answer(3), "200 /x")
  peer:get(5, { [":path"] = "/go" })
  test.eq(peer:answer(1), "200 /wait")
end)

test("context variables are those of one request", function()
  local var = async.ContextVar("v", "none")
  local port = start(function(req)
    local before = var:get()
    var:set(req.path)
    async.sleep(0)
    return before .. " " .. var:get()
  end)
  local peer = frames.connect(port)
  peer:get(1, { [":path"] = "/a" }):get(3, { [":path"] = "/b" })
  test.eq(peer:answer(1), "200 none /a")
  test.eq(peer:answer(3), "200 none /b")
end)

test("streams, with trailers, a length, nothing in them", function()
  local port = start(function(req)
    local n = 0
    local parts = req.path == "/none" and {} or { "a", "", "bc" }
    return http.response {
      stream = function()
        n = n + 1
        async.sleep(0)
        return parts[n]
      end,
      headers = req.path == "/length" and { ["Content-Length"] = 3 } or nil,
      trailers = req.path:find "trailers" and { ["X-T"] = "1" } or nil,
    }
  end)
  test.eq(get(port), "200 abc")
  test.eq(get(port, { [":path"] = "/length" }), "200 abc")
  test.eq(get(port, { [":path"] = "/none" }), "200")
  test.eq(get(port, { [":path"] = "/trailers" }), "200 abc trailers")
  test.eq(get(port, { [":method"] = "HEAD" }), "200")
end)

test("a stream that fails half-way is reset, before its first byte it is a 500", function()
  local port = start(function(req)
    local n = 0
    return http.response { stream = function()
      n = n + 1
      if req.path == "/later" then async.sleep(0.01) end
      if n == 1 and req.path == "/later" then return "a" end
      error("broken", 0)
    end }
  end)
  test.eq(get(port), "500 Internal Server Error")
  test.eq(get(port, { [":path"] = "/later" }), "200 a RST_STREAM INTERNAL_ERROR")
  test.eq(#test.reports(), 2)
  local short = start(function()
    return http.response { stream = function() end, headers = { ["Content-Length"] = 5 } }
  end)
  test.eq(get(short), "500 Internal Server Error")
  test.eq(#test.reports(), 1)
end)

test("events", function()
  local port = start(function()
    local n = 0
    return http.response { sse = function()
      n = n + 1
      async.sleep(0)
      return n <= 2 and { data = n } or nil
    end }
  end)
  test.eq(get(port), "200 data: 1\n\ndata: 2\n\n")
end)

test("files, whole and in part", function()
  local dir = test.tmpdir()
  local text = ("0123456789"):rep(30000)
  test.write(dir .. "/f", text)
  local port = start(function() return http.response { file = dir .. "/f" } end)
  test.eq(get(port) == "200 " .. text, true)
  test.eq(get(port, nil, { "range", "bytes=1-3" }), "206 123")
  test.eq(get(port, nil, { "range", "bytes=999999-" }), "416")
end)

test("compression", function()
  local port = start(function() return ("a"):rep(5000) end, { compress = true })
  local answer = get(port, nil, { "accept-encoding", "gzip" })
  test.eq(answer:sub(1, 4), "200 ")
  assert(#answer < 200, #answer)
end)

test("a body comes whole, in pieces, as a form, as JSON", function()
  local port = start(function(req)
    if req.path == "/chunks" then
      local size, n = 0, 0
      for chunk in req:chunks() do
        size = size + #chunk
        n = n + 1
      end
      return size .. " " .. tostring(req.trailers["x-t"])
    elseif req.path == "/json" then
      return tostring(req:json().a)
    elseif req.path == "/form" then
      return req:form().a
    end
    return req:body()
  end)
  test.eq(post(port, "hello"), "200 hello")
  test.eq(get(port, { [":method"] = "POST" }), "200")
  test.eq(post(port, '{"a":1}', nil, { [":path"] = "/json" }), "200 1")
  test.eq(post(port, "a=x%20y", { "content-type", "application/x-www-form-urlencoded" },
    { [":path"] = "/form" }), "200 x y")
  local peer = frames.connect(port):post(1, { [":path"] = "/chunks" })
  peer:data(1, "abc"):data(1, "de")
  peer:send("HEADERS", 5, 1, frames.block { "x-t", "9" })
  test.eq(peer:answer(1), "200 5 9")
end)

test("a client is held back while nobody takes its body", function()
  local go = async.Event()
  local port = start(function(req)
    go:wait()
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end, { max_body_bytes = 0 })
  local peer = frames.connect(port)
  -- What the server allows, the window that all streams share being larger.
  local settings = peer:wait_for("SETTINGS", false)
  local at = settings.payload:find("\0\4", 1, true)
  local window = 0
  for i = at + 2, at + 5 do window = window * 256 + settings.payload:byte(i) end
  peer:post(1)
  local piece = ("x"):rep(16384)
  for _ = 1, window / #piece do peer:data(1, piece) end
  peer:send("PING", 0, 0, "12345678")
  local updates = 0
  repeat
    local f = peer:read()
    if f.type == "WINDOW_UPDATE" and f.id == 1 then updates = updates + 1 end
  until f.type == "PING"
  test.eq(updates, 0)
  go:set()
  test.eq(peer:wait_for "WINDOW_UPDATE".id, 1)
  test.eq(peer:data(1, piece, 1):answer(1), "200 " .. window + #piece)
end)

test("Expect: 100-continue", function()
  local port = start(function(req) return req.path == "/no" and 403 or req:body() end)
  local peer = frames.connect(port):post(1, nil, { "expect", "100-continue" })
  local f = peer:wait_for "HEADERS"
  test.eq({ f.status, f.ends }, { "100", false })
  test.eq(peer:data(1, "b", 1):answer(1), "200 b")
  peer:post(3, { [":path"] = "/no" }, { "expect", "100-continue" })
  test.eq(peer:answer(3), "403 Forbidden")
  test.eq(peer:post(5, nil, { "expect", "200-ok" }):answer(5),
    "417 Expectation Failed: unknown expectation\n")
end)

test("what a handler does not read is not waited for", function()
  local port = start(function() return "early" end)
  local peer = frames.connect(port):post(1)
  test.eq(peer:answer(1), "200 early")
  local f = peer:wait_for "RST_STREAM"
  test.eq({ f.id, f.error }, { 1, "NO_ERROR" })
  -- A little is let through.
  peer:post(3, nil, { "content-length", "5" })
  test.eq(peer:answer(3), "200 early")
  peer:data(3, "12345", 1)
  test.eq(peer:get(5):answer(5), "200 early")
end)

test("the limits of bodies", function()
  local port = start(function(req) return tostring(#req:body()) end,
    { max_body_bytes = 10, body_timeout = 0.05 })
  test.eq(post(port, "0123456789"), "200 10")
  test.eq(post(port, "0123456789a"), "413 Content Too Large")
  test.eq(frames.connect(port):post(1, nil, { "content-length", "11" }):answer(1),
    "413 Content Too Large: body too large\n")
  test.eq(frames.connect(port):post(1):data(1, "x"):answer(1), "408 Request Timeout")
end)

test("the limits of heads", function()
  local port = start(function() return "ok" end,
    { max_headers = 5, max_header_bytes = 1000, max_target_bytes = 50 })
  local function more(n)
    local list = {}
    for i = 1, n do
      list[#list + 1] = "x-" .. i
      list[#list + 1] = "v"
    end
    return list
  end
  test.eq(get(port, nil, more(5)), "200 ok")
  test.eq(get(port, nil, more(6)),
    "431 Request Header Fields Too Large: too many header fields\n")
  test.eq(get(port, nil, { "x", ("v"):rep(1000) }),
    "431 Request Header Fields Too Large: header too large\n")
  test.eq(get(port, { [":path"] = "/" .. ("x"):rep(49) }), "200 ok")
  test.eq(get(port, { [":path"] = "/" .. ("x"):rep(50) }), "414 URI Too Long: target too long\n")
end)

test("the access log", function()
  local log = {}
  local port = start(function() return "hello" end,
    { access_log = function(record) log[#log + 1] = record end })
  get(port, { [":path"] = "/x" }, { "user-agent", "me" })
  test.turns()
  test.eq({ log[1].version, log[1].path, log[1].status, log[1].bytes, log[1].user_agent },
    { "2.0", "/x", 200, 5, "me" })
end)

test("the access log has what was refused", function()
  local log = {}
  local port = start(function() return "hello" end, { max_target_bytes = 10,
    access_log = function(r)
      log[#log + 1] = { r.remote, r.line, r.status, r.method, r.version }
    end })
  local peer = frames.connect(port)
  peer:get(1, { [":path"] = "/%00" }):answer(1)
  peer:get(3, { [":path"] = "/2345678901", [":method"] = "POST" }):answer(3)
  test.turns()
  test.eq(log, {
    { "127.0.0.1", "GET /%00 HTTP/2.0", 400, "GET", "2.0" },
    { "127.0.0.1", "POST /234567890 HTTP/2.0", 414, "POST", "2.0" },
  })
end)

test("a handler that takes too long is a 503", function()
  local port = start(function() async.sleep(10) end, { handler_timeout = 0.02 })
  test.eq(get(port), "503 Service Unavailable")
  test.eq(#test.reports(), 1)
end)

test("a stream that the client takes back cancels its handler, and only that", function()
  local log = test.log()
  local go = async.Event()
  local port = start(function(req)
    local ok, e = pcall(go.wait, go)
    log(req.path, ok)
    if not ok then error(e, 0) end
    return "ok"
  end, { cancel_on_disconnect = true })
  local peer = frames.connect(port):get(1, { [":path"] = "/a" }):get(3, { [":path"] = "/b" })
  peer:send("PING", 0, 0, "12345678"):wait_for("PING", true)
  peer:reset(1)
  peer:send("PING", 0, 0, "12345678"):wait_for("PING", true)
  test.turns()
  test.eq(log, { "/a false" })
  go:set()
  test.eq(peer:answer(3), "200 ok")
  test.eq(log, { "/a false", "/b true" })
end)

test("a client that goes away cancels what runs for it", function()
  local log = test.log()
  local started = async.Event()
  local port = start(function(req)
    started:set()
    local ok, e = pcall(async.sleep, 10)
    log(req.path, ok)
    error(e, 0)
  end, { cancel_on_disconnect = true })
  local peer = frames.connect(port):get(1)
  started:wait()
  peer:close()
  while not log[1] do async.sleep(0.002) end
  test.eq(log, { "/ false" })
end)

test("without being told so, a handler goes on when its client has gone", function()
  local go, done = async.Event(), async.Event()
  local started = async.Event()
  local port = start(function()
    started:set()
    go:wait()
    done:set()
    return "nobody hears it"
  end)
  local peer = frames.connect(port):get(1)
  started:wait()
  peer:reset(1)
  peer:close()
  async.sleep(0.01)
  go:set()
  done:wait()
end)

test("a slow client holds its stream back, and others go on", function()
  local sent = 0
  local port = start(function(req)
    if req.path == "/" then return "quick" end
    return http.response { stream = function()
      sent = sent + 1
      return sent <= 100 and ("x"):rep(16384) or nil
    end }
  end)
  local peer = frames.connect(port, { 4, 1000 }):get(1, { [":path"] = "/slow" })
  test.eq(peer:get(3):answer(3), "200 quick")
  assert(sent < 10, sent)
  peer:window(0, 2000000):window(1, 2000000)
  local size = 0
  repeat
    local f = peer:wait_for "DATA"
    if f.id == 1 then size = size + #f.payload end
  until f.ends and f.id == 1
  test.eq(size, 100 * 16384)
  test.eq(sent, 101)
end)

test("write_timeout: a client that takes nothing loses its stream", function()
  local result
  local port = start(function(req)
    if req.path == "/x" then return "ok" end
    return http.response { stream = function() return ("x"):rep(10000) end }
  end, { write_timeout = 0.05, access_log = function(record) result = record end })
  local peer = frames.connect(port, { 4, 0 })
  peer:get(1)
  test.eq(peer:answer(1), "200 RST_STREAM CANCEL")
  while not result do async.sleep(0.002) end
  test.eq(result.status, 200)
  peer:get(3, { [":path"] = "/x" }):window(3, 100)
  test.eq(peer:answer(3), "200 ok")
end)

test("write_timeout: a client that does not read at all loses its connection", function()
  local ended = async.Event()
  local _, server = start(function()
    return http.response { stream = function() return ("x"):rep(65536) end }
  end, { write_timeout = 0.05, access_log = function() ended:set() end })
  local peer = frames.connect(server.port, { 4, 2 ^ 31 - 1 })
  peer:window(0, 2 ^ 31 - 1 - 65535):get(1)
  ended:wait()
  server:close()
end)

test("write_timeout: a client slower than the server gets all of a long answer", function()
  local body = ("x"):rep(480 * 65536)
  local port = start(function() return body end, { write_timeout = 1 })
  local peer = frames.connect(port, { 4, 2 ^ 31 - 1 })
  peer:window(0, 2 ^ 31 - 1 - 65535):get(1)
  local size = 0
  for turn = 1, math.huge do
    local data = peer.socket:read()
    test.eq(data ~= nil, true, ("cut off after %d bytes"):format(size))
    size = size + #data
    if size >= #body then return end
    if turn % 4 == 0 then async.sleep(0.02) end
  end
end)

test("idle connections are closed, and told so", function()
  local port = start(function() return "ok" end, { idle_timeout = 0.05 })
  local peer = frames.connect(port):get(1)
  test.eq(peer:answer(1), "200 ok")
  test.eq(peer:answer(0), "GOAWAY NO_ERROR")
  test.eq(peer:wait_for "none", nil)
end)

test("max_requests: the client is told to go, and gets its answers", function()
  local port = start(function(req) return req.path end, { max_requests = 2 })
  local peer = frames.connect(port):get(1):get(3, { [":path"] = "/3" })
  test.eq(peer:answer(1), "200 /")
  test.eq(peer:answer(3), "200 /3")
  test.eq(peer:answer(0), "GOAWAY NO_ERROR")
  test.eq(peer:wait_for "none", nil)
end)

test("Connection: close in an answer ends the connection behind it", function()
  local port = start(function() return 200, "bye", { Connection = "close" } end)
  local peer = frames.connect(port)
  test.eq(peer:get(1):answer(1), "200 bye")
  test.eq(peer:answer(0), "GOAWAY NO_ERROR")
  test.eq(peer:wait_for "none", nil)
end)

test("close: what runs is finished, the client is told, new requests are refused", function()
  local go = async.Event()
  local port, server = start(function()
    go:wait()
    return "done"
  end)
  local peer = frames.connect(port):get(1)
  peer:send("PING", 0, 0, "12345678"):wait_for("PING", true)
  local closing = async.spawn(server.close, server)
  local f = peer:wait_for "GOAWAY"
  test.eq({ f.error, f.last }, { "NO_ERROR", 1 })
  peer:get(3)
  go:set()
  test.eq(peer:answer(1), "200 done")
  peer:close()
  closing:await()
end)

test("close: what takes too long is cancelled", function()
  local log = test.log()
  local port, server = start(function()
    local _, e = pcall(async.sleep, 100)
    log(async.is_cancelled(e))
    error(e, 0)
  end)
  local peer = frames.connect(port):get(1):get(3)
  peer:send("PING", 0, 0, "12345678"):wait_for("PING", true)
  server:close(0.01)
  test.eq(log, { "true", "true" })
  assert(peer:answer(1):find "closed")
end)

test("close: what a client does not take is given up after the grace", function()
  local port, server = start(function(req)
    return ("x"):rep(req.path == "/large" and 300000 or 1000)
  end)
  local before = raw.open_files()
  local peer = frames.connect(port, { 4, 0 })
  peer:get(1):get(3, { [":path"] = "/large" })
  test.eq(peer:wait_for "HEADERS".status, "200")
  server:close(0.02)
  assert(peer:answer(1):find "closed$")
  peer:close()
  raw.open_files(before - 1) -- less the listener
end)

test("close: idle connections end at once", function()
  local _, server = start(function() return "ok" end)
  local peer = frames.connect(server.port)
  test.eq(peer:get(1):answer(1), "200 ok")
  local closing = async.spawn(server.close, server)
  test.eq(peer:answer(0), "GOAWAY NO_ERROR")
  peer:close()
  closing:await()
end)

test("a handler may close its own server", function()
  local port, server
  local other = test.log()
  port, server = start(function(req)
    if req.path == "/close" then
      server:close(0.02)
      return "closed"
    end
    local _, e = pcall(async.sleep, 100)
    other(async.is_cancelled(e))
    error(e, 0)
  end)
  local peer = frames.connect(port):get(1, { [":path"] = "/sleep" })
  peer:get(3, { [":path"] = "/close" })
  test.eq(peer:answer(3), "200 closed")
  test.eq(other, { "true" })
  peer:close()
  server:wait()
end)

test("connections are counted, not streams", function()
  local go = async.Event()
  local port = start(function()
    go:wait()
    return "ok"
  end, { max_connections = 1 })
  local peer = frames.connect(port)
  for id = 1, 19, 2 do peer:get(id) end
  local second = frames.connect(port):get(1)
  go:set()
  for id = 1, 19, 2 do test.eq(peer:answer(id), "200 ok") end
  peer:close()
  test.eq(second:answer(1), "200 ok")
end)

test("a head of any size is sent", function()
  local port = start(function(req)
    return 200, "ok", { ["X-Large"] = ("v"):rep(tonumber(req.query.n)) }
  end)
  local peer = frames.connect(port)
  test.eq(peer:get(1, { [":path"] = "/?n=200000" }):answer(1), "200 ok")
  test.eq(peer:get(3, { [":path"] = "/?n=20000000" }):answer(3), "RST_STREAM INTERNAL_ERROR")
  test.eq(peer:get(5, { [":path"] = "/?n=2" }):answer(5), "200 ok")
end)

test("a client that has ended its side gets its answers", function()
  local go = async.Event()
  local port = start(function(req)
    go:wait()
    return req.path
  end)
  local peer = frames.connect(port):get(1):get(3, { [":path"] = "/3" })
  peer.socket:shutdown()
  test.turns()
  go:set()
  test.eq(peer:answer(1), "200 /")
  test.eq(peer:answer(3), "200 /3")
  assert(not peer:wait_for "none")
end)

test("a route of WebSockets, asked for by HTTP/2", function()
  local app = http.App()
  app:websocket("/ws", function() end)
  local server = app:serve {}
  test.defer(function() server:close(0) end)
  test.matches(get(server.port, { [":path"] = "/ws" }), "^4%d%d ")
end)

test("a task that has shared its request learns that it was answered", function()
  local log, task = test.log(), nil
  local port = start(function(req)
    task = async.spawn(function()
      local ok, e = pcall(req.body, req)
      log(ok, tostring(e))
    end)
    async.sleep(0)
    return "early"
  end)
  test.eq(frames.connect(port):post(1):answer(1), "200 early")
  task:await()
  test.eq(log, { "false InvalidStateError: body: the request has been answered" })
end)

test("an upgrade is refused", function()
  local port = start(function(req)
    local ok, e = pcall(req.upgrade, req, { Upgrade = "x" })
    return tostring(ok) .. " " .. tostring(e)
  end)
  test.eq(get(port),
    "200 false InvalidStateError: upgrade: HTTP/2 has no other protocols on its connections")
end)

test("http2 = false: the preface is a request of a version that is not spoken", function()
  local port = start(function() return "ok" end, { http2 = false })
  local peer = raw.connect(port):send(frames.PREFACE)
  test.matches(peer:read_all(), "^HTTP/1.1 505 ")
end)

test("HTTP/1 goes on beside it, also where requests begin with the letters of the preface",
  function()
    local port = start(function(req) return req.method .. " " .. req.version end)
    test.contains(raw.answer(port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "GET 1.1")
    test.contains(raw.answer(port, "PROPFIND / HTTP/1.1\r\nHost: a\r\n\r\n"), "PROPFIND 1.1")
    local peer = raw.connect(port)
    for c in ("PUT / HTTP/1.1\r\nHost: a\r\n\r\n"):gmatch "." do
      peer:send(c)
      async.sleep(0)
    end
    test.contains(peer:read_response(), "PUT 1.1")
    test.matches(raw.answer(port, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"), "^HTTP/1.1 505 ")
    test.matches(raw.answer(port, "PRI * HTTP/1.1\r\nHost: a\r\n\r\n"), "^HTTP/1.1 [45]0[01] ")
    -- The preface in pieces.
    peer = frames.connect(port, false)
    for c in frames.PREFACE:gmatch "." do
      peer:bytes(c)
      async.sleep(0)
    end
    test.eq(peer:settings {}:get(1):answer(1), "200 GET 2.0")
  end)

test("an application", function()
  local app = http.App()
  app:use(function(req, next)
    local response = next(req)
    response.status = response.status == 200 and 203 or response.status
    return response
  end)
  app:get("/items/{id}", function(req) return req.params.id end)
  app:post("/small", function(req) return req:body() end, { max_body_bytes = 3 })
  local server = app:serve {}
  test.defer(function() server:close(0) end)
  test.eq(get(server.port, { [":path"] = "/items/a%2Fb" }), "203 a/b")
  test.eq(get(server.port, { [":path"] = "/none" }), "404 Not Found")
  test.eq(post(server.port, "1234", nil, { [":path"] = "/small" }), "413 Content Too Large")
  test.eq(get(server.port, { [":method"] = "BREW" }), "501 Not Implemented: unknown method\n")
end)
