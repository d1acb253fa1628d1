--- A process of a pool: one job after another, until the pool closes the connection.
--
-- Channels are the pool's. Here stands something for them that asks for each operation and waits
-- for its answer; the connection is read only while somebody waits for one, so that a job in which
-- nothing can go on is found out.
local socket = require "rille.core.worker_socket"
local codec = require "rille.core.worker_codec"
local frames = require "rille.core.worker_frames"
local job = require "rille.core.worker_job"
local task = require "rille.core.task"
local errors = require "rille.errors"
local report = require "rille.core.report"
require "rille.async"
require "rille.net.stream"
require "rille.worker.channel"

local shielded = require("rille.async.cleanup").shielded
local protected = task.protected
local read, write, pack, unpack_values = frames.read, frames.write, frames.pack, frames.unpack

local stream
local operations, last_operation, waiting = {}, 0, 0
local answered = task.new_future() -- set when no operation is left

-- ---- channels -----------------------------------------------------------------------------------

---@class RemoteChannel
local Channel = {}
local meta = { __index = Channel, __name = "Channel", _is_channel = true }
local known = setmetatable({}, { __mode = "v" }) -- by number
local numbers = {} -- of those that the pool keeps for this process

local function channel_of(number)
  local channel = known[number]
  if not channel then
    channel = setmetatable({ _number = number }, meta)
    known[number], numbers[number] = channel, true
  end
  return channel
end

-- Takes note of those that nobody here has any more.
local function take_dropped()
  local dropped = {}
  for number in pairs(numbers) do
    if not known[number] then dropped[#dropped + 1] = number end
  end
  for _, number in ipairs(dropped) do numbers[number] = nil end
  return table.concat(dropped, ",")
end

local function number_of(channel)
  if type(channel) == "table" then return channel._number end
  errors._raise("CopyError", "cannot copy a Channel that was made in a worker's process: "
    .. "make it outside, and give it to the job")
end

local function settle(operation, kind, text)
  operations[operation.number] = nil
  waiting = waiting - 1
  if operation.dropped then
    -- It came too late: the value goes to somebody else.
    if kind == "V" then write(stream, "B", operation.channel, text) end
  else
    operation.answer:set_result(kind, text)
  end
  if waiting == 0 then answered:set_result() end
end

local reading = false

local function read_answers()
  while waiting > 0 do
    local kind, number, text = read(stream)
    settle(operations[number], kind, text)
  end
  reading = false
end

-- Asks for an operation and waits for its answer.
local function ask(kind, channel, text)
  last_operation = last_operation + 1
  local operation = { number = last_operation, channel = channel._number,
    answer = task.new_future() }
  operations[last_operation] = operation
  if waiting == 0 then answered = task.new_future() end
  waiting = waiting + 1
  if not reading then
    reading = true
    task.spawn_internal(read_answers, { vars = false, run = { outer = false } })
  end
  -- Also a write that is cancelled goes out whole.
  local written, e = protected(write, stream, kind, operation.number,
    ("%d;"):format(operation.channel) .. text)
  local err = written and task.join(operation.answer)
  if not written or err ~= nil and not operation.answer:done() then
    operation.dropped = true
    shielded(write, stream, "X", operation.number, "")
    if written then task.raise(err) end
    task.rethrow(e)
  end
  return operation.answer:result()
end

function Channel:send(value)
  local kind, text = ask("S", self, pack("value", number_of, value))
  if kind == "E" then errors._raise("InvalidStateError", text) end
end

function Channel:recv()
  local kind, text = ask("R", self, "")
  if kind == "V" then
    local value = unpack_values(text, channel_of)
    return value
  end
  return nil
end

function Channel:close() ask("C", self, "") end

function Channel:size() return tonumber((select(2, ask("N", self, "")))) end

local function next_value(self)
  local value = self:recv()
  return value
end

function Channel:iter() return next_value, self end

report.describe(Channel.send, function() return "a place in a channel" end)
report.describe(Channel.recv, function() return "a value of a channel" end)

-- ---- jobs ---------------------------------------------------------------------------------------

local call
local initializer, initialize -- as it came, and the function

local function start(fn, ...) return fn(...) end

local function body()
  if initializer then
    initialize = initialize or unpack_values(initializer, channel_of)
    initialize()
    initializer, initialize = nil, nil
  end
  return start(unpack_values(call, channel_of))
end

local function never() return false end

local lost = 0

local function count_lost(n) lost = n end

local function answer(ok, ...)
  local text = take_dropped() .. "|" .. pack("results", number_of, ...)
  -- The answers to what was given up are still to come.
  while waiting > 0 do task.join_shielded(answered) end
  io.stdout:flush()
  write(stream, "A", (ok and 1 or 0) + 2 * lost, text)
end

return function()
  stream = socket.adopt()
  while true do
    local ok, kind, _, text = protected(read, stream)
    if not ok then
      -- The pool is closed, or gone.
      if errors.is(kind, "IncompleteReadError") or errors.is(kind, "OSError") then return end
      task.rethrow(kind)
    end
    if kind == "P" then
      codec.package.path, codec.package.cpath = unpack_values(text, channel_of)
    elseif kind == "I" then
      initializer = text
    else
      call = text
      job.run(body, answer, never, count_lost)
    end
  end
end
