--- Limits how many tasks do something at once. A released permit goes to the task that has waited
-- longest. Taking a free permit stays in Lua, where it compiles; only waiting enters C.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"

local wait, wake_one = core.wait, core.wake_one
local raise, rethrow, keep_trace = task.raise, task.rethrow, task.keep_trace
local xpcall = require("rille.core.protect").xpcall
local type, setmetatable = type, setmetatable

---@class Semaphore
local Semaphore = {}
Semaphore.__index = Semaphore
Semaphore.__name = "Semaphore"

local function block(self)
  self._waiting = self._waiting + 1
  local err = wait(self._list)
  self._waiting = self._waiting - 1
  if err ~= nil then raise(err) end
end

--- Takes a permit, waiting until there is one.
---@async
-- Errors: Cancelled; the task then holds no permit.
function Semaphore:acquire()
  local free = self._free
  if free > 0 then
    self._free = free - 1
  else
    block(self)
  end
end

--- Takes a permit if there is one; never waits.
---@return boolean  whether it did
function Semaphore:try_acquire()
  local free = self._free
  if free <= 0 then return false end
  self._free = free - 1
  return true
end

--- Gives a permit back, to the first waiter if there is one.
-- Errors: InvalidStateError from a BoundedSemaphore whose permits are all there.
function Semaphore:release()
  if self._waiting > 0 and wake_one(self._list) then return end
  local free = self._free
  if free >= self._bound then
    errors._raise("InvalidStateError", "release: the semaphore has all its permits")
  end
  self._free = free + 1
end

--- True if no permit is free.
---@return boolean
function Semaphore:locked() return self._free <= 0 end

--- How many permits are free.
---@return integer
function Semaphore:value() return self._free end

local function finish(self, ok, ...)
  self:release()
  if ok then return ... end
  rethrow((...))
end

--- Calls `fn(...)` with a permit, and gives it back whatever happens.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
function Semaphore:with(fn, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "with") end
  local free = self._free
  if free > 0 then
    self._free = free - 1
  else
    block(self)
  end
  return finish(self, xpcall(fn, keep_trace, ...))
end

function Semaphore:enter()
  self:acquire()
  return self
end
function Semaphore:exit() self:release() end

report.describe(block, function(self)
  return ("a permit of a semaphore of %s"):format(self._size)
end)

local function make(n, bounded, name)
  n = n == nil and 1 or n
  return setmetatable({
    _free = n, _bound = bounded and n or math.huge, _size = n, _waiting = 0,
    _list = core.WaitList(), _name = name,
  }, Semaphore)
end

return {
  --- Makes a semaphore with `n` free permits.
  ---@param n? integer  at least 0; 1 by default
  ---@return Semaphore
  -- Source: asyncio.Semaphore.
  Semaphore = function(n)
    if n ~= nil then n = check.count(n, 0, 1, "Semaphore") end
    return make(n, false)
  end,

  --- Makes a semaphore of which releasing more than was acquired is an error.
  ---@param n? integer  at least 0; 1 by default
  ---@return Semaphore
  -- Source: asyncio.BoundedSemaphore.
  BoundedSemaphore = function(n)
    if n ~= nil then n = check.count(n, 0, 1, "BoundedSemaphore") end
    return make(n, true)
  end,
}
