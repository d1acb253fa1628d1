--- Open WebSockets, a client's and a server's alike.
local binding = require "rille.core.websocket"
local async = require "rille.async"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local task = require "rille.core.task"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow

local type, setmetatable, rawget = type, setmetatable, rawget
local recv, send, state = binding.recv, binding.send, binding.state

local DEFAULTS = {
  max_message = 1048576, ping_interval = 20, ping_timeout = 20, close_timeout = 10,
}

---@class WebSocket
---@field subprotocol? string  the one that both have agreed on
---@field url string
---@field request? Request  on a server
---@field close_code? integer  in the end: the peer's (1005 none, 1006 cut off); ours for a fault
---@field close_reason? string
local WebSocket = {}

local meta = { __name = "WebSocket" }
meta.__index = function(self, key)
  local method = WebSocket[key]
  if method ~= nil then return method end
  if key == "close_code" or key == "close_reason" then
    local _, code, reason = state(rawget(self, "_socket"))
    if key == "close_code" then return code end
    return reason
  end
end
meta.__tostring = function(self)
  local code = self.close_code
  return ("WebSocket: %s%s"):format(self.url, code and (" (closed, %d)"):format(code) or "")
end

local function check_self(self, name)
  if type(self) ~= "table" or getmetatable(self) ~= meta then
    check.bad(1, name, "WebSocket expected, got " .. (self == nil and "nil" or type(self)))
  end
end

local function closed(self, name, cause)
  local code, reason = self.close_code, self.close_reason
  errors._raise("WebSocketError", code
    and ("%s: the WebSocket %s is closed: %d %s"):format(name, self.url, code, reason)
    or ("%s: the WebSocket %s is closing"):format(name, self.url),
    { code = code, reason = reason, cause = cause })
end

-- There is a lock only once a second task comes: the first one then holds it.
local function take_turn(self)
  local lock = rawget(self, "_lock")
  if not lock then
    local receiver = self._receiver
    if not receiver then
      self._receiver = task.current()
      return
    end
    lock = async.Lock()
    lock._owner = receiver
    self._lock = lock
  end
  lock:acquire()
end

--- The next message. Several tasks that receive take turns.
---@async
---@return string? data  nil at the end, however it came
---@return "text"|"binary"|nil kind
-- Errors: Cancelled; no message is lost then.
function WebSocket:recv()
  check_self(self, "recv")
  take_turn(self)
  local ok, data, is_binary = async.pcall(recv, self._socket)
  local lock = rawget(self, "_lock")
  if lock then
    lock:release()
  else
    self._receiver = false
  end
  if not ok then error(data, 0) end
  if data == nil then return nil end
  return data, is_binary and "binary" or "text"
end

report.describe(WebSocket.recv, function(self) return "a message on " .. self.url end)

local Messages = { __name = "Messages" }
Messages.__index = Messages

--- The next message and its kind; nil at the end.
---@async
function Messages:__call()
  local ws = self._ws
  if not ws then return nil end
  local data, kind = ws:recv()
  if data == nil then self._ws = false end
  return data, kind
end

--- Ends the iteration; the WebSocket stays open.
function Messages:close() self._ws = false end

--- An iterator over messages and their kinds, to the end.
---@async
---@return fun(): string?, string?  with `close()`
function WebSocket:messages()
  check_self(self, "messages")
  return setmetatable({ _ws = self }, Messages)
end

local function send_message(self, name, data, is_binary)
  check_self(self, name)
  if type(data) == "number" then data = tostring(data) end
  if type(data) ~= "string" then
    check.bad(1, name, "string expected, got " .. (data == nil and "nil" or type(data)))
  end
  if not is_binary and not binding.is_utf8(data) then
    check.bad(1, name, "text in UTF-8 expected; bytes go by send_binary")
  end
  local ok, e = xpcall(send, keep_trace, self._socket, data, is_binary)
  if ok then
    if e == false then closed(self, name) end
    return
  end
  -- It was closed, by whichever side, while this waited.
  if errors.is(e, "OSError") and state(self._socket) then closed(self, name, e) end
  rethrow(e)
end

--- Sends a text; waits while the peer is slow. Messages of several tasks do not interleave.
---@async
---@param text string  UTF-8
-- Errors: WebSocketError (`code`, `reason`) once it is closed; Cancelled, and the message goes out.
function WebSocket:send(text) send_message(self, "send", text, false) end

--- Sends bytes.
---@async
---@param data string
function WebSocket:send_binary(data) send_message(self, "send_binary", data, true) end

