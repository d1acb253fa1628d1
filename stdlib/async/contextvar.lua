--- Context variables: values that belong to a task and to those it starts. A task's environment is
-- never changed, only replaced, so that starting a task copies nothing.
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local protect = require "rille.core.protect"

local current, rethrow = task.current, task.rethrow
local setmetatable, pairs, type, select = setmetatable, pairs, type, select

local NIL = {} -- stands for a nil that was set

---@class ContextVar
local ContextVar = {}
ContextVar.__index = ContextVar
ContextVar.__name = "ContextVar"

local function read(self)
  local vars = current()[5].vars
  if vars then return vars[self] end
end

local function write(self, value)
  local t = current()
  local env = t[5]
  local vars = {}
  for k, v in pairs(env.vars or {}) do vars[k] = v end
  vars[self] = value
  t[5] = { vars = vars, run = env.run }
end

--- The value in this task; without one `default`, then the variable's own default, then nil.
---@param ... any  the default for this call
---@return any
function ContextVar:get(...)
  local v = read(self)
  if v == nil then
    if select("#", ...) > 0 then return (...) end
    return self._default
  end
  if v == NIL then return nil end
  return v
end

--- Sets the value for this task and for those it starts from now on.
---@param value any
---@return table token  for reset
function ContextVar:set(value)
  local token = setmetatable({ _var = self, _old = read(self), _task = current(), _used = false },
    { __name = "Token" })
  write(self, value == nil and NIL or value)
  return token
end

--- Puts back what was there before the `set` that gave the token.
---@param token table
-- Errors: InvalidStateError for a token that was used, or of another variable or task.
function ContextVar:reset(token)
  if type(token) ~= "table" or not token._var then
    check.bad(1, "reset", "token expected, got " .. type(token))
  end
  if token._var ~= self then
    errors._raise("InvalidStateError", "reset: the token is of another variable")
  end
  if token._used then
    errors._raise("InvalidStateError", "reset: the token has been used")
  end
  if token._task ~= current() then
    errors._raise("InvalidStateError", "reset: the token is of another task")
  end
  token._used = true
  write(self, token._old)
end

--- The name it was given.
---@return string
function ContextVar:name() return self._name end

---@class Context
local Context = {}
Context.__index = Context
Context.__name = "Context"

local function finish(self, t, outer, ok, ...)
  self._env = t[5]
  self._entered = false
  t[5] = outer
  if ok then return ... end
  rethrow((...))
end

--- Calls `fn(...)` in this context; what it sets stays here.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
-- Source: contextvars.Context.run.
function Context:run(fn, ...)
  check.callable(fn, 1, "run")
  if self._entered then
    errors._raise("InvalidStateError", "run: the context is entered already")
  end
  local t = current()
  local outer = t[5]
  self._entered = true
  t[5] = { vars = self._env.vars, run = outer.run }
  return finish(self, t, outer, protect.xpcall(fn, task.keep_trace, ...))
end

--- The value of a variable in this context, or nil.
---@param var ContextVar
---@return any
function Context:get(var)
  local vars = self._env.vars
  local v = vars and vars[var]
  if v == NIL then return nil end
  return v
end

local M = {}

--- Makes a context variable.
---@param name string
---@param default? any  what get() gives where nothing is set
---@return ContextVar
-- Source: contextvars.ContextVar.
function M.ContextVar(name, default)
  check.string(name, 1, "ContextVar")
  return setmetatable({ _name = name, _default = default }, ContextVar)
end

--- A copy of the running task's context.
---@return Context
-- Source: contextvars.copy_context.
function M.copy_context()
  return setmetatable({ _env = current()[5], _entered = false }, Context)
end

local function context_of(t)
  return setmetatable({ _env = t[5], _entered = false }, Context)
end

--- The context of a task.
---@return Context
function task.Task:context() return context_of(self) end

return M
