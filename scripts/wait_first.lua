-- Starts several tasks and goes on as soon as the first is done.
-- From "Asyncio Concurrency Patterns" (Pattern 2: Wait). The document cancels what is pending and
-- goes away without waiting, so clean-up there may never run; here the cancelled tasks are waited
-- for. It prints nothing; sleeps are twenty times shorter.
local async = require "rille.async"

local function worker(name, delay)
  return async.finally(function()
    async.sleep(delay)
    return name
  end, function()
    print(name .. " has ended")
  end)
end

local tasks = { async.spawn(worker, "A", 0.1), async.spawn(worker, "B", 0.05) }

local done, pending = async.wait(tasks, { return_when = "FIRST_COMPLETED" })
print("First: " .. done[1]:result())

for _, task in ipairs(pending) do task:cancel() end
async.wait(pending)
print("Cancelled: " .. tostring(pending[1]:cancelled()))
