-- WebSocket: Rille with itself, byte by byte, and with Python's websockets.
local async, test = require "rille.async", require "support.test"
local http, websocket, net = require "rille.http", require "rille.websocket", require "rille.net"
local errors, process, fs = require "rille.errors", require "rille.process", require "rille.fs"

-- A server whose path / is that handler.
local function serve(handler, options, serve_options)
  local app = http.App()
  app:websocket("/", handler, options)
  local given = {}
  for k, v in pairs(serve_options or { port = 0 }) do given[k] = v end
  local server = app:serve(given)
  test.defer(function() server:close(0) end)
  return ("ws://127.0.0.1:%d/"):format(server.port or 0), server
end

local function echo(ws)
  for data, kind in ws:messages() do
    if kind == "binary" then ws:send_binary(data) else ws:send(data) end
  end
end

local function connect(url, options)
  local ws = websocket.connect(url, options)
  test.defer(function() ws:close() end)
  return ws
end

-- ---- messages -----------------------------------------------------------------------------------

test("texts and bytes come back as they went, with compression and without", function()
  for _, compress in ipairs { true, false } do
    local url = serve(echo, { compress = compress })
    for _, client in ipairs { true, false } do
      local ws = connect(url, { compress = client })
      for _, text in ipairs { "", "a", "ä€😀", ("long "):rep(100000), ("x"):rep(125), ("x"):rep(126),
        ("x"):rep(65535), ("x"):rep(65536) } do
        ws:send(text)
        test.eq({ ws:recv() }, { text, "text" })
      end
      local bytes = "\0\1\254\255" .. ("\200"):rep(1000)
      ws:send_binary(bytes)
      test.eq({ ws:recv() }, { bytes, "binary" })
      ws:send(42)
      test.eq(ws:recv(), "42")
      ws:close()
      test.eq({ ws.close_code, ws.close_reason, ws:recv() }, { 1000, "" })
    end
  end
end)

