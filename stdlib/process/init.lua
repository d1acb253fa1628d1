--- rille.process: other processes, and the process itself, its environment and its end.
local binding = require "rille.core.process"
local spawn = require "rille.process.spawn"
local run = require "rille.process.run"
local task = require "rille.core.task"
local check = require "rille.core.check"
local report = require "rille.core.report"

local find, ipairs, error = string.find, ipairs, error
local text_argument = spawn.text_argument

local M = { spawn = spawn.spawn, run = run.run }

--- Sends a signal to a process that need not be one's own.
---@param pid integer  0: one's own group; negative: that group
---@param name? string|integer  "SIGTERM" by default; 0 only asks whether it is there
-- Errors: OSError with ESRCH (there is none), EPERM.
-- Source: POSIX kill.
function M.kill(pid, name)
  pid = check.count(pid, -math.huge, 1, "kill")
  if pid < -2 ^ 31 or pid >= 2 ^ 31 then
    check.bad(1, "kill", ("there can be no process %s"):format(tostring(pid)))
  end
  local err = binding.kill(pid, name == 0 and 0 or spawn.signal_argument(name, 2, "kill"))
  if err ~= nil then error(err, 0) end
end

-- ---- the environment ----------------------------------------------------------------------------

--- A variable of the environment, or nil.
---@param name string
---@return string?
-- Source: POSIX getenv.
-- Errors: PermissionError in a sandbox.
function M.getenv(name)
  local value, err = binding.getenv(text_argument(name, 1, "getenv"))
  if err ~= nil then error(err, 0) end
  return value
end

--- Sets a variable, for os.getenv and for children too.
---@param name string  not empty, without "="
---@param value string|number|nil  nil removes it
-- Source: POSIX setenv.
function M.setenv(name, value)
  name = text_argument(name, 1, "setenv")
  if name == "" or find(name, "=", 1, true) then
    check.bad(1, "setenv", ("'%s' is no name of a variable"):format(name))
  end
  if value ~= nil then value = text_argument(value, 2, "setenv") end
  local err = binding.setenv(name, value)
  if err ~= nil then error(err, 0) end
end

--- The whole environment, a copy.
---@return table<string, string>
-- Errors: PermissionError in a sandbox where no variable is granted; it shows those that are.
function M.environ()
  local variables, err = binding.environ()
  if err ~= nil then error(err, 0) end
  return variables
end

--- The number of this process.
---@return integer
M.pid = binding.pid

--- What the system's lists of processes call this one.
---@param text? string  its new title, cut to the room there is
---@return string  the title
-- Errors: OSError with ENOBUFS in a host that has not called uv_setup_args.
function M.title(text)
  if text ~= nil then text = text_argument(text, 1, "title") end
  local err, title = binding.title(text)
  if err ~= nil then error(err, 0) end
  return title
end

-- ---- the end ------------------------------------------------------------------------------------

--- Ends the program with a status: cancels every task, lets their clean-up run, and does not return
-- to the task that called it. In a callback it does return, since there is nothing to unwind. Of
-- several calls the last one's status counts.
---@param code? integer  0 to 255, 0 by default
-- Errors: Cancelled, in the calling task as in all others.
-- Source: Python's sys.exit; os.exit ends at once, without any clean-up.
function M.exit(code)
  code = code == nil and 0 or check.count(code, 0, 1, "exit")
  if code > 255 then
    check.bad(1, "exit", ("at most 255 expected, got %s"):format(tostring(code)))
  end
  binding.set_exit_status(code)
  local me = task.current()
  for _, t in ipairs(report.all_tasks()) do t:cancel(("process.exit(%d)"):format(code)) end
  if me == task.outside then return end
  -- Raised here and not at the next wait, which inside of clean-up would not raise it.
  local c = me[10].cancel
  c._raised = true
  c._trace = { stack = debug.traceback("", 2) }
  error(c, 0)
end

return M
