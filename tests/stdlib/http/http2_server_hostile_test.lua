-- What a server of HTTP/2 answers to clients that mean it no good: frame by frame, word by word.
local async, test = require "rille.async", require "support.test"
local frames = require "stdlib.http.frames"
local resident = require("stdlib.net.support").resident

if not frames.are_spoken() then return end

local start = frames.start

local PING = "12345678"
local field, block, request = frames.field, frames.block, frames.request
local CALM = "GOAWAY ENHANCE_YOUR_CALM"
local MALFORMED = "RST_STREAM PROTOCOL_ERROR"

-- Sends as much as the server takes.
local function flood(peer, count, fn)
  return pcall(function()
    for i = 1, count do
      peer:bytes(fn(i))
      if i % 50 == 0 then async.sleep(0) end
    end
  end)
end

-- ---- messages -----------------------------------------------------------------------------------

-- Every one is answered on its stream, and the connection goes on.
local function each_is(answer, cases)
  local called = false
  local port = start(function(req)
    if req.path == "/good" then return "ok" end
    called = true
    req:body()
    return "called"
  end)
  local peer, id = frames.connect(port), 1
  for _, case in ipairs(cases) do
    peer:send("HEADERS", case.body and 4 or 5, id, case[2])
    if case.body then peer:bytes(case.body(id)) end
    test.eq(peer:answer(id), answer, case[1])
    id = id + 2
  end
  test.eq(called, false)
  test.eq(peer:get(id, { [":path"] = "/good" }):answer(id), "200 ok")
end

test("malformed requests are reset, and no handler sees them", function()
  each_is(MALFORMED, {
    { "no method", request { [":method"] = false } },
    { "no scheme", request { [":scheme"] = false } },
    { "no path", request { [":path"] = false } },
    { "an empty path", request { [":path"] = "" } },
    { "a path without a slash", request { [":path"] = "x" } },
    { "an asterisk for GET", request { [":path"] = "*" } },
    { "neither authority nor Host", request { [":authority"] = false } },
    { "another Host than the authority", request(nil, { "host", "b" }) },
    { "two Host fields", request({ [":authority"] = false }, { "host", "a", "host", "a" }) },
    { "a method twice", request() .. field(":method", "GET") },
    { "a path twice", request { [":path"] = "/a" } .. field(":path", "/b") },
    { "an unknown pseudo-header", request() .. field(":x", "y") },
    { "one of responses", request() .. field(":status", "200") },
    { "a pseudo-header behind a field",
      block { ":method", "GET", ":scheme", "http", "x", "y", ":path", "/", ":authority", "a" } },
    { "a name with a capital", request(nil, { "X-Y", "1" }) },
    { "a name with a space", request(nil, { "x y", "1" }) },
    { "a name with a colon", request(nil, { "x:y", "1" }) },
    { "an empty name", request(nil, { "", "1" }) },
    { "CR in a value", request(nil, { "x", "a\rb" }) },
    { "LF in a value", request(nil, { "x", "a\nb: c" }) },
    { "CR LF in a value", request(nil, { "x", "a\r\nb: c" }) },
    { "NUL in a value", request(nil, { "x", "a\0b" }) },
    { "a space before a value", request(nil, { "x", " a" }) },
    { "a space behind a value", request(nil, { "x", "a " }) },
    { "a path with a space", request { [":path"] = "/ HTTP/1.1" } },
    { "a path with CR LF", request { [":path"] = "/ HTTP/1.1\r\nX: y" } },
    { "a method with a space", request { [":method"] = "GET /x" } },
    { "a method with CR LF", request { [":method"] = "GET\r\nX" } },
    { "an empty method", request { [":method"] = "" } },
    { "an authority with a space", request { [":authority"] = "a b" } },
    { "a scheme with a space", request { [":scheme"] = "ht tp" } },
    { "Connection", request(nil, { "connection", "keep-alive" }) },
    { "Keep-Alive", request(nil, { "keep-alive", "1" }) },
    { "Proxy-Connection", request(nil, { "proxy-connection", "1" }) },
    { "Transfer-Encoding", request(nil, { "transfer-encoding", "chunked" }) },
    { "Upgrade", request(nil, { "upgrade", "websocket" }) },
    { "TE with something else than trailers", request(nil, { "te", "gzip" }) },
    { "a length that is none", request(nil, { "content-length", "x" }) },
    { "a negative length", request(nil, { "content-length", "-1" }) },
    { "a length with a plus", request(nil, { "content-length", "+1" }) },
    { "two lengths", request(nil, { "content-length", "0", "content-length", "0" }) },
    { "a length beyond all numbers", request(nil, { "content-length", ("9"):rep(30) }) },
    { "a length where no body comes", request(nil, { "content-length", "5" }) },
  })
end)

