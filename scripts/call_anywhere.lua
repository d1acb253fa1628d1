-- There are no two kinds of functions: any may wait, also when it is called from the middle of an
-- iterator, a metamethod or a coroutine of the script's own. Tasks can be spawned at the top level.
-- From "Async Python Patterns" (Mixing Sync and Async Code), "Complete Guide to Asynchronous
-- Programming" (Calling Asynchronous Functions in Synchronous Functions) and "python-asyncio"
-- (Creating Tasks in Wrong Context). The documents print nothing.
local async = require "rille.async"

local function fetch(key)
  async.sleep(0.01)
  return "value of " .. key
end

-- A plain function.
local function sync_function()
  return fetch "a"
end
print(sync_function())

-- A metamethod: reading a field waits.
local lazy = setmetatable({}, { __index = function(_, key) return fetch(key) end })
print(lazy.b)

-- A coroutine of the script's own.
local generate = coroutine.wrap(function()
  coroutine.yield(fetch "c")
  coroutine.yield(fetch "d")
end)
print(generate())
print(generate())

-- A task, made at the top level.
local task = async.spawn(fetch, "e")
print(task:await())

-- Only where a C function stands in between can nothing wait: the error says which.
local ok, err = pcall(table.sort, { 2, 1 }, function(a, b)
  async.sleep(0)
  return a < b
end)
assert(not ok and tostring(err):find "sort", tostring(err))
print "Not within table.sort"
