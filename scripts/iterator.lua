-- An iterator in Lua is a function that gives the next value and nil at the end. It may wait, and
-- the loop around it is a plain for.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Iterators). Sleeps are five times
-- shorter.
local async = require "rille.async"

local function async_range(start, stop)
  local current = start
  return function()
    if current >= stop then return nil end
    async.sleep(0.02)
    current = current + 1
    return current - 1
  end
end

for i in async_range(0, 5) do
  print("Value: " .. i)
end
