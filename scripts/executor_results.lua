-- Blocking operations at once, each in a pool that is opened and closed for it. From "Async Python
-- Patterns" (Avoid Blocking Operations). One second became 0.1.
local async = require "rille.async"
local worker = require "rille.worker"
local show = require "lib.show"

local function blocking_operation(data)
  os.execute "sleep 0.1"
  return data * 2
end

local function run_in_executor(data)
  return async.with(worker.Pool {}, function(pool) return pool:run(blocking_operation, data) end)
end

print(show(async.map({ 0, 1, 2, 3, 4 }, run_in_executor)))
