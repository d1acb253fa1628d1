--- Pools of processes: for what may crash, what blocks in C for long, and what has to be stopped
-- whatever it is doing. A process has one job at a time; one that dies fails that job alone.
--
-- A process is not trusted to be well: what comes from it may be anything, for a job may have
-- written over memory, or into the connection.
local core = require "rille.core.worker"
local socket = require "rille.core.worker_socket"
local frames = require "rille.core.worker_frames"
local codec = require "rille.core.worker_codec"
local scheduler = require "rille.core.scheduler"
local program = require "rille.core.program"
local binding = require "rille.core.child"
local task = require "rille.core.task"
local errors = require "rille.errors"
local report = require "rille.core.report"
local Semaphore = require("rille.async").Semaphore
local move_on_after = require("rille.async").move_on_after
local debug_state = require "rille.core.debug_state"
require "rille.net.stream"

local check_wait = scheduler.check_wait
local modules = codec.package
local read, write, pack, unpack_values = frames.read, frames.write, frames.pack, frames.unpack
local protected = task.protected
local shielded = require("rille.async.cleanup").shielded
local pairs, setmetatable, find, sub, tonumber, floor = pairs, setmetatable, string.find,
  string.sub, tonumber, math.floor

local CODE = "require 'rille.core.worker_child' ()"
local PATIENCE = 5 -- seconds that a process has to end when its connection has
local SIGKILL = 9

-- ---- one process --------------------------------------------------------------------------------

local Process = {}
Process.__index = Process

-- The operations on channels that a process has under way are tasks here.
local function spawn(fn)
  return task.spawn_internal(fn, { vars = false, run = { outer = false } })
end

local function start_process()
  local stream, descriptor = socket.pair()
  local args = { program.executable, "-e", CODE }
  if debug_state.on then table.insert(args, 2, "--debug") end
  -- A group of its own: a terminal's SIGINT is not for it, and what it starts is killed with it.
  local ok, child = protected(binding.spawn, args, nil, nil, nil, "g", descriptor, "inherit",
    "inherit")
  socket.release(descriptor)
  if not ok then
    stream:close()
    task.rethrow(child)
  end
  return setmetatable({ stream = stream, child = child, channels = {}, numbers = {}, count = 0,
    operations = {}, jobs = 0 }, Process)
end

--- Ends it at once, with all that it has started. Who asks for the end gets to know of it.
function Process:kill()
  self.dead = true
  for _, operation in pairs(self.operations) do operation.task:cancel() end
  self.child:kill(SIGKILL, true)
  self.stream:abort()
end

--- Tells it to end.
function Process:stop()
  self.dead = true
  self.stream:close()
end

function Process:is_usable() return not self.dead and not self.child:has_ended() end

-- The number under which the process knows a channel.
local function numbering(self)
  return function(channel)
    local number = self.numbers[channel]
    if not number then
      number = self.count + 1
      self.count = number
      self.numbers[channel], self.channels[number] = number, channel
    end
    return number
  end
end

local function channels_of(self)
  return function(number) return self.channels[number] end
end

-- What the process asks for; each gives the kind and the text of the answer, and what was taken for
-- it.
local operations = {}

function operations:S(channel, text)
  local ok, e = protected(channel.send, channel, (unpack_values(text, channels_of(self))))
  if ok then return "K", "" end
  if errors.is(e, "InvalidStateError") then return "E", e.message end
  task.rethrow(e)
end

function operations:R(channel)
  local state, value = core.receive(channel)
  if not state then return "K", "" end
  if state ~= true then value = codec.unpack(state) end
  return "V", pack("value", numbering(self), value), value
end

function operations:C(channel)
  channel:close()
  return "K", ""
end

function operations:N(channel) return "K", tostring(channel:size()) end

local function cancel(self, number)
  local operation = self.operations[number]
  if not operation then return end
  operation.task:cancel()
  if not operation.begun then
    self.operations[number] = nil
    write(self.stream, "K", number, "")
  end
end

local function operate(self, kind, number, text)
  local channel, rest = text:match "^(%d+);(.*)$"
  channel = self.channels[tonumber(channel)]
  if not operations[kind] or not channel or self.operations[number] then frames.fail() end
  local operation = {}
  self.operations[number] = operation
  operation.task = spawn(function()
    operation.begun = true
    local ok, answer, result, taken = protected(operations[kind], self, channel, rest)
    self.operations[number] = nil
    -- One that was cancelled is answered too: the process counts its answers.
    local written = not self.dead
      and shielded(write, self.stream, ok and answer or "K", number, ok and result or "")
    if not written and ok and answer == "V" then core.give_back(channel, taken) end
  end)
end

-- Forgets the channels that the process does not have any more: their numbers stand before its
-- answer, which is returned.
local function drop_channels(self, text)
  local bar = find(text, "|", 1, true)
  if not bar then frames.fail() end
  for number in sub(text, 1, bar - 1):gmatch "%d+" do
    number = tonumber(number)
    local channel = self.channels[number]
    if channel then self.numbers[channel], self.channels[number] = nil, nil end
  end
  return sub(text, bar + 1)
