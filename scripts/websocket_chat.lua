-- A chat with rooms over WebSockets, as a browser would talk to it: JSON both ways, names that are
-- checked, who is there, and nobody who is slow holds up the others.
local async = require "rille.async"
local http = require "rille.http"
local json = require "rille.json"
local websocket = require "rille.websocket"

-- The server --------------------------------------------------------------------------------------

local rooms = {} -- by name: a map of names to WebSockets

local function names_of(room)
  local names = {}
  for name in pairs(room) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function tell(room, event)
  local all = {}
  for _, ws in pairs(room) do all[#all + 1] = ws end
  websocket.broadcast(all, json.encode(event), { max_backlog = 65536 })
end

local function converse(ws, room, name)
  for text in ws:messages() do
    local ok, message = pcall(json.decode, text)
    if not ok then
      ws:send(json.encode { kind = "error", text = "not JSON" })
    else
      tell(room, { kind = "said", name = name, text = tostring(message.text) })
    end
  end
end

local app = http.App()

app:get("/rooms", function()
  local list = {}
  for name, room in pairs(rooms) do list[name] = #names_of(room) end
  return json.object(list)
end)

app:websocket("/rooms/{room}", function(ws, req)
  local name = req.query.name or ""
  if not name:find "^%w+$" then return ws:close(4000, "a name is wanted") end
  local room = rooms[req.params.room] or {}
  if room[name] then return ws:close(4001, name .. " is there already") end
  rooms[req.params.room], room[name] = room, ws
  tell(room, { kind = "joined", name = name, all = names_of(room) })
  async.finally(function() converse(ws, room, name) end, function()
    room[name] = nil
    tell(room, { kind = "left", name = name, code = ws.close_code })
  end)
end, { max_message = 4096 })

-- The members -------------------------------------------------------------------------------------

local function hear(ws, who)
  local event = json.decode(ws:recv() or error("closed: " .. ws.close_reason, 0))
  local what = event.text or event.all and "now " .. table.concat(event.all, ", ")
    or "with code " .. event.code
  print(("  %s hears: %s %s: %s"):format(who, event.name or "-", event.kind, what))
end

async.with(app:serve {}, function(server)
  local base = "127.0.0.1:" .. server.port
  local function join(name)
    return websocket.connect(("ws://%s/rooms/lobby?name=%s"):format(base, name))
  end

  local ann = join "Ann"
  hear(ann, "Ann")
  local ben = join "Ben"
  hear(ann, "Ann")
  hear(ben, "Ben")

  ann:send(json.encode { text = "Hello, Ben!" })
  hear(ben, "Ben")
  hear(ann, "Ann")

  local impostor = join "Ann"
  impostor:recv()
  print(("An impostor is refused: %d, %s"):format(impostor.close_code, impostor.close_reason))

  print("Rooms: " .. http.get("http://" .. base .. "/rooms"):text())

  ben:send(("x"):rep(5000)) -- more than the server takes
  ben:recv()
  print(("Ben is thrown out: %d, %s"):format(ben.close_code, ben.close_reason))
  hear(ann, "Ann")
  ann:close()
end)
