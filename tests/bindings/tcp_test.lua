-- Sockets and listeners: what a wait that is given up leaves behind.
local async, test = require "rille.async", require "support.test"
local tcp = require "rille.core.tcp"

local function pair()
  local listener = tcp.listen("127.0.0.1", 0)
  local near = tcp.connect("127.0.0.1", listener:port())
  local far = listener:accept()
  listener:close()
  test.defer(function()
    near:close()
    far:close()
  end)
  return near, far
end

local function read_all(socket)
  local parts = {}
  for data in function() return socket:read() end do parts[#parts + 1] = data end
  return table.concat(parts)
end

test("bytes go both ways, and the end is nil", function()
  local near, far = pair()
  near:write "ping"
  test.eq(far:read(), "ping")
  far:write "po"
  far:write "ng"
  far:shutdown()
  test.eq(read_all(near), "pong")
  test.eq(near:read(), nil)
  near:write "still"
  test.eq(far:read(), "still")
end)

test("read gives at most what was asked for, and the rest later", function()
  local near, far = pair()
  near:write "abcde"
  test.eq({ far:read(2), far:read(2), far:read(2) }, { "ab", "cd", "e" })
end)

test("a cancelled read loses no byte", function()
  local near, far = pair()
  for i = 0, 3 do
    local reader = async.spawn(far.read, far)
    test.turns(i)
    near:write "x"
    reader:cancel()
    async.wait { reader }
    test.eq(reader:cancelled() and far:read() or reader:result(), "x")
  end
end)

test("a write waits for a slow peer, and one that is cancelled still goes out whole", function()
  local near, far = pair()
  local data = ("x"):rep(10000000)
  local writer = async.spawn(near.write, near, data)
  test.turns()
  test.eq(writer:done(), false)
  writer:cancel()
  async.wait { writer }
  test.eq(writer:cancelled(), true)
  near:shutdown()
  test.eq(#read_all(far), #data)
end)

test("closing a socket wakes who reads it", function()
  local near = pair()
  local reader = async.spawn(near.read, near)
  test.turns()
  near:close()
  local e = test.raises("OSError", reader.await, reader)
  test.eq({ e.code, e.syscall }, { "ECANCELED", "read" })
  test.raises("the socket is closed", near.write, near, "x")
end)

test("a reset is an error with the peer's address", function()
  local near, far = pair()
  far:abort()
  local e = test.raises("OSError", near.read, near)
  test.eq({ e.code, e.syscall, e.address }, { "ECONNRESET", "read", near:address() })
end)

test("a connect that is cancelled closes its socket", function()
  local listener = tcp.listen("127.0.0.1", 0)
  for turns = 0, 3 do
    local connecting = async.spawn(tcp.connect, "127.0.0.1", listener:port())
    test.turns(turns)
    connecting:cancel()
    async.wait { connecting }
    if not connecting:cancelled() then connecting:result():close() end
  end
  listener:close()
end)

test("a cancelled accept loses no connection, and closing ends it", function()
  local listener = tcp.listen("127.0.0.1", 0)
  local accepting = async.spawn(listener.accept, listener)
  test.turns()
  accepting:cancel()
  async.wait { accepting }
  local near = tcp.connect("127.0.0.1", listener:port())
  local far = listener:accept()
  near:write "x"
  test.eq(far:read(), "x")
  near:close()
  far:close()
  accepting = async.spawn(listener.accept, listener)
  test.turns()
  listener:close()
  test.eq(accepting:await(), nil)
  test.eq(listener:accept(), nil)
end)

test("two tasks cannot read at once", function()
  local near, far = pair()
  local reader = async.spawn(near.read, near)
  test.turns()
  test.raises("another task reads from this socket", near.read, near)
  far:write "x"
  test.eq(reader:await(), "x")
end)

test("lookup gives addresses", function()
  for _, ip in ipairs(tcp.lookup "localhost") do assert(tcp.is_ip(ip)) end
  test.eq({ tcp.is_ip "127.0.0.1", tcp.is_ip "::1", tcp.is_ip "localhost" }, { true, true, false })
  test.eq({ tcp.address("127.0.0.1", 80), tcp.address("::1", 80) }, { "127.0.0.1:80", "[::1]:80" })
end)
