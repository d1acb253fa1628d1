--- Groups of tasks that end together: none outlives the group, and the first failure ends the rest.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"

local enter, leave = core.enter, core.leave
local GROUP, SHIELD = task.GROUP, task.SHIELD
local scope_cancels = task.scope_cancels
local spawn_for, protected = task.spawn_for, task.protected
local Unwind = require("rille.core.protect").Unwind
local type, setmetatable, getmetatable = type, setmetatable, getmetatable

---@class Group
local Group = {}
Group.__index = Group
Group.__name = "Group"

-- The scope of the body and the tasks are cancelled alike.
local function cancel_all(self, reason, at)
  if self._cancelled then return end
  self._cancelled = true
  if self._id and not scope_cancels[self._id] then
    local by = task.current()
    local c = errors._cancelled(reason, by ~= task.outside and by or nil, at)
    c._scope = self._id
    scope_cancels[self._id] = c
    core.cancel_scope(self._id)
  end
  local child = self._first
  while child do
    local following = child[0]
    child:cancel(reason)
    child = following
  end
end

-- A task of the group has ended.
function Group:child_done(child)
  local state = child[2]
  local before, after = child[9], child[0]
  if before then
    before[0] = after
  else
    self._first = after
  end
  if after then
    after[9] = before
  else
    self._last = before
  end
  child[9], child[0] = false, false
  self._alive = self._alive - 1
  if state == 3 then
    self._errors[#self._errors + 1] = child[3]
    self._failed[#self._failed + 1] = child
    cancel_all(self, "a task of the group failed", nil)
  end
  if self._alive == 0 and self._join then
    core.wake(self._join[1])
  end
end

--- Starts a task in the group.
---@param fn function
---@param ... any  for `fn`
---@return Task
-- Errors: InvalidStateError if the group has ended or is being cancelled.
function Group:spawn(fn, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "spawn") end
  if self._ended or self._cancelled then
    errors._raise("InvalidStateError", self._ended and "spawn: the group has ended"
      or "spawn: the group is cancelled")
  end
  local child = spawn_for(self, fn, ...)
  self._alive = self._alive + 1
  local last = self._last
  if last then
    last[0], child[9] = child, last
  else
    self._first = child
  end
  self._last = child
  return child
end

--- Starts a task in the group, as `spawn` does.
---@param fn function
---@param ... any  for `fn`
---@return Task
Group.create_task = Group.spawn

--- Cancels the body and all tasks of the group.
---@param reason? any
function Group:cancel(reason)
  if not self._ended then cancel_all(self, reason, task.place(2)) end
end

local function join(self)
  self._join = { 0 }
  local err = core.park(self._join, 1)
  self._join = nil
  return err
end

report.describe(join, function(self) return ("a group of %d tasks"):format(self._alive) end)

-- Waits until all tasks have ended. What interrupts it cancels them; it is returned.
local function wait_for_children(self)
  local interruption
  while self._alive > 0 do
    local err
    if interruption then
      local id = enter(SHIELD)
      err = join(self)
      leave(id)
    else
      err = join(self)
    end
    if err ~= nil then
      cancel_all(self, "the group was cancelled", nil)
      -- Where waiting is impossible, or nothing can go on even so, the rest is left to itself.
      if type(err) == "string" or interruption and type(err) == "table" then return err end
      interruption = interruption or err
    end
  end
  return interruption
end

local function finish(self, ok, ...)
  local id = self._id
  self._id = nil
  leave(id)
  local own = scope_cancels[id]
  scope_cancels[id] = nil
  local e, body_failed = nil, false
  if not ok then
    e = (...)
    body_failed = e ~= own and getmetatable(e) ~= Unwind and not task.is_live(e)
    cancel_all(self, "the body of the group ended with an error", nil)
  end
  local interruption = wait_for_children(self)
  self._ended = true
  if body_failed then table.insert(self._errors, 1, e) end
  for _, child in ipairs(self._failed) do task.take(child) end
  if #self._errors > 0 then error(errors._group(self._errors), 0) end
  if interruption ~= nil then task.raise(interruption) end
  if ok then return ... end
  if e ~= own then task.rethrow(e) end
  if core.pending() then task.interrupted() end
end

--- Runs `fn(g)`; when it has returned, waits for all tasks that were started in `g`.
---@async
---@param fn fun(g: Group): any
---@return ...  what `fn` returned; nothing after g:cancel()
-- Errors: ErrorGroup of everything that failed; after the first failure the rest is cancelled.
-- Source: asyncio.TaskGroup, trio's nurseries.
return function(fn)
  check.callable(fn, 1, "group")
  local id = enter(GROUP)
  if not id then check.fail "'group' can only be called in a task" end
  local self = setmetatable({ _id = id, _alive = 0, _first = false, _last = false,
    _errors = {}, _failed = {},
    _ended = false, _cancelled = false, _join = nil }, Group)
  return finish(self, protected(fn, self))
end
