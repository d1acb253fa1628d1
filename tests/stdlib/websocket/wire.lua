--- The other end of a WebSocket, frame by frame: for what no well-behaved peer would send.
local async = require "rille.async"
local http = require "rille.http"
local net = require "rille.net"
local websocket = require "rille.websocket"
local handshake = require "rille.websocket.handshake"
local test = require "support.test"

local wire = {}

local bit = require "bit"

local function masked(payload, key)
  return (payload:gsub("()(.)", function(i, c)
    return string.char(bit.bxor(c:byte(), key:byte((i - 1) % 4 + 1)))
  end))
end

--- The bytes of a frame. `first` is the first byte: 0x81 is a whole text, 0x01 a text's first
-- fragment, 0x80 the last of a message, 0x88 a close, 0x89 a ping, 0x8a a pong.
function wire.frame(first, payload, is_masked, key)
  local n = #payload
  local flag = is_masked and 128 or 0
  local head
  if n < 126 then
    head = string.char(first, flag + n)
  elseif n < 65536 then
    head = string.char(first, flag + 126, math.floor(n / 256), n % 256)
  else
    head = string.char(first, flag + 127, 0, 0, 0, 0, math.floor(n / 2 ^ 24) % 256,
      math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
  end
  if not is_masked then return head .. payload end
  key = key or "\17\240\3\128"
  return head .. key .. masked(payload, key)
end

--- The payload of a close frame.
function wire.code(code, reason)
  return string.char(math.floor(code / 256), code % 256) .. (reason or "")
end

local Peer = {}
Peer.__index = Peer

--- Sends a frame as this side has to, masked if it is the client.
function Peer:send(first, payload)
  self.stream:write(wire.frame(first, payload or "", self.is_client))
  return self
end

function Peer:write(bytes)
  self.stream:write(bytes)
  return self
end

--- The next frame: its first byte and its payload; nil at the end.
function Peer:read()
  local ok, head = pcall(self.stream.read_exactly, self.stream, 2)
  if not ok then return nil end
  local first, second = head:byte(1, 2)
  local is_masked, n = second >= 128, second % 128
  test.eq(is_masked, not self.is_client, "the mask")
  if n == 126 then
    local a, b = self.stream:read_exactly(2):byte(1, 2)
    n = a * 256 + b
  elseif n == 127 then
    n = 0
    for c in self.stream:read_exactly(8):gmatch "." do n = n * 256 + c:byte() end
  end
  local key = is_masked and self.stream:read_exactly(4)
  local payload = n > 0 and self.stream:read_exactly(n) or ""
  return first, key and masked(payload, key) or payload
end

--- The code of the close frame that comes next, and its reason; fails if something else comes.
function Peer:read_close()
  local first, payload = self:read()
  if first == nil then return nil end
  test.eq(first, 0x88, "a close frame")
  if payload == "" then return 1005, "" end
  return payload:byte(1) * 256 + payload:byte(2), payload:sub(3)
end

function Peer:read_end() test.eq((self:read()), nil, "a frame after the end") end

function Peer:close() self.stream:close() end

local function peer(stream, is_client)
  return setmetatable({ stream = stream, is_client = is_client }, Peer)
end

local REQUEST = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
  .. "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
wire.REQUEST = REQUEST

--- A client that has shaken hands with the server at `port`.
---@param options? table  `tls`, `extensions`
function wire.client(port, options)
  options = options or {}
  local stream = net.connect { host = "127.0.0.1", port = port, tls = options.tls }
  test.defer(function() stream:close() end)
  stream:write(REQUEST, options.extensions
    and "Sec-WebSocket-Extensions: " .. options.extensions .. "\r\n" or "", "\r\n")
  local head = stream:read_until "\r\n\r\n"
  test.contains(head, "101 Switching Protocols")
  return peer(stream, true), head
end

--- Serves `handler(ws)` for this test alone; gives the port and the server.
function wire.serve(handler, options, serve_options)
  local app = http.App()
  app:websocket("/", handler, options)
  local server = app:serve(serve_options or {})
  test.defer(function() server:close(0) end)
  return server.port, server
end

--- Lets `handler(ws)` run with a client of ours, and gives the server that it talks to.
---@param options? table  `tls` (the server's), `extensions`, and `connect`: options of the client
function wire.connected(handler, options)
  options = options or {}
  local listener = net.listen { port = 0, tls = options.tls }
  local scheme = options.tls and "wss" or "ws"
  local url = ("%s://127.0.0.1:%d/"):format(scheme, listener:address().port)
  local task = async.spawn(function()
    local ws = websocket.connect(url, options.connect)
    async.with(ws, handler)
  end)
  local stream = listener:accept()
  listener:close()
  test.defer(function()
    stream:close()
    task:await()
  end)
  local key = stream:read_until "\r\n\r\n":match "Key: (%S+)"
  stream:write("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "Sec-WebSocket-Accept: ", handshake.accept(key), "\r\n", options.extensions
    and "Sec-WebSocket-Extensions: " .. options.extensions .. "\r\n" or "", "\r\n")
  return peer(stream, false), task
end

--- Sends back whatever comes.
function wire.echo(ws)
  for data, kind in ws:messages() do
    if kind == "binary" then ws:send_binary(data) else ws:send(data) end
  end
end

return wire
