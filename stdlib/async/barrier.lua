--- A point that a number of tasks have to reach before any goes on.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"

local raise = task.raise

---@class Barrier
local Barrier = {}
Barrier.__index = Barrier
Barrier.__name = "Barrier"

-- What a wait ends with when the barrier breaks: everybody raises an error of his own.
local BROKEN = {}

local function broken_error()
  errors._raise("BrokenBarrierError", "the barrier is broken")
end

local function block(self)
  local err = core.wait(self._list)
  if err ~= nil then
    if err == BROKEN then broken_error() end
    -- One that is gone will never arrive again: as if it had not come.
    self._arrived = self._arrived - 1
    raise(err)
  end
end

--- Waits until as many tasks wait as the barrier has parties.
---@async
---@return integer  0 for the first that came, parties - 1 for the last
-- Errors: BrokenBarrierError after abort(), or when reset() finds it waiting.
-- Source: asyncio.Barrier.
function Barrier:wait()
  if self._broken then broken_error() end
  local index = self._arrived
  if index + 1 == self._parties then
    self._arrived = 0
    core.wake_all(self._list)
    return index
  end
  local err = core.check_wait()
  if err ~= nil then raise(err) end
  self._arrived = index + 1
  block(self)
  return index
end

local function dismiss(self)
  self._arrived = 0
  core.throw_all(self._list, BROKEN)
end

--- Makes the barrier usable again; those who wait get a BrokenBarrierError.
function Barrier:reset()
  self._broken = false
  dismiss(self)
end

--- Breaks the barrier: those who wait, and all who come, get a BrokenBarrierError.
function Barrier:abort()
  self._broken = true
  dismiss(self)
end

--- How many tasks it takes.
---@return integer
function Barrier:parties() return self._parties end

--- How many wait now.
---@return integer
function Barrier:n_waiting() return self._arrived end

--- Whether it was aborted, or somebody who waited in it was cancelled.
---@return boolean
function Barrier:broken() return self._broken end

-- For async.with: waits on the way in, gives the index.
function Barrier:enter() return self:wait() end
function Barrier:exit() end

report.describe(block, function(self)
  return ("a barrier, %d of %d are there"):format(self._arrived, self._parties)
end)

--- Makes a barrier for `n` tasks.
---@param n integer  at least 1
---@return Barrier
-- Source: asyncio.Barrier.
return function(n)
  n = check.count(n, 1, 1, "Barrier")
  return setmetatable({ _parties = n, _arrived = 0, _broken = false, _list = core.WaitList() },
    Barrier)
end