--- Asks whether the peer is there.
---@async
---@param data? string  up to 125 bytes
---@return number  seconds until the answer came
-- Errors: WebSocketError if the end came first.
function WebSocket:ping(data)
  check_self(self, "ping")
  if data == nil then data = binding.random(8) end
  data = check.string(data, 1, "ping")
  if #data > 125 then check.bad(1, "ping", ("at most 125 bytes expected, got %d"):format(#data)) end
  if state(self._socket) then closed(self, "ping") end
  local seconds = binding.ping(self._socket, data)
  if not seconds then closed(self, "ping") end
  return seconds
end

-- RFC 6455, section 7.4: what may stand in a frame.
local function may_send(code)
  if code >= 3000 and code <= 4999 then return true end
  return code >= 1000 and code <= 1014 and code ~= 1004 and code ~= 1005 and code ~= 1006
end

--- Closes it, and waits until the peer has answered, for `close_timeout` at most. Messages that
-- have not been received are dropped. A second time does nothing.
---@async
---@param code? integer  1000 by default
---@param reason? string  up to 123 bytes of UTF-8
function WebSocket:close(code, reason)
  check_self(self, "close")
  code = code == nil and 1000 or check.count(code, 0, 1, "close")
  if not may_send(code) then check.bad(1, "close", ("%d cannot be sent"):format(code)) end
  reason = reason == nil and "" or check.string(reason, 2, "close")
  if #reason > 123 then
    check.bad(2, "close", ("at most 123 bytes expected, got %d"):format(#reason))
  end
  if not binding.is_utf8(reason) then check.bad(2, "close", "text in UTF-8 expected") end
  binding.close(self._socket, code, reason)
  binding.wait_for_end(self._socket)
end

report.describe(WebSocket.close, function(self) return "the peer to close " .. self.url end)

local M = {}

local function limit(options, key, what, name)
  local value = options[key]
  if value == nil then return DEFAULTS[key] end
  if value == false or value == math.huge then return 0 end
  value = check.number(value, key, name)
  if value < 0 then check.bad(key, name, ("%s expected, got %g"):format(what, value)) end
  return value
end

--- Checks the options that both sides have: `max_message` and the times, of which 0 or false
-- switches one off.
---@return table  what `new` takes
function M.options(options, name)
  local close_timeout = limit(options, "close_timeout", "a time in seconds", name)
  -- There 0 means not to wait.
  if options.close_timeout == false or options.close_timeout == math.huge then
    close_timeout = nil
  end
  return {
    max_message = limit(options, "max_message", "a number of bytes", name),
    ping_interval = limit(options, "ping_interval", "a time in seconds", name),
    ping_timeout = limit(options, "ping_timeout", "a time in seconds", name),
    close_timeout = close_timeout,
  }
end

--- Makes one of a stream whose handshake is done.
---@param settings table  of M.options
---@param keeps_history? boolean  the peer compresses with a history over messages
function M.new(stream, early, is_server, deflates, settings, fields, keeps_history)
  fields._socket = binding.open(stream, early, is_server, deflates, settings.max_message,
    settings.ping_interval, settings.ping_timeout, settings.close_timeout, keeps_history)
  fields._receiver = false
  return setmetatable(fields, meta)
end

local BROADCAST = { binary = true, max_backlog = true }

---@class rille.websocket.BroadcastOptions
---@field binary? boolean  bytes in place of text; false by default
---@field max_backlog? integer  bytes; 1 MiB by default

--- Sends a message to all in a list, and never waits. Whoever has more than `max_backlog` bytes
-- still to take is closed with 1013, so that one slow peer does not hold up the others.
---@param list WebSocket[]
---@param data string
---@param options? rille.websocket.BroadcastOptions
---@return integer  how many it was sent to
function M.broadcast(list, data, options)
  check.table(list, 1, "broadcast")
  data = check.string(data, 2, "broadcast")
  options = check.options(options, BROADCAST, 3, "broadcast")
  local most = options.max_backlog == nil and 1048576
    or check.number(options.max_backlog, "max_backlog", "broadcast")
  if not options.binary and not binding.is_utf8(data) then
    check.bad(2, "broadcast", "text in UTF-8 expected; bytes need the option binary")
  end
  for i = 1, #list do check_self(list[i], "broadcast") end
  return binding.broadcast(list, data, options.binary and true or false, most)
end

--- Ends it without any handshake.
function M.cut_off(ws) binding.cut_off(ws._socket) end

--- Begins to close it, without waiting.
function M.begin_close(ws, code, reason) binding.close(ws._socket, code, reason) end

return M
