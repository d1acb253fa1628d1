--- Task and Future objects, how they start, end and are waited for, and how a cancellation is
-- raised. Everything else in rille.async is built on this and on the scheduler's functions.
--
-- A Task is an array, since a million of them shall fit into memory:
--   [1] index of its slot in the scheduler, 0 without one (done, or a Future)
--   [2] its state, one of the numbers below; not above 0 while pending: minus how many arguments
--   [3] the function, later the result, the packed results or the error
--   [4] the argument or the packed arguments, until it starts
--   [5] its environment: context variables, and the async.run it belongs to
--   [6] who waits for its end: false, the ticket of one task, an object with `child_done`, a List
--   [7] its number, later its name if it was given one
--   [8] where it was made, { function, line }, or false
--   [9] [0] its neighbours in its group
--   [10] false, or what few tasks have: { cancel =, generators =, held =, trace =, rethrown = }
local core = require "rille.core.scheduler"
local errors = require "rille.errors"
local check = require "rille.core.check"
local explain = require "rille.core.misuse"
local List = require "rille.core.list"

local DONE, PACKED, FAILED, CANCELLED, NONE, TAKEN = 1, 2, 3, 4, 5, 6

local state, tasks, hooks = core.state_table, core.tasks, core.hooks
local open_batch, start_eagerly, made_at = core.open_batch, core.spawn_eager, core.made_at
local park, wake, pending = core.park, core.wake, core.pending
local show_current = core.show_current
local enter, leave, acknowledge, owns = core.enter, core.leave, core.acknowledge, core.owns
local TIMEOUT, GROUP, SHIELD = 1, 2, 3
-- Places in the table that is shared with the scheduler. The index of the running task stands there
-- only if somebody has asked for it lately: else show_current() puts it there.
local CURRENT, BATCH_OPEN, SPAWNED, BATCH_LEFT, BATCH_MOST = 1, 3, 4, 5, 6
local select, type, unpack, pairs, setmetatable, getmetatable, rawequal, error =
  select, type, unpack, pairs, setmetatable, getmetatable, rawequal, error
local traceback = debug.traceback
local xpcall = xpcall
local Cancelled = errors._Cancelled

local M = { TIMEOUT = TIMEOUT, GROUP = GROUP, SHIELD = SHIELD }

---@class Task
local Task = {}
local TaskMeta = { __index = Task, __name = "Task" }
---@class Future
---@field await async fun(self: Future): ...  Waits for the end and gives the results.
---@field done fun(self: Future): boolean  True once there is a result, an error or a cancellation.
---@field cancelled fun(self: Future): boolean  True if it ended by cancellation.
---@field result fun(self: Future): ...  The results, without waiting; errors as Task's.
---@field error fun(self: Future): any  The error it failed with, or nil; errors as Task's.
---@field add_done_callback fun(self: Future, fn: fun(f: Future))  Calls `fn` soon after it is done.
---@field remove_done_callback fun(self: Future, fn: function): integer  Takes it back; how often.
local Future = {}
local FutureMeta = { __index = Future, __name = "Future" }
M.Task, M.TaskMeta, M.Future, M.FutureMeta = Task, TaskMeta, Future, FutureMeta

local numbers = 0

-- What runs outside of every task (callbacks, the host) has this in the place of a task.
local NO_ENVIRONMENT = { vars = false, run = false }
local outside = setmetatable(
  { [0] = false, 0, 0, false, false, NO_ENVIRONMENT, false, 0, false, false, false }, TaskMeta)
tasks[0] = outside
M.outside = outside

local function current() return tasks[state[CURRENT] or show_current()] end

--- The running task, or the object that stands for "no task".
M.current = current

local function extra(task)
  local x = task[10]
  if not x then
    x = {}
    task[10] = x
  end
  return x
end
M.extra = extra

-- ---- raising ------------------------------------------------------------------------------------

-- Errors that are no objects carry no trace: it is kept with the task they pass through.
local rethrowing