test("many messages keep their order and do not interleave", function()
  local ws = connect((serve(echo)))
  local senders = {}
  for k = 1, 10 do
    senders[k] = function()
      for i = 1, 50 do ws:send(k .. " " .. i .. " " .. ("x"):rep(i * 100)) end
    end
  end
  local last, count = {}, 0
  async.group(function(g)
    g:spawn(async.gather, senders)
    for message in ws:messages() do
      local k, i, x = message:match "^(%d+) (%d+) (x+)$"
      test.eq({ tonumber(i), #x }, { (last[k] or 0) + 1, i * 100 })
      last[k] = tonumber(i)
      count = count + 1
      if count == 500 then break end
    end
  end)
end)

test("a handler's end closes with 1000, its error with 1011, and the server's close with 1001",
  function()
    local url, server = serve(function(ws)
      local message = ws:recv()
      if message == "fail" then error "inside" end
      if message == "stay" then ws:recv() end
    end)
    local ws = connect(url)
    ws:send "end"
    test.eq({ ws:recv(), ws.close_code }, { nil, 1000 })
    ws = connect(url)
    local reports = {}
    async.set_exception_handler(function(r) reports[#reports + 1] = r end)
    test.defer(function() async.set_exception_handler(nil) end)
    ws:send "fail"
    ws:recv()
    test.eq({ ws.close_code, ws.close_reason }, { 1011, "" })
    ws = connect(url)
    ws:send "stay"
    async.sleep(0.01)
    server:close(1)
    ws:recv()
    test.eq(ws.close_code, 1001)
  end)

test("close codes and reasons travel, and wrong ones are refused", function()
  local seen = async.Future()
  local url = serve(function(ws)
    ws:recv()
    if not seen:done() then seen:set_result { ws.close_code, ws.close_reason } end
  end)
  local ws = connect(url)
  ws:close(4001, "grüße")
  ws:close()
  test.eq(seen:await(), { 4001, "grüße" })
  test.eq({ ws.close_code, ws.close_reason }, { 4001, "grüße" })
  local e = test.raises("WebSocketError", ws.send, ws, "x")
  test.eq({ e.code, e.reason }, { 4001, "grüße" })
  test.raises("WebSocketError", ws.ping, ws)
  local other = connect(url)
  for _, code in ipairs { 0, 999, 1004, 1005, 1006, 1015, 2999, 5000 } do
    test.blames_caller("bad argument #1 to 'close'", function() other:close(code) end)
  end
  test.blames_caller("at most 123 bytes", function() other:close(1000, ("x"):rep(124)) end)
  test.blames_caller("UTF-8", function() other:close(1000, "\255") end)
  test.blames_caller("UTF-8", function() other:send "\255" end)
  test.blames_caller("string expected, got table", function() other:send {} end)
end)

test("a ping tells how long its answer took", function()
  local ws = connect((serve(echo)))
  local seconds = ws:ping()
  assert(seconds > 0 and seconds < 5)
  assert(ws:ping "own" > 0)
  test.blames_caller("at most 125 bytes", function() ws:ping(("x"):rep(126)) end)
end)

test("a peer that does not answer pings is cut off", function()
  local listener = net.listen { port = 0 }
  local server = async.spawn(function()
    local stream = listener:accept()
    local key = stream:read_until "\r\n\r\n":match "Key: (%S+)"
    local accept = require("rille.websocket.handshake").accept(key)
    stream:write("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
      "Sec-WebSocket-Accept: ", accept, "\r\n\r\n")
    while stream:read() do local _ = nil end
  end)
  local ws = websocket.connect("ws://127.0.0.1:" .. listener:address().port,
    { ping_interval = 0.02, ping_timeout = 0.02 })
  test.eq({ ws:recv(), ws.close_code, ws.close_reason },
    { nil, 1006, "the peer did not answer a ping" })
  server:await()
  listener:close()
end)

test("a slow reader holds the sender up", function()
  local sent = 0
  local url = serve(function(ws)
    for _ = 1, 1000 do
      ws:send_binary(("x"):rep(1000000))
      sent = sent + 1
    end
  end, { compress = false, close_timeout = 0.1 })
  local ws = connect(url, { compress = false })
  ws:recv()
  local before
  repeat
    before = sent
    async.sleep(0.05)
  until sent == before
  assert(sent < 50, sent)
end)

test("a broadcast reaches all, and waits for nobody", function()
  local list, all = {}, async.Event()
  local url = serve(function(ws)
    list[#list + 1] = ws
    if #list == 4 then all:set() end
    ws:recv()
  end, { compress = false, close_timeout = 0.1 })
  local clients = {}
  for i = 1, 4 do clients[i] = connect(url, { compress = false }) end
  all:wait()
  clients[4]:close()
  test.eq(websocket.broadcast(list, "hello"), 3)
  for i = 1, 3 do test.eq({ clients[i]:recv() }, { "hello", "text" }) end
  -- Nobody receives on the first client's side from here on.
  local reached
  for _ = 1, 400 do
    reached = websocket.broadcast({ list[1] }, ("x"):rep(1000000), { binary = true })
    if reached == 0 then break end
  end
  test.eq(reached, 0)
  test.eq(websocket.broadcast({ list[2], list[1] }, "on"), 1)
  test.eq(clients[2]:recv(), "on")
  test.raises("text in UTF%-8", websocket.broadcast, list, "\255")
end)

test("subprotocols, origins and headers", function()
  local url = serve(function(ws, req)
    ws:send((ws.subprotocol or "none") .. " " .. (req.headers["x-mine"] or ""))
  end, { subprotocols = { "v2", "v1" } })
  local options = { subprotocols = { "v1", "v2" }, headers = { ["X-Mine"] = "1" } }
  test.eq(connect(url, options):recv(), "v1 1")
  test.eq(connect(url):recv(), "none ")
  options = { headers = { Origin = "http://evil.test" } }
  local e = test.raises("HTTPError", websocket.connect, url, options)
  test.eq({ e.status, e.url }, { 403, url })
  local own = url:gsub("^ws", "http"):gsub("/$", "")
  test.eq(connect(url, { headers = { Origin = own } }):recv(), "none ")
  test.blames_caller("header 'Upgrade' cannot be set",
    function() websocket.connect(url, { headers = { Upgrade = "x" } }) end)
  test.blames_caller("entry 1 is no token",
    function() websocket.connect(url, { subprotocols = { "a b" } }) end)
end)

test("a server that refuses is an HTTPError with its status", function()
  local url = serve(echo)
  local e = test.raises("HTTPError", websocket.connect, url .. "nowhere")
  test.eq({ e.status, e.url }, { 404, url .. "nowhere" })
  test.contains(e.message, "the server refused the WebSocket: 404 Not Found")
  test.raises("HTTPError", websocket.connect, "http://127.0.0.1/")
  test.eq(test.raises("OSError", websocket.connect, "ws://127.0.0.1:1/").url, "ws://127.0.0.1:1/")
  test.eq(http.get((url:gsub("^ws", "http"))).status, 426)
end)

-- ---- what is on the wire ------------------------------------------------------------------------

-- A masked frame as a client sends it.
local function frame(first, payload, unmasked)
  local length = #payload
  local head
  if length < 126 then
    head = string.char(first, length + (unmasked and 0 or 128))
  else
    head = string.char(first, 126 + (unmasked and 0 or 128), math.floor(length / 256), length % 256)
  end
  return head .. (unmasked and "" or "\0\0\0\0") .. payload
end

local function raw_client(url, extensions)
  local stream = net.connect { host = "127.0.0.1", port = tonumber(url:match ":(%d+)/") }
  test.defer(function() stream:close() end)
  stream:write("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n",
    "Connection: keep-alive, Upgrade\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
    extensions and "Sec-WebSocket-Extensions: " .. extensions .. "\r\n" or "", "\r\n")
  local head = stream:read_until "\r\n\r\n"
  test.contains(head, "101 Switching Protocols")
  test.contains(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
  return stream, head
end

local function read_all(stream)
  local parts = {}
  while true do
    local ok, data = pcall(stream.read, stream)
    if not ok or not data then return table.concat(parts) end
    parts[#parts + 1] = data
  end
end

test("fragments are put together, with control frames in between", function()
  local stream = raw_client((serve(echo, { compress = false })))
  stream:write(frame(0x01, "Hel"), frame(0x89, "ping"), frame(0x00, "lo, "), frame(0x80, "you"))
  test.eq(stream:read_exactly(6), "\138\4ping")
  test.eq(stream:read_exactly(12), "\129\10Hello, you")
  -- In single bytes, too.
  for c in frame(0x82, "\255\0"):gmatch "." do stream:write(c) end
  test.eq(stream:read_exactly(4), "\130\2\255\0")
  stream:write(frame(0x88, "\3\232bye"))
  test.eq(read_all(stream), "\136\5\3\232bye")
end)

test("whatever breaks the protocol is answered with its code", function()
  local over
  local url = serve(function(ws)
    ws:recv()
    over:set_result(ws.close_code)
  end, { max_message = 1000, close_timeout = 0.2 })
  for _, case in ipairs {
    { "not masked", frame(0x81, "x", true), 1002 },
    { "a reserved bit", frame(0xa1, "x"), 1002 },
    { "RSV1 without compression", frame(0xc1, "x"), 1002 },
    { "an unknown opcode", frame(0x83, "x"), 1002 },
    { "a control frame in fragments", frame(0x09, "x"), 1002 },
    { "a long control frame", frame(0x89, ("x"):rep(126)), 1002 },
    { "a continuation of nothing", frame(0x80, "x"), 1002 },
    { "a message within a message", frame(0x01, "x") .. frame(0x81, "y"), 1002 },
    { "a close code that is none", frame(0x88, "\3\237"), 1002 },
    { "half a close code", frame(0x88, "\3"), 1002 },
    { "a text that is not UTF-8", frame(0x81, "\255"), 1007 },
    { "a close reason that is not UTF-8", frame(0x88, "\3\232\255"), 1007 },
    { "a message that is too long", frame(0x82, ("x"):rep(1001)), 1009 },
    { "fragments that are too long", frame(0x02, ("x"):rep(600)) .. frame(0x80, ("x"):rep(600)),
      1009 },
  } do
    over = async.Future()
    local stream = raw_client(url)
    stream:write(case[2])
    local answer = read_all(stream)
    local code = #answer >= 4 and answer:byte(1) == 0x88 and answer:byte(3) * 256 + answer:byte(4)
    test.eq({ code, over:await() }, { case[3], case[3] }, case[1])
  end
end)

test("a close reason is judged as a whole, however its bytes come", function()
  local over
  local url = serve(function(ws)
    ws:recv()
    over:set_result(ws.close_code .. " " .. ws.close_reason)
  end, { close_timeout = 0.2 })
  for bytes, result in pairs {
    ["\3\232bye\255"] = "1007 the text is not UTF-8", ["\3\232b\195\164h"] = "1000 b\195\164h",
    [""] = "1005 ",
  } do
    over = async.Future()
    local stream = raw_client(url)
    for c in frame(0x88, bytes):gmatch "." do
      stream:write(c)
      async.sleep(0.001)
    end
    test.eq(over:await(), result)
    stream:close()
  end
end)

test("compressed messages: damaged ones, bombs, and offers that do not fit", function()
  local over
  local url = serve(function(ws)
    local data = ws:recv()
    over:set_result(data and #data or ws.close_code)
  end, { max_message = 100000, close_timeout = 0.2 })
  local compress = require "rille.core.compress"
  local function coded(text) return compress.encoder("message"):flush(text):sub(1, -5) end
  for _, case in ipairs {
    { frame(0xc1, coded(("x"):rep(100000))), 100000 },
    { frame(0xc1, coded(("x"):rep(100001))), 1009 },
    { frame(0xc2, coded(("\0"):rep(30000000))), 1009 },
    { frame(0xc1, "\255\255\255\255"), 1007 },
    { frame(0xc1, coded "\255"), 1007 },
    { frame(0x41, coded("ab"):sub(1, 2)) .. frame(0x80, coded("ab"):sub(3)), 2 },
  } do
    over = async.Future()
    local stream, head = raw_client(url, "permessage-deflate; client_max_window_bits")
    test.contains(head, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover")
    stream:write(case[1])
    test.eq(over:await(), case[2])
    stream:close()
  end
  for _, offer in ipairs { "permessage-deflate; server_max_window_bits=8", "x-webkit-deflate-frame",
    "permessage-deflate; unknown" } do
    over = async.Future()
    local stream, head = raw_client(url, offer)
    test.eq(head:find "Extensions", nil)
    stream:write(frame(0x81, "x"))
    over:await()
  end
end)

test("a peer that goes without a word is 1006", function()
  local over = async.Future()
  local url = serve(function(ws)
    ws:recv()
    over:set_result(ws.close_code)
  end)
  raw_client(url):abort()
  test.eq(over:await(), 1006)
end)

test("handshakes that are none are refused", function()
  local url = serve(echo)
  local port = tonumber(url:match ":(%d+)/")
  for _, case in ipairs {
    { "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", 400 },
    { "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
      .. "Sec-WebSocket-Key: short==\r\n", 400 },
    { "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
      .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 426 },
    { "Upgrade: h2c\r\nConnection: Upgrade\r\n", 426 },
  } do
    local stream = net.connect { host = "127.0.0.1", port = port }
    stream:write("GET / HTTP/1.1\r\nHost: x\r\n", case[1], "\r\n")
    test.eq(tonumber(stream:read_line():match " (%d+)"), case[2])
    stream:close()
  end
end)

test("a server's handshake that is none is refused by the client", function()
  local answer
  local listener = net.listen { port = 0 }
  local server = async.spawn(listener.serve, listener, function(stream)
    local key = stream:read_until "\r\n\r\n":match "Key: (%S+)"
    local accept = require("rille.websocket.handshake").accept(key)
    stream:write((answer:gsub("ACCEPT", function() return accept end)))
    stream:read()
  end)
  test.defer(function()
    listener:close(0)
    server:await()
  end)
  local url = "ws://127.0.0.1:" .. listener:address().port .. "/"
  local head = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
  for _, case in ipairs {
    { head .. "Sec-WebSocket-Accept: wrong\r\n\r\n", "not one of WebSocket" },
    { head .. "\r\n", "not one of WebSocket" },
    { head .. "Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: x\r\n\r\n", "not offered" },
    { head .. "Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Extensions: y\r\n\r\n",
      "not asked for" },
    { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "refused the WebSocket: 200 OK" },
  } do
    answer = case[1]
    local e = test.raises("HTTPError", websocket.connect, url)
    test.contains(e.message, case[2])
    test.eq(e.url, url)
  end
end)

test("connecting has a limit of time", function()
  local listener = net.listen { port = 0 }
  local url = "ws://127.0.0.1:" .. listener:address().port .. "/"
  local e = test.raises("TimeoutError", websocket.connect, url, { timeout = 0.02 })
  test.eq(e.url, url)
  listener:close()
end)

test("cancelled receives lose no message, and several receivers take turns", function()
  local ws = connect((serve(function(ws)
    for i = 1, 100 do
      ws:send(tostring(i))
      if i % 7 == 0 then async.sleep(0.001) end
    end
  end)))
  local got, over = {}, false
  local function receive()
    local message = ws:recv()
    if message then got[#got + 1] = tonumber(message) else over = true end
  end
  while not over do
    local t = async.spawn(receive)
    local u = async.spawn(receive)
    async.sleep(0)
    t:cancel()
    async.wait { t, u }
  end
  test.eq(#got, 100)
  for i = 1, 100 do test.eq(got[i], i) end
end)

-- ---- others -------------------------------------------------------------------------------------

local has_websockets = process.run { "/usr/bin/python3", "-c", "import websockets" }.ok

test("Python's websockets talks to a server of ours, and ours to its", function()
  if not has_websockets then return print "# skipped: python3-websockets is not there" end
  local dir = test.tmpdir()
  fs.write_file(dir .. "/client.py", [[
import asyncio, sys, websockets
async def main():
    async with websockets.connect(sys.argv[1], max_size=None) as ws:
        for message in ["hello", "ä" * 100000, b"\0\xff" * 50000, ""]:
            await ws.send(message)
            assert await ws.recv() == message
        await (await ws.ping())
        await ws.send(["in ", "frag", "ments"])
        assert await ws.recv() == "in fragments"
    print("closed", ws.close_code)
asyncio.run(main())
]])
  local url = serve(echo)
  local out = process.run { "/usr/bin/python3", dir .. "/client.py", url, timeout = 30 }
  test.eq({ out.stdout, out.stderr }, { "closed 1000\n", "" })
  fs.write_file(dir .. "/server.py", [[
import asyncio, websockets
async def echo(ws, path):
    async for message in ws:
        await ws.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
]])
  local server = process.spawn { "/usr/bin/python3", dir .. "/server.py", stdout = "pipe" }
  test.defer(function()
    server:kill()
    server:wait()
  end)
  local ws = connect("ws://127.0.0.1:" .. server.stdout:read_line())
  for _, text in ipairs { "hello", ("ä"):rep(100000) } do
    ws:send(text)
    test.eq(ws:recv(), text)
  end
  assert(ws:ping() > 0)
  ws:close(4000, "done")
  test.eq(ws.close_code, 4000)
end)

test("a WebSocket goes over TLS and over a Unix socket", function()
  local certificates = require "support.certificates"
  local dir = test.tmpdir()
  local ca = certificates.authority(dir)
  local own = ca:issue("localhost", { names = "DNS:localhost,IP:127.0.0.1" })
  local url = serve(echo, nil, { tls = { cert = own.cert, key = own.key } })
  local ws = connect((url:gsub("^ws", "wss")), { tls = { ca = ca.path } })
  ws:send "secret"
  test.eq(ws:recv(), "secret")
  ws:close()
  local e = test.raises("TLSError", websocket.connect, (url:gsub("^ws", "wss")))
  test.eq(e.url, (url:gsub("^ws", "wss")))
  serve(echo, nil, { path = dir .. "/s" })
  local unix = "ws+unix://" .. (dir .. "/s"):gsub("/", "%%2F") .. "/"
  ws = connect(unix)
  ws:send "local"
  test.eq(ws:recv(), "local")
  assert(not errors.is(nil, "OSError"))
end)