test("bodies that do not fit their length, and bad trailers, are reset", function()
  local function framed(...)
    local list = { ... }
    return function(id)
      local out = {}
      for i, f in ipairs(list) do out[i] = frames.frame(f[1], f[2], id, f[3]) end
      return table.concat(out)
    end
  end
  local five = request({ [":method"] = "POST" }, { "content-length", "5" })
  local any = request { [":method"] = "POST" }
  local port = start(function(req)
    if req.path == "/good" then return "ok" end
    local ok, e = pcall(req.body, req)
    return tostring(ok) .. tostring(e)
  end)
  local peer, id = frames.connect(port), 1
  for what, case in pairs {
    ["too long"] = { five, framed({ "DATA", 0, "123456" }) },
    ["too short"] = { five, framed({ "DATA", 1, "1234" }) },
    ["too short, with trailers"] = { five,
      framed({ "DATA", 0, "1234" }, { "HEADERS", 5, field("x", "y") }) },
    ["pseudo-headers as trailers"] = { any,
      framed({ "DATA", 0, "1234" }, { "HEADERS", 5, field(":path", "/") }) },
    ["trailers with LF"] = { any,
      framed({ "DATA", 0, "1234" }, { "HEADERS", 5, field("x", "a\nb") }) },
    ["trailers that do not end"] = { any,
      framed({ "DATA", 0, "1234" }, { "HEADERS", 4, field("x", "y") }) },
  } do
    peer:send("HEADERS", 4, id, case[1])
    peer:bytes(case[2](id))
    test.eq(peer:answer(id), MALFORMED, what)
    id = id + 2
  end
  test.eq(peer:get(id, { [":path"] = "/good" }):answer(id), "200 ok")
end)

test("what HTTP/1 refuses by a status is refused by the same", function()
  local port = start()
  local peer, id = frames.connect(port), 1
  for _, case in ipairs {
    { { [":method"] = "BREW" }, "501 Not Implemented: unknown method\n" },
    { { [":method"] = "SOURCE" }, "501 Not Implemented: unknown method\n" },
    { { [":method"] = "PRI" }, "501 Not Implemented: unknown method\n" },
    { { [":method"] = "CONNECT", [":path"] = false, [":scheme"] = false },
      "501 Not Implemented: unknown method\n" },
    { { [":path"] = "/%zz" },
      "400 Bad Request: percent sign without two hexadecimal digits in the path\n" },
    { { [":path"] = "/%00" }, "400 Bad Request: NUL in the path\n" },
    { { [":path"] = "/%ff" }, "400 Bad Request: path is not UTF-8\n" },
    { { [":path"] = "/#x" }, "400 Bad Request: malformed target\n" },
    { { [":path"] = "/\255" }, "400 Bad Request: malformed target\n" },
    { { [":authority"] = "a:b" }, "400 Bad Request: malformed Host field\n" },
    { { [":authority"] = "u@a" }, "400 Bad Request: malformed Host field\n" },
  } do
    test.eq(peer:get(id, case[1]):answer(id), case[2], test.show(case[1]))
    id = id + 2
  end
  test.eq(peer:get(id, { [":method"] = "OPTIONS", [":path"] = "*" }):answer(id), "200 ok")
end)

-- ---- frames -------------------------------------------------------------------------------------

