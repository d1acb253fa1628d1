--- Shares a few things that are dear to make, such as connections. One that is released goes to the
-- task that has waited longest, else it is the next to be used again, so that the others may idle.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local support = require "rille.patterns.support"
local async = require "rille.async"
local shielded = require("rille.async.cleanup").shielded

local wait, wake_one, wake_all, throw_all = core.wait, core.wake_one, core.wake_all, core.throw_all
local protected, rethrow, raise = task.protected, task.rethrow, task.raise
local setmetatable, pairs, type, tostring = setmetatable, pairs, type, tostring

---@class Pool
local Pool = {}
Pool.__index = Pool
Pool.__name = "Pool"

-- The pool has `size` places. A place is taken (`_count`) from before a resource is made until
-- after it is destroyed, so the other side never sees more than `size` of them. Whoever takes one
-- has it, or the place, on its stack until it is entered in `_used`, and hands it on if it is
-- interrupted.

-- Stands for a place without a resource.
local PLACE = {}

-- ---- places and resources -----------------------------------------------------------------------

local function give_place(self)
  if not self._closed and wake_one(self._takers, PLACE) then return end
  self._count = self._count - 1
  if self._closed and self._count == 0 then wake_all(self._closers) end
end

local function close_resource(resource)
  local found, close = protected(function() return resource.close end)
  if found and close then close(resource) end
end

-- Destroys a resource whatever happens, then gives its place to others. Returns as pcall does.
local function dispose(self, resource)
  self._known[resource] = nil
  local ok, e = shielded(self._destroy, resource)
  give_place(self)
  return ok, e
end

-- Makes a resource in the place that the caller has.
local function make(self)
  local ok, resource, message = protected(self._create)
  local known = ok and resource ~= nil and self._known[resource]
  if ok and resource ~= nil and not known then
    self._known[resource] = true
    return resource
  end
  give_place(self)
  if not ok then rethrow(resource) end
  errors._raise("InvalidStateError", known and "create gave a resource that the pool has already"
    or "create gave no resource" .. (message ~= nil and ": " .. tostring(message) or ""))
end

-- Whether a resource can be used again. If not it is destroyed, and the caller has its place. One
-- whose check is cancelled half-way may be out of step with its peer and is not used again either.
local function is_usable(self, resource)
  local ok, answer = protected(self._check, resource)
  if ok and answer then return true end
  self._known[resource] = nil
  local destroyed, e = shielded(self._destroy, resource)
  if not destroyed then support.report("a pool could not destroy a resource", e) end
  if not ok and support.passes(answer) then
    give_place(self)
    rethrow(answer)
  end
  return false
end

-- ---- taking and giving back ---------------------------------------------------------------------

local function wait_for_one(self)
  self._waiting = self._waiting + 1
  local err, resource = wait(self._takers)
  self._waiting = self._waiting - 1
  if err ~= nil then raise(err) end
  return resource
end

