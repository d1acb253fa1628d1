--- A server of HTTP/2 that says exactly what it is told to, frame by frame.
local async, test = require "rille.async", require "support.test"
local errors, net = require "rille.errors", require "rille.net"

local frames = require "stdlib.http.frames"

local M = { END_STREAM = frames.END_STREAM, ACK = frames.ACK, END_HEADERS = frames.END_HEADERS,
  be = frames.be, number = frames.number, frame = frames.frame, block = frames.block }
local PREFACE, be, number = frames.PREFACE, frames.be, frames.number

local Peer = {}
Peer.__index = Peer

function Peer:bytes(text)
  self.stream:write(text)
  return self
end

function Peer:send(...) return self:bytes(M.frame(...)) end

--- A list of numbers { id, value, ... }.
function Peer:settings(list) return self:send("SETTINGS", 0, 0, frames.settings(list)) end

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
  local f = frames.parse(head, payload)
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
    local begun, preface = pcall(stream.read_exactly, stream, #PREFACE)
    -- The client may have gone already, or meanwhile.
    if not begun and errors.is(preface, "IncompleteReadError") then return end
    if preface ~= PREFACE then error "no client of HTTP/2" end
    if settings ~= false then peer:settings(settings or {}) end
    local ok, e = pcall(fn, peer)
    if not ok and not errors.is(e, "OSError") then error(e, 0) end
  end)
  test.defer(function()
    listener:close(0)
    async.wait { server }
  end)
  return "http://127.0.0.1:" .. listener:address().port, function() return connections end
end

return M
