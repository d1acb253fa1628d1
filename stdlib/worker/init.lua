--- rille.worker: Lua functions on other threads, each with an interpreter and a loop of its own, or
-- in other processes; and channels to them. Functions, arguments, results and errors are copied.
local core = require "rille.core.worker"
local check = require "rille.core.check"
local errors = require "rille.errors"
local Channel = require "rille.worker.channel"
local threads = require "rille.worker.threads"
local map = require("rille.async.gather").map
local job = require "rille.core.worker_job"
local sleep = require("rille.async").sleep

local type, getmetatable = type, debug.getmetatable

---@class rille.worker
local worker = { Channel = Channel }

---@class WorkerPool
local Pool = {}
Pool.__index = Pool
Pool.__name = "worker.Pool"

function Pool:__tostring()
  return ("worker.Pool: %s, of %d"):format(self._closed and "closed" or "open", self._size)
end

local LARGEST = 1024
local KNOWN = { size = true, kind = true, initializer = true, max_jobs = true }
local MAP_OPTIONS = { limit = true }

local function check_function(fn, position, name)
  if type(fn) ~= "function" then
    check.bad(position, name, "function expected, got " .. (fn == nil and "nil" or type(fn)))
  end
end

---@class rille.worker.PoolOptions
---@field size? integer  at most so many; by default the number of cores, or RILLE_POOL_SIZE
---@field kind? "thread"|"process"  "thread" by default
---@field initializer? function  called in each worker as a part of its first job
---@field max_jobs? integer  a worker that has done so many ends, and a new one takes its place

--- Makes a pool of workers. They are started when they are needed.
-- Those of kind "process" may crash, and are killed when their job is cancelled; each has an empty
-- standard input, the program's standard output and error, and a process group of its own, so that
-- a terminal's Ctrl-C is for the program alone. When the program dies, idle ones end at once; what
-- is busy may clean up from 0.2 seconds later on and is killed, with all that it has started, after
-- two more. A script in a sandbox has threads alone, which may do what it may.
--
-- What the initializer leaves in globals and modules is there for the jobs; its upvalues are copies
-- from the time when the pool was made. If it fails, so does the job, and the worker's next one
-- calls it again.
---@param options? rille.worker.PoolOptions
---@return WorkerPool
-- Errors: PermissionError for processes in a sandbox; WorkerError in a host that has named no
-- executable for them.
-- Source: concurrent.futures' executors.
function worker.Pool(options)
  options = check.options(options, KNOWN, 1, "Pool")
  local size = options.size
  if size == nil then
    size = core.default_size()
  else
    size = check.count(size, 1, "size", "Pool")
    if size > LARGEST then
      check.bad("size", "Pool", ("at most %d expected, got %s"):format(LARGEST, tostring(size)))
    end
  end
  local kind, initializer, max_jobs = options.kind or "thread", options.initializer,
    options.max_jobs
  if initializer ~= nil then check_function(initializer, "initializer", "Pool") end
  if max_jobs ~= nil then max_jobs = check.count(max_jobs, 1, "max_jobs", "Pool") end
  local workers
  if kind == "thread" then
    workers = threads(size, max_jobs, initializer)
  elseif kind == "process" then
    workers = require "rille.worker.processes" (size, max_jobs, initializer)
  else
    check.bad("kind", "Pool", ("'thread' or 'process' expected, got '%s'"):format(tostring(kind)))
  end
  return setmetatable({ _workers = workers, _size = size, _closed = false }, Pool)
end

local function check_open(self, name)
  if getmetatable(self) ~= Pool then
    check.fail(("calling '%s' on bad self (worker.Pool expected, got %s): is there a dot for a "
      .. "colon?"):format(name, type(self)))
  end
  if self._closed then errors._raise("InvalidStateError", name .. ": the pool is closed") end
end

--- Calls `fn(...)` in one of the workers and waits for its end. The function may use what it can
-- `require`, the worker's own globals, and upvalues that can be copied: no functions with an
-- environment of their own (setfenv), no context variables, nothing that is open. A cancelled job
-- of a process is killed. One of a thread is cancelled at its next wait, or at `worker.check()`; if
-- it holds the thread for longer than a second without either, it is interrupted, compiled loops
-- too, and if that does not help either, for it is in a function of C, the thread is left to itself
-- a second later, and another one takes its place.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
-- Errors: its own, with the worker's traceback; CopyError for what cannot be copied; WorkerError if
-- the worker ends before the job; InvalidStateError if the pool is closed; Cancelled: the job is
-- asked to stop, and nobody waits for it.
-- Source: asyncio's loop.run_in_executor.
function Pool:run(fn, ...)
  check_open(self, "run")
  check_function(fn, 1, "run")
  return self._workers:run(fn, ...)
end

---@class rille.worker.MapOptions
---@field limit? integer  how many items at most are under way; a few more than there are workers

--- Calls `fn(item, index)` for each item of a list, as many at once as there are workers. Items are
-- copied and handed out when it is their turn, one at a time.
---@async
---@param list table
---@param fn function
---@param options? rille.worker.MapOptions
---@return table  the first results in the order of the list, with `n`
-- Errors: the first one of a call, after the rest was cancelled.
-- Source: concurrent.futures' Executor.map.
function Pool:map(list, fn, options)
  check_open(self, "map")
  check.table(list, 1, "map")
  check_function(fn, 2, "map")
  options = check.options(options, MAP_OPTIONS, 3, "map")
  -- Some more than there are workers, so that each finds the next when it is done.
  local limit = options.limit == nil and 2 * self._size + 2
    or check.count(options.limit, 1, "limit", "map")
  local workers = self._workers
  return map(list, function(item, index) return (workers:run(fn, item, index)) end,
    { limit = limit })
end

--- Ends the pool: waits for the jobs that it was given, then for the workers. A cancelled job does
-- not hold it up for more than moments. Twice is nothing.
---@async
function Pool:close()
  if self._closed then return end
  self._closed = true
  self._workers:close()
end

--- How many workers it has at most.
---@return integer
function Pool:size() return self._size end

local default

--- Calls `fn(...)` on a thread of the default pool and waits for its end: see Pool:run.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
-- Source: asyncio.to_thread.
function worker.run(fn, ...)
  check_function(fn, 1, "run")
  default = default or threads(core.default_size())
  return default:run(fn, ...)
end

--- In a job that goes on for long without waiting: raises its cancellation if there is one.
---@async
function worker.check()
  if job.current and job.is_cancelled and job.is_cancelled() then
    job.cancel()
    sleep(0)
  end
end

return worker
