-- A task that computes without waiting holds everything up; one that sleeps gives the others their
-- turn. A heartbeat, meant to come every 10 ms, notes the longest time between two beats. From all
-- documents: "Asyncio Concurrency Patterns" (Pitfall 4), "Async Python Patterns" (Pitfall 2),
-- "Complete Guide to Asynchronous Programming" (Pitfall 1), "python-asyncio" (Blocking the Event
-- Loop). They print nothing. Five seconds became 0.1.
local async = require "rille.async"

local function bad_sleep(seconds)
  local deadline = async.time() + seconds
  while async.time() < deadline do end -- as os.execute "sleep 5" would do, or a long computation
end

local function longest_pause_during(fn, ...)
  local last, longest = async.time(), 0
  local heartbeat = async.spawn(function()
    while true do
      async.sleep(0.01)
      local now = async.time()
      last, longest = now, math.max(longest, now - last)
    end
  end)
  async.sleep(0.02)
  fn(...)
  async.sleep(0.02)
  heartbeat:cancel()
  async.wait { heartbeat }
  return longest
end

for _, sleep in ipairs { { "Blocking", bad_sleep }, { "Waiting", async.sleep } } do
  local pause = longest_pause_during(sleep[2], 0.1)
  print(("%-8s the longest pause of the heartbeat was %.2f seconds"):format(sleep[1] .. ":", pause))
end
