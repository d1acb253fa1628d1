--- Error objects: what operations raise. Any Lua value may be raised with `error`; these add a kind
-- to tell errors apart by, a traceback that goes across tasks, and a cause.
--
-- Kinds that Rille raises: "Cancelled", "CancelledError", "TimeoutError", "InvalidStateError",
-- "DeadlockError", "ErrorGroup"; "QueueEmpty", "QueueFull", "QueueShutDown", "BrokenBarrierError";
-- "OSError" of the system, "PermissionError" in a sandbox; "ProcessError", "WorkerError",
-- "CopyError"; "IncompleteReadError", "LimitOverrunError", "TLSError"; "HTTPError",
-- "WebSocketError", "JSONError"; "CircuitOpenError". Scripts and modules may have others.

---@class Error
---@field kind string  what to tell it by: "OSError", "TimeoutError", "Cancelled" ...
---@field message string  `tostring(err)` is "<kind>: <message>"
---@field traceback string  where it was raised, and where each task on the way waited
---@field cause any  the error that came before, where a clean-up or a handler raised this one
---@field code? string  of an OSError: "ENOENT"; of a TLSError: OpenSSL's name
---@field errno? integer  the system's number for it
---@field syscall? string  what was called, by libuv's name: "open", "connect", "getaddrinfo"
---@field path? string  what it was called with; `dest`: the second path
---@field address? string  what it was called with, "127.0.0.1:80"
---@field reason? any  of a cancellation: what `cancel` was given
---@field by? Task  of a cancellation: the task that asked for it
---@field at? string  of a cancellation: where it was asked for, "file:line"
---@field errors? Error[]  of an ErrorGroup: all that failed

---@class rille.errors
local errors = {}

local traceback, rawget, setmetatable, getmetatable = debug.traceback, rawget, setmetatable,
  getmetatable

-- A trace is a chain: where an error was raised, and where each task on its way waited.
-- { stack = text of debug.traceback, note = heading, inner = the trace before it }

