--- The globals of scripts that the host does not trust. The modules that come with Rille keep the
-- real ones; a script gets a table of its own with copies of what is harmless. What reaches outside
-- goes through the bindings, which ask for permission: see runtime/permissions.h.
local task = require "rille.core.task"
local errors = require "rille.errors"
local make_require = require "rille.core.require"

local G = _G
local trusted_require = require
local type, select, find, getinfo = type, select, string.find, debug.getinfo
local load, getfenv, setfenv, getmetatable = load, getfenv, setfenv, getmetatable
local pairs, setmetatable, rawget, rawset = pairs, setmetatable, rawget, rawset
local io_type, io_input, io_output = io.type, io.input, io.output
local raise = errors._raise

local M = {}

-- `needs`: the option that would grant it, if one does.
local function refuse(text, needs)
  raise("PermissionError", text, { code = "EACCES", needs = needs })
end

local function refused(name, why)
  return function() refuse(("%s is not available in a sandbox%s"):format(name, why or "")) end
end

local function copy(from, ...)
  local to = {}
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    to[name] = from[name]
  end
  return to
end

local function copy_all(from)
  local to = {}
  for name, value in pairs(from) do to[name] = value end
  return to
end

-- Fields of modules that scripts set.
local SETTINGS = { slow_callback_duration = true }

local function is_private(name) return type(name) == "string" and find(name, "^_") end

-- A module as scripts get it: what they write into its table, Rille's own modules do not see, and
-- what is private in it they do not see.
local function view_of(module)
  if type(module) ~= "table" then return module end
  local view = {}
  for name, value in pairs(module) do
    if not is_private(name) then view[name] = value end
  end
  if not getmetatable(module) then return view end
  -- Some load their parts when they are first used.
  return setmetatable(view, {
    __index = function(_, name)
      if is_private(name) then return nil end
      local value = module[name]
      if rawget(module, name) ~= nil then rawset(view, name, value) end
      return value
    end,
    __newindex = function(_, name, value)
      if SETTINGS[name] then
        module[name] = value
      else
        rawset(view, name, value)
      end
    end,
    __metatable = false,
  })
end

-- ---- code ---------------------------------------------------------------------------------------

-- Bytecode can do anything to the interpreter, so only text is loaded.
local function add_loading(env, read_text)
  local function is_text(mode)
    return mode == nil or type(mode) == "string" and find(mode, "t", 1, true)
  end

  function env.load(chunk, name, mode, ...)
    if not is_text(mode) then
      return nil, "bytecode is not available in a sandbox"
    end
    return load(chunk, name, "t", ...)
  end

  function env.loadstring(text, name)
    if type(text) == "number" then text = tostring(text) end
    if type(text) ~= "string" then
      error(("bad argument #1 to 'loadstring' (string expected, got %s)"):format(type(text)), 2)
    end
    return load(text, name or text, "t")
  end

  -- The first line may be one for a shell.
  local function compile(text, name)
    return load(text:gsub("^#[^\n]*", ""), "@" .. name, "t")
  end

  function env.loadfile(path, mode, ...)
    if type(path) ~= "string" then refuse "loadfile: standard input is not code in a sandbox" end
    if not is_text(mode) then return nil, "bytecode is not available in a sandbox" end
    local text, e = read_text(path)
    if not text then
      if type(e) ~= "string" then task.raise(e) end
      return nil, ("cannot open %s: %s"):format(path, e)
    end
    local fn, problem = compile(text, path)
    if fn and select("#", ...) > 0 then setfenv(fn, (...)) end
    return fn, problem
  end

  function env.dofile(path)
    local fn, problem = env.loadfile(path)
    if not fn then error(problem, 0) end
    return fn()
  end

  return compile
end

local function add_environments(env)
  -- What is not the script's own has globals that it must not see.
  local function is_own(fn) return getinfo(fn, "S").what ~= "C" and getfenv(fn) ~= G end

  local function function_at(what, name)
    if type(what) == "function" then return what end
    local level = what == nil and 1 or tonumber(what)
    if not level or level < 0 then
      error(("bad argument #1 to '%s' (function or level expected)"):format(name), 3)
    end
    if level == 0 then return nil end
    local info = getinfo(level + 2, "f")
    if not info then error(("bad argument #1 to '%s' (invalid level)"):format(name), 3) end
    return info.func
  end

  function env.getfenv(what)
    local fn = function_at(what, "getfenv")
    return fn and is_own(fn) and getfenv(fn) or env
  end

  function env.setfenv(what, t)
    local fn = function_at(what, "setfenv")
    if type(t) ~= "table" then
      error(("bad argument #2 to 'setfenv' (table expected, got %s)"):format(type(t)), 2)
    end
    if not fn or not is_own(fn) then
      error("'setfenv' cannot change environment of given object", 2)
    end
    return setfenv(fn, t)
  end
end

