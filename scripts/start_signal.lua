-- An event as a starting signal: each task of a group gets ready, and all begin together.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Event). The sleep is twenty times
-- shorter.
local async = require "rille.async"

async.group(function(group)
  local start = async.Event()

  for i = 1, 3 do
    group:spawn(function()
      print(("Task %d waiting for event..."):format(i))
      start:wait()
      print(("Task %d received event, starting execution"):format(i))
    end)
  end

  async.sleep(0.1)
  print "Triggering event"
  start:set()
end)
