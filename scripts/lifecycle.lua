-- A web application with a task in the background: it starts before the server takes requests, and
-- is cancelled and waited for when the server has closed.
-- From "Asyncio Concurrency Patterns" (Pattern 2: Background Tasks with Application Lifecycle).
-- Sleeps are twenty times shorter; the document does not run its example.
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
  app.redis_listener = async.spawn(listener, app)
  async.finally(yield, function()
    app.redis_listener:cancel()
    async.wait { app.redis_listener }
  end)
end)

local app = http.App()
app.messages = 0
app:cleanup_ctx(background_tasks)
app:get("/", function(req) return ("%d messages so far"):format(req.app.messages) end)

async.with(app:serve {}, function(server)
  async.sleep(0.12)
  print(http.get("http://127.0.0.1:" .. server.port .. "/"):text())
end)
