--- Clean-up that may wait: finally, with, context factories and generators. It runs to its end: a
-- shield hides every cancellation from outside until it is through.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local protect = require "rille.core.protect"
local nested = require "rille.core.coroutine"

local enter, leave = core.enter, core.leave
local SHIELD = task.SHIELD
local keep_trace, rethrow = task.keep_trace, task.rethrow
local xpcall = protect.xpcall
local Unwind = protect.Unwind
local type, getmetatable, setmetatable, error, select, unpack = type, getmetatable, setmetatable,
  error, select, unpack

local M = {}

-- The error of a clean-up replaces the former one, which becomes its cause.
local function replace(e, former)
  if former ~= nil and errors.is_error(e) and e.cause == nil and e ~= former then
    e.cause = former
  end
  rethrow(e)
end

-- Calls `fn(...)` with cancellation held off.
local function shielded(fn, ...)
  local id = enter(SHIELD)
  local ok, a = xpcall(fn, keep_trace, ...)
  if id then leave(id) end
  return ok, a
end
M.shielded = shielded

local function finish(cleanup, ok, ...)
  local done, e = shielded(cleanup)
  if not done then replace(e, not ok and (...) or nil) end
  if ok then return ... end
  rethrow((...))
end

--- Calls `fn()`, then `cleanup()` whatever happened. Both may wait; a cancellation that comes
-- during the clean-up waits until it is through.
---@async
---@param fn function
---@param cleanup function
---@return ...  the results of `fn`
-- Errors: those of `fn`; one of `cleanup` replaces it, with the former as its `cause`.
function M.finally(fn, cleanup)
  check.callable(fn, 1, "finally")
  check.callable(cleanup, 2, "finally")
  return finish(cleanup, xpcall(fn, keep_trace))
end

-- ---- with ---------------------------------------------------------------------------------------

-- A cancellation is never suppressed, nor the unwinding of a generator.
local function may_suppress(e)
  local meta = getmetatable(e)
  return meta ~= Unwind and not (meta == errors._Cancelled and task.is_live(e))
end

local function finish_with(resource, ok, ...)
  local done, r
  local former = nil
  if not ok then
    former = (...)
    -- For `exit`, nil means that all went well.
    if former == nil then former = errors.new("Error", "nil") end
  end
  if resource.exit then
    done, r = shielded(resource.exit, resource, former)
    if done and r == true and not ok and may_suppress(former) then return end
  else
    done, r = shielded(resource.close, resource)
  end
  if not done then replace(r, former) end
  if ok then return ... end
  rethrow(former)
end

--- Calls `fn(value, ...)` with a resource that is given back whatever happens: `resource:enter()`
-- if there is one (its result is the value, else the resource), in the end `resource:exit(err)` or
-- `resource:close()`. True from `exit` suppresses an error, never a cancellation.
---@async
---@param resource any
---@param fn function
---@param ... any  for `fn`, after the value
---@return ...  the results of `fn`; none if its error was suppressed
-- Errors: those of `fn`; one of `exit` or `close` replaces it, with the former as its `cause`.
-- Source: Python's `async with`.
function M.with(resource, fn, ...)
  local t = type(resource)
  local indexable = t == "table" or (t == "userdata" or t == "cdata")
    and pcall(function() return resource.close end)
  if not indexable or not (resource.exit or resource.close) then
    check.bad(1, "with", "a resource with 'exit' or 'close' expected, got " .. t)
  end
  if type(fn) ~= "function" then check.callable(fn, 2, "with") end
  local value = resource
  if resource.enter then value = resource:enter() end
  return finish_with(resource, xpcall(fn, keep_trace, value, ...))
end

-- ---- context factories --------------------------------------------------------------------------

-- What a body gets as its `yield`; the consumer's answer comes back, or an error to raise there.
local RAISE = {}

local function after_yield(mark, ...)
  if mark == RAISE then error((...), 0) end
  return mark, ...
end

local function yield_value(...) return after_yield(nested.yield(...)) end

-- Resumes the coroutine of a body; an error of the body is raised with its trace.
local function step(co, ...)
  local function settle(ok, ...)
    if ok then return ... end
    local e = (...)
    if not errors.is_error(e) then
      task.extra(task.current()).rethrown =
        { value = e, trace = { stack = debug.traceback(co, "") .. debug.traceback("", 3) } }
    end
    rethrow(e)
  end
  return settle(nested.start(co, ...))
end

local Context = {}
Context.__index = Context
Context.__name = "Context manager"

function Context:enter()
  if self._co then
    errors._raise("InvalidStateError", "a context can be entered only once")
  end
  local args = self._args
  local body = self._body
  self._co = coroutine.create(function() return body(yield_value, unpack(args, 1, args.n)) end)
  self._args = nil
  nested.share_scopes(self._co)
  local value = step(self._co)
  if coroutine.status(self._co) == "dead" then
    errors._raise("InvalidStateError", "the context function did not yield")
  end
  return value
