-- An echo server and its clients in one program. Each connection has a task of its own, so a client
-- that takes its time keeps nobody waiting; closing the listener lets those that are there finish.
local async = require "rille.async"
local net = require "rille.net"

local function echo(stream)
  for line in stream:lines() do stream:write(line, "\n") end
end

local function talk(port, name, words)
  return async.with(net.connect { host = "127.0.0.1", port = port }, function(stream)
    local answers = {}
    for i, word in ipairs(words) do
      stream:write(word, "\n")
      answers[i] = stream:read_line()
    end
    return name .. " heard: " .. table.concat(answers, ", ")
  end)
end

async.group(function(group)
  local listener = net.listen {} -- on 127.0.0.1, at a port that is free
  local address = listener:address()
  print("Listening on " .. tostring(address))
  group:spawn(listener.serve, listener, echo)

  local idle = net.connect { host = "127.0.0.1", port = address.port } -- says nothing for a while
  local heard = async.gather {
    function() return talk(address.port, "Ann", { "hello", "is anybody there?", "goodbye" }) end,
    function() return talk(address.port, "Ben", { "one", "two", "three", "four" }) end,
  }
  for _, line in ipairs(heard) do print(line) end

  listener:close()
  idle:write "still here\n" -- connections outlive their listener
  print("The patient one heard: " .. idle:read_line())
  idle:close()
end)
print "Closed"
