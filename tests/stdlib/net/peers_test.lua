-- Streams, listeners and datagrams opposite other programs: nc, socat, Python's asyncio.
local async, test = require "rille.async", require "support.test"
local net = require "rille.net"
local support = require "stdlib.net.support"

local function has(command)
  return os.execute("command -v " .. command .. " > /dev/null 2>&1") == 0
end

local function peer_test(command, name, fn)
  if has(command) then test(name, fn) end
end

local PYTHON = [[
cat > $DIR/server.py <<'END'
import asyncio, socket, struct
async def serve(reader, writer):
    while True:
        line = await reader.readline()
        if not line:
            break
        if line == b"reset\n":
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
        if line == b"close\n":
            break
        if line.startswith(b"send "):
            writer.write(b"x" * int(line[5:]))
        else:
            writer.write(line.upper())
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
END
exec python3 $DIR/server.py
]]

peer_test("python3", "an asyncio server answers, line by line", function()
  local port = tonumber(support.start(PYTHON):expect "^(%d+)\n")
  local stream = net.connect { host = "127.0.0.1", port = port, timeout = 10 }
  for i = 1, 100 do
    stream:write("line ", i, "\n")
    test.eq(stream:read_line(), "LINE " .. i)
  end
  stream:write "send 10000000\n"
  test.eq(stream:read_exactly(10000000) == ("x"):rep(10000000), true)
  stream:write "close\n"
  test.eq(stream:read(), nil)
  stream:close()

  stream = net.connect { host = "127.0.0.1", port = port }
  stream:write "reset\n"
  test.eq(test.raises("OSError", stream.read, stream).code, "ECONNRESET")
  stream:close()
end)

peer_test("python3", "fifty connections to an asyncio server at once do not mix", function()
  local port = tonumber(support.start(PYTHON):expect "^(%d+)\n")
  local list = {}
  for i = 1, 50 do list[i] = i end
  async.map(list, function(i)
    local stream = net.connect { host = "127.0.0.1", port = port }
    for turn = 1, 20 do
      stream:write(("connection %d, turn %d\n"):format(i, turn))
      test.eq(stream:read_line(), ("CONNECTION %d, TURN %d"):format(i, turn))
    end
    stream:close()
  end)
end)

