-- A message to all clients at once, each sent by a task of its own: a dead client costs only
-- itself.
-- From "Async Python Patterns" (WebSocket Server). There one dead client fails the message for all,
-- and the server is never run; the clients are simulated, here too, until there are WebSockets.
-- Sleeps are ten times shorter. The lines show two clients of which the second dies.
local async = require "rille.async"

local Client = {}
Client.__index = Client

local function new_client(id)
  return setmetatable({ id = id, alive = true, incoming = async.Queue() }, Client)
end

function Client:send(message)
  if not self.alive then error("connection lost", 0) end
  print(("Sending to %s: %s"):format(self.id, message))
  async.sleep(0.001)
end

local clients = {} -- in the order in which they came

local function register(client)
  table.insert(clients, client)
  print(("Client %s connected"):format(client.id))
end

local function unregister(client)
  for i, other in ipairs(clients) do
    if other == client then
      table.remove(clients, i)
      print(("Client %s disconnected"):format(client.id))
    end
  end
end

local function broadcast(message)
  local dead = {}
  async.map(clients, function(client)
    if not pcall(client.send, client, message) then dead[#dead + 1] = client end
  end)
  for _, client in ipairs(dead) do unregister(client) end
end

local function handle_client(client)
  register(client)
  async.finally(function()
    for message in client.incoming:iter() do broadcast(client.id .. ": " .. message) end
  end, function()
    unregister(client)
  end)
end

local ann, ben = new_client "ann", new_client "ben"
async.group(function(group)
  group:spawn(handle_client, ann)
  group:spawn(handle_client, ben)
  async.sleep(0)

  ann.incoming:put "hello"
  async.sleep(0.02)
  ben.alive = false
  ann.incoming:put "are you there?"
  async.sleep(0.02)

  ann.incoming:shutdown()
  ben.incoming:shutdown()
end)