-- Handler of every protected call of the runtime's own.
local function keep_trace(e)
  if rethrowing ~= nil and rawequal(rethrowing, e) then
    rethrowing = nil
    return e
  end
  if type(e) ~= "table" then
    e = explain(e)
    extra(current()).rethrown = { value = e, trace = { stack = traceback("", 2) } }
  end
  return e
end
M.keep_trace = keep_trace

--- Raises an error that a protected call of the runtime's has caught, as it was.
local function rethrow(e)
  rethrowing = e
  error(e, 0)
end
M.rethrow = rethrow

--- Whoever has caught an error that was raised again has ended its way.
function M.forget_rethrow() rethrowing = nil end

local function protected(fn, ...) return xpcall(fn, keep_trace, ...) end
M.protected = protected

-- Cancellations of timeouts and groups, by scope.
local scope_cancels = {}
M.scope_cancels = scope_cancels

-- Raises the cancellation that is pending for the running task.
local function interrupted()
  local id = pending()
  local c
  if id == 0 then
    c = current()[10].cancel
  else
    c = scope_cancels[id]
    if not c then
      c = errors._cancelled("timeout", nil, nil)
      c._scope = id
      scope_cancels[id] = c
    end
  end
  c._raised = true
  c._trace = { stack = traceback("", 3) }
  error(c, 0)
end
M.interrupted = interrupted

--- Raises what a wait returned as its error: see runtime/task_lib.h.
local function raise(e)
  if e == true or e == 1 then interrupted() end
  if type(e) == "string" then check.fail(e) end
  if type(e) == "table" and getmetatable(e) ~= nil and e._trace and not e._placed then
    e._placed = true
    e._trace = { stack = traceback("", 3) }
  end
  rethrow(e)
end
M.raise = raise

--- True if `e` is a cancellation of the running task that has not come to its end.
local function is_live(e)
  if getmetatable(e) ~= Cancelled then return false end
  local id = e._scope
  if id == nil then return false end
  if id == 0 then
    local x = current()[10]
    return x and x.cancel == e or false
  end
  return owns(id) and scope_cancels[id] == e
end
M.is_live = is_live

--- The running task has dealt with its cancellation and waits again.
function M.acknowledge(e)
  e._acknowledged = true
  acknowledge(e._scope, true)
end

--- A cancellation that was acknowledged and raised again counts once more.
function M.revive(e)
  if e._acknowledged then
    e._acknowledged = false
    acknowledge(e._scope, false)
  end
end

-- ---- the end of a task --------------------------------------------------------------------------

local function notify(w, task)
  if type(w) == "number" then
    wake(w)
  elseif getmetatable(w) == List then
    local node = w.head
    while node do
      local following = node.next
      notify(node[1], task)
      node = following
    end
  else
    w:child_done(task)
  end
end

local function complete(task)
  task[1] = 0
  task[4] = false
  local w = task[6]
  if w then
    task[6] = false
    notify(w, task)
  end
end

-- Set by lost.lua: watches a failed task whose error nobody has taken.
M.watch_lost = function() end

local function take(task)
  if task[2] == FAILED then
    task[2] = TAKEN
    local x = task[10]
    if x and x.lost then x.lost() end
  end
end
M.take = take

local function settle_failure(task, e, trace)
  task[2], task[3] = FAILED, e
  local x = extra(task)
  x.trace = trace
  M.watch_lost(task)
end

-- Whether a task that was cancelled ends so, although its function returned.
local function ends_cancelled(c)
  return c and not c._raised and not c._late and not c._acknowledged
end

--- `object:close()`, which must not wait, is called if the running task fails or is cancelled: an
-- iterator lets go of what it holds before the collector comes by. The task does not keep it.
function M.hold(object)
  local task = current()
  if task == outside then return end
  local x = extra(task)
  x.held = x.held or setmetatable({}, { __mode = "k" })
  x.held[object] = true
end

local function close_held(task, held)
  for object in pairs(held) do
    local ok, e = protected(object.close, object)
    if not ok then M.report { message = "error in a clean-up", error = e, task = task } end
  end
