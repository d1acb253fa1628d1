-- A lock lets one task at a time read, wait and write back, so no update is lost.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Lock). Sleeps are five times
-- shorter.
local async = require "rille.async"

local counter = { value = 0, lock = async.Lock() }

function counter:increment(name)
  self.lock:with(function()
    print(name .. " acquired lock")
    local value = self.value
    async.sleep(0.02) -- without the lock, others would read the same value meanwhile
    self.value = value + 1
    print(("%s released lock, current value: %d"):format(name, self.value))
  end)
end

local tasks = {}
for i = 0, 4 do tasks[#tasks + 1] = async.spawn(counter.increment, counter, "Task " .. i) end
async.gather(tasks)
print("Final value: " .. counter.value)
