-- Datagrams.
local async, test = require "rille.async", require "support.test"
local net = require "rille.net"
local support = require "stdlib.net.support"

local function udp(options)
  local socket = net.udp(options)
  test.defer(function() socket:close() end)
  return socket
end

local function recv(socket)
  local data, from = socket:recv()
  return data, tostring(from)
end

test("datagrams go back and forth, each whole, with the sender's address", function()
  local a, b = udp { host = "127.0.0.1" }, udp { host = "127.0.0.1" }
  local to = a:address()
  test.eq({ to.host, to.family }, { "127.0.0.1", "inet" })
  test.eq(tostring(a), "UDP socket: 127.0.0.1:" .. to.port)
  b:send("first", to.host, to.port):send("second", to.host, to.port)
  test.eq({ recv(a) }, { "first", tostring(b:address()) })
  local data, from = a:recv()
  test.eq({ data, from.host, from.port, from.family },
    { "second", "127.0.0.1", b:address().port, "inet" })
  a:send("answer", from.host, from.port)
  test.eq({ recv(b) }, { "answer", tostring(to) })
end)

test("a datagram may be empty", function()
  local a, b = udp { host = "127.0.0.1" }, udp { host = "127.0.0.1" }
  b:send("", "127.0.0.1", a:address().port)
  b:send("x", "127.0.0.1", a:address().port)
  test.eq({ recv(a) }, { "", tostring(b:address()) })
  test.eq(a:recv(), "x")
end)

