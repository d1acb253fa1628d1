-- There is no await that could be forgotten: a call that waits gives its result. What can be mixed
-- up is a function and its result: spawn and gather want the function.
-- From "Asyncio Concurrency Patterns" (Pitfall 3), "Async Python Patterns" (Forgetting await),
-- "Complete Guide to Asynchronous Programming" (Forgetting to Await) and "python-asyncio"
-- (Forgetting to Await), which prints data. The line after it is not in the documents.
local async = require "rille.async"

local function fetch()
  async.sleep(0.01)
  return "data"
end

local result = fetch()
print(result)

-- This calls fetch here and now, and hands its result to spawn.
local ok, err = pcall(function() async.spawn(fetch()) end)
print(ok or (tostring(err):gsub("^.-: ", "")))
