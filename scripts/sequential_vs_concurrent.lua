-- Two calls one after the other take the sum of their times; three in a gather take the longest.
-- From "Complete Guide to Asynchronous Programming" (Defining and Executing Coroutines) and
-- "python-asyncio" (create_task() vs await). Sleeps are twenty times shorter; the list of results
-- is printed as Lua writes it.
local async = require "rille.async"
local show = require "lib.show"

local function fetch_data(id)
  print(("Starting to fetch data %d"):format(id))
  async.sleep(0.1) -- stands for some input or output
  print(("Data %d fetch complete"):format(id))
  return "data_" .. id
end

local start = async.time()
fetch_data(1)
fetch_data(2)
print(("Serial execution time: %.2f seconds"):format(async.time() - start))

start = async.time()
local results = async.gather {
  function() return fetch_data(3) end,
  function() return fetch_data(4) end,
  function() return fetch_data(5) end,
}
print(("Concurrent execution time: %.2f seconds"):format(async.time() - start))
results.n = nil -- gather counts its results, so that nils among them are seen
print("Results: " .. show(results))
