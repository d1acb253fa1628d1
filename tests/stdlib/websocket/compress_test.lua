-- permessage-deflate, from both sides: what is agreed on, and what may go wrong.
-- Source: RFC 7692.
local async, test = require "rille.async", require "support.test"
local websocket = require "rille.websocket"
local wire = require "stdlib.websocket.wire"

local has_zlib, compress = pcall(require, "rille.core.compress")
has_zlib = has_zlib and pcall(compress.encoder, "message")

local OFFER = "permessage-deflate; client_max_window_bits"

-- A message compressed by itself.
local function coded(text) return compress.encoder("message"):flush(text):sub(1, -5) end

-- Runs fn(peer, over) with the other end of a server of ours and of a client of ours; `over` gets
-- the message that came, or the code of the end.
local function both(options, fn)
  if not has_zlib then return print "# skipped: zlib is not in this build" end
  local over = async.Queue()
  local function take(ws)
    for data, kind in ws:messages() do over:put { data, kind } end
    over:put(ws.close_code)
  end
  options.close_timeout, options.ping_interval = 0.5, false
  local port = wire.serve(take, options)
  local peer, head = wire.client(port, { extensions = OFFER })
  test.contains(head, "Sec-WebSocket-Extensions: permessage-deflate")
  fn(peer, function() return over:get() end)
  peer:close()
  peer = wire.connected(take, { connect = options,
    extensions = "permessage-deflate; server_no_context_takeover; client_no_context_takeover" })
  fn(peer, function() return over:get() end)
  peer:close()
end

local function arrives(name, frames, want)
  test(name, function()
    both({ max_message = 100000 }, function(peer, over)
      frames(peer)
      test.eq(over(), want)
      peer:send(0x81, "plain")
      test.eq(over(), { "plain", "text" })
      peer:send(0x88)
      test.eq({ peer:read_close() }, { 1005, "" })
      test.eq(over(), 1005)
    end)
  end)
end

arrives("a compressed text", function(peer) peer:send(0xc1, coded "hello") end,
  { "hello", "text" })
arrives("compressed bytes", function(peer) peer:send(0xc2, coded(("\0\255"):rep(50000))) end,
  { ("\0\255"):rep(50000), "binary" })
arrives("an empty message", function(peer) peer:send(0xc1, coded "") end, { "", "text" })
arrives("an empty message of one byte", function(peer) peer:send(0xc1, "\0") end, { "", "text" })
arrives("fragments, of which the first alone says that they are compressed", function(peer)
  local bytes = coded "in three parts"
  peer:send(0x41, bytes:sub(1, 3)):send(0x89, "ping"):send(0x00, bytes:sub(4, 5))
  peer:send(0x80, bytes:sub(6))
  test.eq({ peer:read() }, { 0x8a, "ping" })
end, { "in three parts", "text" })
arrives("blocks that are stored as they are", function(peer)
  peer:send(0xc1, "\0\5\0\250\255hello\0")
end, { "hello", "text" })

local function ends(name, code, frames)
  test(name .. ": " .. code, function()
    both({ max_message = 100000 }, function(peer, over)
      frames(peer)
      test.eq((peer:read_close()), code)
      test.eq(over(), code)
    end)
  end)
end

ends("a bomb", 1009, function(peer) peer:send(0xc2, coded(("\0"):rep(50000000))) end)
ends("one byte more than allowed", 1009,
  function(peer) peer:send(0xc1, coded(("x"):rep(100001))) end)
ends("data that is damaged", 1007, function(peer) peer:send(0xc2, "\255\255\255\255") end)
ends("text that is not UTF-8", 1007, function(peer) peer:send(0xc1, coded "\237\160\128") end)
ends("a continuation that says so again", 1002, function(peer)
  peer:send(0x41, coded "x"):send(0xc0, "")
end)
ends("a compressed ping", 1002, function(peer) peer:send(0xc9, coded "x") end)
ends("another reserved bit", 1002, function(peer) peer:send(0xe1, coded "x") end)

test("a server that compresses with a history, which it may, is understood", function()
  if not has_zlib then return end
  local peer = wire.connected(function(ws)
    for i = 1, 20 do test.eq(ws:recv(), "message " .. i .. (" and so on"):rep(20)) end
  end, { extensions = "permessage-deflate" })
  local encoder = compress.encoder "message"
  local first, last
  for i = 1, 20 do
    last = encoder:flush("message " .. i .. (" and so on"):rep(20)):sub(1, -5)
    first = first or last
    peer:send(0xc1, last)
  end
  assert(#last < #first) -- it had a history
  test.eq((peer:read_close()), 1000)
  peer:send(0x88, wire.code(1000))
end)

test("answers that do not fit the offer are refused", function()
  for _, answer in ipairs { "permessage-deflate; client_max_window_bits=8",
    "permessage-deflate; unknown", "permessage-deflate, permessage-deflate", "x-other" } do
    local listener = require("rille.net").listen { port = 0 }
    local server = async.spawn(function()
      local stream = listener:accept()
      local key = stream:read_until "\r\n\r\n":match "Key: (%S+)"
      stream:write("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
        "Sec-WebSocket-Accept: ", require("rille.websocket.handshake").accept(key), "\r\n",
        "Sec-WebSocket-Extensions: ", answer, "\r\n\r\n")
      stream:read()
      stream:close()
    end)
    local url = "ws://127.0.0.1:" .. listener:address().port
    test.raises("HTTPError", websocket.connect, url)
    server:await()
    listener:close()
  end
end)

test("a broadcast goes to clients with compression, without, and over our own clients", function()
  local list, all = {}, async.Event()
  local port = wire.serve(function(ws)
    list[#list + 1] = ws
    if #list == 3 then all:set() end
    ws:recv()
  end)
  local clients = {}
  for i, compressed in ipairs { true, false, true } do
    clients[i] = websocket.connect("ws://127.0.0.1:" .. port, { compress = compressed })
  end
  all:wait()
  for _, text in ipairs { "short", ("long "):rep(1000), "" } do
    test.eq(websocket.broadcast(list, text), 3)
    for _, ws in ipairs(clients) do test.eq(ws:recv(), text) end
  end
  test.eq(websocket.broadcast(clients, "\255\254", { binary = true }), 3)
  for _, ws in ipairs(clients) do
    test.eq(ws:recv(), nil) -- the handlers have ended
    ws:close()
  end
  test.eq({ websocket.broadcast(list, "x"), websocket.broadcast({}, "x") }, { 0, 0 })
end)
