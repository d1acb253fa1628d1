--- What the iterators of rille.fs have in common: one task at a time goes on with them, `close`
-- ends them for all, and so does the end of the task that made them if it fails or is cancelled.
-- Other tasks that share one may be cancelled in it, and it goes on for the rest.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local report = require "rille.core.report"

local wait, wake_one, wake_all = core.wait, core.wake_one, core.wake_all
local raise, rethrow, current = task.raise, task.rethrow, task.current
local setmetatable = setmetatable

local M = {}

--- For a step: `return FAILED, e` raises an error that was caught, as it was.
local FAILED = {}
M.FAILED = FAILED

--- Makes a class of iterators.
---@param name string  what errors and tostring call them
---@param step fun(self): any, ...  goes on: the error of a wait or nil, and then the values, of
-- which the first is nil at the end. Only one task at a time is in it. After a wait that was
-- cancelled it may be called again.
---@param release fun(self)  lets go of what it holds; must not wait. Called once.
function M.class(name, step, release)
  local Iterator = { __name = name }
  Iterator.__index = Iterator

  local function stop(self)
    if self._open then
      self._open = false
      release(self)
    end
  end

  local function leave(self, err, first, ...)
    if self._closed then
      wake_all(self._list)
      errors._raise("InvalidStateError",
        ("the %s of '%s' was closed"):format(self._what, self.path))
    end
    local cancelled = err == true or err == 1
    if cancelled and not self._goes_on and current() == self._maker then stop(self) end
    if not cancelled and (err ~= nil or first == nil) then stop(self) end
    if not wake_one(self._list) then self._busy = false end
    if err == FAILED then rethrow(first) end
    if err ~= nil then raise(err) end
    return first, ...
  end

  --- The next values; nothing at the end.
  function Iterator:__call()
    if not self._open then return nil end
    if not self._busy then
      self._busy = true
    else
      local err = wait(self._list)
      if err ~= nil then raise(err) end
    end
    if not self._open then return leave(self) end
    return leave(self, step(self))
  end

  --- Ends the iteration. Whoever waits in it gets an InvalidStateError. A second time does nothing.
  function Iterator:close()
    if not self._open then return end
    self._closed = self._busy
    stop(self)
    wake_all(self._list)
  end

  function Iterator:__tostring() return ("%s: %s"):format(name, self.path) end

  report.describe(Iterator.__call, function(self)
    return ("the %s of '%s'"):format(self._what, self.path)
  end)
  return Iterator
end

--- Makes one of such a class.
function M.new(class, what, self)
  self._what, self._busy, self._open, self._closed = what, false, true, false
  self._list, self._maker = core.WaitList(), current()
  task.hold(self)
  return setmetatable(self, class)
end

return M
