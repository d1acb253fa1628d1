-- How a web server ends well under load: on SIGTERM it takes no new connections, answers what it
-- has begun, tells its clients to go, and cuts off what has not come to an end in time.
-- From "Asyncio Concurrency Patterns" (Production 1: Graceful Shutdown), here with clients that go
-- on asking all the while.
local async = require "rille.async"
local http = require "rille.http"
local process = require "rille.process"
local signal = require "rille.signal"

local app = http.App()
local begun, busy = 0, async.Event()

app:get("/work", function()
  begun = begun + 1
  if begun == 20 then busy:set() end
  async.sleep(0.02)
  return "done"
end)
app:get("/stuck", function() async.sleep(60) end)
app:on_shutdown(function() print "no more work is taken" end)
app:cleanup_ctx(async.context(function(yield)
  print "the database is open"
  yield()
  print "the database is closed"
end))

local server = app:serve {}
local base = "http://127.0.0.1:" .. server.port
local answered, told, refused = 0, 0, 0

-- Asks until nobody answers any more.
local function client(session)
  while true do
    local ok, response = pcall(session.get, session, "/work")
    if not ok then
      refused = refused + 1
      return
    end
    assert(response.status == 200 and response:text() == "done")
    answered = answered + 1
    if response.headers.connection == "close" then told = told + 1 end
  end
end

async.with(http.Session { base_url = base, timeout = 5 }, function(session)
  async.group(function(group)
    for _ = 1, 10 do group:spawn(client, session) end
    local stuck = group:spawn(pcall, session.get, session, "/stuck")
    group:spawn(function()
      signal.wait "SIGTERM"
      print "SIGTERM"
      server:close(0.2)
      print "closed"
    end)
    busy:wait()
    process.kill(process.pid(), "SIGTERM")
    local ok, e = stuck:await()
    print(("what was stuck: %s"):format(ok and "answered" or e.kind))
  end)
end)

print(("every request that was begun but the stuck one was answered: %s"):format(
  answered == begun and "yes" or ("no, %d of %d"):format(answered, begun)))
print(("all ten clients were told to go, and found nobody after that: %s"):format(
  told == 10 and refused == 10 and "yes" or "no"))