end

local function finish_slowly(task, ...)
  local x = task[10]
  if x.generators then M.close_generators(task) end
  if ends_cancelled(x.cancel) then
    if x.held then close_held(task, x.held) end
    task[2], task[3] = CANCELLED, x.cancel
  else
    task[2], task[3] = PACKED, { n = select("#", ...), ... }
  end
  complete(task)
end

-- The running task's function has returned.
local function finish(...)
  local task = tasks[state[CURRENT] or show_current()]
  if task[10] then
    finish_slowly(task, ...)
    return
  end
  local n = select("#", ...)
  if n == 1 then
    task[2], task[3] = DONE, (...)
  elseif n == 0 then
    task[2], task[3] = NONE, false
  else
    task[2], task[3] = PACKED, { n = n, ... }
  end
  task[1] = 0
  task[4] = false
  local w = task[6]
  if w then
    task[6] = false
    if type(w) == "number" then
      wake(w)
    else
      notify(w, task)
    end
  end
end

-- A task that was cancelled before its first step never runs its body.
local function abort(task)
  task[2], task[3] = CANCELLED, task[10].cancel
  complete(task)
end

-- Spawned tasks that have not started: new ones go into one array while another is worked off.
local incoming, n_incoming = {}, 0
local outgoing, at_outgoing, n_outgoing = {}, 0, 0

local function next_fresh()
  if at_outgoing == n_outgoing then
    incoming, outgoing = outgoing, incoming
    n_outgoing, n_incoming, at_outgoing = n_incoming, 0, 0
  end
  local at = at_outgoing + 1
  local task = outgoing[at]
  outgoing[at] = false
  at_outgoing = at
  return task
end

--- Calls `fn(task)` for every task that has not started.
function M.each_fresh(fn)
  for i = at_outgoing + 1, n_outgoing do fn(outgoing[i]) end
  for i = 1, n_incoming do fn(incoming[i]) end
end

-- The function and the arguments of the task that starts next; taken but once, so that nothing is
-- kept alive here.
local starting_fn, starting_args, starting_n = false, false, 0

local function take_fn()
  local fn = starting_fn
  starting_fn = false
  return fn
end

local function take_args()
  local args = starting_args
  starting_args = false
  return args
end

-- Makes `task`, or the next of the batch, the one that runs. False if there is none.
local function start(task)
  if task == nil then
    repeat
      local left = state[BATCH_LEFT]
      if left == 0 or state[BATCH_MOST] <= 0 then return false end
      state[BATCH_LEFT] = left - 1
      state[BATCH_MOST] = state[BATCH_MOST] - 1
      task = next_fresh()
      local x = task[10]
      local cancelled = x and x.cancel
      if cancelled then abort(task) end
    until not cancelled
  end
  local index = state[CURRENT] or show_current()
  tasks[index] = task
  task[1] = index
  starting_fn, starting_args, starting_n = task[3], task[4], -task[2]
  task[4] = false
  return true
end

-- What a coroutine of the pool runs: tasks of a batch, in the same slot one after another, until
-- one of them waits. LuaJIT gives a coroutine forty slots of stack at first, and a task that merely
-- sleeps shall do with them: so this function has no locals, and calls the task's function right
-- here. Having no name, that shows up in tracebacks with the place where it was defined.
hooks[1] = function(task)
  if not start(task) then return end
  task = nil -- luacheck: ignore 311 (it would be kept alive here)
  repeat
    if starting_n == 0 then
      finish(take_fn()())
    elseif starting_n == 1 then
      finish(take_fn()(take_args()))
    else
      finish(take_fn()(unpack(take_args(), 1, starting_n)))
    end
    -- A slot that was cancelled is not used again.
  until tasks[state[CURRENT] or show_current()][10] or not start()
end

-- An eager start runs one task.
hooks[3] = hooks[1]

