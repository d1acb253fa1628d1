-- Frames as they go over the wire, sent to a server of ours and to a client of ours, plain and over
-- TLS. Source: RFC 6455, and the cases of the Autobahn test suite.
local test = require "support.test"
local wire = require "stdlib.websocket.wire"

local code = wire.code
local has_tls = pcall(require, "rille.core.tls")

-- Bytes that are no UTF-8, and how they may be cut.
local INVALID = {
  "\206\186\225\189\185\207\131\206\188\206\181\237\160\128edited", -- a surrogate
  "\248\136\128\128\128", "\252\132\128\128\128\128", -- five and six bytes
  "\192\175", "\224\128\175", "\240\128\128\175", -- longer than need be
  "\244\144\128\128", "\255", "\254", "\128", "\191\128", "a\195", "\226\130", "\240\159\152",
  "\195(", "\226(\161", "\226\130(", "\237\191\191",
}

local VALID = { "", "κόσμε", "\0", "\127", "\194\128", "\223\191", "\224\160\128", "\239\191\191",
  "\240\144\128\128", "\244\143\191\191", "\237\159\191", "\238\128\128", "\239\191\189",
  "\240\159\152\128", "\239\187\191 begins with a mark" }

local BAD_CODES = { 0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535 }
local GOOD_CODES = { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000,
  3999, 4000, 4999 }