end

function Context:exit(e)
  local co = self._co
  if e == nil then
    step(co, nil)
  else
    local x = task.current()[10]
    local rethrown = x and x.rethrown
    local ok, raised = xpcall(step, keep_trace, co, RAISE, e)
    if not ok then
      if raised == e then
        -- Where the body of the `with` raised it counts, not where the context let it through.
        if rethrown and rawequal(rethrown.value, e) then x.rethrown = rethrown end
        return false
      end
      rethrow(raised)
    end
  end
  if coroutine.status(co) ~= "dead" then
    xpcall(step, keep_trace, co, RAISE, setmetatable({}, Unwind))
    errors._raise("InvalidStateError", "the context function yielded twice")
  end
  return e ~= nil
end

--- Makes a resource factory for async.with from a function that sets up, calls `yield(value)` once,
-- and cleans up. An error in the body of the `with` is raised at the `yield`.
---@param fn fun(yield: function, ...)
---@return fun(...): table  each call makes a resource
-- Source: Python's contextlib.asynccontextmanager.
function M.context(fn)
  check.callable(fn, 1, "context")
  return function(...)
    return setmetatable({ _body = fn, _args = { n = select("#", ...), ... } }, Context)
  end
end

-- ---- generators ---------------------------------------------------------------------------------

local Generator = {}
Generator.__index = Generator
Generator.__name = "Generator"

--- Nothing needs to be done about a resource any more when its task ends.
function M.disown(resource)
  local owner = resource._owner
  local x = owner and owner[10]
  if x and x.generators then
    x.generators[resource] = nil
    if next(x.generators) == nil then x.generators = nil end
  end
  resource._owner = nil
end
local forget = M.disown

--- A resource of the running task, which is closed when that ends: `resource:close()` may wait.
function M.own(resource)
  local owner = task.current()
  if owner == task.outside then return end
  local x = task.extra(owner)
  x.generators = x.generators or {}
  resource._owner = owner
  task.generator_count = (task.generator_count or 0) + 1
  x.generators[resource] = task.generator_count
end

local function deliver(self, ...)
  self._running = false
  if coroutine.status(self._co) == "dead" then
    self._closed = true
    forget(self)
    return
  end
  return ...
end

local function advance(self)
  local co = self._co
  if not co then
    local args, body = self._args, self._body
    co = coroutine.create(function() body(yield_value, unpack(args, 1, args.n)) end)
    self._co, self._args = co, nil
    M.own(self)
  end
  return step(co)
end

local function settle(self, ok, ...)
  if ok then return deliver(self, ...) end
  self._running, self._closed = false, true
  forget(self)
  rethrow((...))
end

--- The next values; nothing at the end.
---@async
function Generator:__call()
  if self._closed then return end
  if self._running then
    errors._raise("InvalidStateError", "the generator is running already")
  end
  self._running = true
  return settle(self, xpcall(advance, keep_trace, self))
end

--- Ends the generator: its pending clean-up runs, as if the body were cancelled at its `yield` in a
-- way that pcall cannot catch.
---@async
function Generator:close()
  if self._closed then return end
  if self._running then
    errors._raise("InvalidStateError", "close: the generator is running")
  end
  self._closed = true
  forget(self)
  local co = self._co
  if not co then return end
  local unwind = setmetatable({}, Unwind)
  local ok, e = shielded(step, co, RAISE, unwind)
  if not ok and e ~= unwind then rethrow(e) end
  if coroutine.status(co) ~= "dead" then
    errors._raise("InvalidStateError", "the generator yielded while it was being closed")
  end
end

--- Makes an iterator factory from a function that calls `yield(...)` for each element, and may
-- wait.
---@param fn fun(yield: function, ...)
---@return fun(...): table  each call makes an iterator for `for`, with `close()`
-- Source: Python's async generators.
function M.generator(fn)
  check.callable(fn, 1, "generator")
  return function(...)
    return setmetatable({ _body = fn, _args = { n = select("#", ...), ... }, _closed = false,
      _running = false }, Generator)
  end
end

-- At the end of a task: what its generators have pending.
task.close_generators = function(t)
  local x = t[10]
  local open = {}
  for g, number in pairs(x.generators or {}) do open[#open + 1] = { g, number } end
  x.generators = nil
  table.sort(open, function(a, b) return a[2] > b[2] end)
  for _, entry in ipairs(open) do
    local g = entry[1]
    g._owner = nil
    local ok, e = xpcall(g.close, keep_trace, g)
    if not ok then
      task.report { message = "error in the clean-up of a generator", error = e, task = t,
        traceback = errors.is_error(e) and e.traceback or nil }
    end
  end
end

return M
