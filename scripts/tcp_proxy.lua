-- A proxy: what a client sends goes to another server, and what that answers comes back. Both
-- directions run at once, each only as fast as its reader takes it, and the end of one is passed on
-- while the other still has things to say (a half-close).
local async = require "rille.async"
local net = require "rille.net"

local SIZE = 2 ^ 20

-- The server behind the proxy: counts what comes until the end, then tells.
local function count(stream)
  local bytes = 0
  while true do
    local data = stream:read()
    if not data then break end
    bytes = bytes + #data
  end
  stream:write(("%d bytes came"):format(bytes))
end

local function pump(from, to)
  while true do
    local data = from:read()
    if not data then break end
    to:write(data)
  end
  to:shutdown()
end

local function proxy_to(port)
  return function(client)
    async.with(net.connect { host = "127.0.0.1", port = port }, function(server)
      async.group(function(group) -- if one direction fails, the other is given up
        group:spawn(pump, client, server)
        pump(server, client)
      end)
    end)
  end
end

async.group(function(group)
  local back = net.listen {}
  local front = net.listen {}
  group:spawn(back.serve, back, count)
  group:spawn(front.serve, front, proxy_to(back:address().port))

  async.with(net.connect { host = "127.0.0.1", port = front:address().port }, function(stream)
    stream:write(("x"):rep(SIZE))
    stream:shutdown() -- no more from here; the answer is still to come
    print(("Sent %d bytes; the answer: %s"):format(SIZE, stream:read_line()))
    print("Then comes: " .. tostring(stream:read()))
  end)

  front:close()
  back:close()
end)
