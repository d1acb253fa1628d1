-- Three producers, five consumers, and a monitor that prints how far they are.
-- From "Asyncio Concurrency Patterns" (Example 4: Real-Time Data Processor). There the first
-- producer that is through ends all consumers, and 2 to 8 of 30 items are lost; here the queue is
-- shut down when all producers are through. The monitor is waited for after it was cancelled.
-- Sleeps are twenty times shorter, and random, so the order of the lines changes.
local async = require "rille.async"

local Processor = {}
Processor.__index = Processor

local function new_processor()
  return setmetatable({ queue = async.Queue(), processed = 0, errors = 0 }, Processor)
end

local function pause(least, most)
  async.sleep(least + math.random() * (most - least))
end

function Processor:producer(id)
  for i = 0, 9 do
    pause(0.005, 0.025)
    self.queue:put { producer_id = id, item_id = i, time = async.time(), data = math.random(100) }
    print(("Producer %d generated item %d"):format(id, i))
  end
end

function Processor:consume(id, item)
  pause(0.0025, 0.01)
  print(("Consumer %d processed: %d -> %d"):format(id, item.item_id, item.data * 2))
  self.processed = self.processed + 1
end

function Processor:consumer(id)
  for item in self.queue:iter() do
    local ok, err = pcall(self.consume, self, id, item)
    if not ok then
      print(("Consumer %d error: %s"):format(id, tostring(err)))
      self.errors = self.errors + 1
    end
    self.queue:task_done()
  end
end

function Processor:monitor()
  while true do
    async.sleep(0.1)
    print(("\n=== Stats: Processed=%d, Errors=%d, Queue=%d ===\n"):format(
      self.processed, self.errors, self.queue:qsize()))
  end
end

function Processor:run(num_producers, num_consumers)
  local monitor = async.spawn(self.monitor, self)
  async.group(function(consumers)
    for id = 0, num_consumers - 1 do consumers:spawn(self.consumer, self, id) end
    async.group(function(producers)
      for id = 0, num_producers - 1 do producers:spawn(self.producer, self, id) end
    end)
    self.queue:shutdown()
  end)
  monitor:cancel()
  async.wait { monitor }
  print(("\nFinal Stats: Processed=%d, Errors=%d"):format(self.processed, self.errors))
end

new_processor():run(3, 5)
