-- Many workers count with one counter under a lock; waiting workers get it in the order they came.
-- From "Asyncio Concurrency Patterns" (Pattern 4: Lock) and "Async Python Patterns" (Pattern 10:
-- Async Locks), one after the other. The documents call such a counter thread-safe; it is safe
-- among the tasks of one program, which is all that is needed. The second's sleep is ten times
-- shorter.
local async = require "rille.async"

local Counter = {}
Counter.__index = Counter

local function new_counter(delay)
  return setmetatable({ value = 0, delay = delay, lock = async.Lock() }, Counter)
end

function Counter:increment()
  self.lock:with(function()
    local current = self.value
    async.sleep(self.delay)
    self.value = current + 1
  end)
end

local function run_workers(count, work)
  local workers = {}
  for i = 1, count do workers[i] = async.spawn(work, i - 1) end
  async.gather(workers)
end

local counter = new_counter(0)
run_workers(10, function()
  for _ = 1, 100 do counter:increment() end
end)
print("Final count: " .. counter.value)

counter = new_counter(0.001)
run_workers(5, function(id)
  for _ = 1, 10 do
    counter:increment()
    print(("Worker %d incremented"):format(id))
  end
end)
print("Final counter value: " .. counter.value)