-- Frames of the runtime's own machinery say nothing to the reader of a traceback.
local function clean(stack)
  local lines = {}
  for line in stack:gmatch "[^\n]+" do
    if line:sub(1, 1) == "\t" and not line:find("\trille/core/", 1, true)
      and not line:find("\trille/errors.lua:", 1, true)
      and not line:find("^%s*%[C%]: in function 'x?pcall'") then
      lines[#lines + 1] = line
    end
  end
  while lines[#lines] and lines[#lines]:find("^%s*%[C%]: at 0x") do lines[#lines] = nil end
  return table.concat(lines, "\n")
end

local function render(trace)
  local parts = {}
  while trace do
    table.insert(parts, 1, (trace.note or "stack traceback:") .. "\n" .. clean(trace.stack))
    trace = trace.inner
  end
  return table.concat(parts, "\n")
end
errors._render = render

-- One error object raised in task after task would carry all of their stacks.
local LONGEST_TRACE = 50

--- Where the running task stands, as a trace.
function errors._trace(note, inner)
  local depth = inner and inner.depth or 0
  if depth >= LONGEST_TRACE then return inner end
  return { stack = traceback("", 2), note = note, inner = inner, depth = depth + 1 }
end

-- The text is made when somebody asks for it: most errors are caught and forgotten.
local function index(methods)
  return function(self, key)
    if key == "traceback" then
      local trace = rawget(self, "_trace")
      return trace and render(trace) or ""
    end
    return methods[key]
  end
end

local function to_string(self)
  return tostring(rawget(self, "kind")) .. ": " .. tostring(rawget(self, "message"))
end

local Error = { __index = index {}, __tostring = to_string, __name = "Error" }
local Cancelled = { __index = index {}, __tostring = to_string, __name = "Cancelled" }
---@class ErrorGroup: Error
local ErrorGroup = {}
local ErrorGroupMeta = {
  __index = index(ErrorGroup), __tostring = to_string, __name = "ErrorGroup",
}
errors._Cancelled = Cancelled

local OURS = { [Error] = true, [Cancelled] = true, [ErrorGroupMeta] = true }

--- True if `value` is an error object of that kind; any value may be asked about.
---@param value any
---@param kind string
---@return boolean
function errors.is(value, kind)
  if type(kind) ~= "string" then
    error(("bad argument #2 to 'is' (string expected, got %s)"):format(
      kind == nil and "nil" or type(kind)), 2)
  end
  return type(value) == "table" and OURS[getmetatable(value)] == true
    and rawget(value, "kind") == kind
end

--- True if `value` is an error object.
---@param value any
---@return boolean
function errors.is_error(value)
  return type(value) == "table" and OURS[getmetatable(value)] == true
end

local function make(kind, message, fields)
  local e = {}
  if fields then
    for k, v in pairs(fields) do e[k] = v end
  end
  e.kind, e.message = kind, message
  e._trace = { stack = traceback("", 2) }
  return setmetatable(e, Error)
end

--- Makes an error object; raise it with `error(e, 0)`.
---@param kind string  what to tell it by, such as "TimeoutError"
---@param message string
---@param fields? table  copied into the object: `cause`, `code` and the like
---@return Error
function errors.new(kind, message, fields)
  if type(kind) ~= "string" then
    error(("bad argument #1 to 'new' (string expected, got %s)"):format(type(kind)), 2)
  end
  if type(message) ~= "string" and type(message) ~= "number" then
    error(("bad argument #2 to 'new' (string expected, got %s)"):format(
      message == nil and "nil" or type(message)), 2)
  end
  if fields ~= nil and type(fields) ~= "table" then
    error(("bad argument #3 to 'new' (table expected, got %s)"):format(type(fields)), 2)
  end
  return make(kind, tostring(message), fields)
end

--- Raises an error object of a kind.
function errors._raise(kind, message, fields) error(make(kind, message, fields), 0) end

--- The OSError of a failed system call.
---@package
-- Source: POSIX errno names; libuv's texts.
function errors.os_error(code, errno, text, syscall, path, dest, address)
  local message = text
  if syscall then
    message = text .. ": " .. syscall
    if path then message = message .. " '" .. path .. "'" end
    if dest then message = message .. " -> '" .. dest .. "'" end
    if address then message = message .. " " .. address end
  end
  return make("OSError", message, {
    code = code, errno = errno, syscall = syscall, path = path, dest = dest, address = address,
  })
end

--- A cancellation: who asked for it, where, and why.
function errors._cancelled(reason, by, at)
  local message = "cancelled"
  if reason ~= nil then message = tostring(reason) end
  return setmetatable({ kind = "Cancelled", message = message, reason = reason, by = by, at = at },
    Cancelled)
end

-- ---- groups of errors ---------------------------------------------------------------------------

local function describe(list)
  local parts = {}
  for i = 1, math.min(#list, 5) do parts[i] = tostring(list[i]) end
  if #list > 5 then parts[6] = "..." end
  return ("%d error%s (%s)"):format(#list, #list == 1 and "" or "s", table.concat(parts, "; "))
end

--- Makes an ErrorGroup of a list of errors.
-- Source: Python's ExceptionGroup.
function errors._group(list)
  return setmetatable({
    kind = "ErrorGroup", message = describe(list), errors = list,
    _trace = { stack = traceback("", 2) },
  }, ErrorGroupMeta)
end

local function matcher(what, name)
  if type(what) == "string" then
    return function(e) return errors.is(e, what) end
  elseif type(what) == "function" then
    return what
  end
  error(("bad argument #1 to '%s' (string or function expected, got %s)"):format(name, type(what)),
    3)
end

local function derive(group, list)
  if #list == 0 then return nil end
  local g = errors._group(list)
  g._trace = group._trace
  g.cause = rawget(group, "cause")
  return g
end

local function split(group, match)
  if match(group) then return group, nil end
  local yes, no = {}, {}
  for _, e in ipairs(group.errors) do
    if errors.is(e, "ErrorGroup") then
      local a, b = split(e, match)
      yes[#yes + 1], no[#no + 1] = a, b
    elseif match(e) then
      yes[#yes + 1] = e
    else
      no[#no + 1] = e
    end
  end
  if #no == 0 then return group, nil end
  if #yes == 0 then return nil, group end
  return derive(group, yes), derive(group, no)
end

--- Parts a group by kind or predicate; groups inside it are parted too and keep their shape.
---@param what string|function  a kind, or a function that says whether an error matches
---@return ErrorGroup? matching
---@return ErrorGroup? rest
-- Source: Python's ExceptionGroup.split.
function ErrorGroup:split(what) return split(self, matcher(what, "split")) end

--- The matching part alone, or nil.
---@param what string|function  as for `split`
---@return ErrorGroup?
function ErrorGroup:subgroup(what) return (split(self, matcher(what, "subgroup"))) end

return errors
