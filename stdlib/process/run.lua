--- process.run: a command from its start to its end, with all that it puts out. No task of its own
-- is needed for that: bindings/process_capture.cpp reads and writes while this one waits.
local spawn = require "rille.process.spawn"
local timeouts = require "rille.async.timeout"
local shielded = require("rille.async.cleanup").shielded
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow
local pairs, ipairs, tostring = pairs, ipairs, tostring

local M = {}

local KNOWN = { input = true, timeout = true, check = true }
for key in pairs(spawn.KNOWN) do KNOWN[key] = true end

-- The streams that are not simply those of `spec`.
local function streams_of(spec)
  local streams = {}
  for _, key in ipairs { "stdout", "stderr" } do
    if spec[key] == nil or spec[key] == "pipe" then streams[key] = "capture" end
  end
  if spec.input ~= nil then
    if spec.stdin ~= nil then check.bad("input", "run", "there is a 'stdin' as well") end
    streams.stdin = "feed"
  elseif spec.stdin == nil then
    streams.stdin = "null"
  elseif spec.stdin == "pipe" then
    check.bad("stdin", "run", "what the command is to read is the option 'input'")
  end
  return streams
end

local function start(job)
  local feed
  job.child, job.pid, feed, job.out, job.err = spawn.start(job.spec, job.streams, "gh", "run")
  job.feed = feed
  if feed then feed:start(job.input) end
end

local function work(job)
  -- Whoever is cancelled at this moment still has to end what has begun.
  local ok, e = shielded(start, job)
  if not ok then rethrow(e) end
  -- If there is too much of it, that is known before the command ends, which it may never do.
  if job.out then job.out:wait() end
  if job.err then job.err:wait() end
  job.child:wait()
  return true
end

local function work_in_scope(_, job) return work(job) end

-- Kills whatever is left of it.
local function put_down(job)
  if not job.child then return end
  spawn.put_down(job.child, job.pid, true)
  if job.out then job.out:close() end
  if job.err then job.err:close() end
  if job.feed then job.feed:close() end
end

local function outputs(job)
  return job.out and job.out:take(), job.err and job.err:take()
end

local function fail_check(job, result)
  local how = result.signal and "was ended by " .. result.signal
    or "exited with code " .. result.code
  result.cmd, result.ok = job.command, nil
  errors._raise("ProcessError", ("the command '%s' %s"):format(job.command, how), result)
end

---@class rille.process.Result: rille.process.Status
---@field stdout string
---@field stderr string

---@class rille.process.RunOptions: rille.process.SpawnOptions
---@field input? string  what it reads from stdin; nothing by default
---@field timeout? number  seconds; no limit by default
---@field check? boolean  anything but code 0 is a ProcessError

--- Runs a command to its end and collects what it puts out. It stands in a process group of its
-- own, which is killed, and waited for, if the time is over or the task is cancelled.
---@async
---@param spec rille.process.RunOptions
---@return rille.process.Result
-- Errors: those of `spawn`; TimeoutError with `stdout` and `stderr` so far, and `cmd`; ProcessError
-- with `code`, `signal`, `stdout`, `stderr`, `cmd`; OSError with EFBIG if it puts out 2 GiB or
-- more; Cancelled.
-- Source: Python's subprocess.run.
function M.run(spec)
  spawn.check_options(spec, KNOWN, "run")
  local timeout, input = spec.timeout, spec.input
  if timeout ~= nil then timeout = check.seconds(timeout, "timeout", "run") end
  if input ~= nil then input = check.string(input, "input", "run") end
  local job = { spec = spec, streams = streams_of(spec), input = input,
    command = tostring(spec[1]) }
  local ok, e
  if timeout then
    ok, e = xpcall(timeouts.move_on_after, keep_trace, timeout, work_in_scope, job)
  else
    ok, e = xpcall(work, keep_trace, job)
  end
  if not ok or not e then
    shielded(put_down, job)
    if not ok then rethrow(e) end
    local out, err = "", ""
    if job.child then out, err = outputs(job) end
    errors._raise("TimeoutError", ("the command '%s' timed out after %g s"):format(job.command,
      timeout), { stdout = out, stderr = err, cmd = job.command })
  end
  if job.feed then job.feed:close() end
  job.child:release()
  local result = job.child:wait()
  result.stdout, result.stderr = outputs(job)
  if spec.check and not result.ok then fail_check(job, result) end
  return result
end

report.describe(work, function(job) return ("the command '%s'"):format(job.command) end)

return M
