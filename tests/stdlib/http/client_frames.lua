--- A server of HTTP/2 that says exactly what it is told to, frame by frame.
local async, test = require "rille.async", require "support.test"
local net = require "rille.net"

local char, concat, floor = string.char, table.concat, math.floor

local M = {}

local TYPES = { [0] = "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE",
  "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION" }
local NUMBERS = {}
for number, name in pairs(TYPES) do NUMBERS[name] = number end

local PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
M.END_STREAM, M.ACK, M.END_HEADERS = 1, 1, 4

local function be(n, bytes)
  local out = {}
  for i = bytes - 1, 0, -1 do out[#out + 1] = char(floor(n / 256 ^ i) % 256) end
  return concat(out)
end
M.be = be

local function number(text, first, last)
  local n = 0
  for i = first, last do n = n * 256 + text:byte(i) end
  return n
end

M.number = number

--- The bytes of a frame.
function M.frame(type, flags, id, payload)
  payload = payload or ""
  return be(#payload, 3) .. char(NUMBERS[type]) .. char(flags) .. be(id, 4) .. payload
end

local function hpack_number(n)
  if n < 127 then return char(n) end
  local out = { "\127" }
  n = n - 127
  while n >= 128 do
    out[#out + 1] = char(n % 128 + 128)
    n = floor(n / 128)
  end
  return concat(out) .. char(n)
end

--- A block of fields, { name, value, name, value, ... }, as literals that no table takes up.
function M.block(list)
  local out = {}
  for i = 1, #list, 2 do
    local name, value = list[i], list[i + 1]
    out[#out + 1] = "\0" .. hpack_number(#name) .. name .. hpack_number(#value) .. value
  end
  return concat(out)
end

local Peer = {}
Peer.__index = Peer

function Peer:bytes(text)
  self.stream:write(text)
  return self
end

function Peer:send(...) return self:bytes(M.frame(...)) end

--- A list of numbers { id, value, ... }.
function Peer:settings(list)
  local out = {}
  for i = 1, #list, 2 do out[#out + 1] = be(list[i], 2) .. be(list[i + 1], 4) end
  return self:send("SETTINGS", 0, 0, concat(out))
end

--- The head of a response; `flags` 5: that is all of it.
function Peer:head(id, flags, status, more)
  local list = { ":status", status or "200" }
  for _, text in ipairs(more or {}) do list[#list + 1] = text end
  return self:send("HEADERS", flags, id, M.block(list))
end

--- A whole response.
function Peer:answer(id, body, more)
  if body == "" then return self:head(id, 5, "200", more) end
  return self:head(id, 4, "200", more):send("DATA", M.END_STREAM, id, body)
end

function Peer:reset(id, code) return self:send("RST_STREAM", 0, id, be(code, 4)) end

function Peer:go_away(last, code) return self:send("GOAWAY", 0, 0, be(last, 4) .. be(code, 4)) end

-- Nil at the end. What a cancelled read has got is there for the next one.
local function take(self, n)
  local ok, bytes = pcall(self.stream.read_exactly, self.stream, n)
  if ok then return bytes end
  if async.is_cancelled(bytes) then error(bytes, 0) end
end

--- The next frame; settings are acknowledged on the way. Nil at the end.
function Peer:read()
  local head = self.begun or take(self, 9)
  self.begun = head
  local payload = head and take(self, number(head, 1, 3))
  if not payload then return nil end
  self.begun = nil
  local f = { type = TYPES[head:byte(4)], flags = head:byte(5), id = number(head, 6, 9),
    payload = payload }
  if f.type == "RST_STREAM" then f.code = number(payload, 1, 4) end
  if f.type == "GOAWAY" then f.code = number(payload, 5, 8) end
  f.ends = f.flags % 2 == 1
  if f.type == "SETTINGS" and f.flags == 0 then self:send("SETTINGS", M.ACK, 0) end
  return f
end

--- The next frame of a type; nil at the end.
function Peer:wait_for(type)
  repeat
    local f = self:read()
    if not f or f.type == type then return f end
  until false
end

--- The next request: its stream's number; nil at the end.
function Peer:request()
  local f = self:wait_for "HEADERS"
  return f and f.id
end

--- Starts a server: `fn(peer)` for each connection, once the client has said hello; `settings` is
-- what it says itself, false for nothing.
---@return string base, fun(): integer connections
function M.serve(fn, settings)
  local connections = 0
  local listener = net.listen { port = 0 }
  local server = async.spawn(listener.serve, listener, function(stream)
    connections = connections + 1
    local peer = setmetatable({ stream = stream, number = connections }, Peer)
    if stream:read_exactly(#PREFACE) ~= PREFACE then error "no client of HTTP/2" end
    if settings ~= false then peer:settings(settings or {}) end
    local ok, e = pcall(fn, peer)
    -- The client may have gone meanwhile.
    local errors = require "rille.errors"
    if not ok and not errors.is(e, "OSError") then error(e, 0) end
  end)
  test.defer(function()
    listener:close(0)
    async.wait { server }
  end)
  return "http://127.0.0.1:" .. listener:address().port, function() return connections end
end

return M
