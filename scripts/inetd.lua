-- Makes a server of any program that reads and writes: each connection gets a process that has it
-- for its standard input and output. The bytes do not pass through this program at all.
local async = require "rille.async"
local net = require "rille.net"
local process = require "rille.process"

local AT_ONCE = 8 -- further ones wait until they are accepted

local function run(...)
  local command = { ... }
  return function(stream)
    local child = process.spawn {
      command[1], command[2], command[3],
      stdin = stream, stdout = stream, stderr = "null", group = true,
    }
    async.with(child, function()
      stream:close() -- it belongs to the process now
      child:wait()
    end)
  end
end

local function ask(port, text)
  return async.with(net.connect { host = "127.0.0.1", port = port }, function(stream)
    stream:write(text):shutdown()
    local parts = {}
    for line in stream:lines() do parts[#parts + 1] = line end
    return table.concat(parts, " ")
  end)
end

async.group(function(group)
  local function serve(...)
    local listener = net.listen {}
    group:spawn(listener.serve, listener, run(...), { limit = AT_ONCE })
    return listener, listener:address().port
  end

  local upper, upper_port = serve("tr", "a-z", "A-Z")
  local sort, sort_port = serve("sort", "-n")

  print(ask(upper_port, "hello from a socket\n"))
  print(ask(sort_port, "30\n4\n100\n"))
  local answers = async.map({ "one", "two", "three" }, function(word)
    return ask(upper_port, word)
  end)
  print(table.concat(answers, " "))

  upper:close()
  sort:close()
end)
