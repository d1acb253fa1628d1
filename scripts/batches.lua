-- Works through a list in batches: all of a batch at once, and the next when the last is through.
-- From "Async Python Patterns" (Batch Operations) and "Complete Guide to Asynchronous Programming"
-- (Batch Processing), which prints nothing and pauses between the batches. Sleeps are ten times
-- shorter. Where only the number at once matters, async.map with a limit keeps everyone busier.
local async = require "rille.async"

local BATCH_SIZE = 10

local function process_item(item)
  async.sleep(0.01)
  return "Processed: " .. item
end

local items = {}
for i = 1, 25 do items[i] = "item " .. i end

for first = 1, #items, BATCH_SIZE do
  local batch = {}
  for i = first, math.min(first + BATCH_SIZE - 1, #items) do batch[#batch + 1] = items[i] end
  async.map(batch, process_item)
  print(("Processed batch %d"):format((first - 1) / BATCH_SIZE + 1))
  async.sleep(0.01)
end
