-- Listeners: where they listen, what they accept and when.
local async, test = require "rille.async", require "support.test"
local net = require "rille.net"
local support = require "stdlib.net.support"

local function connect_to(listener)
  local address = listener:address()
  return net.connect { host = address.host, port = address.port, path = address.path }
end

local function is_there(path)
  local file = io.popen(("test -e '%s' && echo yes"):format(path))
  local answer = file:read "*l"
  file:close()
  return answer == "yes"
end

test("a listener takes any port of 127.0.0.1 by default", function()
  local listener = net.listen {}
  local address = listener:address()
  test.eq({ address.host, address.family, address.path }, { "127.0.0.1", "inet", nil })
  assert(address.port > 0)
  test.eq({ tostring(address), tostring(listener) },
    { "127.0.0.1:" .. address.port, "Listener: 127.0.0.1:" .. address.port })
  listener:close()
end)

test("'*' is all addresses of both families", function()
  local listener = net.listen { host = "*" }
  local port = listener:address().port
  for _, host in ipairs { "127.0.0.1", "127.0.0.2", "::1" } do
    local near = net.connect { host = host, port = port }
    local far = listener:accept()
    test.eq({ tostring(far:address()), tostring(far:peer()), far:peer().family },
      { tostring(near:peer()), tostring(near:address()), near:peer().family })
    near:close()
    far:close()
  end
  listener:close()
end)

test("an address of IPv6 is not one of IPv4", function()
  local listener = net.listen { host = "::" }
  local port = listener:address().port
  test.raises("OSError", net.connect, { host = "127.0.0.1", port = port })
  local other = net.listen { host = "127.0.0.1", port = port }
  for _, l in ipairs { listener, other } do
    connect_to(l):close()
    l:accept():close()
    l:close()
  end
end)

test("an address in use is an error that names it", function()
  local listener = net.listen {}
  local port = listener:address().port
  local e = test.raises("OSError", net.listen, { port = port })
  test.eq({ e.code, e.syscall, e.address }, { "EADDRINUSE", "bind", "127.0.0.1:" .. port })
  listener:close()
  e = test.raises("OSError", net.listen, { host = "192.0.2.1" })
  test.eq({ e.code, e.syscall, e.address }, { "EADDRNOTAVAIL", "bind", "192.0.2.1:0" })
  e = test.raises("OSError", net.listen, { host = "no-such-host.invalid" })
  test.eq(e.syscall, "getaddrinfo")
end)

test("a port can be listened on again at once", function()
  local listener = net.listen {}
  local port = listener:address().port
  local near = connect_to(listener)
  local far = listener:accept()
  listener:close()
  far:close() -- the side that closes first is the one that has to wait
  test.eq(near:read(), nil)
  near:close()
  net.listen({ port = port }):close()
end)

test("several listeners share a port if all of them ask for it", function()
  local first = net.listen { reuse_port = true }
  local port = first:address().port
  local second = net.listen { port = port, reuse_port = true }
  test.raises("OSError", net.listen, { port = port })
  first:close()
  second:close()
end)

test("connections wait in the backlog, in order", function()
  local listener = net.listen {}
  local clients = {}
  for i = 1, 100 do
    clients[i] = connect_to(listener)
    clients[i]:write(tostring(i))
  end
  for i = 1, 100 do
    local stream = listener:accept()
    test.eq(stream:read(), tostring(i))
    stream:close()
    clients[i]:close()
  end
  listener:close()
end)

test("tasks that accept queue up, and none that is cancelled loses a connection", function()
  local listener = net.listen {}
  for turns = 0, 4 do
    local tasks = {}
    for i = 1, 3 do tasks[i] = async.spawn(listener.accept, listener) end
    test.turns()
    local clients = {}
    for i = 1, 2 do
      clients[i] = connect_to(listener)
      clients[i]:write(tostring(i))
    end
    test.turns(turns)
    tasks[1]:cancel()
    async.wait { tasks[1] }
    local first = tasks[1]:cancelled() and tasks[2] or tasks[1]
    local second = tasks[1]:cancelled() and tasks[3] or tasks[2]
    test.eq({ first:await():read(), second:await():read() }, { "1", "2" })
    tasks[3]:cancel()
    async.wait(tasks)
    for i = 1, 3 do
      if not tasks[i]:cancelled() then tasks[i]:result():close() end
    end
    for _, client in ipairs(clients) do client:close() end
  end
  listener:close()
end)

