-- On SIGTERM or SIGINT: stop, let every worker clean up, and end with status 0.
-- From "Asyncio Concurrency Patterns" (Pattern 1: Graceful Shutdown). The document asks a flag ten
-- times a second whether to stop; here an event wakes the script. Sleeps are ten times shorter, and
-- the signal is a real one, which the script has sent to itself.
local async = require "rille.async"
local process = require "rille.process"
local signal = require "rille.signal"

local function worker(name)
  async.finally(function()
    while true do
      print(name .. " working...")
      async.sleep(0.1)
    end
  end, function()
    print(name .. " cancelled, cleaning up...")
  end)
end

local stop = async.Event()
for _, name in ipairs { "SIGTERM", "SIGINT" } do
  signal.on(name, function(received)
    print(("Received signal %s, shutting down..."):format(received))
    stop:set()
  end)
end

local workers = {}
for i = 0, 2 do workers[#workers + 1] = async.spawn(worker, "Worker-" .. i) end

async.call_later(0.15, process.kill, process.pid(), "SIGTERM")
stop:wait()

for _, task in ipairs(workers) do task:cancel() end
async.wait(workers)
print "Shutdown complete"
