--- One task at a time. A released lock goes to the task that has waited longest, so a newcomer
-- never overtakes. Taking a free lock stays in Lua, where it compiles; only waiting enters C.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"

local wait, pass_on, show_current = core.wait, core.pass_on, core.show_current
local state, tasks = core.state_table, core.tasks
local raise, rethrow, keep_trace = task.raise, task.rethrow, task.keep_trace
local xpcall = require("rille.core.protect").xpcall
local type, setmetatable = type, setmetatable

---@class Lock
local Lock = {}
Lock.__index = Lock
Lock.__name = "Lock"

-- Set in debug mode: looks at the order in which locks are taken.
local on_acquire

local function block(self)
  self._waiting = self._waiting + 1
  local err = wait(self._list)
  self._waiting = self._waiting - 1
  if err ~= nil then raise(err) end
end

--- Takes the lock, waiting until it is free.
---@async
-- Errors: Cancelled; the task then does not hold it.
-- Source: asyncio.Lock.
function Lock:acquire()
  if self._owner then
    block(self)
  else
    self._owner = tasks[state[1] or show_current()]
  end
  if on_acquire then on_acquire(self) end
end

local function release(self)
  if self._waiting > 0 then
    self._owner = pass_on(self._list) or false
  else
    self._owner = false
  end
end

--- Gives the lock back, to the first waiter if there is one. Any task may do so.
-- Errors: InvalidStateError if nobody holds it.
function Lock:release()
  if not self._owner then errors._raise("InvalidStateError", "release: the lock is not held") end
  release(self)
end

--- True while somebody holds it.
---@return boolean
function Lock:locked() return self._owner and true or false end

local function finish(self, ok, ...)
  -- The body may have released it already, and then it may be another's.
  if self._owner == tasks[state[1] or show_current()] then release(self) end
  if ok then return ... end
  rethrow((...))
end

--- Calls `fn(...)` with the lock held, and releases it whatever happens.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
function Lock:with(fn, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "with") end
  if self._owner then
    block(self)
  else
    self._owner = tasks[state[1] or show_current()]
  end
  if on_acquire then on_acquire(self) end
  return finish(self, xpcall(fn, keep_trace, ...))
end

-- For async.with.
function Lock:enter()
  self:acquire()
  return self
end
function Lock:exit() self:release() end

report.describe(block, function(self)
  if self._kind then return self._kind end
  return "a lock held by " .. (self._owner and self._owner:name() or "nobody")
end)

--- Makes a lock that nobody holds.
---@return Lock
-- Source: asyncio.Lock.
local function new()
  return setmetatable({ _owner = false, _waiting = 0, _list = core.WaitList() }, Lock)
end

return {
  Lock = new,
  finish = finish,
  release = release,
  class = Lock,
  set_debug = function(fn) on_acquire = fn end,
}
