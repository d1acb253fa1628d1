-- What blocks its thread runs on the threads of a pool, while the loop goes on. From "Asyncio
-- Concurrency Patterns" (Using ThreadPoolExecutor, Custom Executor; Pitfall: blocking operations)
-- and "python-asyncio" (Blocking the Event Loop). They print nothing. Two seconds became 0.1.
local async = require "rille.async"
local worker = require "rille.worker"

local function blocking_io()
  os.execute "sleep 0.1" -- nothing else runs on this thread meanwhile
  return "Done"
end

local beats = 0
local heartbeat = async.spawn(function()
  while true do
    async.sleep(0.01)
    beats = beats + 1
  end
end)

print("Default pool: " .. worker.run(blocking_io))

local start = async.time()
local results = async.with(worker.Pool { size = 4 }, function(pool)
  local jobs = {}
  for i = 1, 10 do jobs[i] = function() return pool:run(blocking_io) end end
  return async.gather(jobs)
end)
heartbeat:cancel()
print(("Pool of 4: %d jobs, the last one %s, in %.2f seconds"):format(#results, results[10],
  async.time() - start))
print(beats >= 3 and "The loop went on meanwhile" or "The loop stood still")
