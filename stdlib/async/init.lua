--- rille.async: tasks, what they wait for, and what bounds them. Every function that waits parks
-- the task that calls it, not the thread.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local check = require "rille.core.check"
local protect = require "rille.core.protect"
local report = require "rille.core.report"
local errors = require "rille.errors"
local debug_state = require "rille.core.debug_state"

local sleep, give_way = core.sleep, core.give_way
local raise = task.raise
local type = type

---@class rille.async
---@field slow_callback_duration number  seconds that a task may hold the loop in debug mode; 0.1
local async = {
  spawn = task.spawn,
  create_task = task.spawn,
  spawn_eager = task.spawn_eager,
  Future = task.new_future,
  pcall = protect.acknowledging_pcall,
  xpcall = protect.acknowledging_xpcall,
}

local function bad_sleep(seconds, err)
  if err == 2 then
    if type(seconds) == "string" and tonumber(seconds) then
      return async.sleep(tonumber(seconds))
    end
    check.seconds(seconds, 1, "sleep")
  end
  raise(err)
end

--- Waits, and returns the further arguments. `async.sleep(0)` lets every ready task run once.
---@async
---@param seconds number  none below 0 waits longer than 0
---@param ... any
---@return ...  the further arguments
-- Errors: Cancelled.
-- Source: asyncio.sleep.
function async.sleep(seconds, ...)
  -- Twice the same, so that the result takes the place of the function: see hooks[1] in
  -- core/task.lua on the stack of a task that sleeps.
  if seconds == 0 then
    local err = give_way()
    if err ~= nil then bad_sleep(seconds, err) end
    return ...
  end
  local err = sleep(seconds)
  if err ~= nil then bad_sleep(seconds, err) end
  return ...
end

report.describe(async.sleep, function(seconds)
  return ("a sleep of %s s"):format(tostring(seconds))
end)

--- The running task; nil in a callback.
---@return Task?
function async.current_task()
  local t = task.current()
  if t ~= task.outside then return t end
end

--- All tasks that are not done, oldest first.
---@return Task[]
function async.all_tasks() return report.all_tasks() end

--- True for a Cancelled and for a CancelledError.
---@param value any
---@return boolean
function async.is_cancelled(value)
  return errors.is(value, "Cancelled") or errors.is(value, "CancelledError")
end

--- Seconds on the monotonic clock that all deadlines are on.
---@return number
async.time = core.time

--- Calls `fn(...)` soon, outside of every task.
---@param fn function
---@param ... any  for `fn`
---@return Handle
-- Source: asyncio's loop.call_soon.
function async.call_soon(fn, ...)
  check.callable(fn, 1, "call_soon")
  return task.schedule(nil, fn, ...)
end

--- Calls `fn(...)` after a delay in seconds.
---@param delay number  seconds
---@param fn function
---@param ... any  for `fn`
---@return Handle
-- Source: asyncio's loop.call_later.
function async.call_later(delay, fn, ...)
  delay = check.seconds(delay, 1, "call_later")
  check.callable(fn, 2, "call_later")
  return task.schedule(core.time() + delay, fn, ...)
end

--- Calls `fn(...)` at a time on the clock of async.time().
---@param deadline number  seconds
---@param fn function
---@param ... any  for `fn`
---@return Handle
-- Source: asyncio's loop.call_at.
function async.call_at(deadline, fn, ...)
  deadline = check.seconds(deadline, 1, "call_at")
  check.callable(fn, 2, "call_at")
  return task.schedule(deadline, fn, ...)
end

--- Takes over the reports of errors that nobody handles; nil gives them back to stderr.
---@param fn? fun(report: table)  gets `{ message =, error =, task = or handle =, traceback = }`
-- Source: asyncio's loop.set_exception_handler.
function async.set_exception_handler(fn)
  if fn ~= nil then check.callable(fn, 1, "set_exception_handler") end
  report.handler = fn
end

--- Whether debug mode is on.
---@return boolean
function async.debug() return debug_state.on end

--- Switches debug mode, as `--debug` and RILLE_DEBUG=1 do.
---@param on boolean
function async.set_debug(on)
  core.set_debug(on and true or false)
  require("rille.core.debug_mode").set(on)
end

