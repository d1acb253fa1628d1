--- Timeouts: a scope around a function, cancelled at a deadline. Its own cancellation never leaves
-- it: at its end it becomes a TimeoutError. The timer is armed only when something inside waits.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"

local enter, leave, pending = core.enter, core.leave, core.pending
local TIMEOUT = task.TIMEOUT
local keep_trace, rethrow, scope_cancels = task.keep_trace, task.rethrow, task.scope_cancels
local xpcall = require("rille.core.protect").xpcall
local type, setmetatable = type, setmetatable

local M = {}

-- True if the scope, which is left, ends with its own cancellation. Where an outer scope is
-- cancelled too, that one wins.
local function is_own(id, e)
  local c = scope_cancels[id]
  scope_cancels[id] = nil
  if e ~= c then return false end
  if pending() then task.interrupted() end
  return true
end
M.is_own = is_own

local function expired_at(seconds)
  if seconds then return ("timed out after %g s"):format(seconds) end
  return "timed out"
end

local function finish(id, seconds, ok, ...)
  local cancelled = leave(id)
  if ok then
    if cancelled then scope_cancels[id] = nil end
    return ...
  end
  local e = (...)
  if cancelled and is_own(id, e) then
    errors._raise("TimeoutError", expired_at(seconds))
  end
  rethrow(e)
end

local function need_task(id, name)
  if not id then check.fail(("'%s' can only be called in a task"):format(name)) end
  return id
end

--- Waits for a function's end, or for a Task or Future, at most `timeout` seconds. What takes
-- longer is cancelled and waited for.
---@async
---@param what function|Task|Future  a function is called with the further arguments, in this task
---@param timeout? number  seconds; nil for no limit
---@param ... any  for the function
---@return ...  its results
-- Errors: TimeoutError; what the function raises.
-- Source: asyncio.wait_for.
function M.wait_for(what, timeout, ...)
  if type(timeout) ~= "number" or timeout ~= timeout then
    if timeout ~= nil then timeout = check.seconds(timeout, 2, "wait_for") end
  end
  if type(what) ~= "function" then
    if task.is_awaitable(what) then
      local id = need_task(enter(TIMEOUT, timeout), "wait_for")
      return finish(id, timeout, xpcall(what.await, keep_trace, what))
    end
    if not check.is_callable(what) then
      check.bad(1, "wait_for", "function, Task or Future expected, got " .. type(what))
    end
  end
  local id = need_task(enter(TIMEOUT, timeout), "wait_for")
  return finish(id, timeout, xpcall(what, keep_trace, ...))
end

---@class Timeout
local Scope = {}
Scope.__index = Scope
Scope.__name = "Timeout"

--- Moves the deadline; nil takes it away.
---@param deadline? number  on the clock of async.time()
-- Errors: InvalidStateError once it has expired or ended.
-- Source: asyncio.Timeout.reschedule.
function Scope:reschedule(deadline)
  if deadline ~= nil then deadline = check.seconds(deadline, 1, "reschedule") end
  if not self._id or scope_cancels[self._id] then
    errors._raise("InvalidStateError", "reschedule: the timeout has "
      .. (self._id and "expired" or "ended"))
  end
  core.reschedule(self._id, deadline)
end

--- When it expires, on the clock of async.time(); nil for never.
---@return number?
function Scope:deadline()
  if self._id then return core.deadline(self._id) end
  return self._deadline
end

--- True once the deadline has passed with something still inside.
---@return boolean
function Scope:expired()
  if self._id then return core.is_cancelled(self._id) end
  return self._expired
end

local function close(scope)
  local id = scope._id
  scope._deadline = core.deadline(id)
  scope._id = nil
  scope._expired = leave(id)
  return id
end

local function finish_scope(scope, seconds, ok, ...)
  local id = close(scope)
  if ok then
    if scope._expired then scope_cancels[id] = nil end
    return ...
  end
  local e = (...)
  if scope._expired and is_own(id, e) then
    errors._raise("TimeoutError", expired_at(seconds))
  end
  rethrow(e)
end

--- Runs `fn(scope, ...)` in this task and cancels it when the time is over.
---@async
---@param seconds? number  nil for no limit
---@param fn fun(scope: Timeout, ...): ...
---@param ... any  for `fn`
---@return ...  its results; they stand, too, if it returns after the deadline
-- Errors: TimeoutError.
-- Source: asyncio.timeout.
function M.timeout(seconds, fn, ...)
  if seconds ~= nil then seconds = check.seconds(seconds, 1, "timeout") end
  if type(fn) ~= "function" then check.callable(fn, 2, "timeout") end
  local scope = setmetatable({ _id = need_task(enter(TIMEOUT, seconds), "timeout"),
    _expired = false }, Scope)
  return finish_scope(scope, seconds, xpcall(fn, keep_trace, scope, ...))
end

--- Like async.timeout, with a point in time.
---@async
---@param deadline? number  on the clock of async.time(); nil for no limit
---@param fn fun(scope: Timeout, ...): ...
---@param ... any  for `fn`
---@return ...  its results
-- Errors: TimeoutError.
-- Source: asyncio.timeout_at.
function M.timeout_at(deadline, fn, ...)
  if deadline ~= nil then deadline = check.seconds(deadline, 1, "timeout_at") end
  if type(fn) ~= "function" then check.callable(fn, 2, "timeout_at") end
  local scope = setmetatable({ _id = need_task(enter(TIMEOUT, nil, deadline), "timeout_at"),
    _expired = false }, Scope)
  return finish_scope(scope, nil, xpcall(fn, keep_trace, scope, ...))
end

local function finish_move_on(scope, ok, ...)
  local id = close(scope)
  if ok then
    if scope._expired then scope_cancels[id] = nil end
    return true, ...
  end
  local e = (...)
  if scope._expired and is_own(id, e) then return false end
  rethrow(e)
end

--- Like async.timeout, but past the deadline it raises nothing and goes on.
---@async
---@param seconds? number  nil for no limit
---@param fn fun(scope: Timeout, ...): ...
---@param ... any  for `fn`
---@return boolean in_time  false past the deadline
---@return ...  the results of `fn` if it was in time
-- Source: trio.move_on_after.
function M.move_on_after(seconds, fn, ...)
  if seconds ~= nil then seconds = check.seconds(seconds, 1, "move_on_after") end
  if type(fn) ~= "function" then check.callable(fn, 2, "move_on_after") end
  local scope = setmetatable({ _id = need_task(enter(TIMEOUT, seconds), "move_on_after"),
    _expired = false }, Scope)
  return finish_move_on(scope, xpcall(fn, keep_trace, scope, ...))
end

return M
