-- Waits for a signal, then cancels the workers, whose clean-up takes its time: what async.finally
-- runs may wait, and is waited for.
-- From "Complete Guide to Asynchronous Programming" (Asynchronous Signal Handling). Sleeps are
-- twenty times shorter; the document wants a Ctrl+C, here the script has a SIGTERM sent to itself.
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
    print(name .. " received cancellation signal, cleaning up...")
    async.sleep(0.05)
    print(name .. " cleanup complete")
  end)
end

local workers = { async.spawn(worker, "Worker 1"), async.spawn(worker, "Worker 2") }

async.call_later(0.15, process.kill, process.pid(), "SIGTERM")
signal.wait("SIGINT", "SIGTERM")
print "\nReceived stop signal, starting graceful shutdown..."

for _, task in ipairs(workers) do task:cancel() end
async.wait(workers)
print "Application closed"
