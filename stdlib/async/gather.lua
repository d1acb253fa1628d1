--- Waiting for many at once: gather, wait, as_completed, map.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local when_collected = require "rille.core.collected"

local park, wake = core.park, core.wake
local enter, leave = core.enter, core.leave
local SHIELD = task.SHIELD
local spawn_for, watch, unwatch = task.spawn_for, task.watch, task.unwatch
local setmetatable, type, ipairs = setmetatable, type, ipairs

local M = {}

local DONE, PACKED, FAILED, CANCELLED, NONE, TAKEN = 1, 2, 3, 4, 5, 6

-- A wait for a number of tasks to end: something with `child_done` that they notify.
local Collector = {}
Collector.__index = Collector

local function sleep_until_done(self)
  local err = park(self._ticket, 1) -- no tail call: a deadlock report looks for this frame
  return err
end

report.describe(sleep_until_done, function(self)
  local names = {}
  for _, t in ipairs(self._entries) do
    if t[2] <= 0 then names[#names + 1] = t:name() end
  end
  local more = #names > 5 and (" and %d more"):format(#names - 5) or ""
  local listed = table.concat(names, ", ", 1, math.min(#names, 5))
  return ("%s, that is for %s%s"):format(self.what, listed, more)
end)

-- ---- gather and map -----------------------------------------------------------------------------

-- A Task is a table itself, so it may be given in the place of a list.
local function bad_entry(list, i, name, wanted)
  if task.is_awaitable(list) then
    check.bad(1, name, ("list of Tasks expected, got %s"):format((tostring(list):match "^%w+")))
  end
  check.bad(1, name, ("entry %d: %s expected, got %s"):format(i, wanted, type(list[i])))
end

-- Tells what a gather takes from what it does not, and says where the fault is.
local function entry_kind(v, i, name, list)
  if type(v) == "function" then return "function" end
  if task.is_awaitable(v) then return "awaitable" end
  if check.is_callable(v) then return "function" end
  bad_entry(list, i, name, "function, Task or Future")
end

local function length(list, name)
  check.table(list, 1, name)
  local n = list.n
  if type(n) ~= "number" then n = #list end
  return n
end

local Gather = setmetatable({}, { __index = Collector })
Gather.__index = Gather

-- What the tasks that a gather has made itself notify.
local Own = {}
Own.__index = Own

local function cancel_own(self, reason)
  for i, t in ipairs(self._entries) do
    if self._kinds[i] == "function" then t:cancel(reason) end
  end
end

local function child_done(self, t)
  self._left = self._left - 1
  local s = t[2]
  if (s == FAILED or s == TAKEN or s == CANCELLED) and not self._return_errors then
    if self._failed == nil then
      self._failed = t
      cancel_own(self, "another of the gather failed")
    end
  end
  if self._left == 0 or self._failed and self._own_left == 0 then
    wake(self._ticket[1])
  end
end
Gather.child_done = child_done

function Own:child_done(t)
  local gather = self.gather
  gather._own_left = gather._own_left - 1
  child_done(gather, t)
end

local function error_of(t)
  if t[2] == CANCELLED then
    local ok, e = task.protected(task.outcome, t)
    return not ok and e or nil
  end
  task.take(t)
  return t[3]
end

local function collect(self)
  local results = { n = self.size }
  for i = 1, self.size do
    local t = self._entries[i]
    local s = t[2]
    if s == FAILED or s == CANCELLED or s == TAKEN then
      results[i] = error_of(t)
    elseif s == PACKED then
      results[i] = t[3][1]
    elseif s == DONE then
      results[i] = t[3]
    end
  end
  return results
end

local function wait_for_all(self)
  while not (self._left == 0 or self._failed and self._own_left == 0) do
    local err
    if self._interruption then
      local id = enter(SHIELD)
      err = sleep_until_done(self)
      leave(id)
    else
      err = sleep_until_done(self)
    end
    if type(err) == "string" then -- waiting is impossible here
      cancel_own(self, "the gather cannot wait")
      task.raise(err)
    end
    if type(err) == "table" and self._interruption then -- nothing can go on even so
      task.raise(err)
    end
    if err ~= nil and not self._interruption then
      self._interruption = err
      if err == true then
        -- As in asyncio, everything in a cancelled gather is cancelled.
        for _, t in ipairs(self._entries) do t:cancel("the gather was cancelled") end
        -- All of it is waited for, whatever failed before.
        self._failed, self._return_errors = nil, true
      elseif err == 1 then
        cancel_own(self, "the gather was cancelled")
        self._failed = true
      else
        cancel_own(self, "the gather failed")
        self._failed = true
      end
    end
  end
end

local function unwatch_all(self)
  for t, node in pairs(self._nodes) do
    if t[2] <= 0 then unwatch(t, node) end
  end
end

local function finish(self)
  wait_for_all(self)
  unwatch_all(self)
  if self._interruption ~= nil then task.raise(self._interruption) end
  if self._failed then
    local failed = self._failed
    -- The functions were cancelled because of it; that is no loss.
    return task.outcome(failed)
  end
  return collect(self)
end

local function add(self, t)
  task.not_self(t)
  if self._nodes[t] then return end
  self._nodes[t] = { self }
  if t[2] <= 0 then
    self._left = self._left + 1
    watch(t, self._nodes[t])
  elseif t[2] ~= DONE and t[2] ~= PACKED and t[2] ~= NONE and not self._return_errors then
    self._failed = self._failed or t
  end
end

local function start_gather(list, n, kinds, return_errors)
  local self = setmetatable({
    what = "a gather", size = n, _left = 0, _ticket = { 0 }, _entries = {}, _kinds = kinds,
    _own_left = 0, _nodes = {}, _return_errors = return_errors, _failed = nil,
  }, Gather)
  local entries, own = self._entries, setmetatable({ gather = self }, Own)
  for i = 1, n do
    local entry = list[i]
    if kinds[i] == "function" then
      entry = spawn_for(own, entry)
      self._own_left = self._own_left + 1
      self._left = self._left + 1
    else
      add(self, entry)
    end
    entries[i] = entry
  end
  if self._failed then cancel_own(self, "another of the gather failed") end
  return self
end

local GATHER_OPTIONS = { return_errors = true }

---@class rille.GatherOptions
---@field return_errors? boolean  errors stand among the results, nothing is raised; default false

--- Waits for all of a list of functions (each runs as a task), Tasks and Futures.
---@async
---@param list table  functions, Tasks and Futures
---@param options? rille.GatherOptions
---@return table  first results in the order of `list`, with `n`
-- Errors: the first error; the functions are then cancelled and waited for, Tasks and Futures go
-- on.
-- Source: asyncio.gather.
function M.gather(list, options)
  local n = length(list, "gather")
  options = check.options(options, GATHER_OPTIONS, 2, "gather")
  local kinds = {}
  for i = 1, n do kinds[i] = entry_kind(list[i], i, "gather", list) end
  if n == 0 then return { n = 0 } end
  local self = start_gather(list, n, kinds, options.return_errors and true or false)
  local results = finish(self)
  return results
end

local MAP_OPTIONS = { limit = true }

---@class rille.MapOptions
---@field limit? integer  how many run at once; all by default

--- Calls `fn(item, index)` for each item of a list as tasks.
---@async
---@param list table
---@param fn fun(item: any, index: integer): any
---@param options? rille.MapOptions
---@return table  first results in the order of `list`, with `n`
-- Errors: the first error; the rest is then cancelled and waited for.
function M.map(list, fn, options)
  local n = length(list, "map")
  check.callable(fn, 2, "map")
  options = check.options(options, MAP_OPTIONS, 3, "map")
  local limit = options.limit
  if limit ~= nil then limit = check.count(limit, 1, "limit", "map") end
  if n == 0 then return { n = 0 } end
  local results, at = { n = n }, 0
  -- As many tasks as may run at once, each taking the next item.
  local function work()
    while at < n do
      at = at + 1
      local i = at
      results[i] = fn(list[i], i)
    end
  end
  local workers, kinds = {}, {}
  for i = 1, math.min(n, limit or n) do workers[i], kinds[i] = work, "function" end
  local self = start_gather(workers, #workers, kinds, false)
  self.what = "a map"
  finish(self)
  return results
end

-- ---- wait ---------------------------------------------------------------------------------------

local function awaitables(list, name)
  local n = length(list, name)
  local tasks, seen = {}, {}
  for i = 1, n do
    local v = list[i]
    if not task.is_awaitable(v) then
      bad_entry(list, i, name, "Task or Future")
    end
    if not seen[v] then
      seen[v] = true
      tasks[#tasks + 1] = v
    end
  end
  return tasks
end

local Wait = setmetatable({}, { __index = Collector })
Wait.__index = Wait

local function is_error_state(s) return s == FAILED or s == TAKEN end

function Wait:child_done(t)
  self._left = self._left - 1
  if self._left == 0 or self._first or self._first_error and is_error_state(t[2]) then
    self._over = true
    wake(self._ticket[1])
  end
end

local WAIT_OPTIONS = { timeout = true, return_when = true }
local WHEN = { ALL_COMPLETED = true, FIRST_COMPLETED = true, FIRST_ERROR = true }

---@class rille.WaitOptions
---@field timeout? number  seconds; no limit by default
---@field return_when? "ALL_COMPLETED"|"FIRST_COMPLETED"|"FIRST_ERROR"  the first by default

--- Waits until some or all of the tasks are done, or the time is over. Cancels nothing and raises
-- no task's error.
---@async
---@param list table  Tasks and Futures, at least one; functions are an error here
---@param options? rille.WaitOptions
---@return table done  in the order of `list`
---@return table pending
-- Source: asyncio.wait.
function M.wait(list, options)
  local tasks = awaitables(list, "wait")
  if #tasks == 0 then check.bad(1, "wait", "the list is empty") end
  options = check.options(options, WAIT_OPTIONS, 2, "wait")
  local when = options.return_when or "ALL_COMPLETED"
  if not WHEN[when] then
    check.bad("return_when", "wait", ("'ALL_COMPLETED', 'FIRST_COMPLETED' or 'FIRST_ERROR' "
      .. "expected, got '%s'"):format(tostring(when)))
  end
  local timeout = options.timeout
  if timeout ~= nil then timeout = check.seconds(timeout, "timeout", "wait") end

  local self = setmetatable({
    what = "a wait", size = #tasks, _entries = tasks, _left = 0, _ticket = { 0 },
    _first = when == "FIRST_COMPLETED",
    _first_error = when == "FIRST_ERROR", _over = false,
  }, Wait)
  local nodes = {}
  for _, t in ipairs(tasks) do
    task.not_self(t)
    if t[2] <= 0 then
      self._left = self._left + 1
    elseif self._first or self._first_error and is_error_state(t[2]) then
      self._over = true
    end
  end
  if self._left == 0 then self._over = true end
  if not self._over then
    for _, t in ipairs(tasks) do
      if t[2] <= 0 then nodes[t] = watch(t, { self }) end
    end
    local timer
    if timeout then
      timer = task.schedule(core.time() + timeout, function()
        self._over = true
        wake(self._ticket[1])
      end)
    end
    local err = sleep_until_done(self)
    if timer then timer:cancel() end
    for t, node in pairs(nodes) do
      if t[2] <= 0 then unwatch(t, node) end
    end
    if err ~= nil then task.raise(err) end
  end
  local done, still = {}, {}
  for _, t in ipairs(tasks) do
    local side = t[2] > 0 and done or still
    side[#side + 1] = t
  end
  return done, still
end

-- ---- as_completed -------------------------------------------------------------------------------

local Stream = setmetatable({}, { __index = Collector })
Stream.__index = Stream

function Stream:child_done(t)
  self._pending[t] = nil
  self._left = self._left - 1
  self._done[#self._done + 1] = t
  if self._waits then wake(self._ticket[1]) end
end

-- Who gives up in the middle leaves nothing behind at tasks that live on; but the loop may go on.
local function attach(self)
  self._attached = true
  for t in pairs(self._pending) do
    if t[2] > 0 then
      self:child_done(t)
    else
      self._pending[t] = watch(t, { self })
    end
  end
end

local function detach(self)
  self._attached = false
  for t, node in pairs(self._pending) do unwatch(t, node) end
end

local function next_done(self)
  if not self._attached then attach(self) end
  local at = self._at + 1
  if not self._done[at] then
    if self._left == 0 then return nil end
    local timer
    if self._deadline then
      timer = task.schedule(self._deadline, function()
        if self._waits then wake(self._ticket[1]) end
      end)
    end
    self._waits = true
    local err = sleep_until_done(self)
    self._waits = false
    if timer then timer:cancel() end
    if err ~= nil then
      detach(self)
      task.raise(err)
    end
    if not self._done[at] then
      detach(self)
      errors._raise("TimeoutError", ("%d of %d tasks have not ended"):format(self._left, self.size))
    end
  end
  self._at = at
  return self._done[at]
end

local AS_COMPLETED_OPTIONS = { timeout = true }

---@class rille.AsCompletedOptions
---@field timeout? number  seconds for all together; no limit by default

--- Iterates over tasks in the order in which they end.
---@async
---@param list table  functions (each runs as a task), Tasks and Futures
---@param options? rille.AsCompletedOptions
---@return fun(): Task?  for `for`
-- Errors: TimeoutError from the iterator.
-- Source: asyncio.as_completed.
function M.as_completed(list, options)
  local n = length(list, "as_completed")
  local kinds = {}
  for i = 1, n do kinds[i] = entry_kind(list[i], i, "as_completed", list) end
  options = check.options(options, AS_COMPLETED_OPTIONS, 2, "as_completed")
  local timeout = options.timeout
  if timeout ~= nil then timeout = check.seconds(timeout, "timeout", "as_completed") end
  local self = setmetatable({
    what = "as_completed", size = 0, _left = 0, _entries = {}, _ticket = { 0 }, _done = {}, _at = 0,
    _waits = false, _attached = true, _pending = {},
  }, Stream)
  local seen = {}
  for i = 1, n do
    local t = list[i]
    if kinds[i] == "function" then
      t = task.spawn_for(false, t)
    elseif seen[t] then
      t = nil
    end
    if t then
      seen[t] = true
      self.size = self.size + 1
      self._entries[self.size] = t
      if t[2] > 0 then
        self._done[#self._done + 1] = t
      else
        self._left = self._left + 1
        self._pending[t] = watch(t, { self })
      end
    end
  end
  if timeout then self._deadline = core.time() + timeout end
  -- A loop that is left early drops the iterator, and with it what stands at the tasks.
  local guard = when_collected(function() detach(self) end)
  return function() return guard and next_done(self) end
end

-- ---- shield -------------------------------------------------------------------------------------

--- Waits for something that goes on when the waiter is cancelled.
---@async
---@param what function|Task|Future
---@param ... any  for a function
---@return ...  its results
-- Errors: its own; Cancelled.
-- Source: asyncio.shield.
function M.shield(what, ...)
  local t = what
  if not task.is_awaitable(what) then
    check.callable(what, 1, "shield")
    t = task.spawn_for(false, what, ...)
  end
  if t[2] <= 0 then
    if t[1] ~= 0 and t == task.current() then
      errors._raise("InvalidStateError", "a task cannot wait for itself")
    end
    local err = task.join(t)
    if err ~= nil then task.raise(err) end
  end
  return task.outcome(t)
end


return M
