--- rille.process: the process itself, its environment and its end.
local binding = require "rille.core.process"
local task = require "rille.core.task"
local check = require "rille.core.check"
local report = require "rille.core.report"

local find, type, ipairs, error = string.find, type, ipairs, error

local M = {}

-- ---- the environment ----------------------------------------------------------------------------

local function text_argument(value, position, name)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then
    check.bad(position, name, "string expected, got " .. (value == nil and "nil" or type(value)), 1)
  end
  if find(value, "\0", 1, true) then check.bad(position, name, "it contains a NUL byte", 1) end
  return value
end

--- A variable of the environment, or nil.
---@param name string
---@return string?
-- Source: POSIX getenv.
function M.getenv(name) return (binding.getenv(text_argument(name, 1, "getenv"))) end

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
M.environ = binding.environ

--- The number of this process.
---@return integer
M.pid = binding.pid

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
