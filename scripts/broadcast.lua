-- A WebSocket server that sends each message to all its clients: a dead client costs only itself.
-- From "Async Python Patterns" (WebSocket Server). There the clients are simulated, one that is
-- dead fails the message for all, and the server is never run. Here clients talk to it over the
-- loopback network; the second one dies without a word.
local async = require "rille.async"
local http = require "rille.http"
local websocket = require "rille.websocket"

local clients = {} -- in the order in which they came
local changed = async.Condition()

local function register(client)
  table.insert(clients, client)
  print(("Client %s connected"):format(client.id))
  changed:with(changed.notify_all, changed)
end

local function unregister(client)
  for i, other in ipairs(clients) do
    if other == client then table.remove(clients, i) end
  end
  print(("Client %s disconnected"):format(client.id))
  changed:with(changed.notify_all, changed)
end

local function wait_for_clients(n)
  changed:with(function()
    changed:wait_for(function() return #clients == n end)
  end)
end

local function broadcast(message)
  local sockets = {}
  for i, client in ipairs(clients) do
    print(("Sending to %s: %s"):format(client.id, message))
    sockets[i] = client.socket
  end
  websocket.broadcast(sockets, message) -- waits for nobody
end

local app = http.App()
app:websocket("/chat/{id}", function(ws, req)
  local client = { id = req.params.id, socket = ws }
  register(client)
  async.finally(function()
    for message in ws:messages() do broadcast(client.id .. ": " .. message) end
  end, function() unregister(client) end)
end)

async.with(app:serve {}, function(server)
  local function join(id)
    local ws = websocket.connect(("ws://127.0.0.1:%d/chat/%s"):format(server.port, id))
    wait_for_clients(id == "ann" and 1 or 2)
    return ws
  end
  async.with(join "ann", function(ann)
    local ben = join "ben"
    ann:send "hello"
    print("  ann got " .. ann:recv())
    print("  ben got " .. ben:recv())

    -- Its program crashes: nothing says goodbye.
    ben = nil -- luacheck: ignore 311
    collectgarbage()
    wait_for_clients(1)
    ann:send "are you there?"
    print("  ann got " .. ann:recv())
  end)
  wait_for_clients(0)
end)