-- What is sent to a peer that sends messages back, and what has to come.
local CASES = {}
local function case(name, fn) CASES[#CASES + 1] = { name = name, run = fn } end

local function echoes(peer, first, payload, text)
  local got, back = peer:read()
  test.eq({ got, #back }, { first, #payload }, text)
  assert(back == payload, text)
end

case("lengths in one, two and eight bytes come back as they went", function(peer)
  for _, n in ipairs { 0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1048576 } do
    for _, first in ipairs { 0x81, 0x82 } do
      local payload = (first == 0x81 and "x" or "\254"):rep(n)
      peer:send(first, payload)
      echoes(peer, first, payload)
    end
  end
end)

case("a frame may come in single bytes, or many in one piece", function(peer)
  for c in wire.frame(0x81, "hello", peer.is_client):gmatch "." do peer:write(c) end
  echoes(peer, 0x81, "hello")
  local parts = {}
  for i = 1, 100 do parts[i] = wire.frame(0x82, ("b"):rep(i * 7), peer.is_client) end
  peer:write(table.concat(parts))
  for i = 1, 100 do echoes(peer, 0x82, ("b"):rep(i * 7)) end
end)

case("pings are answered with what they hold, in order; pongs nobody wants are nothing",
  function(peer)
    peer:send(0x8a, "nobody asked"):send(0x8a)
    for _, payload in ipairs { "", "hello", "\0\255\254\253\252", ("x"):rep(125) } do
      peer:send(0x89, payload)
      echoes(peer, 0x8a, payload)
    end
    for i = 1, 20 do peer:send(0x89, "ping " .. i) end
    for i = 1, 20 do echoes(peer, 0x8a, "ping " .. i) end
  end)

case("fragments, empty ones too, with pings and pongs in between", function(peer)
  peer:send(0x01, "one "):send(0x89, "p1"):send(0x00, ""):send(0x8a, "x"):send(0x00, "two ")
  peer:send(0x89, "p2"):send(0x80, "three")
  echoes(peer, 0x8a, "p1")
  echoes(peer, 0x8a, "p2")
  echoes(peer, 0x81, "one two three")
  peer:send(0x02):send(0x00):send(0x80)
  echoes(peer, 0x82, "")
  for c in ("abcdefghij"):gmatch "." do
    peer:send(c == "a" and 0x01 or 0x00, c):send(0x89, c)
    echoes(peer, 0x8a, c)
  end
  peer:send(0x80)
  echoes(peer, 0x81, "abcdefghij")
end)

case("text in UTF-8, cut wherever it may be", function(peer)
  for _, text in ipairs(VALID) do
    peer:send(0x81, text)
    echoes(peer, 0x81, text)
    if text ~= "" then
      for i = 1, #text do peer:send(i == 1 and 0x01 or 0x00, text:sub(i, i)) end
      peer:send(0x80)
      echoes(peer, 0x81, text)
    end
  end
end)

-- Each of these ends its connection: what is sent, and the code that has to come.
local FAULTS = {}
local function fault(name, want, fn)
  FAULTS[#FAULTS + 1] = { name = name, want = want, run = fn }
end

for bits = 1, 7 do
  fault("reserved bits " .. bits, 1002, function(peer) peer:send(0x81 + bits * 16, "x") end)
  fault("reserved bits in a ping " .. bits, 1002,
    function(peer) peer:send(0x89 + bits * 16, "x") end)
end
for _, opcode in ipairs { 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 } do
  fault("opcode " .. opcode, 1002, function(peer) peer:send(0x80 + opcode, "") end)
  fault("opcode between fragments " .. opcode, 1002, function(peer)
    peer:send(0x01, "a"):send(0x80 + opcode, "b"):send(0x80, "c")
  end)
end
for _, first in ipairs { 0x88, 0x89, 0x8a } do
  fault("a control frame of 126 bytes", 1002,
    function(peer) peer:send(first, ("\3\232"):rep(63)) end)
  fault("a control frame in fragments", 1002,
    function(peer) peer:send(first - 0x80, ""):send(0x80, "") end)
  fault("a control frame with a length of eight bytes", 1002, function(peer)
    peer:write(string.char(first, peer.is_client and 255 or 127) .. ("\0"):rep(12))
  end)
end
fault("a length longer than need be", 1002, function(peer)
  peer:write(string.char(0x81, peer.is_client and 254 or 126, 0, 1, 0, 0, 0, 0, 120))
end)
fault("a length of 64 bits with the first one set", 1002, function(peer)
  peer:write(string.char(0x82, peer.is_client and 255 or 127, 128) .. ("\0"):rep(12))
end)
fault("the mask of the other side", 1002,
  function(peer) peer:write(wire.frame(0x81, "hello", not peer.is_client)) end)
fault("a continuation of nothing", 1002, function(peer) peer:send(0x80, "x") end)
fault("a continuation that is not the last, of nothing", 1002,
  function(peer) peer:send(0x00, "x") end)
fault("a message within a message", 1002, function(peer) peer:send(0x01, "x"):send(0x81, "y") end)
fault("a continuation after the end", 1002, function(peer)
  peer:send(0x01, "x"):send(0x80, "y")
  echoes(peer, 0x81, "xy")
  peer:send(0x80, "z")
end)
for _, text in ipairs(INVALID) do
  fault("no UTF-8: " .. test.show(text), 1007, function(peer) peer:send(0x81, text) end)
  fault("no UTF-8, in fragments: " .. test.show(text), 1007, function(peer)
    for i = 1, #text do
      -- It may be noticed on the way.
      if not pcall(peer.send, peer, i == 1 and 0x01 or 0x00, text:sub(i, i)) then return end
    end
    pcall(peer.send, peer, 0x80)
  end)
  fault("no UTF-8 in a reason: " .. test.show(text), 1007,
    function(peer) peer:send(0x88, code(1000, text)) end)
end
fault("what cannot become UTF-8 is refused before the message ends", 1007,
  function(peer) peer:send(0x01, "valid \237\160\128") end)
for _, bad in ipairs(BAD_CODES) do
  fault("close code " .. bad, 1002, function(peer) peer:send(0x88, code(bad, "reason")) end)
end
fault("half a close code", 1002, function(peer) peer:send(0x88, "\3") end)
fault("a message of more than 1 MiB", 1009,
  function(peer) pcall(peer.send, peer, 0x82, ("x"):rep(1048577)) end)
fault("a length that will never come", 1009, function(peer)
  peer:write(string.char(0x82, peer.is_client and 255 or 127, 127) .. ("\255"):rep(7)
    .. "\0\0\0\0\0")
end)
fault("fragments of more than 1 MiB", 1009, function(peer)
  for i = 1, 3 do
    if not pcall(peer.send, peer, i == 1 and 0x02 or 0x00, ("x"):rep(400000)) then return end
  end
end)

-- Those that end in order.
local function ends(name, fn) case(name, fn) end
for _, good in ipairs(GOOD_CODES) do
  ends("close code " .. good .. " is answered with itself", function(peer)
    peer:send(0x88, code(good, "grüße"))
    test.eq({ peer:read_close() }, { good, "grüße" })
    peer:read_end()
  end)
end
ends("a close without a code is answered with one without", function(peer)
  peer:send(0x88)
  test.eq({ peer:read_close() }, { 1005, "" })
  peer:read_end()
end)
ends("a close with the longest reason", function(peer)
  peer:send(0x88, code(1000, ("r"):rep(123)))
  test.eq({ peer:read_close() }, { 1000, ("r"):rep(123) })
  peer:read_end()
end)
ends("what comes behind a close is nothing", function(peer)
  peer:write(wire.frame(0x88, code(1000), peer.is_client)
    .. wire.frame(0x81, "more", peer.is_client) .. wire.frame(0x89, "ping", peer.is_client)
    .. wire.frame(0x88, code(4000), peer.is_client) .. "\255\255\255")
  test.eq({ peer:read_close() }, { 1000, "" })
  peer:read_end()
end)
ends("a close in the middle of a message drops it", function(peer)
  peer:send(0x01, "half"):send(0x88, code(1001))
  test.eq({ peer:read_close() }, { 1001, "" })
  peer:read_end()
end)

-- Ways to have a peer of ours on the line.
local WAYS = {}

WAYS[1] = { "a server", function(over)
  local port = wire.serve(function(ws)
    wire.echo(ws)
    over.code = ws.close_code
  end, { compress = false, close_timeout = 0.5, ping_interval = false })
  return function() return (wire.client(port)) end
end }
WAYS[2] = { "a client", function(over)
  return function()
    return (wire.connected(function(ws)
      wire.echo(ws)
      over.code = ws.close_code
    end, { connect = { compress = false, close_timeout = 0.5, ping_interval = false } }))
  end
end }
if has_tls then
  local function certificate()
    local ca = require("support.certificates").authority(test.tmpdir())
    return ca, ca:issue("localhost", { names = "DNS:localhost,IP:127.0.0.1" })
  end
  WAYS[3] = { "a server with TLS", function(over)
    local ca, own = certificate()
    local port = wire.serve(function(ws)
      wire.echo(ws)
      over.code = ws.close_code
    end, { close_timeout = 0.5, ping_interval = false },
      { tls = { cert = own.cert, key = own.key } })
    return function()
      return (wire.client(port, { tls = { ca = ca.path } }))
    end
  end }
  WAYS[4] = { "a client with TLS", function(over)
    local ca, own = certificate()
    return function()
      return (wire.connected(function(ws)
        wire.echo(ws)
        over.code = ws.close_code
      end, { tls = { cert = own.cert, key = own.key },
        connect = { tls = { ca = ca.path }, close_timeout = 0.5, ping_interval = false } }))
    end
  end }
end

for _, way in ipairs(WAYS) do
  test(way[1] .. " takes all that the protocol allows", { limit = 3 }, function()
    local open = way[2] {}
    for _, c in ipairs(CASES) do
      local ok, e = pcall(function()
        local peer = open()
        c.run(peer)
        peer:close()
      end)
      if not ok then error(c.name .. ": " .. tostring(e), 0) end
    end
  end)

  test(way[1] .. " answers whatever breaks the protocol with its code", { limit = 3 }, function()
    local over = {}
    local open = way[2](over)
    for _, f in ipairs(FAULTS) do
      local ok, e = pcall(function()
        over.code = nil
        local peer = open()
        f.run(peer)
        test.eq((peer:read_close()), f.want)
        peer:read_end()
        for _ = 1, 100 do
          if over.code then break end
          require("rille.async").sleep(0.001)
        end
        -- What broke the protocol is ours to say; what is wrong with a close frame as well.
        test.eq(over.code, f.want, "close_code")
        peer:close()
      end)
      if not ok then error(f.name .. ": " .. tostring(e), 0) end
    end
  end)
end
