-- A command that takes too long is killed, with all that it has started; what it printed until then
-- is in the error. The same happens when the task that waits for it is cancelled.
local async = require "rille.async"
local errors = require "rille.errors"
local fs = require "rille.fs"
local process = require "rille.process"

local TIMEOUT = 0.5

-- The shell starts a child, says who it is, and waits for it.
local COMMAND = { "sh", "-c", "sleep 60 & echo $!; wait", timeout = TIMEOUT }

local function is_running(pid)
  local ok, stat = pcall(fs.read_file, "/proc/" .. pid .. "/stat")
  return ok and not stat:find "%) [ZX]" -- nobody may have taken note yet that it has ended
end

local _, err = pcall(process.run, COMMAND)
if not errors.is(err, "TimeoutError") then error(err, 0) end
print(err)
local pid = err.stdout:match "%d+"
print(("The child of %s still runs: %s"):format(err.cmd, is_running(pid)))

local task = async.spawn(process.run, { "sleep", 60 })
async.sleep(0)
task:cancel "it is not needed any more"
async.wait { task }
print("The task was cancelled: " .. tostring(task:cancelled()))
