-- Two ways to bound an operation in time: wait_for around one call, and async.timeout around a
-- block. Both cancel what runs inside, wait for it to end, and then raise a TimeoutError.
-- From "Async Python Patterns" (Pattern 5), "Complete Guide to Asynchronous Programming" (Timeout
-- Control), "python-asyncio" (Timeouts) and "Asyncio Concurrency Patterns" (Cancellation with
-- Context Manager, whose handler cancels again what wait_for had cancelled). Sleeps are fifty times
-- shorter.
local async = require "rille.async"
local errors = require "rille.errors"

local function slow_operation(delay)
  async.sleep(delay)
  return ("Completed after %gs"):format(delay)
end

-- Prints the result of fn(...), or the message if it ran into a timeout.
local function report(message, fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then
    print(result)
  elseif errors.is(result, "TimeoutError") then
    print(message)
  else
    error(result, 0)
  end
end

report("Operation timed out", async.wait_for, slow_operation, 0.04, 0.1)
report("Task timed out", async.wait_for, async.spawn(slow_operation, 0.1), 0.04)
report("Operation timed out", async.timeout, 0.1, function()
  return slow_operation(0.2)
end)
