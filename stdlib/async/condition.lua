--- Waiting for a state that a lock guards. A notified task moves straight into the lock's line and
-- wakes up holding it.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local lock = require "rille.async.lock"

local wait, requeue = core.wait, core.requeue
local state, tasks = core.state_table, core.tasks
local show_current, enter, leave = core.show_current, core.enter, core.leave
local raise, SHIELD = task.raise, task.SHIELD
local acquire, finish, release = lock.class.acquire, lock.finish, lock.release
local keep_trace = task.keep_trace
local xpcall = require("rille.core.protect").xpcall
local debug_mode = require "rille.core.debug_state"
local type, setmetatable, getmetatable = type, setmetatable, getmetatable

---@class Condition
local Condition = {}
Condition.__index = Condition
Condition.__name = "Condition"

--- Takes the lock, waiting until it is free.
---@async
function Condition:acquire() self._lock:acquire() end

--- Gives the lock back.
-- Errors: InvalidStateError if nobody holds it.
function Condition:release() self._lock:release() end

--- Whether somebody holds the lock.
---@return boolean
function Condition:locked() return self._lock:locked() end

--- Calls `fn(...)` with the lock held.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
function Condition:with(fn, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "with") end
  local l = self._lock
  if l._owner or debug_mode.on then
    acquire(l)
  else
    l._owner = tasks[state[1] or show_current()]
  end
  return finish(l, xpcall(fn, keep_trace, ...))
end

function Condition:enter()
  self._lock:acquire()
  return self
end
function Condition:exit() self._lock:release() end

local function must_hold(self, name)
  if self._lock._owner ~= tasks[state[1] or show_current()] then
    errors._raise("InvalidStateError", name .. ": the task does not hold the condition's lock")
  end
end

local function block(self)
  local l = self._lock
  self._waiting = self._waiting + 1
  local err, moved = wait(self._list)
  if err == nil then
    -- Notified, then given the lock: notify has counted it over to the lock's waiters.
    l._waiting = l._waiting - 1
    return
  end
  local counted = moved == true and l or self
  counted._waiting = counted._waiting - 1
  -- The body still expects to hold the lock.
  if not l._owner then
    l._owner = tasks[state[1] or show_current()]
    raise(err)
  end
  local id = enter(SHIELD)
  local ok, e = task.protected(l.acquire, l)
  leave(id)
  if not ok then task.rethrow(e) end
  raise(err)
end

--- Gives the lock up, waits to be notified, and takes the lock again.
---@async
---@return boolean  true
-- Errors: InvalidStateError if the task does not hold the lock; Cancelled, with the lock held.
-- Source: asyncio.Condition.
function Condition:wait()
  local l = self._lock
  if l._owner ~= tasks[state[1] or show_current()] then must_hold(self, "wait") end
  release(l)
  block(self)
  return true
end

--- Waits until `predicate()` is true; gives its value.
---@async
---@param predicate fun(): any  called with the lock held, whenever the task is notified
---@return any
-- Errors: as wait().
function Condition:wait_for(predicate)
  check.callable(predicate, 1, "wait_for")
  local value = predicate()
  while not value do
    self:wait()
    value = predicate()
  end
  return value
end

--- Wakes the first `n` waiters, one after another as the lock becomes free.
---@param n? integer  1 by default
-- Errors: InvalidStateError if the task does not hold the lock.
function Condition:notify(n)
  if n ~= nil then n = check.count(n, 0, 1, "notify") end
  local l = self._lock
  if l._owner ~= tasks[state[1] or show_current()] then must_hold(self, "notify") end
  n = n or 1
  while n > 0 and self._waiting > 0 and requeue(self._list, l._list) do
    self._waiting = self._waiting - 1
    l._waiting = l._waiting + 1
    n = n - 1
  end
end

--- Wakes all waiters.
-- Errors: InvalidStateError if the task does not hold the lock.
function Condition:notify_all()
  must_hold(self, "notify_all")
  self:notify(math.huge)
end

report.describe(block, function(self)
  local owner = self._lock._owner
  return "a condition" .. (owner and " whose lock is held by " .. owner:name() or "")
end)

--- Makes a condition, over a lock of its own or a given one.
---@param over? Lock
---@return Condition
-- Source: asyncio.Condition.
return function(over)
  if over ~= nil and (type(over) ~= "table" or getmetatable(over) ~= lock.class) then
    check.bad(1, "Condition", "Lock expected, got " .. type(over))
  end
  return setmetatable({ _lock = over or lock.Lock(), _waiting = 0, _list = core.WaitList() },
    Condition)
end
