-- A server with a task in the background: it starts before the server takes requests, and is
-- cancelled and waited for when the server has closed.
-- From "Asyncio Concurrency Patterns" (Pattern 2: Background Tasks with Application Lifecycle). The
-- document hangs it into an aiohttp application (cleanup_ctx); here a context does the same around
-- a plain server. Sleeps are twenty times shorter; the document does not run its example.
local async = require "rille.async"
local http = require "rille.http"

local function listener(app)
  async.finally(function()
    while true do
      async.sleep(0.05)
      app.messages = app.messages + 1
      print "Processing Redis message..."
    end
  end, function()
    print "Redis listener stopped"
  end)
end

local background_tasks = async.context(function(yield, app)
  local task = async.spawn(listener, app)
  async.finally(function() yield(task) end, function()
    task:cancel()
    async.wait { task }
  end)
end)

local app = { messages = 0 }
local function handler()
  return ("%d messages so far"):format(app.messages)
end

async.with(background_tasks(app), function()
  async.with(http.serve { handler = handler }, function(server)
    async.sleep(0.12)
    print(http.get("http://127.0.0.1:" .. server.port .. "/"):text())
  end)
end)
