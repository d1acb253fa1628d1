--- What travels between interpreters: prepares bindings/worker_codec.cpp, and takes what it brings.
local core = require "rille.core.worker"
local errors = require "rille.errors"
local marks = require "rille.core.marks"
local task = require "rille.core.task"

local getmetatable, type, tostring, rawget = getmetatable, type, tostring, rawget
local raise_error = errors._raise

local sandbox = package.loaded["rille.core.sandbox"]

-- Scripts that are not trusted have a `package` of their own.
local M = { package = sandbox and sandbox.package or package }

local function load_module(name) return (sandbox and sandbox.require or require)(name) end

-- ---- integers of 64 bits ------------------------------------------------------------------------
-- FFI may be missing: literals and arithmetic make them too, and their text tells them apart.

local two32, two32u
local library -- what the parser opens for them: LuaJIT uses it at the end of the state too

local function load_constants()
  local loaded = package.loaded.ffi
  two32, two32u = loadstring "return 4294967296LL, 4294967296ULL" ()
  library = library or package.loaded.ffi
  package.loaded.ffi = loaded
end

local function make_signed(high, low)
  if not two32 then load_constants() end
  return high * two32 + low
end

local function make_unsigned(high, low)
  if not two32 then load_constants() end
  return high * two32u + low
end

local function is_signed(value)
  local text = tostring(value)
  if text:find "^%d+ULL$" then return false end
  if text:find "^%-?%d+LL$" then return true end
  return nil
end

-- ---- what cannot be copied ----------------------------------------------------------------------

local function describe(value)
  local meta = debug.getmetatable(value)
  local name = type(meta) == "table" and rawget(meta, "__name")
  if type(name) == "string" then
    name = name:gsub("^rille%.", "")
    return ("%s %s"):format(name:find "^[AEIOUaeiou]" and "an" or "a", name)
  elseif type(value) == "table" then
    return "a table with a metatable"
  elseif io.type(value) then
    return "a file of io"
  end
  return "a " .. type(value)
end

local function raise(path, what, value)
  raise_error("CopyError", ("cannot copy %s: %s"):format(path, what or describe(value)),
    { path = path })
end

core.setup {
  error = getmetatable(errors.new("Error", "")), cancelled = errors._Cancelled,
  group = getmetatable(errors._group {}), array = marks.ARRAY, object = marks.OBJECT,
  marks = marks.own, is_signed = is_signed, make_signed = make_signed,
  make_unsigned = make_unsigned, raise = raise, tostring = tostring,
  loaded = M.package.loaded, is_sandbox = sandbox ~= nil, globals = M.package.loaded._G,
}

-- ---- modules ------------------------------------------------------------------------------------

--- Loads the modules that a message needs: { name, place, name, place … }.
---@async
function M.load(list)
  for i = 1, #list, 2 do
    local name = list[i]
    if M.package.loaded[name] == nil then
      local ok, e = task.protected(load_module, name)
      if not ok then
        if not errors.is_error(e) then e = errors.new("Error", tostring(e)) end
        errors._raise("WorkerError",
          ("%s: module '%s' cannot be loaded here: %s"):format(list[i + 1], name, e.message),
          { cause = e })
      end
    end
  end
end

--- The values of a packet, whose modules are loaded first.
---@async
function M.unpack(packet)
  M.load(packet:modules())
  return packet:values()
end

--- Raises the error of a job as that of the task that waited for it.
function M.rethrow(e, trace)
  trace = errors._trace(("where %s waited for a worker:"):format(task.current():name()), trace)
  if e == nil then e = errors.new("Error", "nil") end
  if errors.is_error(e) then
    e._trace = trace
  else
    task.extra(task.current()).rethrown = { value = e, trace = trace }
  end
  task.rethrow(e)
end

return M
