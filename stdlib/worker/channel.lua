--- Channels: values from task to task, between all threads and processes that hold them.
local core = require "rille.core.worker"
local codec = require "rille.core.worker_codec"
local check = require "rille.core.check"
local report = require "rille.core.report"

local send, receive, close = core.send, core.receive, core.close
local type, getmetatable = type, debug.getmetatable

---@class Channel
local Channel = {}
local meta = core.channel_meta
meta.__index = Channel
meta.__name = "Channel"
meta.__tostring = function(self)
  return ("Channel: %s, %d inside"):format(core.is_closed(self) and "closed" or "open",
    core.size(self))
end

local function check_self(self, name)
  if getmetatable(self) ~= meta then
    check.bad(1, name, "Channel expected, got " .. (self == nil and "nil" or type(self)))
  end
end

--- Sends a copy of `value`, waiting while the channel is full.
---@async
---@param value any  what worker.run can copy, Channels included
-- Errors: InvalidStateError once the channel is closed; CopyError; Cancelled, and then the value
-- was not sent.
function Channel:send(value)
  check_self(self, "send")
  local _ = send(self, value) -- no tail call: who waits is looked up on the stack
end

--- Takes the next value, waiting until there is one.
---@async
---@return any  nil once the channel is closed and empty
-- Errors: Cancelled, and then no value is lost.
function Channel:recv()
  check_self(self, "recv")
  local state, value = receive(self)
  if state == true then return value end
  if not state then return nil end
  value = codec.unpack(state)
  return value
end

--- Ends the channel: what is in it can still be taken. Those that wait to send are woken with
-- InvalidStateError, those that wait for a value get nil. Twice is nothing.
function Channel:close()
  check_self(self, "close")
  close(self)
end

--- How many values are in it.
---@return integer
function Channel:size()
  check_self(self, "size")
  return core.size(self)
end

local function next_value(self)
  local value = self:recv()
  return value
end

--- `for value in channel:iter() do`: takes values until the channel is closed and empty, or until a
-- nil.
---@async
---@return fun(): any
function Channel:iter() return next_value, self end

report.describe(Channel.send, function() return "a place in a channel" end)
report.describe(Channel.recv, function() return "a value of a channel" end)

--- Makes a channel, which can be sent to workers, and through channels. It belongs to all that hold
-- it: if a worker ends, it stays as it is for the others, and nobody is told. In the jobs of a
-- process channels are used that the program has made. To wait for several, receive from each in a
-- task of its own and see which is the first (`async.wait`): those that are cancelled lose nothing.
---@param capacity? integer  how many values it holds before `send` waits; nil: any number; 0: each
-- `send` waits for a receiver
---@return Channel
-- Source: Go's channels.
return function(capacity)
  if capacity ~= nil then capacity = check.count(capacity, 0, 1, "Channel") end
  return core.channel(capacity)
end
