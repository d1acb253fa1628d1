-- A pipeline over threads: what one stage sends into a channel, the next one takes out. A channel
-- of limited capacity holds up who is too fast.
local async = require "rille.async"
local worker = require "rille.worker"

local numbers, squares = worker.Channel(4), worker.Channel(4)

local function produce(n)
  for i = 1, n do numbers:send(i) end
  numbers:close()
end

local function square()
  for n in numbers:iter() do squares:send { n, n * n } end
end

local pool = worker.Pool { size = 3 }
local stages = {
  async.spawn(pool.run, pool, produce, 100),
  async.spawn(pool.run, pool, square),
  async.spawn(pool.run, pool, square),
}
local collector = async.spawn(function()
  local sum, count = 0, 0
  for pair in squares:iter() do
    assert(pair[2] == pair[1] ^ 2)
    sum, count = sum + pair[2], count + 1
  end
  return sum, count
end)
async.gather(stages)
squares:close()
local sum, count = collector:await()
print(("the sum of %d squares is %d"):format(count, sum))
pool:close()
