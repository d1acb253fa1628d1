-- A condition lets a task wait, lock in hand, until another says that something has changed. Here
-- it makes a queue out of a list; in a program of your own, take async.Queue.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Condition Variable). The output
-- in the document cannot come from its program (it produces item_1 twice and consumes item_2
-- twice); the lines here are those the program prints when run. Sleeps are ten times shorter, the
-- consumer's a little more, so that no two things happen at the same moment.
local async = require "rille.async"

local queue, changed = {}, async.Condition()

local function produce(item)
  changed:with(function()
    table.insert(queue, item)
    print(("Produced: %s, queue length: %d"):format(item, #queue))
    changed:notify()
  end)
end

local function consume()
  return changed:with(function()
    while #queue == 0 do
      print "Queue is empty, waiting..."
      changed:wait() -- gives the lock away while it sleeps
    end
    local item = table.remove(queue, 1)
    print(("Consumed: %s, queue length: %d"):format(item, #queue))
    return item
  end)
end

local function producer(n)
  for i = 0, n - 1 do
    async.sleep(0.05)
    produce("item_" .. i)
  end
end

local function consumer(n)
  for _ = 1, n do
    consume()
    async.sleep(0.09)
  end
end

async.gather {
  function() producer(5) end,
  function() consumer(5) end,
}
