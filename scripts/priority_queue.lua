-- The smallest comes out first, whatever the order in which things were put in. What is smaller is
-- said by a function; without one, numbers and strings compare as themselves.
-- From "Complete Guide to Asynchronous Programming" (Priority Queue).
local async = require "rille.async"

local queue = async.PriorityQueue(0, function(a, b) return a.priority < b.priority end)

queue:put { priority = 3, data = "Low priority" }
queue:put { priority = 1, data = "High priority" }
queue:put { priority = 2, data = "Medium priority" }

while not queue:empty() do
  local item = queue:get()
  print(("Processing: %s (Priority: %d)"):format(item.data, item.priority))
end
