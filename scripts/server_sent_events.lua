-- Server-sent events: a page that is told what happens, as it happens, and that goes on where it
-- was when its connection breaks.
local async = require "rille.async"
local http = require "rille.http"

local app = http.App()
local log, news = {}, async.Condition()

local function publish(text)
  log[#log + 1] = text
  news:with(news.notify_all, news)
end

-- The events behind the number `last`, as they come.
local function events_after(last)
  return function()
    if not log[last + 1] then
      news:with(function() news:wait_for(function() return log[last + 1] ~= nil end) end)
    end
    last = last + 1
    if log[last] == "end" then return nil end
    return { id = last, event = "price", data = log[last] }
  end
end

app:get("/prices", function(req)
  local last = tonumber(req.headers["last-event-id"] or 0)
  return http.response { sse = events_after(last), headers = { ["Cache-Control"] = "no-cache" } }
end)

async.with(app:serve {}, function(server)
  local url = ("http://127.0.0.1:%d/prices"):format(server.port)
  local seen = async.Event()

  -- Reads `count` events, then goes; what a browser does by itself.
  local function follow(last, count)
    local response = http.get(url, { stream = true, headers = { ["Last-Event-ID"] = last } })
    return async.with(response, function()
      for event in response:events() do
        print(("  %s %s: %s"):format(event.id, event.event, event.data))
        last, count = event.id, count - 1
        if last == "2" then seen:set() end
        if count == 0 then break end
      end
      return last
    end)
  end

  async.group(function(group)
    group:spawn(function()
      publish "10.00"
      publish "10.05"
      seen:wait()
      publish "9.95"
      publish "10.10"
      publish "end"
    end)
    print "the first connection"
    local last = follow("0", 3)
    print "it broke; the next one goes on where that was"
    follow(last, math.huge)
    print "the server has no more"
  end)
end)