-- A task's coroutine died of an error.
local function failed(task, co, e, out_of_memory)
  rethrowing = nil
  if not task then return end -- there was no memory to begin one: it is still in its batch
  local x = task[10]
  local trace
  if x and x.rethrown and rawequal(x.rethrown.value, e) then
    trace = x.rethrown.trace
  elseif errors.is_error(e) then
    trace = e._trace
  end
  if not trace then
    local stack = traceback(co, "")
    -- Where the interpreter itself has raised, the stack of a dead coroutine has lost the line of
    -- its first frame. The message has it.
    local file, line = (type(e) == "string" and e or ""):match "^([^\n]-):(%d+): "
    if file then
      local head = "\n\t" .. file .. ": in "
      local from, to = stack:find(head, 1, true)
      if from and from < 30 then
        stack = stack:sub(1, from - 1) .. "\n\t" .. file .. ":" .. line .. ": in "
          .. stack:sub(to + 1)
      end
    end
    trace = { stack = stack }
    e = explain(e, co)
  end
  if e == nil then
    e = errors.new("Error", out_of_memory and "not enough memory" or "nil")
    e._trace = trace
  end
  task[1] = 0
  if x and x.held then close_held(task, x.held) end
  if x and x.generators then
    -- Their clean-up may wait, which a dead coroutine cannot.
    local closer = M.spawn_internal(function()
      M.close_generators(task)
      M.end_with_error(task, e, trace)
    end, task[5])
    closer[7] = "clean-up of " .. task:name()
    extra(closer).immune = true
    return
  end
  M.end_with_error(task, e, trace)
end
hooks[2] = failed

function M.end_with_error(task, e, trace)
  local c = task[10] and task[10].cancel
  if getmetatable(e) == Cancelled and e._scope and (e == c or e._task == task) then
    task[2], task[3] = CANCELLED, e
  else
    settle_failure(task, e, trace)
  end
  complete(task)
end

-- ---- the beginning ------------------------------------------------------------------------------

local function make(owner, fn, ...)
  local n = select("#", ...)
  numbers = numbers + 1
  local env, arg = tasks[state[CURRENT] or show_current()][5], false
  if n == 1 then
    arg = (...)
  elseif n > 1 then
    arg = { ... }
  end
  return setmetatable(
    { [0] = false, 0, -n, fn, arg, env, owner, numbers, false, false, false }, TaskMeta)
end

-- Looking up the place of a spawn costs as much as all the rest of it. So a loop that spawns one
-- function over and over from one place is believed after some turns, and checked now and then.
-- Debug mode looks every time.
local BELIEVE_AFTER, CHECK_EVERY = 16, 64
local last_fn, last_maker, last_site, seen = false, 0, false, 0
M.exact_sites = false

local function note_site(task, fn)
  local site = made_at() or false
  if fn == last_fn and site and last_site and site[1] == last_site[1] and site[2] == last_site[2]
    and not M.exact_sites then
    site, seen = last_site, seen < BELIEVE_AFTER and seen + 1 or BELIEVE_AFTER
  else
    seen = 0
  end
  task[8] = site
  last_fn, last_maker, last_site = fn, state[CURRENT], site
end

local function schedule(task, fn)
  if seen >= BELIEVE_AFTER and seen < CHECK_EVERY and fn == last_fn
    and state[CURRENT] == last_maker then
    task[8], seen = last_site, seen + 1
  else
    note_site(task, fn)
  end
  if not state[BATCH_OPEN] then open_batch() end
  local n = n_incoming + 1
  incoming[n] = task
  n_incoming = n
  state[SPAWNED] = state[SPAWNED] + 1
end

--- "file:line" of the place that made a task, or nil.
function M.made_at(task)
  local site = task[8]
  return site and debug.getinfo(site[1], "S").short_src .. ":" .. site[2] or nil
end

--- Makes and schedules a task whose end `owner:child_done(task)` learns of.
function M.spawn_for(owner, fn, ...)
  local task = make(owner, fn, ...)
  schedule(task, fn)
  return task
end

--- A task of the runtime's own, in a given environment.
function M.spawn_internal(fn, env)
  local task = make(false, fn)
  task[5] = env or task[5]
  schedule(task, fn)
  return task
