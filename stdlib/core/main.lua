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

-- Tasks that the host started and still holds, by their numbers.
local held = {}
local main_id
local has_ended = false

--- Set by the host: learns of the end of such a task.
M.finished = function() end

--- Starts a task of the host's. The main one is the program: what is started under it ends with it.
function M.start(id, is_main, fn, ...)
  local t = task.spawn_for({ child_done = function() M.finished(id) end }, fn, ...)
  t[5] = { vars = false, run = { outer = false, of_host = not is_main } }
  held[id] = t
  has_ended = false
  task.extra(t).of_host = true
  if is_main then
    t[7] = "main"
    main_id = id
    report.main, M.task = t, t
  end
end

local function let_go(id)
  local t = held[id]
  held[id] = nil
  local x = t and t[10]
  if x then x.of_host = nil end
  return x
end

--- The host does not hold the task any more, and will not ask for its error.
function M.release(id)
  local x = let_go(id)
  if not x then return end
  x.dropped = true
  if x.lose then x.lose() end
end

--- Cancels a task of the host's.
function M.cancel_task(id, reason)
  local t = held[id]
  if t then return t:cancel(reason) end
end

--- Cancels the main task, because of a signal. If there is a `before_cancel(reason)`, that sees to
-- it. False if there is none any more.
function M.cancel(reason)
  if M.before_cancel then
    M.before_cancel(reason)
    return true
  end
  if not M.task or M.task:done() then return false end
  M.task:cancel(reason)
  return true
end

-- Whether a task is, or was started under, one that the host has spawned.
local function is_of_host(t)
  local run = t[5].run
  while run and run.outer do run = run.outer end
  return run and run.of_host
end

--- Cancels what still runs once the main task has ended; with `everything` the host's tasks too.
-- Returns false when nothing is left. The scheduler stops when all have ended.
function M.cancel_rest(everything)
  local function rest()
    local list = {}
    for _, t in ipairs(report.all_tasks()) do
      if everything or not is_of_host(t) then list[#list + 1] = t end
    end
    return list
  end
  local all = rest()
  if #all == 0 then return false end
  if report.main then
    report.main = nil
    report_destroyed(all, true)
  end
  for _, t in ipairs(all) do
    t:cancel(everything == "closed" and "the runtime is closed" or "the program has ended")
  end
  local pending = rest()
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

local closers = {}

--- Has `fn(data)`, which may wait, called when the runtime ends, once all tasks have.
function M.at_close(fn, data) closers[#closers + 1] = { fn, data } end

--- Starts the last of these, as a task at whose end the scheduler stops. False if there are none.
function M.start_closer()
  local closer = table.remove(closers)
  if not closer then return false end
  local t = task.spawn_for({ child_done = function() core.stop() end }, function()
    local ok, e = task.protected(closer[1], closer[2])
    if not ok then report.report { message = "error in the clean-up of a module", error = e } end
  end)
  t[5] = { vars = false, run = { outer = false, of_host = true } }
  t[7] = "clean-up of a module"
  task.extra(t).immune = true
  return true
end

--- Does what is to be done at the end of the program, unless the host has tasks that go on.
function M.at_the_end(everything)
  report.main = nil
  if has_ended then return end
  if not everything then
    for _, t in ipairs(report.all_tasks()) do
      if is_of_host(t) then return end
    end
  end
  has_ended = true
  for _, fn in ipairs(end_hooks) do
    local ok, e = task.protected(fn)
    if not ok then report.report { message = "error at the end of the program", error = e } end
  end
end

--- What the host gets of an error: kind, message, traceback, all of it as text, code.
function M.describe(e, trace)
  local text = report.text_of(e)
  trace = trace or errors.is_error(e) and e._trace
  local stack = trace and errors._render(trace) or ""
  local lines = { text .. (stack ~= "" and "\n" .. stack or ""), unpack(report.details(e)) }
  local whole = table.concat(lines, "\n")
  if not errors.is_error(e) then return "Error", text, stack, whole end
  local code = rawget(e, "code")
  return report.text_of(rawget(e, "kind")), report.text_of(rawget(e, "message")), stack, whole,
    type(code) == "string" and code or nil
end

--- How a task of the host's ended: "done", results...; or "cancelled" or "failed" and what
-- `describe` says. It is the host's from here on.
function M.outcome(id)
  local t = held[id]
  let_go(id)
  if id == main_id then main_id, M.task = nil, nil end
  local state = t[2]
  if state == 1 then return "done", t[3] end
  if state == 2 then return "done", unpack(t[3], 1, t[3].n) end
  if state == 4 then
    local c = t[3]
    local _, _, stack, text = M.describe(c, c._trace or { stack = "" })
    local reason = c.reason ~= nil and ": " .. report.text_of(c.reason) or ""
    return "cancelled", "CancelledError", t:name() .. " was cancelled" .. reason, stack, text
  end
  if state == 3 or state == 6 then
    task.take(t)
    local x = t[10]
    return "failed", M.describe(t[3], x and x.trace)
  end
  return "done"
end

M.flush_lost = report.flush_lost

-- Set while the host waits for nothing but its own tasks.
local host_waits = false

--- What the host says before it does so, and afterwards.
function M.host_waits(on) host_waits = on end

function report.waiting_of_host()
  local list = {}
  if not host_waits then return list end
  for _, t in pairs(held) do
    if t[2] <= 0 and t[1] ~= 0 then list[#list + 1] = t end
  end
  return list
end

--- What the main task of a worker's runtime does.
function M.worker() return require "rille.core.worker_thread" end

return M
