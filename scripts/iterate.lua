-- An iterator with state and a generator side by side, in two loops that look alike.
-- From "Mastering asyncio" (Async Iterators; Async Generator). Sleeps are ten times shorter.
local async = require "rille.async"

local function range(start, stop, delay)
  local value = start - 1
  return function()
    value = value + 1
    if value < stop then return async.sleep(delay, value) end -- sleep hands its other arguments on
  end
end

local squares = async.generator(function(yield, n)
  for i = 0, n - 1 do
    async.sleep(0.001)
    yield(i * i)
  end
end)

for value in range(0, 5, 0.01) do io.write(value, " ") end
print()

for square in squares(5) do io.write(square, " ") end
print()
