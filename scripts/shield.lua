-- A timeout cancels what it waits for, unless a shield stands between: then only the waiting ends.
-- From "Mastering asyncio" (Timeouts and Cancellation). The document cancels the shielded task and
-- goes on without waiting for its end; here it is waited for. Sleeps are fifty times shorter.
local async = require "rille.async"
local errors = require "rille.errors"

local function slow_operation()
  async.sleep(0.2)
  return "done"
end

local function timed_out(...)
  local ok, err = pcall(async.wait_for, ...)
  return not ok and errors.is(err, "TimeoutError")
end

if timed_out(slow_operation, 0.04) then print "Timed out!" end

local task = async.spawn(slow_operation)
if timed_out(async.shield, 0.02, task) then
  print "Shield timed out — inner task keeps running"
  assert(not task:done())
  task:cancel()
  async.wait { task }
end

local function cancellable()
  local ok, cancellation = async.pcall(async.sleep, 2)
  if not ok then
    print "Cancelled! Cleaning up..."
    error(cancellation, 0)
  end
end

task = async.spawn(cancellable)
async.sleep(0.01)
task:cancel()
async.wait { task }
if task:cancelled() then print "Task cancellation confirmed" end
