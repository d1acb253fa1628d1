-- An event wakes everyone who waits for it, and stays set for those who come later.
-- From "Asyncio Concurrency Patterns" (Pattern 5: Event). The sleep is twenty times shorter.
local async = require "rille.async"

local event = async.Event()

local function waiter(name)
  print(name .. " waiting for event")
  event:wait()
  print(name .. " received event")
end

local function setter()
  async.sleep(0.1)
  print "Setting event"
  event:set()
end

async.gather {
  function() waiter "Waiter 1" end,
  function() waiter "Waiter 2" end,
  function() waiter "Waiter 3" end,
  setter,
}