end

--- Schedules `fn(...)` as a task that starts soon.
---@param fn function
---@param ... any  for `fn`
---@return Task
-- Source: asyncio.create_task.
function M.spawn(fn, ...)
  if type(fn) ~= "function" then check.callable(fn, 1, "spawn") end
  local task = make(false, fn, ...)
  schedule(task, fn)
  return task
end

--- Like async.spawn, but runs `fn(...)` at once, up to its first wait.
---@param fn function
---@param ... any  for `fn`
---@return Task
-- Source: asyncio.eager_task_factory.
function M.spawn_eager(fn, ...)
  check.callable(fn, 1, "spawn_eager")
  local task = make(false, fn, ...)
  note_site(task, fn)
  if not start_eagerly(task) then schedule(task, fn) end
  return task
end

-- ---- waiting for a task or a future -------------------------------------------------------------

--- Adds an object with `child_done(task)`, or a parked task's node, to those who wait. Returns a
-- node, to take it back with `unwatch`.
local function watch(task, node)
  local w = task[6]
  if getmetatable(w) ~= List or type(w) ~= "table" then
    local list = List.new()
    if w then list:append { w } end
    task[6] = list
    w = list
  end
  w:append(node)
  return node
end
M.watch = watch

function M.unwatch(task, node)
  local w = task[6]
  if type(w) == "table" and getmetatable(w) == List then w:remove(node) end
end

-- Sleeps until `task` is done; returns the wait's error.
local function join(task)
  if not task[6] then
    local err = park(task, 6)
    if err ~= nil and type(task[6]) == "number" then task[6] = false end
    return err
  end
  local node = watch(task, { 0 })
  local err = park(node, 1)
  if err ~= nil then M.unwatch(task, node) end
  return err
end
M.join = join

--- Waits for `task` to end whatever comes; for the time after it was cancelled.
local function join_shielded(task)
  if task[2] > 0 then return end
  local id = enter(SHIELD)
  local err
  repeat err = join(task) until err ~= nil or task[2] > 0
  leave(id)
  return err
end
M.join_shielded = join_shielded

-- The outcome of a task that is done, as the end of a wait for it.
local function outcome(task)
  local s = task[2]
  if s == DONE then
    return task[3]
  elseif s == NONE then
    return
  elseif s == PACKED then
    local r = task[3]
    return unpack(r, 1, r.n)
  elseif s == CANCELLED then
    local c = task[3]
    local e = errors.new("CancelledError",
      task:name() .. " was cancelled" .. (c.reason ~= nil and ": " .. tostring(c.reason) or ""),
      { reason = c.reason, by = c.by, at = c.at })
    e._trace = errors._trace(nil, c._trace)
    error(e, 0)
  end
  take(task)
  local e = task[3]
  local x = task[10]
  local trace = errors._trace("where " .. current():name() .. " waited for "
    .. task:name() .. ":", x and x.trace)
  if errors.is_error(e) then
    e._trace = trace
  else
    extra(current()).rethrown = { value = e, trace = trace }
  end
  rethrow(e)
end
M.outcome = outcome

--- Raises an error if `task` is the running one: it would wait for ever.
function M.not_self(task)
  if task[1] ~= 0 and task[1] == (state[CURRENT] or show_current()) then
    errors._raise("InvalidStateError", "a task cannot wait for itself")
  end
end

local function await_pending(self)
  if self[2] <= 0 then
    M.not_self(self)
    local err = join(self)
    if err == true then
      -- Cancelled while waiting: so is what was waited for, and then it is waited for.
      self:cancel(nil, 1)
      local worse = join_shielded(self)
      if worse ~= nil and worse ~= true then raise(worse) end
      interrupted()
    elseif err ~= nil then
      raise(err)
    end
  end
  return outcome(self)
end

--- Waits for the end and gives all results of the function.
---@async
---@return ...
-- Errors: the task's own; CancelledError if it was cancelled.
function Task:await()
  if self[2] == DONE then return self[3] end
  return await_pending(self)