-- ---- modules ------------------------------------------------------------------------------------

local EXTRA = { ["table.new"] = true, ["table.clear"] = true }

-- These reach the machine's memory, or what belongs to others in the interpreter.
local FORBIDDEN = { ffi = true, debug = true, jit = true, ["string.buffer"] = true }

-- What is private to Rille can do harm with wrong arguments.
local function is_public(name)
  return name == "rille" or find(name, "^rille%.[%w_]+$") and name ~= "rille.core"
end

local function set_of(list)
  if #list == 0 then return nil end
  local set = { rille = true }
  for _, name in ipairs(list) do set[name] = true end
  if set["*"] then return nil end
  return set
end

local function add_package(env, list, read_text, compile)
  local allowed = set_of(list)
  local package = {
    loaded = { _G = env, rille = env.rille }, preload = {}, config = G.package.config,
    path = G.package.path, cpath = "", loadlib = refused "package.loadlib",
    seeall = function(module) return setmetatable(module, { __index = env }) end,
  }
  for _, name in ipairs { "string", "table", "math", "io", "os", "coroutine", "bit" } do
    package.loaded[name] = env[name]
  end
  package.loaded.package = package

  local function from_preload(name)
    return package.preload[name] or ("\n\tno field package.preload['%s']"):format(name)
  end

  local function check_granted(name)
    if allowed and not allowed[name] then
      refuse(("the module '%s' is not granted (modules \"%s\", --allow-module=%s)"):format(name,
        name, name), "--allow-module=" .. name)
    end
  end

  -- Scripts can call it by themselves, and change `package` while `require` looks into it.
  local function from_rille(name)
    name = tostring(name)
    if EXTRA[name] or is_public(name) then check_granted(name) end
    if EXTRA[name] then return function() return trusted_require(name) end end
    if FORBIDDEN[name] or find(name, "^jit%.") then
      refuse(("the module '%s' is not available in a sandbox"):format(name))
    end
    if name ~= "rille" and not find(name, "^rille%.") then return nil end
    if not is_public(name) then
      refuse(("the module '%s' is private to Rille and not available in a sandbox"):format(name))
    end
    return function() return view_of(trusted_require(name)) end
  end

  local function from_path(name)
    local messages, refusal = {}, nil
    for template in tostring(package.path):gmatch "[^;]+" do
      local path = template:gsub("%?", (name:gsub("%.", "/"):gsub("%%", "%%%%")))
      local text, e = read_text(path)
      if text then
        local fn, problem = compile(text, path)
        if not fn then
          error(("error loading module '%s' from file '%s':\n\t%s"):format(name, path, problem), 0)
        end
        return fn
      end
      if type(e) == "string" then
        messages[#messages + 1] = ("\n\tno file '%s'"):format(path)
      else
        refusal = refusal or e
      end
    end
    if refusal then
      refuse(("module '%s' not found where it may be looked for: %s"):format(name, refusal.message),
        refusal.needs)
    end
    return table.concat(messages)
  end

  package.loaders = { from_preload, from_rille, from_path }
  env.package = package
  local load_module = make_require(package)

  function env.require(name)
    if type(name) == "string" and package.loaded[name] == nil then check_granted(name) end
    return load_module(name)
  end
  M.require, M.package = env.require, package
end

-- ---- io and os ----------------------------------------------------------------------------------

local function add_io(env, open_file)
  local function open(path, mode, level)
    if type(path) ~= "string" then
      error(("bad argument #1 to 'open' (string expected, got %s)"):format(type(path)), level + 1)
    end
    mode = mode == nil and "r" or mode
    if type(mode) ~= "string" or not find(mode, "^[rwa]%+?b?$") then
      error("bad argument #2 to 'open' (invalid mode)", level + 1)
    end
    local file, e, code = open_file(path, mode)
    if file then return file end
    if type(e) ~= "string" then task.raise(e) end
    return nil, ("%s: %s"):format(path, e), code
  end

  local lib = copy(G.io, "read", "write", "close", "flush", "stdin", "stdout", "stderr", "type")
  function lib.open(path, mode) return open(path, mode, 2) end

  function lib.lines(path, ...)
    if path == nil then return G.io.lines(nil, ...) end
    local file, e = open(path, "r", 2)
    if not file then error(e, 2) end
    local formats, n = { ... }, select("#", ...)
    local function after(first, ...)
      if first == nil then file:close() end
      return first, ...
    end
    return function()
      if io_type(file) ~= "file" then error("file is already closed", 2) end
      return after(file:read(unpack(formats, 1, n)))
    end
  end

  local function set_default(set, mode)
    return function(file)
      if type(file) == "string" then
        local opened, e = open(file, mode, 2)
        if not opened then error(e, 2) end
        file = opened
      end
      if file == nil then return set() end
      return set(file)
    end
  end
  lib.input, lib.output = set_default(io_input, "r"), set_default(io_output, "w")
  lib.popen = refused("io.popen", ": use rille.process")
  lib.tmpfile = refused("io.tmpfile", ": use fs.mkstemp of rille.fs")
  env.io = lib
end

local function add_os(env, call)
  local lib = copy(G.os, "clock", "date", "difftime", "time")
  local function process() return trusted_require "rille.process" end

  function lib.getenv(name) return process().getenv(name) end

  local function result(path, ok, e, code)
    if ok then return true end
    if type(e) ~= "string" then task.raise(e) end
    return nil, ("%s: %s"):format(path, e), code
  end
  local function path_argument(value, position, name)
    if type(value) == "number" then value = tostring(value) end
    if type(value) ~= "string" then
      error(("bad argument #%d to '%s' (string expected, got %s)"):format(position, name,
        type(value)), 3)
    end
    return value
  end
  function lib.remove(path)
    path = path_argument(path, 1, "remove")
    return result(path, call("remove", path))
  end
  function lib.rename(from, to)
    from, to = path_argument(from, 1, "rename"), path_argument(to, 2, "rename")
    return result(from, call("rename", from, to))
  end
  function lib.exit(code)
    if code == nil or code == true then code = 0 end
    if code == false then code = 1 end
    return process().exit(code)
  end
  lib.execute = refused("os.execute", ": use rille.process")
  lib.tmpname = refused("os.tmpname", ": use fs.mkstemp of rille.fs")
  lib.setlocale = refused "os.setlocale"
  env.os = lib
end

local IS_TEXT = { string = true, number = true }

-- What calls a script's functions from C may be called by them again and again.
local function bound_recursion(env, check_stack)
  local gsub = env.string.gsub
  trusted_require("rille.core.coroutine").bound(check_stack)

  local function bad(position, expected)
    error(("bad argument #%d to 'gsub' (%s expected)"):format(position, expected), 3)
  end

  -- No tail call has the name of what was called: so its errors are found before.
  function env.string.gsub(text, pattern, replacement, most)
    local kind = type(replacement)
    if not IS_TEXT[type(text)] then bad(1, "string") end
    if not IS_TEXT[type(pattern)] then bad(2, "string") end
    if kind == "function" or kind == "table" then
      check_stack()
    elseif not IS_TEXT[kind] then
      bad(3, "string/function/table")
    end
    return gsub(text, pattern, replacement, most)
  end
end

-- The metatable of files is the table of their methods as well: a script would get at their
-- finalizer, which nothing stops while it runs.
local function part_methods_of_files()
  local meta = getmetatable(G.io.stdout)
  local methods = {}
  for name, method in pairs(meta.__index) do
    if not find(name, "^__") then methods[name] = method end
  end
  meta.__index = methods
end

-- What has a name like Rille's own is no file of the script's making.
local function look_for_no_files()
  local loaders = G.package.loaders
  for i = #loaders, 3, -1 do loaders[i] = nil end
end

-- ---- all of it ----------------------------------------------------------------------------------

--- Makes the globals of scripts.
---@param modules string[]  may be required; empty: all
---@param read_text function  (path) -> text, or nil and a text or an error object
---@param open_file function  (path, mode) -> file, likewise
---@param call function  ("remove", path) or ("rename", from, to) -> true, likewise
---@param check_stack function  () -> nothing, or an error when the thread's stack is at its end
---@return table
function M.make(modules, read_text, open_file, call, check_stack)
  local env = copy(G, "_VERSION", "assert", "collectgarbage", "error", "gcinfo", "ipairs", "next",
    "pairs", "pcall", "rawequal", "rawget", "rawset", "rawlen", "select", "setmetatable",
    "tonumber", "tostring", "type", "unpack", "xpcall", "arg")
  env._G = env
  env.rille = copy_all(G.rille)
  part_methods_of_files()
  look_for_no_files()
  for _, name in ipairs { "table", "math", "bit", "coroutine", "string" } do
    env[name] = copy_all(G[name])
  end
  env.string.dump = refused "string.dump"
  bound_recursion(env, check_stack)

  -- Methods of strings: a table that no script has, for Rille's modules use it too.
  local methods = copy_all(G.string)
  methods.dump, methods.gsub = env.string.dump, env.string.gsub
  getmetatable("").__index = methods

  -- rille.stdio may put another `print` in its place.
  function env.print(...) return G.print(...) end

  -- Those of userdata have finalizers in them, which must not be called by hand.
  local strings = { __index = env.string }
  function env.getmetatable(...)
    local value = ...
    if select("#", ...) > 0 and type(value) ~= "table" then
      return type(value) == "string" and strings or nil
    end
    return getmetatable(...)
  end

  local compile = add_loading(env, read_text)
  add_environments(env)
  add_io(env, open_file)
  add_os(env, call)
  add_package(env, modules, read_text, compile)
  env.newproxy = refused "newproxy"
  M.globals = env
  return env
end

return M
