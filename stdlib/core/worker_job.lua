--- A job in a worker: a task of its own, whose end is that of all that was started under it.
local task = require "rille.core.task"
local errors = require "rille.errors"
local report = require "rille.core.report"
local end_tasks

local FAILED, CANCELLED = 3, 4 -- states of a task

local M = { current = nil, is_cancelled = false }

--- Asks the job that runs to stop.
function M.cancel()
  if M.current then M.current:cancel "the job was cancelled" end
end

-- An error that cannot be copied as it is.
local function plain(e)
  if errors.is_error(e) then
    return errors.new(tostring(rawget(e, "kind")), tostring(rawget(e, "message")))
  end
  return errors.new("Error", "an error that cannot be copied: " .. report.text_of(e))
end

local function answer_error(answer, e, trace)
  trace = trace and { stack = trace.stack, note = trace.note or "stack traceback, in a worker:",
    inner = trace.inner, depth = trace.depth }
  if not task.protected(answer, false, e, trace) then answer(false, plain(e), trace) end
end

local function send_results(answer, t) answer(true, task.outcome(t)) end

--- Runs `body()` as a job and gives `answer(true, results…)`, or `answer(false, error, trace)`.
-- `is_cancelled()` tells whether it was cancelled before it began, `count_lost(n)` learns how many
-- of its tasks' errors nobody took.
---@async
function M.run(body, answer, is_cancelled, count_lost)
  end_tasks = end_tasks or require("rille.async.run").end_tasks
  local me, run = task.current(), { outer = false }
  local t = task.spawn_for(false, body)
  t[5] = { vars = false, run = run }
  t[7] = "job"
  M.current, report.main, M.is_cancelled = t, t, is_cancelled
  if is_cancelled() then M.cancel() end
  local ending
  while t[2] <= 0 do
    local err = task.join(t)
    if err ~= nil then -- the worker is to end
      ending = err
      t:cancel "the worker ends"
      task.join_shielded(t)
    end
  end
  end_tasks(run, me)
  M.current, report.main = nil, nil
  local state = t[2]
  if state == FAILED then task.take(t) end
  -- The errors of its tasks: nobody can take them any more.
  local before = report.lost
  count_lost(report.flush_lost() - before)
  if ending then task.raise(ending) end
  if state == FAILED then
    answer_error(answer, t[3], t[10].trace)
  else
    -- To wait for one that ended cancelled is an error too.
    local ok, e = task.protected(state == CANCELLED and task.outcome or send_results,
      state == CANCELLED and t or answer, t)
    if not ok then answer_error(answer, e, errors.is_error(e) and e._trace or nil) end
  end
end

return M
