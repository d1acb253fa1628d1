-- Several loops in one program, each on a thread of its own: a worker may use all of rille.async.
-- From "python-asyncio" (Free-Threaded asyncio, Multiple event loops in parallel), which prints
-- nothing. One second became 0.1.
local async = require "rille.async"
local worker = require "rille.worker"

local function per_thread_loop(number)
  local a = require "rille.async"
  local ticks = a.gather {
    function() return a.sleep(0.1, "slept") end,
    function()
      local n = 0
      for _ = 1, 5 do
        a.sleep(0.01)
        n = n + 1
      end
      return n
    end,
  }
  return ("loop %d: %s, and ticked %d times"):format(number, ticks[1], ticks[2])
end

local start = async.time()
local pool = worker.Pool { size = 4 }
for _, line in ipairs(pool:map({ 1, 2, 3, 4 }, per_thread_loop)) do print(line) end
pool:close()
print(("four loops took %.2f seconds"):format(async.time() - start))
