-- Many tasks each hand in one item and get its result; the batcher collects the items and works on
-- them ten at a time, or on what there is after 20 ms.
-- From "python-asyncio" (Additional References: batch processors), which has no program.
local async = require "rille.async"
local patterns = require "rille.patterns"

local batcher = patterns.Batcher {
  max_size = 10,
  max_delay = 0.02,
  handler = function(numbers)
    print(("A batch of %d"):format(#numbers))
    local squares = {}
    for i, number in ipairs(numbers) do squares[i] = number * number end
    return squares
  end,
}

local numbers = {}
for i = 1, 25 do numbers[i] = i end

local squares = async.map(numbers, function(number) return batcher:submit(number) end)

for i, square in ipairs(squares) do assert(square == i * i) end
print(("%d results, the last is %d"):format(squares.n, squares[25]))
