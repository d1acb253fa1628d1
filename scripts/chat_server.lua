-- A chat over TCP, a line for each message. To broadcast never waits for anybody: each member has a
-- short queue and a task that empties it, and whoever lets it fill up is dropped. So neither Cem,
-- whose computer crashes, nor Dan, who does not read, holds up the others.
local async = require "rille.async"
local net = require "rille.net"

local BACKLOG = 8 -- messages that wait for a member at most
local LONGEST = 2 ^ 18 -- bytes in a message

-- The server --------------------------------------------------------------------------------------

local members = {} -- by name

local function drop(member)
  print(("%s does not read, and is dropped"):format(member.name))
  members[member.name] = nil
  member.stream:abort()
end

local function broadcast(text)
  for _, member in pairs(members) do
    if member.outbox:full() then
      drop(member)
    else
      member.outbox:put_nowait(text)
    end
  end
end

local function send_all(member)
  for text in member.outbox:iter() do member.stream:write(text, "\n") end
end

local function converse(member)
  async.group(function(group)
    group:spawn(send_all, member)
    for line in member.stream:lines(LONGEST) do broadcast(member.name .. ": " .. line) end
    member.outbox:shutdown() -- what is in it still goes out
  end)
end

local function handle(stream)
  local name = stream:read_line(20)
  if not name or members[name] then return end

  local member = { name = name, stream = stream, outbox = async.Queue(BACKLOG) }
  members[name] = member
  broadcast(name .. " joins")
  local ok = pcall(converse, member)
  members[name] = nil
  broadcast(name .. (ok and " leaves" or " is lost"))
end

-- The members -------------------------------------------------------------------------------------

-- Reads on until the message comes.
local function hear(stream, message)
  repeat
    local line = assert(stream:read_line(), "dropped")
  until line == message
  if #message < 80 then print("  " .. message) end
end

local function join(port, name)
  local stream = net.connect { host = "127.0.0.1", port = port }
  stream:write(name, "\n")
  hear(stream, name .. " joins")
  return stream
end

async.group(function(group)
  local listener = net.listen {}
  group:spawn(listener.serve, listener, handle)
  local port = listener:address().port
  local ann, ben, cem, dan = join(port, "Ann"), join(port, "Ben"), join(port, "Cem"),
    join(port, "Dan")

  ann:write "Hello!\n"
  hear(ben, "Ann: Hello!")

  cem:abort()
  hear(ben, "Cem is lost")

  local picture = ("#"):rep(200000)
  while members.Dan do
    ann:write(picture, "\n")
    hear(ann, "Ann: " .. picture)
    hear(ben, "Ann: " .. picture)
  end
  hear(ben, "Dan is lost")

  ben:write("Just us two, then. Bye!\n"):shutdown()
  hear(ann, "Ben: Just us two, then. Bye!")
  hear(ann, "Ben leaves")

  ben:close()
  ann:close()
  dan:close()
  listener:close()
end)
