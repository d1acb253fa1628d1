-- Ten fetches in three ways: one after the other, all at once, and at most five at once. The last
-- is what a real peer wants: nearly as fast as all at once, and never more than it can bear.
-- From "Asyncio Concurrency Patterns" (Optimizing Concurrency) and "Complete Guide to Asynchronous
-- Programming" (Avoid Creating Tasks in Loops; Use Semaphores to Control Concurrency). The
-- documents print nothing; the times here are those of a fetch of 20 ms.
local async = require "rille.async"

local ITEMS = {}
for i = 1, 10 do ITEMS[i] = i end

local function fetch_data()
  async.sleep(0.02)
end

local function slow_approach()
  for _, item in ipairs(ITEMS) do fetch_data(item) end
end

local function fast_approach()
  async.map(ITEMS, fetch_data)
end

local function controlled_approach()
  local semaphore = async.Semaphore(5)
  async.map(ITEMS, function(item) semaphore:with(fetch_data, item) end)
end

for _, way in ipairs {
  { "One after the other", slow_approach },
  { "All at once", fast_approach },
  { "At most five at once", controlled_approach },
} do
  local name, run = way[1], way[2]
  local start = async.time()
  run()
  print(("%-20s %.2f seconds"):format(name, async.time() - start))
end
