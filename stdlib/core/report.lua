--- What the runtime says on its own account: errors that nobody took, tasks that hold the loop, a
-- program in which nothing can go on.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local nested = require "rille.core.coroutine"
local when_collected = require "rille.core.collected"

local M = { lost = 0, handler = nil }

local tostring = tostring
local pcall = require("rille.core.protect").pcall

-- Calls what the script has to say in a report; where memory has a ceiling, under one.
local restrained = core.restrained
local ask = restrained and function(...) return pcall(restrained, ...) end or pcall

local function text_of(value)
  local ok, text = ask(tostring, value)
  return ok and text or "(an error that cannot be shown)"
end
M.text_of = text_of

local function add_details(lines, e, depth)
  if not errors.is_error(e) or depth > 5 then return end
  local function add(heading, inner)
    lines[#lines + 1] = heading .. text_of(inner)
    if errors.is_error(inner) and inner.traceback ~= "" then lines[#lines + 1] = inner.traceback end
    add_details(lines, inner, depth + 1)
  end
  if errors.is(e, "ErrorGroup") and type(e.errors) == "table" then
    for i, inner in ipairs(e.errors) do
      if i > 10 then
        lines[#lines + 1] = ("and %d errors more"):format(#e.errors - 10)
        break
      end
      add(("error %d of %d: "):format(i, #e.errors), inner)
    end
  end
  if rawget(e, "cause") ~= nil then add("caused by ", rawget(e, "cause")) end
end

--- What an error object holds and what it came of: texts with tracebacks.
function M.details(e)
  local lines = {}
  add_details(lines, e, 0)
  return lines
end

--- Replaced by the host: takes a finished text, and its parts, if it has some.
M.write = function(text) io.stderr:write(text, "\n") end

local function default(report)
  local lines = { "rille: " .. report.message }
  if report.error ~= nil then lines[1] = lines[1] .. ": " .. text_of(report.error) end
  local first = lines[1]:sub(#"rille: " + 1)
  if report.traceback and report.traceback ~= "" then lines[#lines + 1] = report.traceback end
  for _, line in ipairs(M.details(report.error)) do lines[#lines + 1] = line end
  if report.made then lines[#lines + 1] = "made at " .. report.made end
  M.write(table.concat(lines, "\n"), {
    message = first, error = report.error ~= nil and text_of(report.error) or nil,
    traceback = report.traceback,
  })
end

--- Sends a report to the exception handler, or to stderr. True if a handler took it.
function M.report(report)
  if M.handler then
    local ok, e = ask(M.handler, report)
    if ok then return true end
    default(report)
    default { message = "error in the exception handler", error = e }
  else
    default(report)
  end
end
task.report = M.report

-- ---- lost errors --------------------------------------------------------------------------------

-- Failed tasks whose error nobody has taken. Weak, so that a task which is dropped is noticed by
-- the sentinel's finalizer; the record is what the report needs without the task.
local watched = {}

local function lose(record, t)
  if not watched[record] then return end
  watched[record] = nil
  local handled = M.report {
    message = "the error of " .. record.name .. " was never taken", error = record.error,
    task = t, traceback = errors._render(record.trace), made = record.made,
  }
  if not handled then M.lost = M.lost + 1 end
end

task.watch_lost = function(t)
  local x = task.extra(t)
  local record = {
    name = t:name(), error = t[3], trace = x.trace, made = task.made_at(t),
    -- The record is held strongly and must not keep the task alive.
    task = setmetatable({ t }, { __mode = "v" }),
  }
  watched[record] = true
  x.sentinel = when_collected(function() lose(record, t) end)
  x.lost = function()
    watched[record] = nil
    x.sentinel, x.lost, x.lose = nil, nil, nil
  end
  if x.dropped then
    lose(record, t)
  elseif x.of_host then
    x.lose = function() lose(record, t) end
  end
end

--- Reports every error that nobody has taken by now; with `everything` also of tasks that the host
-- holds, and so may still ask. Returns how many were ever lost.
function M.flush_lost(everything)
  local list = {}
  for record in pairs(watched) do
    local t = record.task[1]
    local x = t and t[10]
    if everything or not (x and x.of_host) then list[#list + 1] = record end
  end
  table.sort(list, function(a, b) return a.name < b.name end)
  for _, record in ipairs(list) do lose(record, record.task[1]) end
  return M.lost
end

-- ---- what tasks wait for ------------------------------------------------------------------------

-- What a wait is for is read from the stack when somebody asks: each function that waits names
-- itself here and gets its first argument.
local describers = {}

--- `text(self)` says what a task inside `fn` waits for.
function M.describe(fn, text) describers[fn] = text end

local function name_of(t) return t[7] == "main" and "main" or t:name() end

M.describe(task.join, function(t) return "the end of " .. t:name() end)

--- What a suspended task waits for, in words.
function M.waits_for(t)
  if t[2] > 0 then return "is done" end
  if t[1] == 0 then return "has not started" end
  local phase, co, sleeping = core.state(t[1])
  if phase == "running" then return "runs" end
  if not co then return phase end
  local what = nested.each_nested(co, function(c)
    for level = 0, 200 do
      local info = debug.getinfo(c, level, "f")
      if not info then return nil end
      local text = describers[info.func]
      if text then
        local _, self = debug.getlocal(c, level, 1)
        return text(self)
      end
    end
  end)
  if what then return "waits for " .. what end
  return sleeping and "sleeps" or "waits"
end

--- All tasks that are not done, in the order in which they were made.
function M.all_tasks()
  local list = {}
  for i = 1, core.count() do
    local t = core.tasks[i]
    if t ~= nil and getmetatable(t) == task.TaskMeta and t[2] <= 0 then list[#list + 1] = t end
  end
  task.each_fresh(function(t) list[#list + 1] = t end)
  return list
end

-- Nothing is left that could wake anybody: the main task is told, with all that is known.
core.hooks[5] = function()
  local main = M.main
  -- Without a program, every task of the host's is one.
  local stuck = main and main[1] ~= 0 and { main } or not main and M.waiting_of_host() or {}
  if #stuck == 0 then return false end
  local lines = { "nothing is left that could wake a waiting task" }
  local tasks = M.all_tasks()
  table.sort(tasks, function(a, b) return a == main and b ~= main end)
  for _, t in ipairs(tasks) do
    lines[#lines + 1] = ("%s %s"):format(name_of(t), M.waits_for(t))
    lines[#lines + 1] = t:traceback()
  end
  local woken = false
  for _, t in ipairs(stuck) do
    local e = errors.new("DeadlockError", table.concat(lines, "\n"), { tasks = tasks })
    if core.throw(t[1], e) then woken = true end
  end
  return woken
end

-- ---- debug mode ---------------------------------------------------------------------------------

core.hooks[6] = function(t, seconds)
  local who = t and t:name() or "a callback"
  local ended = t and t[2] > 0
  M.report {
    message = ("%s held the loop for %.3f s%s"):format(who, seconds,
      ended and ", up to its end" or t and ", up to where it stands now" or ""),
    task = t, traceback = t and not ended and t:traceback() or nil, made = t and task.made_at(t),
  }
end

return M
