--- Starting other processes. What a child is to be is checked here; bindings/process_spawn.cpp
-- starts it on a thread, and bindings/process_child.cpp takes note of its end.
local binding = require "rille.core.child"
local signals = require "rille.core.signal"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local main = require "rille.core.main"
local xpcall = require("rille.core.protect").xpcall
local stream_binding = require "rille.core.stream"
require "rille.net.stream" -- a child's pipes are streams

local keep_trace, rethrow = task.keep_trace, task.rethrow
local type, tostring, pairs, ipairs, setmetatable, getmetatable, error, find =
  type, tostring, pairs, ipairs, setmetatable, getmetatable, error, string.find

for _, fn in pairs(binding) do core.transparent[fn] = true end

local M = {}

-- ---- arguments ----------------------------------------------------------------------------------

local function got(value) return value == nil and "nil" or type(value) end

--- A string, or a number as one, that the system can be given.
function M.text_argument(value, position, name)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then
    check.bad(position, name, "string expected, got " .. got(value))
  end
  if find(value, "\0", 1, true) then check.bad(position, name, "it contains a NUL byte") end
  return value
end
local text_argument = M.text_argument

--- A signal's number; SIGTERM for nil.
function M.signal_argument(value, position, name)
  if value == nil then value = "SIGTERM" end
  if type(value) ~= "string" and type(value) ~= "number" then
    check.bad(position, name, "name of a signal expected, got " .. type(value))
  end
  local number = signals.number(value)
  if not number then
    check.bad(position, name, ("there is no signal '%s'"):format(tostring(value)))
  end
  return number
end

local function arguments_of(spec, name)
  local args, n = {}, 0
  for key in pairs(spec) do
    if type(key) == "number" then n = n + 1 end
  end
  if n == 0 then check.bad(1, name, "a command expected as the table's first element") end
  for i = 1, n do
    if spec[i] == nil then check.bad(i, name, "string expected, got nil") end
    args[i] = text_argument(spec[i], i, name)
  end
  return args
end

