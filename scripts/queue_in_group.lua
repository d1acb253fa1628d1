-- A producer and three consumers in one group: if any of them fails, the others are cancelled, and
-- nobody waits for an item that will never come.
-- From "python-asyncio" (Queues for Producer-Consumer). The document passes a None from consumer to
-- consumer, and it stays in the queue; here the queue is shut down. Sleeps are twenty times
-- shorter.
local async = require "rille.async"

local queue = async.Queue(10)

local function producer(first, last)
  for item = first, last do
    queue:put(item)
    print("Produced: " .. item)
  end
  queue:shutdown()
end

local function consumer(id)
  for item in queue:iter() do
    print(("Consumer %d processing: %d"):format(id, item))
    async.sleep(0.025)
  end
end

async.group(function(group)
  group:spawn(producer, 0, 19)
  for id = 0, 2 do group:spawn(consumer, id) end
end)
