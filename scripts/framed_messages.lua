-- Messages with their length before them (four bytes, the largest first), so that they may contain
-- anything. A length that nobody would send is refused before a byte of the message is read, and
-- half a message is told apart from an end.
local async = require "rille.async"
local bit = require "bit"
local errors = require "rille.errors"
local net = require "rille.net"

local LONGEST = 2 ^ 20

local function send(stream, message)
  local n = #message
  local header = string.char(bit.band(bit.rshift(n, 24), 255), bit.band(bit.rshift(n, 16), 255),
    bit.band(bit.rshift(n, 8), 255), bit.band(n, 255))
  stream:write(header, message) -- one message, even if other tasks write as well
end

-- The next message, nil at the end.
local function receive(stream)
  local first = stream:read(1)
  if not first then return nil end
  local a, b, c, d = (first .. stream:read_exactly(3)):byte(1, 4)
  local n = ((a * 256 + b) * 256 + c) * 256 + d
  if n > LONGEST then
    error(errors.new("ProtocolError", ("a message of %d bytes is announced"):format(n)))
  end
  return stream:read_exactly(n)
end

local function handle(stream)
  local ok, err = pcall(function()
    for message in receive, stream do send(stream, message:reverse()) end
  end)
  if not ok then print("  the server: " .. tostring(err)) end
end

async.group(function(group)
  local listener = net.listen {}
  group:spawn(listener.serve, listener, handle)
  local function client(fn)
    local stream = net.connect { host = "127.0.0.1", port = listener:address().port }
    async.with(stream, fn)
  end

  client(function(stream)
    for _, message in ipairs { "hello", "two\nlines", "", ("x"):rep(100000) } do
      send(stream, message)
      local answer = receive(stream)
      print(#answer > 20 and #answer .. " bytes" or ("%q"):format(answer))
    end
  end)

  print "Somebody speaks another protocol:"
  client(function(stream)
    stream:write "GET / HTTP/1.1\r\n\r\n"
    print("  the connection: " .. (stream:read() or "closed"))
  end)

  print "Somebody stops half-way:"
  client(function(stream)
    stream:write("\0\0\0\100", "only so much")
    stream:shutdown()
    print("  the connection: " .. (stream:read() or "closed"))
  end)
  listener:close()
end)