test("a datagram may have any bytes, and be as long as the system takes it", function()
  local a, b = udp { host = "127.0.0.1" }, udp { host = "127.0.0.1" }
  local data = ("\0\r\n\255"):rep(16000) .. ("x"):rep(1507)
  test.eq(#data, 65507)
  b:send(data, "127.0.0.1", a:address().port)
  test.eq(a:recv() == data, true)
  local e = test.raises("OSError", b.send, b, data .. "x", "127.0.0.1", a:address().port)
  test.eq({ e.code, e.syscall, e.address }, { "EMSGSIZE", "send", tostring(a:address()) })
end)

test("without an address a socket reaches both families", function()
  local free = udp()
  for _, host in ipairs { "127.0.0.1", "::1" } do
    local other = udp { host = host }
    free:send("to " .. host, host, other:address().port)
    local data, from = other:recv()
    test.eq({ data, from.host, from.port }, { "to " .. host, host, free:address().port })
    other:send("back", from.host, from.port)
    test.eq({ recv(free) }, { "back", tostring(other:address()) })
  end
end)

test("names are looked up", function()
  local a, b = udp { host = "localhost" }, udp()
  b:send("by name", "localhost", a:address().port)
  test.eq(a:recv(), "by name")
  local e = test.raises("OSError", b.send, b, "x", "no-such-host.invalid", 1)
  test.eq({ e.syscall, e.address }, { "getaddrinfo", "no-such-host.invalid" })
end)

test("a socket of one family cannot send to the other", function()
  local a = udp { host = "127.0.0.1" }
  local e = test.raises("OSError", a.send, a, "x", "::1", 1)
  test.eq({ e.code, e.syscall, e.address }, { "EAFNOSUPPORT", "send", "[::1]:1" })
end)

test("a connected socket has one peer, and hears of nobody else", function()
  local server = udp { host = "127.0.0.1" }
  local port = server:address().port
  for _, host in ipairs { "127.0.0.1", "localhost" } do
    local client = udp { connect = { host = host, port = port } }
    client:send "question"
    local data, from = server:recv()
    test.eq({ data, from.host }, { "question", "127.0.0.1" })
    udp():send("intruder", from.host, from.port)
    server:send("answer", from.host, from.port)
    test.eq({ recv(client) }, { "answer", tostring(server:address()) })
    test.blames_caller("bad argument #2 to 'send' (the socket is connected",
      function() client:send("x", "127.0.0.1", port) end)
  end
end)

test("nobody at the other end is ECONNREFUSED", function()
  local port = support.dead_port()
  local client = udp { connect = { host = "127.0.0.1", port = port } }
  client:send "anybody there?"
  local e = test.raises("OSError", client.recv, client)
  test.eq({ e.code, e.syscall, e.address }, { "ECONNREFUSED", "recv", "127.0.0.1:" .. port })
  client:send "again"
  async.sleep(0.002)
  e = test.raises("OSError", client.send, client, "and again")
  test.eq({ e.code, e.syscall, e.address }, { "ECONNREFUSED", "send", "127.0.0.1:" .. port })
end)

test("an error wakes the first who receives, and the others go on waiting", function()
  local port = support.dead_port()
  local client = udp { connect = { host = "127.0.0.1", port = port } }
  local first, second = async.spawn(client.recv, client), async.spawn(client.recv, client)
  test.turns()
  async.sleep(0.001) -- the loop watches the socket
  client:send "anybody there?"
  test.eq(test.raises("OSError", first.await, first).code, "ECONNREFUSED")
  local server = udp { port = port }
  client:send "now?"
  local _, from = server:recv()
  server:send("yes", from.host, from.port)
  test.eq(second:await(), "yes")
end)

test("tasks that receive queue up, and none that is cancelled loses a datagram", function()
  local a, b = udp { host = "127.0.0.1" }, udp { host = "127.0.0.1" }
  local port = a:address().port
  for turns = 0, 4 do
    local tasks = {}
    for i = 1, 3 do tasks[i] = async.spawn(a.recv, a) end
    test.turns()
    b:send("1", "127.0.0.1", port)
    b:send("2", "127.0.0.1", port)
    test.turns(turns)
    tasks[1]:cancel()
    async.wait { tasks[1] }
    local first = tasks[1]:cancelled() and tasks[2] or tasks[1]
    local second = tasks[1]:cancelled() and tasks[3] or tasks[2]
    test.eq({ (first:await()), (second:await()) }, { "1", "2" })
    tasks[3]:cancel()
    async.wait(tasks)
  end
end)

test("a receiver that does not come costs no memory, and the socket goes on", function()
  local a, b = udp { host = "127.0.0.1" }, udp { host = "127.0.0.1" }
  local port = a:address().port
  local waiting = async.spawn(a.recv, a)
  test.turns()
  local before = support.resident()
  local data = ("x"):rep(10000)
  for i = 1, 5000 do
    b:send(data, "127.0.0.1", port)
    if i % 100 == 0 then async.sleep(0) end
  end
  assert(support.resident() - before < 8000)
  test.eq(waiting:await(), data)
  local n = 0
  while pcall(async.wait_for, a.recv, 0.005, a) do n = n + 1 end
  assert(n > 0 and n < 5000, n)
  b:send("still there", "127.0.0.1", port)
  test.eq(a:recv(), "still there")
end)

test("a flood of datagrams does not keep other tasks from running", function()
  local a, b = udp { host = "127.0.0.1" }, udp { host = "127.0.0.1" }
  local port = a:address().port
  local turns, flooding = 0, true
  local other = async.spawn(function()
    while flooding do
      turns = turns + 1
      async.sleep(0)
    end
  end)
  test.turns()
  turns = 0
  for _ = 1, 1000 do
    b:send("x", "127.0.0.1", port)
    a:recv()
  end
  flooding = false
  other:await()
  assert(turns >= 10, turns)
end)

test("closing wakes whoever receives, and a closed socket says so", function()
  local a = udp { host = "127.0.0.1" }
  local name = tostring(a:address())
  local tasks = { async.spawn(a.recv, a), async.spawn(a.recv, a) }
  test.turns()
  a:close()
  a:close()
  for _, task in ipairs(tasks) do
    test.contains(test.raises("InvalidStateError", task.await, task).message, name)
  end
  for _, method in ipairs { "recv", "address" } do
    test.contains(test.raises("InvalidStateError", a[method], a).message, name)
  end
  test.raises("InvalidStateError", a.send, a, "x", "127.0.0.1", 1)
  test.eq(tostring(a), "UDP socket: " .. name .. " (closed)")
end)

test("a port can be chosen, and shared if all ask for it", function()
  local a = udp { reuse_port = true }
  local port = a:address().port
  local e = test.raises("OSError", net.udp, { port = port })
  test.eq({ e.code, e.syscall, e.address }, { "EADDRINUSE", "bind", "127.0.0.1:" .. port })
  a:close()
  local b = udp { port = port }
  test.eq(tostring(b:address()), "127.0.0.1:" .. port)
  b:close()
  b, a = udp { port = port, reuse_port = true }, udp { port = port, reuse_port = true }
  test.eq(a:address().port, b:address().port)
end)

test("options of the system can be set", function()
  for _, host in ipairs { "127.0.0.1", "::1", "*" } do
    local a = udp { host = host, broadcast = true, ttl = 5, multicast_ttl = 0,
      multicast_loop = false, multicast_interface = "lo" }
    a:close()
  end
  local plain = udp { host = "127.0.0.1" }
  local e = test.raises("OSError", plain.send, plain, "x", "255.255.255.255", 9)
  test.eq(e.code, "EACCES")
end)

test("what is sent to a group comes to all who have joined it", function()
  local group = "239.255.12.34"
  local a = udp { host = "*", reuse_port = true }
  local port = a:address().port
  local b = udp { host = "0.0.0.0", port = port, reuse_port = true }
  local sender = udp { host = "127.0.0.1", multicast_interface = "lo", multicast_ttl = 1 }
  test.eq(a:join(group, "lo"), a)
  b:join(group, "lo")
  sender:send("to all", group, port)
  test.eq({ (a:recv()), (b:recv()) }, { "to all", "to all" })
  b:leave(group, "lo")
  sender:send("to one", group, port)
  test.eq(a:recv(), "to one")
  test.raises("TimeoutError", async.wait_for, b.recv, 0.005, b)
end)

test("groups are joined once, and left once", function()
  for _, group in ipairs { "239.255.12.34", "ff01::1234" } do
    local a = udp { host = group:find(":", 1, true) and "::" or "0.0.0.0" }
    a:join(group, "lo")
    test.eq(test.raises("OSError", a.join, a, group, "lo").code, "EADDRINUSE")
    a:leave(group, "lo")
    test.eq(test.raises("OSError", a.leave, a, group, "lo").code, "EADDRNOTAVAIL")
  end
  local a = udp { host = "127.0.0.1" }
  test.eq(test.raises("OSError", a.join, a, "127.0.0.1", "lo").code, "EINVAL")
  test.blames_caller("bad argument #1 to 'join'", function() a:join "a.group" end)
  test.blames_caller("there is no interface 'no0'", function() a:join("239.255.12.34", "no0") end)
  test.blames_caller("there is no interface 'no0'",
    function() net.udp { multicast_interface = "no0" } end)
end)

test("a socket works in async.with, and is closed when nobody holds it", function()
  local before = support.open_files()
  local socket
  async.with(net.udp {}, function(s) socket = s end)
  test.raises("InvalidStateError", socket.recv, socket)
  net.udp {}
  collectgarbage()
  collectgarbage()
  support.open_files(before)
end)

test("an error while it is made leaves nothing open", function()
  local before = support.open_files()
  test.raises("OSError", net.udp, { connect = { host = "no-such-host.invalid", port = 1 } })
  test.raises("OSError", net.udp, { host = "127.0.0.1", connect = { host = "::1", port = 1 } })
  test.raises("OSError", net.udp, { host = "192.0.2.1" })
  support.open_files(before)
end)

test("wrong arguments name the option and blame the script's line", function()
  test.blames_caller("unknown option 'adress'", function() net.udp { adress = "a" } end)
  test.blames_caller("bad argument 'port' to 'udp'", function() net.udp { port = 70000 } end)
  test.blames_caller("bad argument 'host' to 'udp'", function() net.udp { host = "a\0b" } end)
  test.blames_caller("bad argument 'connect' to 'udp'", function() net.udp { connect = "a" } end)
  test.blames_caller("bad argument 'connect.port' to 'udp'",
    function() net.udp { connect = { host = "a", port = 0 } } end)
  test.blames_caller("bad argument 'connect.host' to 'udp'",
    function() net.udp { connect = { port = 1 } } end)
  test.blames_caller("bad argument 'ttl' to 'udp'", function() net.udp { ttl = 256 } end)
  test.blames_caller("bad argument 'broadcast' to 'udp'", function() net.udp { broadcast = 1 } end)
  local a = udp { host = "127.0.0.1" }
  test.blames_caller("bad argument #1 to 'send'", function() a:send({}, "127.0.0.1", 1) end)
  test.blames_caller("bad argument #2 to 'send'", function() a:send "x" end)
  test.blames_caller("bad argument #3 to 'send'", function() a:send("x", "127.0.0.1", 0) end)
  test.blames_caller("bad argument #3 to 'send'", function() a:send("x", "127.0.0.1") end)
end)

test("a task that sends without end leaves the others their turn", function()
  local a, b = udp { host = "127.0.0.1" }, udp { host = "127.0.0.1" }
  local port, has_run = b:address().port, false
  async.spawn(function() has_run = true end)
  while not has_run do a:send("x", "127.0.0.1", port) end
end)

test("a callback may send any number of datagrams", function()
  local a, b = udp { host = "127.0.0.1" }, udp { host = "127.0.0.1" }
  local port, done = b:address().port, async.Event()
  local ok, e
  async.call_soon(function()
    ok, e = pcall(function()
      for _ = 1, 200 do a:send("x", "127.0.0.1", port) end
    end)
    done:set()
  end)
  done:wait()
  test.eq({ ok, e }, { true })
end)
