-- A generator yields values one by one and may wait in between. It is written as a loop, where an
-- iterator has to keep its state by hand.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Generators). Sleeps are twenty
-- times shorter.
local async = require "rille.async"

local items = async.generator(function(yield, n)
  for i = 0, n - 1 do
    async.sleep(0.025)
    yield("item_" .. i)
  end
end)

for item in items(5) do
  print("Received: " .. item)
end
