--- A client of HTTP/2 that says exactly what it is told to, frame by frame, and reads what comes
-- back; and the bytes of frames, for a server that does the same.
local bit = require "bit"
local test = require "support.test"
local net = require "rille.net"
local raw = require "stdlib.http.raw"

local char, concat = string.char, table.concat

local TYPES = { [0] = "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE",
  "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION" }
local NUMBERS = {}
for number, name in pairs(TYPES) do NUMBERS[name] = number end
local ERRORS = { [0] = "NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
  "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL",
  "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM" }

local frames = { END_STREAM = 1, ACK = 1, END_HEADERS = 4 }
frames.PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

local function be(n, bytes)
  local out = {}
  for i = bytes - 1, 0, -1 do out[#out + 1] = char(math.floor(n / 256 ^ i) % 256) end
  return concat(out)
end
frames.be = be

local function number(text, first, last)
  local n = 0
  for i = first, last do n = n * 256 + text:byte(i) end
  return n
end
frames.number = number

--- The bytes of a frame.
function frames.frame(type, flags, id, payload)
  payload = payload or ""
  return be(#payload, 3) .. char(NUMBERS[type] or type) .. char(flags) .. be(id, 4) .. payload
end

local function hpack_number(n, prefix, first)
  local most = 2 ^ prefix - 1
  if n < most then return char(first + n) end
  local out = { char(first + most) }
  n = n - most
  while n >= 128 do
    out[#out + 1] = char(n % 128 + 128)
    n = math.floor(n / 128)
  end
  return concat(out) .. char(n)
end

--- One field as HPACK's literal, which no table takes up.
function frames.field(name, value)
  return "\0" .. hpack_number(#name, 7, 0) .. name .. hpack_number(#value, 7, 0) .. value
end

--- A block of fields: { name, value, name, value, ... }.
function frames.block(list)
  local out = {}
  for i = 1, #list, 2 do out[#out + 1] = frames.field(list[i], list[i + 1]) end
  return concat(out)
end

--- The payload of settings: a list of numbers { id, value, ... }.
function frames.settings(list)
  local out = {}
  for i = 1, #list, 2 do out[#out + 1] = be(list[i], 2) .. be(list[i + 1], 4) end
  return concat(out)
end

--- A frame that was received, of its head of nine bytes and its payload.
function frames.parse(head, payload)
  local f = { type = TYPES[head:byte(4)], flags = head:byte(5), id = number(head, 6, 9),
    payload = payload }
  if f.type == "RST_STREAM" then f.code = number(payload, 1, 4) end
  if f.type == "GOAWAY" then f.last, f.code = number(payload, 1, 4), number(payload, 5, 8) end
  f.error = f.code and ERRORS[f.code]
  f.ends = (f.type == "DATA" or f.type == "HEADERS") and bit.band(f.flags, 1) == 1
  f.ack = (f.type == "SETTINGS" or f.type == "PING") and bit.band(f.flags, 1) == 1
  return f
end

--- Starts a server for this test alone: its port, and itself.
function frames.start(handler, options)
  options = options or {}
  options.handler = handler or function() return "ok" end
  local _, server = raw.start(options)
  return server.port, server
end

--- False where this build has no HTTP/2, which is then said.
function frames.are_spoken()
  if pcall(require, "rille.core.http2") then return true end
  print "# skipped: this build has no HTTP/2"
  return false
end

--- The fields of a request; `changes` name others: false leaves one out. Further ones follow.
function frames.request(changes, more)
  local fields = { [":method"] = "GET", [":scheme"] = "http", [":authority"] = "a",
    [":path"] = "/" }
  for name, value in pairs(changes or {}) do fields[name] = value end
  local list = {}
  for _, name in ipairs { ":method", ":scheme", ":authority", ":path" } do
    if fields[name] then
      list[#list + 1] = name
      list[#list + 1] = fields[name]
    end
  end
  for _, text in ipairs(more or {}) do list[#list + 1] = text end
  return frames.block(list)
end

-- ---- a connection -------------------------------------------------------------------------------

local Peer = {}
Peer.__index = Peer

--- Connects, and says hello; `settings`: a list of numbers { id, value, ... }; false: says nothing.
-- The server has no table for what it sends, so that what comes can be read without one.
function frames.connect(port, settings)
  local self = setmetatable({ socket = net.connect { host = "127.0.0.1", port = port },
    input = "", kept = {} }, Peer)
  test.defer(function() self.socket:close() end)
  if settings ~= false then
    local all = { 1, 0 }
    for _, n in ipairs(settings or {}) do all[#all + 1] = n end
    -- A server that closes at once shows when something is read.
    pcall(function() self:bytes(frames.PREFACE):settings(all) end)
  end
  return self
end

function Peer:bytes(text)
  self.socket:write(text)
  return self
end

function Peer:send(...) return self:bytes(frames.frame(...)) end

function Peer:settings(list) return self:send("SETTINGS", 0, 0, frames.settings(list)) end

--- A request without a body, in one frame.
function Peer:get(id, changes, more)
  return self:send("HEADERS", 5, id, frames.request(changes, more))
end

--- The head of a request whose body follows.
function Peer:post(id, changes, more)
  changes = changes or {}
  changes[":method"] = changes[":method"] or "POST"
  return self:send("HEADERS", 4, id, frames.request(changes, more))
end

function Peer:data(id, text, flags) return self:send("DATA", flags or 0, id, text) end

function Peer:window(id, size) return self:send("WINDOW_UPDATE", 0, id, be(size, 4)) end

function Peer:reset(id, code) return self:send("RST_STREAM", 0, id, be(code or 8, 4)) end

function Peer:close() self.socket:close() end

local function more(self)
  local ok, data = pcall(self.socket.read, self.socket)
  if not ok or not data then return false end
  self.input = self.input .. data
  return true
end

-- Digits in HPACK's Huffman code.
local DIGITS = {}
for i, code in ipairs { "00000", "00001", "00010", "011001", "011010", "011011", "011100", "011101",
  "011110", "011111" } do DIGITS[code] = tostring(i - 1) end
local STATUSES = { [8] = "200", [9] = "204", [10] = "206", [11] = "304", [12] = "400", [13] = "404",
  [14] = "500" }

local function digits(text)
  local bits, out, from = {}, {}, 1
  for i = 1, #text do
    for j = 7, 0, -1 do bits[#bits + 1] = bit.band(bit.rshift(text:byte(i), j), 1) end
  end
  bits = concat(bits)
  while from <= #bits and #out < 3 do
    local size = DIGITS[bits:sub(from, from + 4)] and 5 or 6
    out[#out + 1] = DIGITS[bits:sub(from, from + size - 1)] or "?"
    from = from + size
  end
  return concat(out)
end

-- The status that a block of fields begins with; nil if it begins with something else.
local function status(block)
  local at = 1
  while block:byte(at) and bit.band(block:byte(at), 0xe0) == 0x20 do at = at + 1 end
  local first = block:byte(at)
  if not first then return nil end
  if first >= 128 then return STATUSES[first - 128] end
  if bit.band(first, 0x3f) ~= 8 and bit.band(first, 0x0f) ~= 8 then return nil end
  local size = block:byte(at + 1)
  local text = block:sub(at + 2, at + 1 + bit.band(size, 127))
  return size >= 128 and digits(text) or text
end

-- The next frame from the wire.
local function receive(self)
  while #self.input < 9 do
    if not more(self) then return nil end
  end
  local size = number(self.input, 1, 3)
  while #self.input < 9 + size do
    if not more(self) then return nil end
  end
  local input = self.input
  local f = frames.parse(input, input:sub(10, 9 + size))
  self.input = input:sub(10 + size)
  if f.type == "HEADERS" then f.status = status(f.payload) end
  if f.type == "SETTINGS" and not f.ack then pcall(self.send, self, "SETTINGS", frames.ACK, 0) end
  return f
end

-- The next frame that `is_wanted`; others are kept for whoever wants them.
local function take(self, is_wanted)
  for i, f in ipairs(self.kept) do
    if is_wanted(f) then return table.remove(self.kept, i) end
  end
  while true do
    local f = receive(self)
    if not f or is_wanted(f) then return f end
    self.kept[#self.kept + 1] = f
  end
end

--- The next frame: `type`, `flags`, `id`, `payload`, and what they mean; nil at the end.
function Peer:read()
  return take(self, function() return true end)
end

--- Waits for a frame of a type, and gives it; nil at the end.
function Peer:wait_for(type, ack)
  return take(self, function(f) return f.type == type and (ack == nil or f.ack == ack) end)
end

--- What becomes of a stream, or of the connection: "200 body", "RST_STREAM CANCEL", "GOAWAY
-- PROTOCOL_ERROR", "closed". A stream that is reset after its response shows both. The window is
-- given back; `id` 0: the end of the connection is waited for.
function Peer:answer(id)
  local out, body = {}, {}
  local function add(text)
    if body[1] then
      out[#out + 1] = concat(body)
      body = {}
    end
    out[#out + 1] = text
  end
  while true do
    local f = take(self, function(f)
      if f.type == "GOAWAY" then return id == 0 or f.error ~= "NO_ERROR" end
      return f.id == id and id > 0
    end)
    if not f then
      add "closed"
      break
    elseif f.type == "GOAWAY" then
      add("GOAWAY " .. f.error)
      break
    elseif f.type == "HEADERS" then
      add(f.status or "trailers")
    elseif f.type == "DATA" and f.payload ~= "" then
      body[#body + 1] = f.payload
      pcall(self.window, self, 0, #f.payload)
      if not f.ends then pcall(self.window, self, id, #f.payload) end
    elseif f.type == "RST_STREAM" then
      add("RST_STREAM " .. f.error)
      break
    end
    if f.ends then break end
  end
  if body[1] then out[#out + 1] = concat(body) end
  return concat(out, " ")
end

return frames