---@class rille.Stats
---@field tasks integer  that are not done
---@field timers integer
---@field handles integer  of libuv: sockets, processes and the like
---@field pool_size integer  threads of each pool: RILLE_POOL_SIZE, else the processors, at least 4
---@field pool_queued integer  operations, and jobs of workers, that wait for a thread
---@field abandoned integer  operations that still run, although their tasks have given them up

--- What the runtime has in hand. There is a pool of threads each for files, for names (the system's
-- resolver) and for the blocking work of modules; rille.worker makes those for its jobs.
---@return rille.Stats
function async.stats()
  local tasks, timers, handles, abandoned, pool_size, pool_queued = core.stats()
  local worker = package.loaded["rille.core.worker"]
  if worker then
    local queued, given_up = worker.load()
    pool_queued, abandoned = pool_queued + queued, abandoned + given_up
  end
  return {
    tasks = tasks, timers = timers, handles = handles, pool_size = pool_size,
    pool_queued = pool_queued, abandoned = abandoned,
  }
end

--- Runs `fn()` and hands the parts of an ErrorGroup (or a single error) to the handlers of their
-- kinds; raises what is left.
---@async
---@param fn function
---@param handlers table<string, fun(group: table): any>
---@return ...  the results of `fn`, or of the handlers
-- Source: Python's `except*`.
function async.catch(fn, handlers)
  check.callable(fn, 1, "catch")
  check.table(handlers, 2, "catch")
  for kind, handler in pairs(handlers) do
    if not check.is_callable(handler) then
      check.bad(2, "catch", ("the handler of '%s' is no function"):format(tostring(kind)))
    end
  end
  return require("rille.async.catch")(fn, handlers)
end

-- Never runs; it tells editors, which read this file too, where the rest is.
local is_editor = false
if is_editor then
  local gather, timeout = require "rille.async.gather", require "rille.async.timeout"
  local cleanup, contextvar = require "rille.async.cleanup", require "rille.async.contextvar"
  local semaphore, queue = require "rille.async.semaphore", require "rille.async.queue"
  async.gather, async.map, async.wait = gather.gather, gather.map, gather.wait
  async.as_completed, async.shield = gather.as_completed, gather.shield
  async.wait_for, async.timeout = timeout.wait_for, timeout.timeout
  async.timeout_at, async.move_on_after = timeout.timeout_at, timeout.move_on_after
  async.finally, async.with = cleanup.finally, cleanup.with
  async.context, async.generator = cleanup.context, cleanup.generator
  async.ContextVar, async.copy_context = contextvar.ContextVar, contextvar.copy_context
  async.Semaphore, async.BoundedSemaphore = semaphore.Semaphore, semaphore.BoundedSemaphore
  async.Queue, async.PriorityQueue, async.LifoQueue = queue.Queue, queue.PriorityQueue,
    queue.LifoQueue
  async.run, async.group = require("rille.async.run").run, require "rille.async.group"
  async.Lock, async.Event = require("rille.async.lock").Lock, require "rille.async.event"
  async.Condition, async.Barrier = require "rille.async.condition", require "rille.async.barrier"
end

-- The rest is loaded when it is first used.
local HOME = {
  gather = "gather", map = "gather", wait = "gather", as_completed = "gather", shield = "gather",
  wait_for = "timeout", timeout = "timeout", timeout_at = "timeout", move_on_after = "timeout",
  finally = "cleanup", with = "cleanup", context = "cleanup", generator = "cleanup",
  ContextVar = "contextvar", copy_context = "contextvar", run = "run",
  Semaphore = "semaphore", BoundedSemaphore = "semaphore",
  Queue = "queue", PriorityQueue = "queue", LifoQueue = "queue",
  Lock = "lock", Event = "event", Condition = "condition", Barrier = "barrier", group = "group",
}

-- Seconds that a task may hold the loop before debug mode says so: a field that the scheduler
-- knows.
local slow_callback_duration = 0.1

setmetatable(async, {
  __index = function(self, name)
    if name == "slow_callback_duration" then return slow_callback_duration end
    local home = HOME[name]
    if not home then return nil end
    local module = require("rille.async." .. home)
    if type(module) == "table" then module = module[name] end
    self[name] = module
    return module
  end,
  __newindex = function(self, name, value)
    if name == "slow_callback_duration" then
      slow_callback_duration = check.seconds(value, name, "rille.async")
      core.set_slow_limit(slow_callback_duration)
    else
      rawset(self, name, value)
    end
  end,
})

return async
