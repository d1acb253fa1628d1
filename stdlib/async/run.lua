--- async.run, and the end of a program: every task under it ends before it does.
local task = require "rille.core.task"
local check = require "rille.core.check"
local report = require "rille.core.report"

local M = {}

-- Whether `env` belongs to the run `run` or to one inside it.
local function belongs(env, run)
  local r = env.run
  while r do
    if r == run then return true end
    r = r.outer
  end
  return false
end

-- Cancels every task under `run` and waits until all have ended. Tasks that clean-up starts are
-- left alone until those who started them are through.
local function end_tasks(run, me)
  while true do
    local list = {}
    for _, t in ipairs(report.all_tasks()) do
      if t ~= me and belongs(t[5], run) then list[#list + 1] = t end
    end
    if #list == 0 then return end
    for _, t in ipairs(list) do t:cancel "the program has ended" end
    for _, t in ipairs(list) do
      if t[2] <= 0 then
        local err = task.join_shielded(t)
        if err ~= nil and err ~= true then return end -- a deadlock: they will never end
      end
    end
  end
end
M.end_tasks = end_tasks

local function finish(run, me, ok, ...)
  end_tasks(run, me)
  if ok then return ... end
  task.rethrow((...))
end

--- Runs `fn(...)` as a task and waits for it, then cancels every task that was started under it and
-- still runs, and waits for these too.
---@async
---@param fn function
---@param ... any  for `fn`
---@return ...  its results
-- Errors: its own.
-- Source: asyncio.run.
function M.run(fn, ...)
  check.callable(fn, 1, "run")
  local me = task.current()
  if me == task.outside then
    check.fail "'run' cannot be called in a callback: use async.spawn"
  end
  local run = { outer = me[5].run }
  local t = task.spawn_for(false, fn, ...)
  t[5] = { vars = t[5].vars, run = run }
  return finish(run, me, task.protected(t.await, t))
end

return M