test("closing wakes whoever accepts, and refuses whoever waits in the backlog", function()
  local listener = net.listen {}
  local name = tostring(listener:address())
  local accepting = async.spawn(listener.accept, listener)
  local second = async.spawn(listener.accept, listener)
  test.turns()
  listener:close()
  listener:close()
  for _, task in ipairs { accepting, second } do
    test.contains(test.raises("InvalidStateError", task.await, task).message, name)
  end
  for _, method in ipairs { "accept", "address", "serve" } do
    local e = test.raises("InvalidStateError", listener[method], listener)
    test.contains(e.message, name)
  end
  test.eq(tostring(listener), "Listener: " .. name .. " (closed)")

  listener = net.listen {}
  local client = connect_to(listener)
  listener:close()
  test.raises("OSError", client.read, client)
  client:close()
end)

test("a listener that is closed between two turns gives no connection any more", function()
  local listener = net.listen {}
  local accepting = async.spawn(listener.accept, listener)
  test.turns()
  local client = connect_to(listener)
  listener:close()
  -- The connection may have been handed over already.
  async.wait { accepting }
  if accepting:error() then
    test.eq(accepting:error().kind, "InvalidStateError")
  else
    accepting:result():close()
  end
  client:close()
end)

test("a listener works in async.with, and is closed when nobody holds it", function()
  local port
  async.with(net.listen {}, function(listener)
    port = listener:address().port
    net.connect({ host = "127.0.0.1", port = port }):close()
  end)
  test.raises("OSError", net.connect, { host = "127.0.0.1", port = port })
  port = net.listen({}):address().port
  collectgarbage()
  collectgarbage()
  test.raises("OSError", net.connect, { host = "127.0.0.1", port = port })
end)