-- Gives the entries "name=value", and the PATH among them.
local function environment_of(env, name)
  if env == nil then return nil, nil end
  check.table(env, "env", name)
  local list, path = {}, nil
  for key, value in pairs(env) do
    if type(key) ~= "string" or key == "" or find(key, "[=%z]") then
      check.bad("env", name, ("'%s' is no name of a variable"):format(tostring(key)))
    end
    if type(value) ~= "string" and type(value) ~= "number" then
      check.bad("env", name, ("string expected for '%s', got %s"):format(key, type(value)))
    end
    value = text_argument(value, "env", name)
    list[#list + 1] = key .. "=" .. value
    if key == "PATH" then path = value end
  end
  return list, path
end

local WORDS = { inherit = true, pipe = true, null = true }

-- What a closed stream, or one that only TLS can read, is good for.
local function descriptor_of_stream(stream, key, name)
  local number, has_input = binding.descriptor(stream, true)
  if stream:is_closed() then
    errors._raise("InvalidStateError", ("%s: the stream for %s is closed"):format(name, key))
  elseif not number then
    check.bad(key, name, "a child cannot be given this stream")
  elseif has_input and key == "stdin" then
    errors._raise("InvalidStateError",
      ("%s: what was already read from the stream for stdin would be lost"):format(name))
  end
  return number
end

local function is_file(value)
  local meta = getmetatable(value)
  return type(value) == "table" and type(meta) == "table" and meta.__name == "File"
end

local function check_open(file, key, name)
  if not file._closed then return end
  errors._raise("InvalidStateError", ("%s: the file '%s' for %s is closed"):format(name,
    tostring(file.path), key))
end

-- The child goes on at the place where the file stands. That waits: numbers of descriptors, which
-- may be others' by then, come after it.
local function settle_file(file, key, name)
  check_open(file, key, name)
  file:flush()
  if file:stat().type == "file" then file:seek() end
end

local function descriptor_of_file(file, key, name)
  check_open(file, key, name)
  return require("rille.core.file").descriptor(file._handle)
end

-- What the binding is told about a stream.
local function stream_of(value, key, name)
  if type(value) == "string" then
    if WORDS[value] or key == "stderr" and value == "stdout" then return value end
    check.bad(key, name, ("there is no '%s'; there are: 'inherit', 'null', 'pipe'%s"):format(value,
      key == "stderr" and ", 'stdout'" or ""))
  end
  local meta = getmetatable(value)
  if type(value) == "userdata" and meta == stream_binding.metatable then
    return descriptor_of_stream(value, key, name)
  elseif is_file(value) then
    return descriptor_of_file(value, key, name)
  end
  check.bad(key, name, "'inherit', 'pipe', 'null', a File or a Stream expected, got " .. got(value))
end

local KNOWN = { cwd = true, env = true, stdin = true, stdout = true, stderr = true,
  detached = true, group = true }
M.KNOWN = KNOWN

--- Starts what `spec` says with the streams that the binding's words in `streams` stand for, or
-- else with those of `spec`; `extra` there is a variable besides, "NAME=value". Returns child, pid,
-- stdin, stdout, stderr.
---@async
function M.start(spec, streams, flags, name)
  local args = arguments_of(spec, name)
  local env, path = environment_of(spec.env, name)
  local cwd = spec.cwd
  if cwd ~= nil then cwd = text_argument(cwd, "cwd", name) end
  if spec.detached then flags = flags .. "s" end
  if spec.group then flags = flags .. "g" end
  for _, key in ipairs { "stdin", "stdout", "stderr" } do
    local value = not streams[key] and spec[key]
    if is_file(value) then settle_file(value, key, name) end
  end
  local function stream(key)
    return streams[key] or spec[key] == nil and "inherit" or stream_of(spec[key], key, name)
  end
  return binding.spawn(args, env, path, cwd, flags, stream "stdin", stream "stdout",
    stream "stderr", streams.extra)
end

--- The options of a call, without the command and its arguments.
function M.check_options(spec, known, name)
  check.table(spec, 1, name)
  local options = {}
  for key, value in pairs(spec) do
    if type(key) ~= "number" then options[key] = value end
  end
  check.options(options, known, 1, name)
end

main.at_end(binding.finish_launching)

-- ---- Process ------------------------------------------------------------------------------------

---@class rille.process.Status
---@field code? integer  nil if a signal has ended it
---@field signal? string  the signal's name, or nil
---@field ok boolean  true for code 0

---@class Process
---@field pid integer
---@field stdin? Stream  to write to, if it was spawned with stdin="pipe"
---@field stdout? Stream  to read from, likewise
---@field stderr? Stream
local Process = {}
local ProcessMeta = { __index = Process, __name = "Process" }

ProcessMeta.__tostring = function(self) return ("Process: %d"):format(self.pid) end

local function check_self(self, name)
  if type(self) ~= "table" or getmetatable(self) ~= ProcessMeta then
    check.bad(1, name, "Process expected, got " .. got(self))
  end
end

--- Waits for the end, also in several tasks at once, and after it.
---@async
---@return rille.process.Status
-- Errors: Cancelled; the process goes on, and so do the waits of others.
function Process:wait()
  check_self(self, "wait")
  local status = self._child:wait()
  return status
end

local KILL_OPTIONS = { group = true }

---@class rille.process.KillOptions
---@field group? boolean  to all in its group, which it must have been spawned with

--- Sends a signal.
---@param signal? string|integer  "SIGTERM" by default
---@param options? rille.process.KillOptions
---@return boolean  false if it has ended
-- Errors: OSError with EPERM.
function Process:kill(signal, options)
  check_self(self, "kill")
  local number = M.signal_argument(signal, 1, "kill")
  options = check.options(options, KILL_OPTIONS, 2, "kill")
  if options.group and not self._leads then
    check.bad("group", "kill", "the process was spawned without a group of its own")
  end
  local err, was_there = self._child:kill(number, options.group and true or false)
  if err ~= nil then error(err, 0) end
  return was_there
end

-- Members of a group whose parents have died before are buried by the system, a moment later.
local MOST_ROUNDS = 8

local function bury(child, pid, group)
  child:kill(9, group)
  child:wait()
  child:release()
  if not group then return end
  local pause = 0.001
  for _ = 1, MOST_ROUNDS do
    if binding.reap_group(pid) then return end
    core.sleep(pause)
    pause = pause * 2
  end
end

--- Kills a child and its group, if that is its own, and waits until they are gone.
function M.put_down(child, pid, group)
  if group then binding.adopt(true) end
  local ok, e = xpcall(bury, keep_trace, child, pid, group)
  if group then binding.adopt(false) end
  if not ok then rethrow(e) end
end

--- Ends the process and what there is of it: closes its pipes, kills it (and its group, if it was
-- spawned with one), waits. A second time does nothing. async.with calls it.
---@async
function Process:close()
  check_self(self, "close")
  for _, name in ipairs { "stdin", "stdout", "stderr" } do
    if self[name] then self[name]:close() end
  end
  if not self._child:has_ended() then M.put_down(self._child, self.pid, self._leads) end
end

report.describe(Process.wait, function(self) return ("process %d"):format(self.pid) end)

---@class rille.process.SpawnOptions
---@field [integer] string|number  the command and its arguments
---@field cwd? string  its working folder
---@field env? table<string, string>  in place of the environment
---@field stdin? "inherit"|"pipe"|"null"|File|Stream  "inherit" by default
---@field stdout? "inherit"|"pipe"|"null"|File|Stream  "inherit" by default
---@field stderr? "inherit"|"pipe"|"null"|"stdout"|File|Stream  "inherit" by default
---@field detached? boolean  in a session of its own
---@field group? boolean  in a process group of its own

--- Starts a process: `spawn { "ls", "-l", cwd = "/tmp", stdout = "pipe" }`. The program is looked
-- for in the PATH the child gets, unless its name contains a slash; then, and for what is relative
-- in PATH, it is the child's folder that counts. The child has the default signal dispositions and
-- no descriptors but 0, 1 and 2. Dropping the Process does not end it.
---@async
---@param spec rille.process.SpawnOptions
---@return Process
-- Errors: OSError with ENOENT, EACCES and others, whose `path` is the command or the `cwd`;
-- Cancelled: what was started meanwhile is killed.
-- Source: Python's asyncio.create_subprocess_exec.
function M.spawn(spec)
  M.check_options(spec, KNOWN, "spawn")
  local child, pid, stdin, stdout, stderr = M.start(spec, {}, "", "spawn")
  return setmetatable({
    pid = pid, stdin = stdin, stdout = stdout, stderr = stderr, _child = child,
    _leads = (spec.detached or spec.group) and true or false,
  }, ProcessMeta)
end

return M
