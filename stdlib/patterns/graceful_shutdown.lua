--- An orderly end for a program that serves: no new work is accepted, what is under way may finish,
-- what has not finished in time is cancelled, and what does not end even then is given up.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local support = require "rille.patterns.support"
local async = require "rille.async"
local shielded = require("rille.async.cleanup").shielded

local wait, wake_all = core.wait, core.wake_all
local protected, rethrow, raise = task.protected, task.rethrow, task.raise
local setmetatable, type, pairs, ipairs = setmetatable, type, pairs, ipairs

---@class GracefulShutdown
local GracefulShutdown = {}
GracefulShutdown.__index = GracefulShutdown
GracefulShutdown.__name = "GracefulShutdown"

-- ---- the tasks ----------------------------------------------------------------------------------

local function track(self, t)
  self._number = self._number + 1
  self._tasks[t] = self._number
  self._alive = self._alive + 1
  task.watch(t, { self })
end

-- A task has ended.
function GracefulShutdown:child_done(t)
  self._tasks[t] = nil
  self._alive = self._alive - 1
  if self._alive == 0 then wake_all(self._closers) end
end

local function tasks_in_order(self)
  local list = {}
  for t in pairs(self._tasks) do list[#list + 1] = t end
  table.sort(list, function(a, b) return self._tasks[a] < self._tasks[b] end)
  return list
end

local function must_run(self, name)
  if self._stop:is_set() then
    errors._raise("InvalidStateError", name .. ": the shutdown has begun")
  end
end

--- Starts a task that the shutdown lets finish, as async.spawn does.
---@param fn function
---@param ... any  for `fn`
---@return Task
-- Errors: InvalidStateError once the shutdown has begun.
function GracefulShutdown:spawn(fn, ...)
  must_run(self, "spawn")
  local t = async.spawn(fn, ...)
  track(self, t)
  return t
end

--- Has the shutdown let a task finish that was started elsewhere.
---@param t Task
---@return Task  `t`
-- Errors: InvalidStateError once the shutdown has begun.
function GracefulShutdown:add(t)
  if getmetatable(t) ~= task.TaskMeta then
    check.bad(1, "add", "Task expected, got " .. type(t))
  end
  must_run(self, "add")
  if not t:done() then track(self, t) end
  return t
end

--- Has `fn(reason)` called when the shutdown begins, to stop accepting: close a listener or a
-- server, tell workers to come to an end. The functions run at the same time, start in the order in
-- which they were given, and are let finish like tasks.
---@param fn fun(reason: any)
-- Errors: InvalidStateError once the shutdown has begun.
function GracefulShutdown:on_stop(fn)
  check.callable(fn, 1, "on_stop")
  must_run(self, "on_stop")
  self._hooks[#self._hooks + 1] = fn
end

-- ---- signals ------------------------------------------------------------------------------------

local function close_handlers(self)
  local handlers = self._handlers
  self._handlers = {}
  for _, handler in ipairs(handlers) do handler:close() end
end

-- A second signal finds somebody who is in a hurry; after it a third does what it does by default.
local function on_signal(self, name)
  if not self:stop(name) then
    self:cancel(name)
    close_handlers(self)
  end
end

-- rille.signal, or nil where it is not built in.
local function find_signals()
  local ok, signal = protected(require, "rille.signal")
  if ok then return signal end
  if not support.text_of(signal):find("module 'rille.signal' not found", 1, true) then
    rethrow(signal)
  end
end

local function listen(self, names)
  local signal = find_signals()
  if not signal then return end
  for _, name in ipairs(names) do
    local ok, handler = protected(signal.on, name, function(received) on_signal(self, received) end)
    if not ok then
      close_handlers(self)
      rethrow(handler)
    end
    self._handlers[#self._handlers + 1] = handler
  end
end

-- ---- the shutdown -------------------------------------------------------------------------------

--- Asks for the shutdown: wakes those in wait(). Does not wait, and may be called from a callback.
---@param reason? any  what wait() gives
---@return boolean  false if it was asked for before
function GracefulShutdown:stop(reason)
  if self._stop:is_set() then return false end
  self._reason = reason
  self._stop:set()
  return true
end

--- True once the shutdown was asked for; for workers that look between two pieces of work.
function GracefulShutdown:stopping() return self._stop:is_set() end

--- Waits until the shutdown is asked for, by a signal or by stop().
---@async
---@return any  the signal's name, or the reason given to stop()
function GracefulShutdown:wait()
  self._stop:wait()
  return self._reason
end

--- Asks for the shutdown without the time to finish: cancels at once what runs.
---@param reason? any
function GracefulShutdown:cancel(reason)
  self:stop(reason)
  self._hurried = true
  for _, t in ipairs(tasks_in_order(self)) do t:cancel(reason) end
  wake_all(self._closers)
end

local function wait_for_tasks(self)
  while self._alive > 0 and (self._cancelled or not self._hurried) do
    local err = wait(self._closers)
    if err ~= nil then raise(err) end
  end
end

report.describe(wait_for_tasks, function(self)
  return ("the end of %d tasks, before the shutdown"):format(self._alive)
end)

local function wait_in_scope(_, self) wait_for_tasks(self) end

-- Waits for the tasks, so many seconds at most; none at all for 0.
local function wait_for(self, seconds)
  if self._alive == 0 or seconds <= 0 then return end
  if seconds == math.huge then return wait_for_tasks(self) end
  async.move_on_after(seconds, wait_in_scope, self)
end

local function give_up(self)
  local left = tasks_in_order(self)
  for _, t in ipairs(left) do
    task.report {
      message = ("the shutdown gave up on %s, which %s"):format(t:name(), report.waits_for(t)),
      task = t, traceback = t:traceback(),
    }
  end
  return left
end

-- Cancels what is left and gives it time to clean up. Returns what does not end.
local function cancel_rest(self)
  self._cancelled = true
  local reason = self._reason
  if reason == nil then reason = "shutdown" end
  for _, t in ipairs(tasks_in_order(self)) do t:cancel(reason) end
  wait_for(self, self._cancel_timeout)
  return give_up(self)
end

-- An error in a hook keeps nothing else from happening.
local function call_hook(self, fn, failures)
  local ok, e = protected(fn, self._reason)
  if ok then return end
  if support.passes(e) then rethrow(e) end
  failures[#failures + 1] = e
end

-- Eagerly, so that even with no time at all they are called.
local function start_hooks(self, failures)
  for _, fn in ipairs(self._hooks) do
    local t = async.spawn_eager(call_hook, self, fn, failures)
    t:set_name "a hook of the shutdown"
    if not t:done() then track(self, t) end
  end
end

local function shut_down(self)
  local failures = {}
  start_hooks(self, failures)
  local finished, e = protected(wait_for, self, self._timeout)
  -- Who waits may be cancelled, but what was begun is brought to its end.
  local ended, left = shielded(cancel_rest, self)
  close_handlers(self)
  self._left = ended and left or tasks_in_order(self)
  self._closed:set()
  if #failures > 0 then rethrow(errors._group(failures)) end
  if not ended then rethrow(left) end
  if not finished then rethrow(e) end
end

--- Shuts down, in this order: runs what on_stop() was given and lets all tasks finish, for
-- `timeout` seconds together; cancels those that have not, and gives them `cancel_timeout` seconds
-- to clean up; gives up those that have not ended even then, and reports where they stand. If it
-- was called before, waits for the end of that.
---@async
---@return boolean  true if everything has ended
---@return Task[]  what was given up
-- Errors: an ErrorGroup of what the functions of on_stop() raised; InvalidStateError in a task that
-- it would wait for; Cancelled, after having cancelled the tasks at once and waited for them.
function GracefulShutdown:close()
  if self._tasks[task.current()] then
    errors._raise("InvalidStateError", "close: the shutdown would wait for the task that called it")
  end
  self:stop()
  if self._closing then
    self._closed:wait()
  else
    self._closing = true
    shut_down(self)
  end
  return #self._left == 0, self._left
end

local OPTIONS = { timeout = true, cancel_timeout = true, signals = true }

---@class rille.patterns.GracefulShutdownOptions
---@field timeout? number  seconds that tasks have to finish; 10 by default
---@field cancel_timeout? number  seconds that cancelled ones have to clean up; 5 by default
---@field signals? string[]|false  in place of SIGINT and SIGTERM; false for none

--- Makes a shutdown that waits to be asked for, and handles SIGINT and SIGTERM until it is closed:
-- the first of them calls stop(), a second one cancel(), a third does what it does by default. It
-- is a resource: async.with closes it at the end of its block.
---@param options? rille.patterns.GracefulShutdownOptions
---@return GracefulShutdown
-- Source: aiohttp's web.run_app, Go's http.Server.Shutdown.
return function(options)
  local o = check.options(options, OPTIONS, 1, "GracefulShutdown")
  local signals = o.signals
  if signals == nil or signals == true then signals = { "SIGINT", "SIGTERM" } end
  if signals ~= false and type(signals) ~= "table" then
    check.bad("signals", "GracefulShutdown", "a list of names or false expected, got "
      .. type(signals))
  end
  local self = setmetatable({
    _timeout = support.seconds("timeout", o.timeout, 10, "GracefulShutdown"),
    _cancel_timeout = support.seconds("cancel_timeout", o.cancel_timeout, 5, "GracefulShutdown"),
    _tasks = {}, _alive = 0, _number = 0, _hooks = {}, _handlers = {}, _reason = nil,
    _hurried = false, _cancelled = false, _closing = false, _left = {}, _closers = core.WaitList(),
    _stop = async.Event(), _closed = async.Event(),
  }, GracefulShutdown)
  if signals then listen(self, signals) end
  return self
end