end

--- Sends a job and sees to what it asks for until its answer is there: 1 or 0, and the text.
---@async
function Process:perform(initializer, paths, call)
  if initializer and self.jobs == 0 then
    write(self.stream, "I", 0, frames.number(initializer, numbering(self)))
  end
  self.jobs = self.jobs + 1
  if paths ~= self.paths then
    self.paths = paths
    write(self.stream, "P", 0, pack("value", numbering(self), paths[1], paths[2]))
  end
  write(self.stream, "J", 0, call)
  while true do
    local kind, number, text = read(self.stream)
    if kind == "A" then
      report.lost = report.lost + floor(number / 2)
      return number % 2, drop_channels(self, text)
    end
    if kind == "X" then
      cancel(self, number)
    elseif kind == "B" then
      local channel = self.channels[number]
      if not channel then frames.fail() end
      core.give_back(channel, (unpack_values(text, channels_of(self))))
    else
      operate(self, kind, number, text)
    end
  end
end

-- Its status once it has ended; nil if that takes too long.
function Process:wait()
  local in_time, status = move_on_after(PATIENCE, function() return self.child:wait() end)
  return in_time and status or nil
end

-- Why there is no answer.
function Process:fault(e)
  local status = self:wait()
  if not status then return e end
  local how = status.signal and "was ended by " .. status.signal
    or "has ended with status " .. tostring(status.code)
  return errors.new("WorkerError", "the worker's process " .. how,
    { code = status.code, signal = status.signal })
end

-- ---- the pool -----------------------------------------------------------------------------------

local Processes = {}
Processes.__index = Processes

-- An idle process, or a new one.
local function take(self)
  local idle = self._idle
  while idle[1] do
    local process = table.remove(idle)
    if process:is_usable() then return process end
    process:kill()
    self._all[process] = nil
  end
  for process in pairs(self._all) do
    if process.dead and process.child:has_ended() then self._all[process] = nil end
  end
  local process = start_process()
  self._all[process] = true
  return process
end

local function give_back(self, process)
  if process.dead then
    if not self._closing then self._all[process] = nil end
  elseif self._closing or process.jobs >= self._max_jobs then
    process:stop() -- and its end is waited for when the pool is closed
  else
    table.insert(self._idle, process)
  end
end

local function current_paths(self)
  local paths = self._paths
  if not paths or paths[1] ~= modules.path or paths[2] ~= modules.cpath then
    paths = { modules.path, modules.cpath }
    self._paths = paths
  end
  return paths
end

local function finish(self, process, ok, done, ...)
  local e = done -- unless it is ok
  if not ok and not errors.is(e, "CopyError") then
    -- A cancellation that comes while we look for the reason takes its place.
    if errors.is(e, "IncompleteReadError") or errors.is(e, "OSError") then
      e = select(2, protected(process.fault, process, e))
    end
    process:kill()
  end
  give_back(self, process)
  if not ok then task.rethrow(e) end
  if done == 1 then return ... end
  codec.rethrow(...)
end

-- With a place in the pool that is given back whatever happens.
local function work(self, ...)
  local process = take(self)
  return finish(self, process, protected(function(...)
    local done, text = process:perform(self._initializer, current_paths(self),
      pack("call", numbering(process), ...))
    return done, unpack_values(text, channels_of(process))
  end, ...))
end

local function release(self, ok, ...)
  self._places:release()
  if ok then return ... end
  task.rethrow((...))
end

function Processes:run(fn, ...)
  local err = check_wait()
  if err ~= nil then task.raise(err) end
  self._places:acquire()
  return release(self, protected(work, self, fn, ...))
end

function Processes:close()
  self._closing = true
  for _, process in ipairs(self._idle) do process:stop() end
  self._idle = {}
  -- Who stands in the queue comes before.
  for _ = 1, self._size do self._places:acquire() end
  for process in pairs(self._all) do
    if not process:wait() then
      process:kill()
      process.child:wait()
    end
  end
  self._all = {}
end

report.describe(Processes.run, function(self)
  return ("a worker of a pool of %d processes"):format(self._size)
end)

return function(size, max_jobs, initializer)
  if not program.executable then
    errors._raise("WorkerError", "Pool: processes need a program that runs scripts, "
      .. "and this host has named none (Options::executable)")
  end
  if not socket.may_start() then
    errors._raise("PermissionError", "Pool: the processes of a pool have no sandbox, so a script "
      .. "that is in one cannot start them; threads (kind=\"thread\") may do what it may do itself",
      { code = "EACCES" })
  end
  return setmetatable({ _size = size, _places = Semaphore(size), _idle = {}, _all = {},
    _max_jobs = max_jobs or math.huge,
    _initializer = initializer and frames.encode("call", initializer) }, Processes)
end
