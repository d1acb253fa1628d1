-- Waiting in order, then waiting together: three sleeps of 1.0, 0.5 and 1.5 units take 1.5, not 3.
-- From "Mastering asyncio" (async/await Basics). Sleeps are ten times shorter, so the line with the
-- elapsed time says 0.3s where the document says 3s; the results are printed as Lua writes them.
local async = require "rille.async"
local show = require "lib.show"

local function async_sleep(name, delay)
  print(("[Async] %s start"):format(name))
  async.sleep(delay)
  print(("[Async] %s done"):format(name))
  return name .. " result"
end

local result1 = async_sleep("Task A", 0.1)
local result2 = async_sleep("Task B", 0.05)
print(("Results: %s, %s"):format(result1, result2))

local start = async.time()
local results = async.gather {
  async.spawn(async_sleep, "A", 0.1),
  async.spawn(async_sleep, "B", 0.05),
  async.spawn(async_sleep, "C", 0.15),
}
results.n = nil
print("Concurrent results: " .. show(results))
print(("Elapsed: %.2fs (sequential would be 0.3s)"):format(async.time() - start))
