-- Heavy computation in a pool of processes; one that crashes fails only its job. From
-- "python-asyncio" (For CPU-bound work, use ProcessPoolExecutor), which prints nothing.
local async = require "rille.async"
local worker = require "rille.worker"

-- How many primes there are below a number.
local function heavy_computation(limit)
  local composite, count = {}, 0
  for i = 2, limit - 1 do
    if not composite[i] then
      count = count + 1
      for j = i * i, limit - 1, i do composite[j] = true end
    end
  end
  return count
end

async.with(worker.Pool { kind = "process" }, function(pool)
  local limits = { 1000, 10000, 100000, 200000 }
  local counts = pool:map(limits, heavy_computation)
  for i, limit in ipairs(limits) do print(("%6d: %d primes"):format(limit, counts[i])) end

  local ok, e = pcall(pool.run, pool, function() os.exit(3) end)
  print(ok, e)
  print("and afterwards: " .. pool:run(heavy_computation, 100))
end)
