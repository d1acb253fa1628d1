-- A resource made from one function: what stands before the yield opens it, what comes after closes
-- it. With async.finally it is closed after an error or a cancellation in the block, too.
-- From "Asyncio Concurrency Patterns" (Async Context Managers; Decorator-Based). Sleeps are ten
-- times shorter.
local async = require "rille.async"

local resource = async.context(function(yield, name)
  print("Acquiring " .. name)
  async.sleep(0.01)
  async.finally(function()
    yield(name)
  end, function()
    print("Releasing " .. name)
    async.sleep(0.01)
  end)
end)

async.with(resource "database", function(db)
  print("Using " .. db)
end)
