-- One producer, three consumers, a queue between them. The producer shuts the queue down when it is
-- through: the consumers take what is left, and their loops end.
-- From "Asyncio Concurrency Patterns" (Pattern 6: Queue). The document ends the consumers with a
-- None that they pass on to one another, which stays in the queue at the end and was never marked
-- as done. Sleeps are five times shorter.
local async = require "rille.async"

local queue = async.Queue()

local function producer(n)
  for i = 0, n - 1 do
    async.sleep(0.02)
    queue:put("item-" .. i)
    print("Produced item-" .. i)
  end
  queue:shutdown()
end

local function consumer(name)
  for item in queue:iter() do
    print(("%s processing %s"):format(name, item))
    async.sleep(0.04)
    queue:task_done()
  end
end

async.gather {
  function() producer(10) end,
  function() consumer "Consumer-1" end,
  function() consumer "Consumer-2" end,
  function() consumer "Consumer-3" end,
}
