-- Producers and consumers of changing speed: a queue evens them out, and no item is lost.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Queue). As printed there, the
-- program never ends and loses items (deadlock_report.lua keeps that version); here the queue is
-- shut down when all producers are through. It calls the queue thread-safe, which it is not: it is
-- safe among tasks. Sleeps are ten times shorter, and random, so the order of the lines changes.
local async = require "rille.async"

local queue = async.Queue(10)

local function pause(least, most)
  async.sleep(least + math.random() * (most - least))
end

local function producer(id)
  for i = 0, 4 do
    local item = ("P%d-Item%d"):format(id, i)
    queue:put(item)
    print(("Producer %d produced: %s"):format(id, item))
    pause(0.01, 0.05)
  end
end

local function consumer(id)
  for item in queue:iter() do
    print(("Consumer %d consumed: %s"):format(id, item))
    pause(0.02, 0.06)
  end
end

async.group(function(consumers)
  for id = 0, 2 do consumers:spawn(consumer, id) end
  async.gather { async.spawn(producer, 0), async.spawn(producer, 1) }
  queue:shutdown()
end)
