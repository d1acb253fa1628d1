-- Two producers and three consumers around a queue of ten places: who finds it full waits.
-- From "Async Python Patterns" (Pattern 8: Producer-Consumer). There, each producer's None ends one
-- consumer, so two of three consumers are gone before the work is, and the third is cancelled; here
-- the queue is shut down after the last producer, and every consumer ends by itself. Sleeps are
-- five times shorter.
local async = require "rille.async"

local queue = async.Queue(10)

local function producer(id, count)
  for i = 0, count - 1 do
    local item = ("Item-%d-%d"):format(id, i)
    queue:put(item)
    print(("Producer %d produced: %s"):format(id, item))
    async.sleep(0.02)
  end
end

local function consumer(id)
  for item in queue:iter() do
    print(("Consumer %d processing: %s"):format(id, item))
    async.sleep(0.04)
    queue:task_done()
  end
end

local producers = { async.spawn(producer, 0, 5), async.spawn(producer, 1, 5) }
local consumers = {}
for id = 0, 2 do consumers[#consumers + 1] = async.spawn(consumer, id) end

async.gather(producers)
queue:join() -- every item is done, not just taken
queue:shutdown()
async.gather(consumers)