peer_test("python3", "an asyncio client is served", function()
  local listener = net.listen {}
  local server = async.spawn(listener.serve, listener, function(stream)
    for line in stream:lines() do stream:write(line:reverse(), "\n") end
    stream:write "the end\n"
  end)
  local client = support.start(([[python3 -c '
import asyncio
async def one(i):
    reader, writer = await asyncio.open_connection("127.0.0.1", %d)
    for turn in range(20):
        writer.write(b"abc%%d\n" %% i)
        assert await reader.readline() == (b"abc%%d" %% i)[::-1] + b"\n"
    writer.write_eof()
    assert await reader.read() == b"the end\n"
    writer.close()
async def main():
    await asyncio.gather(*(one(i) for i in range(50)))
    print("all well")
asyncio.run(main())']]):format(listener:address().port))
  client:expect "all well"
  listener:close()
  server:await()
end)

peer_test("nc", "nc sends, half-closes and gets its answer", function()
  local listener = net.listen {}
  local nc = support.start(("printf 'from nc\\n' | nc -N 127.0.0.1 %d"):format(
    listener:address().port))
  local stream = listener:accept()
  test.eq(support.read_all(stream), "from nc\n")
  stream:write "from rille\n"
  stream:close()
  nc:wait()
  test.eq(nc:output(), "from rille\n")
  listener:close()
end)

peer_test("nc", "nc listens on a Unix socket", function()
  local nc = support.start "printf 'from nc\\n' | nc -N -lU $DIR/socket"
  local stream = support.eventually(function()
    local ok, s = pcall(net.connect, { path = nc.dir .. "/socket" })
    return ok and s
  end)
  test.eq(stream:read_line(), "from nc")
  stream:write "from rille\n"
  stream:close()
  nc:wait()
  test.eq(nc:output(), "from rille\n")
end)

peer_test("nc", "nc speaks over UDP", function()
  local socket = net.udp { host = "127.0.0.1" }
  local nc = support.start(("(printf ping; sleep 30) | nc -u 127.0.0.1 %d"):format(
    socket:address().port))
  local data, from = socket:recv()
  test.eq({ data, from.host }, { "ping", "127.0.0.1" })
  socket:send("pong", from.host, from.port)
  nc:expect "pong"
  socket:close()
end)

peer_test("socat", "socat connects to an abstract name", function()
  local name = "rille-socat-" .. support.dead_port()
  local listener = net.listen { path = "@" .. name }
  local socat = support.start(
    ("printf 'from socat\\n' | socat -t 10 - ABSTRACT-CONNECT:%s"):format(name))
  local stream = listener:accept()
  test.eq(support.read_all(stream), "from socat\n")
  stream:write "from rille\n"
  stream:close()
  socat:wait()
  test.eq(socat:output(), "from rille\n")
  listener:close()
end)

peer_test("socat", "socat listens on IPv6 and on an abstract name", function()
  local port, name = support.dead_port(), "rille-socat-" .. support.dead_port()
  support.start(("socat TCP6-LISTEN:%d,bind=[::1],reuseaddr,fork PIPE"):format(port))
  support.start(("socat ABSTRACT-LISTEN:%s,fork PIPE"):format(name))
  for _, options in ipairs { { host = "::1", port = port }, { path = "\0" .. name } } do
    local stream = support.eventually(function()
      local ok, s = pcall(net.connect, options)
      return ok and s
    end)
    stream:write "there and back"
    test.eq(stream:read_exactly(14), "there and back")
    stream:close()
  end
end)

peer_test("socat", "a slow peer gets everything, and the writer waits for it", function()
  local listener = net.listen {}
  -- Takes a little at a time.
  local socat = support.start(([[socat -u -b 2000 TCP:127.0.0.1:%d SYSTEM:'
    dd bs=2000 count=50 of=/dev/null 2>/dev/null; sleep 0.1; cat | wc -c']]):format(
    listener:address().port))
  local stream = listener:accept()
  local total = 0
  for _ = 1, 100 do
    stream:write(("x"):rep(100000))
    total = total + 100000
  end
  stream:close()
  test.eq(tonumber(socat:expect "(%d+)\n") <= total, true)
  socat:wait()
  listener:close()
end)

peer_test("socat", "a peer that is killed in the middle is the end or a reset", function()
  local listener = net.listen {}
  local socat = support.start(("exec socat -u /dev/zero TCP:127.0.0.1:%d"):format(
    listener:address().port))
  local stream = listener:accept()
  test.eq(#stream:read_exactly(1000000), 1000000)
  socat:kill()
  local ok, e = pcall(function()
    while stream:read() do end
  end)
  assert(ok or e.code == "ECONNRESET", tostring(e))
  stream:close()
  listener:close()
end)

test("another Rille program talks to this one", function()
  local listener = net.listen { host = "*" }
  local server = async.spawn(listener.serve, listener, function(stream)
    for line in stream:lines() do stream:write(line, "!\n") end
  end)
  local result = support.start(([[%s -e '
    local net = require "rille.net"
    for _, host in ipairs { "127.0.0.1", "::1", "localhost" } do
      local stream = net.connect { host = host, port = %d, timeout = 10 }
      stream:write("hello from ", host, "\n")
      print(stream:read_line())
      stream:shutdown()
      assert(stream:read() == nil)
      stream:close()
    end']]):format(test.executable(), listener:address().port))
  result:wait()
  test.eq({ result:output(), result:errors() },
    { "hello from 127.0.0.1!\nhello from ::1!\nhello from localhost!\n", "" })
  listener:close()
  server:await()
end)
