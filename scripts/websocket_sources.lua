-- A WebSocket with two sources of messages: what its client sends, and a subscription to a channel.
-- Each connection has a task for the subscription, which ends with the connection.
-- From "Asyncio Concurrency Patterns" (Pattern 5: WebSocket with Multiple Event Sources). The
-- document's subscription is simulated, and its task is cancelled but not waited for; here the
-- channel is an object that others publish on. It gives ten messages, a second apart; here three,
-- in between those of the client.
local async = require "rille.async"
local http = require "rille.http"
local websocket = require "rille.websocket"

-- Messages for all who have subscribed ------------------------------------------------------------

local Channel = {}
Channel.__index = Channel

local function new_channel() return setmetatable({ subscribers = {} }, Channel) end

function Channel:publish(message)
  for queue in pairs(self.subscribers) do queue:put_nowait(message) end
end

Channel.subscribe = async.context(function(yield, self)
  local queue = async.Queue()
  self.subscribers[queue] = true
  async.finally(function() yield(queue) end, function()
    self.subscribers[queue] = nil
    print "unsubscribed"
  end)
end)

-- The server --------------------------------------------------------------------------------------

local app = http.App()
app.channel = new_channel()

local function read_subscription(ws, queue)
  for message in queue:iter() do ws:send(message) end
end

app:websocket("/", function(ws, req)
  async.with(req.app.channel:subscribe(), function(queue)
    -- Whoever has left needs no answer any more: to send one is an error then.
    async.catch(function()
      async.group(function(group)
        group:spawn(read_subscription, ws, queue)
        for message in ws:messages() do ws:send("Echo: " .. message) end
        group:cancel()
      end)
    end, { WebSocketError = function() end })
  end)
end)

async.with(app:serve {}, function(server)
  async.with(websocket.connect("ws://127.0.0.1:" .. server.port), function(ws)
    for i = 0, 2 do
      ws:send("message " .. i)
      print((ws:recv()))
      app.channel:publish("Published message " .. i)
      print((ws:recv()))
    end
  end)
end)
