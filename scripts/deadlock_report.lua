-- A program that waits for ever, and what Rille says about it: instead of hanging, the main task
-- gets a DeadlockError that lists every waiting task, what it waits for and where.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Queue), kept with its faults: the
-- faster producer's end mark ends all consumers, later items are lost, and no mark is ever marked
-- as done, so join() never returns. Ends with status 1 and the report on stderr, after the items
-- consumed so far. uneven_producers.lua is the version that works.
local async = require "rille.async"

local queue = async.Queue(10)

local function producer(id, pause)
  for i = 0, 4 do
    queue:put(("P%d-Item%d"):format(id, i))
    async.sleep(pause)
  end
  queue:put(nil) -- end mark
end

local function consumer(id)
  while true do
    local item = queue:get()
    if item == nil then
      queue:put(nil) -- for the next consumer, but nobody will ever call task_done() for it
      break
    end
    print(("Consumer %d consumed: %s"):format(id, item))
    async.sleep(0.02)
    queue:task_done()
  end
end

local producers = { async.spawn(producer, 0, 0.01), async.spawn(producer, 1, 0.02) }
for id = 0, 2 do async.spawn(consumer, id) end

async.gather(producers)
queue:join()
print "Never reached"
