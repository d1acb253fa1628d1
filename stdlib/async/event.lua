--- A flag that tasks wait for.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local report = require "rille.core.report"

local wait, wake_all = core.wait, core.wake_all
local raise = task.raise
local setmetatable = setmetatable

---@class Event
local Event = {}
Event.__index = Event
Event.__name = "Event"

local function block(self)
  self._waiting = self._waiting + 1
  local err = wait(self._list)
  self._waiting = self._waiting - 1
  if err ~= nil then raise(err) end
end

--- Waits until the event is set.
---@async
---@return boolean  true
-- Source: asyncio.Event.
function Event:wait()
  if not self._set then block(self) end
  return true
end

--- Sets the event and wakes everybody who waits.
function Event:set()
  if self._set then return end
  self._set = true
  if self._waiting > 0 then wake_all(self._list) end
end

--- Whoever waits from now on waits for the next set().
function Event:clear() self._set = false end

--- Whether it is set.
---@return boolean
function Event:is_set() return self._set end

report.describe(block, function() return "an event" end)

--- Makes an event that is not set.
---@return Event
-- Source: asyncio.Event.
return function()
  return setmetatable({ _set = false, _waiting = 0, _list = core.WaitList() }, Event)
end