test("out of descriptors, accept is an error, and the connection waits", function()
  local result = test.rille({ "-e", [[
    local net, async = require "rille.net", require "rille.async"
    local listener = net.listen {}
    local port = listener:address().port
    local held, files = {}, {}
    for i = 1, 3 do held[i] = net.connect { host = "127.0.0.1", port = port } end
    for file in function() return io.open "/dev/null" end do files[#files + 1] = file end
    for _ = 1, 3 do
      local ok, e = pcall(listener.accept, listener)
      print(ok, e.code, e.syscall, e.address == "127.0.0.1:" .. port)
    end
    local waiting = async.spawn(listener.accept, listener)
    async.sleep(0)
    print(waiting:done())
    pcall(waiting.await, waiting)
    for _, file in ipairs(files) do file:close() end
    for i = 1, 3 do listener:accept():close() end
    print "accepted"
  ]] }, { prefix = "prlimit --nofile=32" })
  test.eq({ result.code, result.stdout, result.stderr }, { 0, ([[
false	EMFILE	accept	true
false	EMFILE	accept	true
false	EMFILE	accept	true
true
accepted
]]), "" })
end)

-- ---- Unix sockets -------------------------------------------------------------------------------

test("a Unix socket has a file as long as it is open", function()
  local path = test.tmpdir() .. "/socket"
  local listener = net.listen { path = path }
  test.eq({ is_there(path), tostring(listener), tostring(listener:address()),
    listener:address().family, listener:address().path },
    { true, "Listener: " .. path, path, "unix", path })
  local near = connect_to(listener)
  local far = listener:accept()
  near:write "x"
  test.eq(far:read(), "x")
  listener:close()
  test.eq(is_there(path), false)
  near:close()
  far:close()
end)

test("the file goes with the program too", function()
  local path = test.tmpdir() .. "/socket"
  local result = test.script(([[
    local net = require "rille.net"
    listener = net.listen { path = %q }
    print(io.popen("test -S '%s' && echo there"):read "*l")
  ]]):format(path, path))
  test.eq({ result.stdout, result.stderr, is_there(path) }, { "there\n", "", false })
end)

test("a file that somebody else has put there stays", function()
  local path = test.tmpdir() .. "/socket"
  local listener = net.listen { path = path }
  os.remove(path)
  test.write(path, "mine")
  listener:close()
  test.eq(test.read(path), "mine")
  local e = test.raises("OSError", net.listen, { path = path })
  test.eq({ e.code, e.syscall, e.path }, { "EADDRINUSE", "bind", path })
  test.eq(test.read(path), "mine")
end)

test("a live socket's path is not taken, a dead one's is", function()
  local path = test.tmpdir() .. "/socket"
  local listener = net.listen { path = path }
  local e = test.raises("OSError", net.listen, { path = path })
  test.eq({ e.code, e.path }, { "EADDRINUSE", path })
  listener:accept():close() -- that was the attempt
  local client = connect_to(listener)
  local stream = listener:accept()
  client:close()
  stream:close()
  listener:close()
  -- One whose process has been killed leaves its file behind.
  support.run(("%s -e 'require(\"rille.net\").listen { path = \"%s\" } os.exit(0, false)'")
    :format(test.executable(), path))
  support.run(("%s -e 'l = require(\"rille.net\").listen { path = \"%s\" } "
    .. "os.execute(\"kill -9 $PPID\")'"):format(test.executable(), path))
  test.eq(is_there(path), true)
  listener = net.listen { path = path }
  connect_to(listener):close()
  listener:accept():close()
  listener:close()
end)

test("names that are abstract have no file", function()
  local name = "rille-test-" .. support.dead_port()
  for _, path in ipairs { "@" .. name, "\0" .. name } do
    local listener = net.listen { path = path }
    test.eq(listener:address().path, "@" .. name)
    local e = test.raises("OSError", net.listen, { path = path })
    test.eq({ e.code, e.path }, { "EADDRINUSE", "@" .. name })
    for _, other in ipairs { "@" .. name, "\0" .. name } do
      local near = net.connect { path = other }
      local far = listener:accept()
      near:write "x"
      test.eq(far:read(), "x")
      near:close()
      far:close()
    end
    listener:close()
    e = test.raises("OSError", net.connect, { path = path })
    test.eq({ e.code, e.path }, { "ECONNREFUSED", "@" .. name })
  end
end)

test("a path may be as long as the system takes it, and no longer", function()
  local dir = test.tmpdir()
  local longest = dir .. "/" .. ("x"):rep(107 - #dir - 1)
  net.listen({ path = longest }):close()
  net.listen({ path = "@" .. ("x"):rep(107) }):close()
  for _, path in ipairs { longest .. "x", ("x"):rep(5000), "@" .. ("x"):rep(108) } do
    local e = test.raises("OSError", net.listen, { path = path })
    test.eq({ e.code, e.syscall, e.path }, { "ENAMETOOLONG", "bind", path })
  end
  local e = test.raises("OSError", net.listen, { path = dir .. "/none/socket" })
  test.eq({ e.code, e.syscall }, { "ENOENT", "bind" })
end)

test("wrong arguments name the option and blame the script's line", function()
  test.blames_caller("bad argument #1 to 'listen' (table expected", function() net.listen() end)
  test.blames_caller("unknown option 'hots'", function() net.listen { hots = "a" } end)
  for _, port in ipairs { -1, 65536, 1.5, "http", false } do
    test.blames_caller("bad argument 'port' to 'listen' (integer between 0 and 65535 expected",
      function() net.listen { port = port } end)
  end
  for _, host in ipairs { "", "a\0b", 5, false } do
    test.blames_caller("bad argument 'host' to 'listen'", function() net.listen { host = host } end)
  end
  test.blames_caller("either 'path' or 'host' expected, got both",
    function() net.listen { path = "/a", host = "b" } end)
  for _, path in ipairs { "", "/a\0b", 5 } do
    test.blames_caller("bad argument 'path' to 'listen'", function() net.listen { path = path } end)
  end
  test.blames_caller("bad argument 'backlog' to 'listen'",
    function() net.listen { backlog = 0 } end)
  local listener = net.listen {}
  test.blames_caller("bad argument #1 to 'close'", function() listener:close "now" end)
  test.blames_caller("Listener expected", function() listener.accept {} end)
  listener:close()
end)
