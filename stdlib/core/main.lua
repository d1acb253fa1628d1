--- The main task, from its start to the end of the program. Called by the host.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local report = require "rille.core.report"
local debug_state = require "rille.core.debug_state"
require "rille.core.require"

local M = {}

-- pcall, xpcall and the functions of coroutines can be passed through by a wait.
for _, name in ipairs { "pcall", "xpcall", "error", "assert", "select", "next", "ipairs", "pairs",
  "unpack" } do
  core.transparent[_G[name]] = true
end

-- Debug mode: names tasks that end although they are not through. When the program ends by itself,
-- these are the ones that wait for other tasks: what sleeps or does I/O may well be meant to.
local function report_destroyed(list, at_end)
  if not debug_state.on then return end
  for _, t in ipairs(list) do
    local phase, _, sleeps, outside
    if t[1] ~= 0 then phase, _, sleeps, outside = core.state(t[1]) end
    if not at_end or phase == "parked" and not sleeps and not outside then
      report.report {
        message = ("%s was destroyed while pending: it %s"):format(t:name(), report.waits_for(t)),
        task = t, traceback = t:traceback(),
      }
    end
  end
end

local end_hooks = {}

--- Calls `fn()` once every task has ended, outside of tasks: for what must not be lost at the end
-- of the program.
function M.at_end(fn) end_hooks[#end_hooks + 1] = fn end

--- Starts the main task; `finished(status, message)` learns of its end.
function M.start(fn, ...)
  report.lost = 0
  local main = task.spawn_for({ child_done = function() core.stop() end }, fn, ...)
  main[5] = { vars = false, run = { outer = false } }
  main[7] = "main"
  report.main = main
  M.task = main
end

--- Cancels the main task, because of a signal. If there is a `before_cancel(reason)`, that sees to
-- it.
function M.cancel(reason)
  if M.before_cancel then return M.before_cancel(reason) end
  if M.task then return M.task:cancel(reason) end
end

--- Cancels what still runs once the main task has ended. Returns false when nothing is left.
function M.cancel_rest()
  local all = report.all_tasks()
  if #all == 0 then return false end
  if report.main then
    report.main = nil
    report_destroyed(all, true)
  end
  for _, t in ipairs(all) do t:cancel "the program has ended" end
  local pending = {}
  for _, t in ipairs(report.all_tasks()) do pending[#pending + 1] = t end
  local left = #pending
  local watcher = {}
  function watcher:child_done()
    left = left - 1
    if left == 0 then core.stop() end
  end
  for _, t in ipairs(pending) do task.watch(t, { watcher }) end
  return true
end

--- Reports what is still there when nothing can go on.
function M.report_destroyed() report_destroyed(report.all_tasks(), false) end

--- The outcome of the main task: "done", results...; "cancelled", reason, text; "failed", error,
-- text with traceback.
function M.outcome()
  for _, fn in ipairs(end_hooks) do
    local ok, e = task.protected(fn)
    if not ok then report.report { message = "error at the end of the program", error = e } end
  end
  local t = M.task
  local state = t[2]
  if state == 1 then return "done", t[3] end
  if state == 2 then return "done", unpack(t[3], 1, t[3].n) end
  if state == 4 then
    local c = t[3]
    return "cancelled", c, tostring(c) .. "\n" .. errors._render(c._trace or { stack = "" })
  end
  if state == 3 or state == 6 then
    task.take(t)
    local x = t[10]
    local text = report.text_of(t[3])
    local trace = x and x.trace and errors._render(x.trace) or ""
    local lines = { text .. (trace ~= "" and "\n" .. trace or ""), unpack(report.details(t[3])) }
    return "failed", t[3], table.concat(lines, "\n")
  end
  return "done"
end

M.flush_lost = report.flush_lost

return M
