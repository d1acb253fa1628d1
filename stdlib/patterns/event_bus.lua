--- Tells those who want to know what has happened, without knowing them.
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local support = require "rille.patterns.support"
local async = require "rille.async"

local protected, rethrow = task.protected, task.rethrow
local setmetatable, ipairs = setmetatable, ipairs

---@class EventBus
local EventBus = {}
EventBus.__index = EventBus
EventBus.__name = "EventBus"

local function check_event(event, name)
  if event == nil or event ~= event then
    check.bad(1, name, "an event's name expected, got " .. (event == nil and "nil" or "NaN"))
  end
end

-- A list of listeners is never changed, only replaced, since an emit may be going through it.
local function add(self, event, fn, once)
  local list = {}
  for i, listener in ipairs(self._listeners[event] or {}) do list[i] = listener end
  list[#list + 1] = { fn = fn, once = once }
  self._listeners[event] = list
end

local function keep(self, event, wanted)
  local kept, dropped = {}, 0
  for _, listener in ipairs(self._listeners[event] or {}) do
    if wanted(listener) then
      kept[#kept + 1] = listener
    else
      dropped = dropped + 1
    end
  end
  self._listeners[event] = kept[1] and kept or nil
  return dropped
end

--- Has `fn(...)` called at every event of that name, as often as it was added.
---@param event any  its name, mostly a string
---@param fn function  may wait
---@return function  `fn`, for off()
function EventBus:on(event, fn)
  check_event(event, "on")
  check.callable(fn, 2, "on")
  add(self, event, fn, false)
  return fn
end

--- Has `fn(...)` called at the next event of that name, and never again.
---@param event any
---@param fn function
---@return function  `fn`
function EventBus:once(event, fn)
  check_event(event, "once")
  check.callable(fn, 2, "once")
  add(self, event, fn, true)
  return fn
end

--- Takes a listener back, as often as it was added. An emit under way still calls it.
---@param event any
---@param fn function
---@return integer  how many there were
function EventBus:off(event, fn)
  check_event(event, "off")
  check.callable(fn, 2, "off")
  return keep(self, event, function(listener) return listener.fn ~= fn end)
end

local function call(failures, i, fn, ...)
  local ok, e = protected(fn, ...)
  if ok then return end
  if support.passes(e) then rethrow(e) end
  failures[i] = e
  failures.n = failures.n + 1
end

local function listed(failures, n)
  local list = {}
  for i = 1, n do
    if failures[i] ~= nil then list[#list + 1] = failures[i] end
  end
  return list
end

local function call_all(listeners, failures, ...)
  local args, n = { ... }, select("#", ...)
  async.group(function(group)
    for i, listener in ipairs(listeners) do
      group:spawn(call, failures, i, listener.fn, unpack(args, 1, n))
    end
  end)
end

--- Calls every listener of an event with the further arguments, each in a task of its own and in
-- the order in which they were added, and waits until all have ended. One that fails keeps no other
-- from running.
---@async
---@param event any
---@param ... any  for the listeners
---@return integer  how many listeners there were
-- Errors: an ErrorGroup of those of the listeners, in their order; Cancelled, and then the
-- listeners are cancelled as well and waited for.
-- Source: Node's EventEmitter, but it waits.
function EventBus:emit(event, ...)
  check_event(event, "emit")
  local listeners = self._listeners[event]
  if not listeners then return 0 end
  keep(self, event, function(listener) return not listener.once end)
  local failures = { n = 0 }
  local ok, e = protected(call_all, listeners, failures, ...)
  if failures.n > 0 then rethrow(errors._group(listed(failures, #listeners))) end
  if not ok then rethrow(e) end
  return #listeners
end

--- Makes a bus without listeners.
---@return EventBus
return function() return setmetatable({ _listeners = {} }, EventBus) end