end
Future.await = Task.await

-- ---- methods ------------------------------------------------------------------------------------

--- True once there is a result, an error or a cancellation.
---@return boolean
function Task:done() return self[2] > 0 end

--- True if it ended by cancellation.
---@return boolean
function Task:cancelled() return self[2] == CANCELLED end

--- The results, without waiting.
---@return ...
-- Errors: InvalidStateError if it is not done; its own error; CancelledError.
function Task:result()
  if self[2] <= 0 then errors._raise("InvalidStateError", self:name() .. " is not done") end
  return outcome(self)
end

--- The error it failed with, or nil.
---@return any
-- Errors: InvalidStateError if it is not done; CancelledError.
function Task:error()
  local s = self[2]
  if s <= 0 then errors._raise("InvalidStateError", self:name() .. " is not done") end
  if s == CANCELLED then return outcome(self) end
  if s ~= FAILED and s ~= TAKEN then return nil end
  take(self)
  return self[3]
end

--- Its name: "Task-7" unless it was given another.
---@return string
function Task:name()
  local name = self[7]
  if self == outside then return "the program" end
  return type(name) == "number" and "Task-" .. name or name
end

--- What reports call it.
---@return string
function Future:name() return "a future" end

--- Gives it another name, for reports.
---@param name string
function Task:set_name(name)
  if type(name) ~= "string" and type(name) ~= "number" then
    check.bad(1, "set_name", "string expected, got " .. type(name))
  end
  self[7] = tostring(name)
end

local function place(level)
  local info = debug.getinfo(level + 1, "Sl")
  while info and (info.what == "C" or info.source:sub(1, 7) == "=rille/") do
    level = level + 1
    info = debug.getinfo(level + 1, "Sl")
  end
  return info and info.short_src .. ":" .. info.currentline or "the host"
end
M.place = place

--- Asks the task to end: raises a cancellation where it waits, or at its next wait.
---@param reason? any  for those who ask why
---@return boolean  false if it is already done
-- Source: asyncio.Task.cancel.
function Task:cancel(reason)
  if self[2] > 0 then return false end
  local x = extra(self)
  if x.immune then return false end -- clean-up runs to its end
  local c = x.cancel
  if c and not c._acknowledged then return true end
  local by = current()
  c = errors._cancelled(reason, by ~= outside and by or nil, place(2))
  c._scope, c._task = 0, self
  x.cancel = c
  if self[1] ~= 0 then c._late = core.cancel_task(self[1]) end
  return true
end

--- True while a cancellation is asked for and not acknowledged.
---@return boolean
function Task:cancelling()
  local x = self[10]
  local c = x and x.cancel or nil
  return self[2] <= 0 and c ~= nil and not c._acknowledged
end

--- Where the task stands now, as a text of several lines.
---@return string
function Task:traceback()
  if self[2] > 0 then
    local x = self[10]
    return x and x.trace and errors._render(x.trace) or ""
  end
  local phase, co
  if self[1] ~= 0 then phase, co = core.state(self[1]) end
  if phase == "running" then
    -- An eager start or a callback of its own may stand above it.
    return errors._render(self == current() and errors._trace()
      or { stack = traceback(co, "") })
  end
  if not co then
    local site = M.made_at(self)
    return "not started" .. (site and ", made at " .. site or "")
  end
  return errors._render { stack = M.stack_of(co) }
end

--- The stack of a suspended task, through coroutines of the script's own. Set by coroutine.lua.
M.stack_of = function(co) return traceback(co, "") end

local Handle -- of callbacks, below

--- Calls `fn(task)` soon after it is done, outside of every task.
---@param fn fun(task: Task)
function Task:add_done_callback(fn)
  check.callable(fn, 1, "add_done_callback")
  local env = current()[5]
  local entry = setmetatable({ fn = fn, env = env }, Handle)
  if self[2] > 0 then
    entry:child_done(self)
  else
    watch(self, { entry })
  end
end