-- The names of the tasks that took the resources in use.
local function users(self)
  local names = {}
  for _, loan in pairs(self._used) do names[#names + 1] = loan.task:name() end
  table.sort(names)
  if #names > 5 then names[6] = ("and %d more"):format(#names - 5) end
  return names[1] and "taken by " .. table.concat(names, ", ", 1, math.min(#names, 6))
    or "none of which is in use"
end

report.describe(wait_for_one, function(self)
  return ("one of a pool's %g resources, %s"):format(self._size, users(self))
end)

-- A resource to be used again, or a place for a new one.
local function find(self)
  local idle = self._idle
  local n = #idle
  if n > 0 then
    local resource = idle[n]
    idle[n] = nil
    return resource
  elseif self._count < self._size then
    self._count = self._count + 1
    return PLACE
  end
  local resource = wait_for_one(self)
  return resource
end

local function refuse() errors._raise("InvalidStateError", "acquire: the pool is closed") end

local function lend(self, resource)
  self._used[resource] = { task = task.current() }
  return resource
end

-- The first argument is the scope of the timeout.
local function take(_, self)
  local resource = find(self)
  if resource ~= PLACE and self._check and not is_usable(self, resource) then
    resource = PLACE
  end
  if resource == PLACE then
    if self._closed then
      give_place(self)
      refuse()
    end
    resource = make(self)
  end
  if self._closed then
    local ok, e = dispose(self, resource)
    if not ok then rethrow(e) end
    refuse()
  end
  return lend(self, resource)
end

--- Takes a resource: the one that was used last, a new one while there are fewer than `size`, else
-- the next that is released. One that fails its check is destroyed and replaced.
---@async
---@return any
-- Errors: TimeoutError after the pool's `timeout`, in which making and checking are included; those
-- of `create`; InvalidStateError if the pool is closed; Cancelled. None of these costs a place.
function Pool:acquire()
  if self._closed then refuse() end
  local idle, n = self._idle, #self._idle
  if n > 0 and not self._check then
    local resource = idle[n]
    idle[n] = nil
    return lend(self, resource)
  end
  local timeout = self._timeout
  if timeout == math.huge then return take(nil, self) end
  local in_time, resource = async.move_on_after(timeout, take, self)
  if in_time then return resource end
  errors._raise("TimeoutError", ("no resource of the pool was to be had within %g s, "
    .. "%d of %g are in use"):format(timeout, self:stats().used, self._size))
end

local function must_be_used(self, resource, name)
  if self._used[resource] then return true end
  -- close() took it away from its user, who cannot know.
  if self._taken_away[resource] then return false end
  errors._raise("InvalidStateError",
    name .. ": the resource is not in use: it was released before, or is not of this pool")
end

--- Gives a resource back: to the task that has waited longest, else for whoever comes next. In a
-- closed pool it is destroyed.
---@param resource any
-- Errors: InvalidStateError if it is not in use; those of `destroy`.
function Pool:release(resource)
  if not must_be_used(self, resource, "release") then return end
  self._used[resource] = nil
  if self._closed then
    local ok, e = dispose(self, resource)
    if not ok then rethrow(e) end
  elseif self._waiting == 0 or not wake_one(self._takers, resource) then
    self._idle[#self._idle + 1] = resource
  end
end

--- Gives a resource back that is not to be used again: destroys it, which makes room for a new one.
---@async
---@param resource any
-- Errors: InvalidStateError if it is not in use; those of `destroy`.
function Pool:discard(resource)
  if not must_be_used(self, resource, "discard") then return end
  self._used[resource] = nil
  local ok, e = dispose(self, resource)
  if not ok then rethrow(e) end
end

local function finish(self, resource, loan, ok, ...)
  local e = nil
  if not ok then e = (...) end
  -- The body may have given it back already, and then it may be another's.
  if self._used[resource] == loan then
    -- Cut off half-way, it may still have an answer under way that the next user would take for
    -- his own.
    local cut_off = not ok and (support.passes(e) or errors.is(e, "TimeoutError"))
    local back, worse = protected(cut_off and self.discard or self.release, self, resource)
    if not back then support.replace(worse, e) end
  end
  if ok then return ... end
  rethrow(e)
end

--- Calls `fn(resource, ...)` and gives the resource back whatever happens. After a cancellation or
-- a TimeoutError it is not used again.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
-- Errors: those of acquire() and of `fn`.
function Pool:with(fn, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "with") end
  local resource = self:acquire()
  return finish(self, resource, self._used[resource], protected(fn, resource, ...))
end

--- What the pool has in hand.
---@return table  `size` at most; `used`, `idle`; `busy`: being made, checked or destroyed;
-- `waiting` tasks
function Pool:stats()
  local used = 0
  for _ in pairs(self._used) do used = used + 1 end
  local idle = #self._idle
  return { size = self._size, used = used, idle = idle, busy = self._count - used - idle,
    waiting = self._waiting }
end

-- ---- the end ------------------------------------------------------------------------------------

local function wait_for_users(self)
  while self._count > 0 do
    local err = wait(self._closers)
    if err ~= nil then raise(err) end
  end
end

report.describe(wait_for_users, function(self)
  return ("the close of a pool with %d resources, %s"):format(self._count, users(self))
end)

local function wait_in_time(_, self) wait_for_users(self) end

local function wait_for_all(self, grace)
  if grace == 0 then return end
  if grace == math.huge then return wait_for_users(self) end
  async.move_on_after(grace, wait_in_time, self)
end

local function dispose_all(self, list, failures)
  while #list > 0 do
    local ok, e = dispose(self, table.remove(list))
    if not ok then failures[#failures + 1] = e end
  end
end

-- Takes the resources away from those who still use them.
local function take_away(self)
  local list = {}
  for resource in pairs(self._used) do list[#list + 1] = resource end
  for _, resource in ipairs(list) do
    self._used[resource] = nil
    self._taken_away[resource] = true
  end
  return list
end

--- Closes the pool: acquire() is an error from now on, also for those who wait in it; idle
-- resources are destroyed at once, those in use when they are released, and close() waits for that.
-- Closing twice is the same as closing once.
---@async
---@param grace? number  seconds after which resources in use are destroyed all the same; no limit
-- by default
-- Errors: an ErrorGroup of what `destroy` raised; Cancelled, and then the pool is closed
-- nevertheless.
-- Source: asyncpg's Pool.close and Pool.terminate.
function Pool:close(grace)
  grace = support.seconds(1, grace, math.huge, "close")
  local failures = {}
  if not self._closed then
    self._closed = true
    throw_all(self._takers, errors.new("InvalidStateError", "acquire: the pool is closed"))
    dispose_all(self, self._idle, failures)
  end
  if self._count > 0 then
    local ok, e = protected(wait_for_all, self, grace)
    if not ok and #failures == 0 then rethrow(e) end
    if ok then dispose_all(self, take_away(self), failures) end
  end
  if #failures > 0 then rethrow(errors._group(failures)) end
end

local OPTIONS = { create = true, destroy = true, check = true, size = true, timeout = true }

---@class rille.patterns.PoolOptions
---@field create fun(): any  gives a new resource
---@field destroy? fun(resource: any)  its method `close`, if it has one, by default
---@field check? fun(resource: any): boolean  asked before one is used again
---@field size? integer  how many there are at most; 10 by default
---@field timeout? number  seconds that acquire() may take; no limit by default

--- Makes an empty pool; resources are made when they are needed. Its functions may wait.
---@param options rille.patterns.PoolOptions
---@return Pool
-- Source: asyncpg's Pool, Go's database/sql.
return function(options)
  local o = check.options(options, OPTIONS, 1, "Pool")
  return setmetatable({
    _create = support.callable("create", o.create, true, "Pool"),
    _destroy = support.callable("destroy", o.destroy, false, "Pool") or close_resource,
    _check = support.callable("check", o.check, false, "Pool"),
    _size = support.count("size", o.size, 10, "Pool"),
    _timeout = support.seconds("timeout", o.timeout, math.huge, "Pool"),
    _count = 0, _idle = {}, _used = {}, _known = {}, _closed = false, _waiting = 0,
    _takers = core.WaitList(), _closers = core.WaitList(),
    _taken_away = setmetatable({}, { __mode = "k" }),
  }, Pool)
end
