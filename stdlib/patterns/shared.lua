--- Work that several tasks wait for: it runs in a task of its own, so that whoever is cancelled
-- leaves it to the others. When the last of them is cancelled, nobody wants it any more: then it is
-- cancelled too, and waited for.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"

local current, join, join_shielded, outcome, raise = task.current, task.join, task.join_shielded,
  task.outcome, task.raise
local check_wait = core.check_wait
local setmetatable = setmetatable

---@class Shared
---@package
local Shared = {}
Shared.__index = Shared

local function wait_for_end(self) return (join(self._task)) end

local function leave(self, err)
  local work = self._task
  if self._waiting == 0 and not work:done() then
    work:cancel "nobody waits for it any more"
    self._forget(self) -- whoever comes from now on begins anew
    local worse = join_shielded(work)
    if worse ~= nil and worse ~= true then raise(worse) end
  end
  raise(err)
end

--- Waits for the end of the work and gives its results.
---@async
-- Errors: those of the work; Cancelled.
function Shared:await()
  if not self._task:done() then
    self._waiting = self._waiting + 1
    local err = wait_for_end(self)
    self._waiting = self._waiting - 1
    if err ~= nil then leave(self, err) end
  end
  return outcome(self._task, 2)
end

--- True once the work has ended.
function Shared:done() return self._task:done() end

--- True if the running task is the one that does the work.
function Shared:is_own() return self._task == current() end

function Shared:child_done() self._forget(self) end

local M = {}

--- Starts `work(self)` in a task of its own, for which the caller is going to wait. `forget(self)`
-- is called when nobody waits for it any more, and when it has ended.
---@param env table  see below
---@param name string  of the task
-- Errors: those of a wait that is impossible, or that a cancellation keeps from beginning.
function M.start(env, name, work, forget)
  local err = check_wait()
  if err ~= nil then raise(err) end
  local self = setmetatable({ _waiting = 0, _forget = forget }, Shared)
  self._task = task.spawn_internal(function() return work(self) end, env)
  self._task:set_name(name)
  task.watch(self._task, { self })
  return self
end

--- The environment of the running task: its context variables, and the async.run that ends it and
-- what it starts.
function M.environment() return current()[5] end

--- The context variables of the running task, but under the async.run of `env`: what is shared must
-- not end with the first of those who asked for it.
function M.within(env) return { vars = current()[5].vars, run = env.run } end

return M