--- Takes a callback back, as often as it was added.
---@param fn function
---@return integer  how many there were
function Task:remove_done_callback(fn)
  local w, n = self[6], 0
  if type(w) == "table" and getmetatable(w) == List then
    local node = w.head
    while node do
      local following = node.next
      if type(node[1]) == "table" and getmetatable(node[1]) == Handle and node[1].fn == fn then
        w:remove(node)
        n = n + 1
      end
      node = following
    end
  end
  return n
end

for _, name in ipairs { "done", "cancelled", "result", "error", "add_done_callback",
  "remove_done_callback" } do
  Future[name] = Task[name]
end

TaskMeta.__tostring = function(self) return ("Task: %s"):format(self:name()) end
FutureMeta.__tostring = function(self)
  return ("Future: %s"):format(self[2] > 0 and "done" or "pending")
end

--- Makes a future: a result that somebody will set.
---@return Future
-- Source: asyncio.Future.
function M.new_future()
  return setmetatable(
    { [0] = false, 0, 0, false, false, false, false, 0, false, false, false }, FutureMeta)
end

local function set(self, name, new_state, value)
  if self[2] > 0 then
    errors._raise("InvalidStateError", name .. ": the future is done already")
  end
  self[2], self[3] = new_state, value
end

--- Sets the results; those who wait get them.
---@param ... any
-- Errors: InvalidStateError if it is done.
function Future:set_result(...)
  local n = select("#", ...)
  if n == 1 then
    set(self, "set_result", DONE, (...))
  else
    set(self, "set_result", PACKED, { n = n, ... })
  end
  complete(self)
end

--- Makes it fail; the error is raised in those who wait.
---@param e any
-- Errors: InvalidStateError if it is done.
function Future:set_error(e)
  if e == nil then e = errors.new("Error", "nil") end
  set(self, "set_error", PACKED, { n = 0 })
  settle_failure(self, e, errors.is_error(e) and e._trace or errors._trace())
  complete(self)
end

--- Cancels it; those who wait get a CancelledError.
---@param reason? any
---@return boolean  false if it is done
function Future:cancel(reason)
  if self[2] > 0 then return false end
  local by = current()
  local c = errors._cancelled(reason, by ~= outside and by or nil, place(2))
  self[2], self[3] = CANCELLED, c
  complete(self)
  return true
end

--- True for a Task or a Future.
function M.is_awaitable(v)
  local meta = type(v) == "table" and getmetatable(v)
  return meta == TaskMeta or meta == FutureMeta
end

-- ---- callbacks ----------------------------------------------------------------------------------

---@class Handle
Handle = {}
Handle.__index = Handle
Handle.__name = "Handle"
M.Handle = Handle

function M.schedule(when, fn, ...)
  local handle = setmetatable({ fn = fn, n = select("#", ...), env = current()[5], time = when },
    Handle)
  if handle.n > 0 then handle.args = { ... } end
  handle.slot = core.call(handle, when)
  return handle
end

-- A done callback: the task is its argument.
function Handle:child_done(task)
  self.n, self.args = 1, { task }
  self.slot = core.call(self)
end

--- Takes the callback back.
function Handle:cancel()
  if self.slot then core.uncall(self.slot) end
  self.slot = nil
  self.was_cancelled = true
end

--- True if it was cancelled.
---@return boolean
function Handle:cancelled() return self.was_cancelled == true end

--- When it runs, on the clock of async.time(); nil for call_soon.
---@return number?
function Handle:when() return self.time end

hooks[4] = function(handle)
  handle.slot = nil
  outside[5] = handle.env
  local trace
  local ok, e = xpcall(handle.fn, function(e)
    e = explain(e)
    trace = errors.is_error(e) and e._trace or { stack = traceback("", 2) }
    return e
  end, unpack(handle.args or {}, 1, handle.n))
  outside[5] = NO_ENVIRONMENT
  if not ok then
    M.report { message = "error in a callback", error = e, handle = handle,
      traceback = errors._render(trace) }
  end
end

--- Takes reports of errors that nobody handles. Set by report.lua.
M.report = function() end

return M