test("frames that break the rules end the connection, and say why", function()
  local port = start(function(req) return #req:body() .. "" end)
  local function case(what, answer, fn, settings)
    local peer = frames.connect(port, settings)
    fn(peer)
    test.eq(peer:answer(0), "GOAWAY " .. answer, what)
    assert(not peer:wait_for "none", what)
  end
  case("garbage in the place of a preface's settings", "PROTOCOL_ERROR", function(peer)
    peer:bytes(frames.PREFACE):bytes(("GET / HTTP/1.1\r\nHost: a\r\n\r\n"):rep(3))
  end, false)
  case("another frame before the settings", "PROTOCOL_ERROR", function(peer)
    peer:bytes(frames.PREFACE):send("PING", 0, 0, PING)
  end, false)
  case("garbage behind them", "FRAME_SIZE_ERROR", function(peer)
    peer:bytes(("\255"):rep(100))
  end)
  case("a frame that is too large", "FRAME_SIZE_ERROR", function(peer)
    peer:post(1):data(1, ("x"):rep(16385))
  end)
  case("data on stream 0", "PROTOCOL_ERROR", function(peer) peer:data(0, "x") end)
  case("data on a stream that is idle", "PROTOCOL_ERROR", function(peer) peer:data(1, "x") end)
  case("an even stream", "PROTOCOL_ERROR", function(peer) peer:get(2) end)
  case("a head on stream 0", "PROTOCOL_ERROR", function(peer) peer:get(0) end)
  case("a reset of an idle stream", "PROTOCOL_ERROR", function(peer) peer:reset(1) end)
  case("a push from a client", "PROTOCOL_ERROR", function(peer)
    peer:post(1):send("PUSH_PROMISE", 4, 1, frames.be(2, 4) .. request())
  end)
  case("a ping of another size", "FRAME_SIZE_ERROR", function(peer)
    peer:send("PING", 0, 0, "1234567")
  end)
  case("settings on a stream", "PROTOCOL_ERROR", function(peer) peer:send("SETTINGS", 0, 1) end)
  case("settings cut off", "FRAME_SIZE_ERROR", function(peer)
    peer:send("SETTINGS", 0, 0, "12345")
  end)
  case("an acknowledgement with contents", "FRAME_SIZE_ERROR", function(peer)
    peer:send("SETTINGS", 1, 0, "123456")
  end)
  case("a window beyond all numbers in the settings", "FLOW_CONTROL_ERROR", function(peer)
    peer:settings { 4, 2 ^ 31 }
  end)
  case("a frame size that is not allowed", "PROTOCOL_ERROR", function(peer)
    peer:settings { 5, 100 }
  end)
  case("a switch that is no switch", "PROTOCOL_ERROR", function(peer) peer:settings { 2, 2 } end)
  case("the connection's window overflows", "FLOW_CONTROL_ERROR", function(peer)
    peer:window(0, 2 ^ 31 - 1)
  end)
  case("a step of 0 of the connection's window", "PROTOCOL_ERROR", function(peer)
    peer:window(0, 0)
  end)
  case("a step of 0 of a stream's window", "PROTOCOL_ERROR", function(peer)
    peer:post(1):window(1, 0)
  end)
  case("padding longer than its frame", "PROTOCOL_ERROR", function(peer)
    peer:post(1):data(1, "\200abc", 8)
  end)
  case("a continuation of nothing", "PROTOCOL_ERROR", function(peer)
    peer:send("CONTINUATION", 4, 1, request())
  end)
  case("another frame within a head", "PROTOCOL_ERROR", function(peer)
    peer:send("HEADERS", 1, 1, request()):send("PING", 0, 0, PING)
  end)
  case("a head that is continued on another stream", "PROTOCOL_ERROR", function(peer)
    peer:send("HEADERS", 1, 1, request()):send("CONTINUATION", 4, 3, "")
  end)
  case("an index of no table", "COMPRESSION_ERROR", function(peer)
    peer:send("HEADERS", 5, 1, "\255\255\1")
  end)
  case("a field that is cut off", "COMPRESSION_ERROR", function(peer)
    peer:send("HEADERS", 5, 1, "\0\127")
  end)
  case("a table larger than allowed", "COMPRESSION_ERROR", function(peer)
    peer:send("HEADERS", 5, 1, "\63\255\255\3" .. request())
  end)
end)

test("frames that break the rules of a stream reset it", function()
  local port = start(function(req)
    if req.path == "/wait" then async.sleep(1) end
    return "ok"
  end)
  local peer = frames.connect(port)
  peer:get(1, { [":path"] = "/wait" }):window(1, 2 ^ 31 - 1)
  test.eq(peer:answer(1), "RST_STREAM FLOW_CONTROL_ERROR")
  test.eq(peer:get(5):answer(5), "200 ok")
end)

test("data on a stream that is closed", function()
  local port = start()
  local peer = frames.connect(port):get(1)
  test.eq(peer:answer(1), "200 ok")
  peer:data(1, "x")
  -- It may have been under way when the stream ended, or the client is wrong.
  local f = peer:get(3):wait_for "HEADERS" or peer:wait_for "GOAWAY"
  assert(f.type == "HEADERS" or f.error == "STREAM_CLOSED", f.type)
end)

test("a head on a stream that is closed, or behind a later one, is no request", function()
  local log = test.log()
  local port = start(function(req)
    log(req.path)
    return "ok"
  end)
  local peer = frames.connect(port):get(5, { [":path"] = "/5" })
  test.eq(peer:answer(5), "200 ok")
  peer:get(5, { [":path"] = "/again" }):get(3, { [":path"] = "/3" }):get(7, { [":path"] = "/7" })
  test.eq(peer:answer(7), "200 ok")
  test.eq(log, { "/5", "/7" })
end)

test("a second head where the message has ended", function()
  local port = start(function()
    async.sleep(1)
    return "ok"
  end)
  local peer = frames.connect(port):get(1):get(1)
  test.matches(peer:answer(1), "STREAM_CLOSED$")
end)

test("unknown frames, settings and flags, priorities and padding are passed over", function()
  local port = start(function(req) return req:body() end)
  local peer = frames.connect(port, { 99, 5 })
  peer:send(77, 255, 0, "abc"):send(78, 0, 1, "x"):send("PRIORITY", 0, 3, "\0\0\0\0\1")
  peer:send("HEADERS", 0x4 + 0x8 + 0x20 + 0x40, 1,
    "\3" .. "\0\0\0\0\16" .. request { [":method"] = "POST" } .. "\0\0\0")
  peer:data(1, "\4abc\0\0\0\0", 8):data(1, "de", 1)
  test.eq(peer:answer(1), "200 abcde")
end)

test("a stream that depends on itself does no harm", function()
  local port = start()
  local peer = frames.connect(port)
  peer:send("PRIORITY", 0, 1, frames.be(1, 4) .. "\1")
  peer:send("HEADERS", 5 + 32, 3, frames.be(3, 4) .. "\1" .. request())
  local answer = peer:answer(3)
  assert(answer == "200 ok" or answer == "GOAWAY PROTOCOL_ERROR" or answer == MALFORMED, answer)
end)

-- ---- too much of it -----------------------------------------------------------------------------

-- Leaves a connection with as many tasks as it may have, whose requests were all taken back: no
-- further one is taken.
local function busy_peer(options)
  local calls, wait = 0, async.Event()
  local port = start(function()
    calls = calls + 1
    wait:wait()
    return "ok"
  end, options)
  local peer = frames.connect(port)
  for first = 1, 399, 100 do
    for id = first, first + 98, 2 do peer:get(id) end
    while calls < (first + 99) / 2 do async.sleep(0) end
    for id = first, first + 98, 2 do peer:reset(id) end
  end
  test.defer(function() wait:set() end)
  return peer
end

test("what is taken back before a task has seen it leaves no memory behind", function()
  local peer = busy_peer()
  peer:get(401)
  local body = frames.frame("DATA", 0, 0, ("x"):rep(16000))
  local function waste(from, count)
    for id = from, from + 2 * count - 2, 2 do
      peer:post(id)
      for _ = 1, 8 do peer:bytes(body:sub(1, 5) .. frames.be(id, 4) .. body:sub(10)) end
      peer:reset(id)
      -- The window is not larger than that; here all of it has been read.
      if id % 10 == 1 then
        test.eq(peer:send("PING", 0, 0, PING):wait_for("PING").payload, PING)
      end
    end
  end
  waste(403, 10)
  local before = resident()
  waste(423, 100)
  local grown = resident() - before
  -- The address sanitizer keeps what is freed for a while.
  assert(grown < 6000 or test.SCALE < 1, ("%d KiB more"):format(grown))
end)

test("refusals that nobody hears of are bounded, as is their size", function()
  local peer = busy_peer { access_log = function() end }
  local id, answer = 401
  repeat
    peer:get(id, { [":path"] = "/" .. ("p"):rep(9000) })
    answer = peer:answer(id)
    id = id + 2
  until not answer:find "^414 [^\n]*\n$" or id > 1500
  test.matches(answer, CALM .. "$")
end)

test("pseudo-header fields count in the size of a header", function()
  local port = start(nil, { max_header_bytes = 10000 })
  local peer = frames.connect(port)
  peer:get(1, { [":authority"] = ("a"):rep(15000) })
  test.eq(peer:answer(1), "431 Request Header Fields Too Large: header too large\n")
end)

test("rapid resets are bounded, and cost no handlers", function()
  local calls = 0
  local port = start(function()
    calls = calls + 1
    async.sleep(1)
    return "ok"
  end)
  local peer = frames.connect(port)
  flood(peer, 5000, function(i)
    return frames.frame("HEADERS", 5, 2 * i - 1, request()) ..
      frames.frame("RST_STREAM", 0, 2 * i - 1, frames.be(8, 4))
  end)
  test.eq(peer:answer(0), CALM)
  assert(calls <= 500, calls)
end)

test("resets that the client makes the server send are bounded as well", function()
  local port = start(function()
    async.sleep(1)
    return "ok"
  end)
  local peer = frames.connect(port)
  flood(peer, 3000, function(i)
    return frames.frame("HEADERS", 5, 2 * i - 1, request()) ..
      frames.frame("WINDOW_UPDATE", 0, 2 * i - 1, frames.be(2 ^ 31 - 1, 4))
  end)
  test.eq(peer:answer(0), CALM)
end)

test("malformed requests without end are bounded", function()
  local port = start()
  local peer = frames.connect(port)
  flood(peer, 3000, function(i)
    return frames.frame("HEADERS", 5, 2 * i - 1, request(nil, { "X", "y" }))
  end)
  test.eq(peer:answer(0), CALM)
end)

test("streams that were reset while their handlers run on do not pile up", function()
  local running, most = 0, 0
  local go = async.Event()
  local port = start(function()
    running = running + 1
    most = math.max(most, running)
    go:wait()
    running = running - 1
    return "ok"
  end)
  local peer = frames.connect(port)
  for i = 1, 350 do
    peer:get(2 * i - 1):send("PING", 0, 0, PING)
    -- Slowly, so that each gets its handler.
    if i % 50 == 0 then async.sleep(0.6) end
    peer:reset(2 * i - 1)
    async.sleep(0)
  end
  test.eq(most <= 200, true, most)
  go:set()
end)

for name, bytes in pairs {
  pings = frames.frame("PING", 0, 0, PING),
  settings = frames.frame("SETTINGS", 0, 0, frames.be(4, 2) .. frames.be(70000, 4)),
} do
  test("a flood of " .. name .. " ends the connection", function()
    local port = start()
    local peer = frames.connect(port)
    flood(peer, 20000, function() return bytes end)
    test.eq(peer:answer(0), CALM)
  end)
end

test("a flood of pings whose answers nobody reads ends the connection", function()
  local port, server = start()
  local peer = frames.connect(port)
  local ok = flood(peer, 400000, function() return frames.frame("PING", 0, 0, PING):rep(20) end)
  -- What is sent to a connection that is closed may be dropped for a while before it is refused.
  if ok then
    local was_read, code = pcall(peer.answer, peer, 0)
    test.eq(was_read == false or code == CALM, true, code)
  end
  server:close()
end)

test("a flood of data frames without data ends the connection", function()
  local port = start(function(req) return req:body() end)
  local peer = frames.connect(port):post(1)
  flood(peer, 20000, function() return frames.frame("DATA", 0, 1, "") end)
  test.eq(peer:answer(0), CALM)
  peer = frames.connect(port):post(1)
  flood(peer, 20000, function() return frames.frame("DATA", 8, 1, "\0") end)
  test.eq(peer:answer(0), CALM)
end)

test("a head in frames without end ends the connection", function()
  local port = start()
  local peer = frames.connect(port):send("HEADERS", 1, 1, request())
  flood(peer, 20000, function() return frames.frame("CONTINUATION", 0, 1, field("x", "y")) end)
  test.eq(peer:answer(0), CALM)
end)

test("a few bytes that stand for many fields", function()
  local port = start()
  -- A large field put into the table, and named over and over.
  local bomb = "\64" .. field("x", ("v"):rep(3000)):sub(2)
  local peer = frames.connect(port)
  peer:send("HEADERS", 5, 1, request() .. bomb .. ("\190"):rep(20))
  test.eq(peer:answer(1), "431 Request Header Fields Too Large: header too large\n")
  peer:send("HEADERS", 5, 3, request() .. ("\190"):rep(16000))
  test.eq(peer:answer(0), CALM)
end)

test("more streams than are allowed at a time are refused, and no mistake once it is known",
  function()
    local go = async.Event()
    local calls = 0
    local port = start(function()
      calls = calls + 1
      go:wait()
      return "ok"
    end)
    -- Before the client has heard of the limit.
    local peer = frames.connect(port)
    for i = 1, 101 do peer:get(2 * i - 1) end
    test.eq(peer:answer(201), "RST_STREAM REFUSED_STREAM")
    test.turns()
    test.eq(calls, 100)
    -- Afterwards.
    peer = frames.connect(port)
    peer:wait_for("SETTINGS", false)
    for i = 1, 101 do peer:get(2 * i - 1) end
    test.eq(peer:answer(0), "GOAWAY PROTOCOL_ERROR")
    test.turns()
    test.eq(calls, 200)
    go:set()
  end)

test("a head that does not come to its end", function()
  local port = start(nil, { header_timeout = 0.05 })
  local peer = frames.connect(port)
  peer:wait_for("SETTINGS", false)
  peer:send("HEADERS", 1, 1, request())
  test.eq(peer:answer(0), CALM)
  assert(not peer:wait_for "none")
end)

test("connections that say nothing, or no request, are closed in time", function()
  local port = start(nil, { header_timeout = 0.05 })
  local peer = frames.connect(port)
  test.eq(peer:answer(0), "GOAWAY NO_ERROR")
  peer = frames.connect(port, false):bytes(frames.PREFACE:sub(1, 10))
  test.eq(peer:read(), nil)
  peer = frames.connect(port, false):bytes(frames.PREFACE)
  assert(not peer:wait_for "none")
end)

-- ---- noise --------------------------------------------------------------------------------------

test("noise in the place of frames harms nobody else", function()
  local port = start(function(req)
    if req.path == "/large" then return ("x"):rep(100000) end
    return req:body()
  end, { body_timeout = 0.2, write_timeout = 0.2 })
  local seed = 20240229
  local function random(n)
    seed = (seed * 1103515245 + 12345) % 2147483648
    return math.floor(seed / 65536) % n
  end
  local makers = {
    function(id) return frames.frame("HEADERS", 4 + random(2), id, request()) end,
    function(id)
      return frames.frame("HEADERS", 5, id, request({ [":path"] = "/large" }))
    end,
    function(id)
      return frames.frame("HEADERS", 4, id, request({ [":method"] = "POST" })) ..
        frames.frame("DATA", random(2), id, ("x"):rep(random(3000)))
    end,
    function(id) return frames.frame("DATA", random(16), id, ("\3"):rep(random(50))) end,
    function(id) return frames.frame("RST_STREAM", 0, id, frames.be(random(14), 4)) end,
    function(id) return frames.frame("WINDOW_UPDATE", 0, id, frames.be(random(100000), 4)) end,
    function() return frames.frame("SETTINGS", 0, 0, frames.be(random(8), 2) ..
      frames.be(random(32768), 4)) end,
    function(id) return frames.frame(random(12), random(256), id, ("\130"):rep(random(40))) end,
    function() return frames.frame("GOAWAY", 0, 0, frames.be(0, 4) .. frames.be(0, 4)) end,
  }
  for _ = 1, math.max(50, 400 * test.SCALE) do
    local peer, parts = frames.connect(port), {}
    for i = 1, 1 + random(20) do
      local bytes = makers[1 + random(#makers)](random(4) == 0 and random(9) or 2 * i - 1)
      if random(8) == 0 then
        local at = 1 + random(#bytes)
        bytes = bytes:sub(1, at - 1) .. string.char(random(256)) .. bytes:sub(at + 1)
      end
      parts[i] = bytes
    end
    pcall(peer.bytes, peer, table.concat(parts))
    if random(3) == 0 then async.sleep(0) end
    if random(2) == 0 then peer.socket:abort() else peer:close() end
  end
  test.eq(frames.connect(port):get(1):answer(1), "200")
end)
