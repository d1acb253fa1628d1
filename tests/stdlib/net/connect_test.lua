-- Connecting: arguments, failures, timeouts, and names with several addresses.
local async, test = require "rille.async", require "support.test"
local net, connect = require "rille.net", require "rille.net.connect"
local support = require "stdlib.net.support"

-- A listener that answers no more: its backlog is full.
local function black_hole(host, port)
  local listener = net.listen { host = host, port = port, backlog = 1 }
  local address = listener:address()
  local inside = {}
  while true do
    local ok, stream = pcall(net.connect, { host = host, port = address.port, timeout = 0.05 })
    if not ok then break end
    inside[#inside + 1] = stream
  end
  test.defer(function()
    for _, stream in ipairs(inside) do stream:close() end
    listener:close()
  end)
  return listener, address.port
end

-- A port at which `host` listens, and `other` answers as it is told.
local function port_of_both(host)
  local listener = net.listen { host = host }
  test.defer(function() listener:close() end)
  return listener, listener:address().port
end

test("a host is an IP address or a name", function()
  for _, host in ipairs { "127.0.0.1", "localhost", "::1" } do
    local listener = net.listen { host = host }
    local stream = net.connect { host = host, port = listener:address().port, timeout = 10 }
    test.eq(tostring(stream:peer()), tostring(listener:address()))
    stream:close()
    listener:close()
  end
end)

test("a refused connection is an error that names the address", function()
  local port = support.dead_port()
  local e = test.raises("OSError", net.connect, { host = "127.0.0.1", port = port })
  test.eq({ e.code, e.syscall, e.address, e.errno },
    { "ECONNREFUSED", "connect", "127.0.0.1:" .. port, 111 })
  test.eq(tostring(e), "OSError: connection refused: connect 127.0.0.1:" .. port)
  e = test.raises("OSError", net.connect, { host = "::1", port = port })
  test.eq(e.address, "[::1]:" .. port)
end)

test("an unknown host is an error of getaddrinfo that names it", function()
  local e = test.raises("OSError", net.connect, { host = "no-such-host.invalid", port = 80 })
  test.eq({ e.syscall, e.address }, { "getaddrinfo", "no-such-host.invalid" })
  test.matches(e.code, "^EAI_")
end)

test("a network that cannot be reached is an error", function()
  local e = test.raises("OSError", net.connect, { host = "255.255.255.255", port = 80 })
  test.eq({ e.syscall, e.address }, { "connect", "255.255.255.255:80" })
end)

test("a timeout covers the connecting, and leaves nothing behind", function()
  local listener, port = black_hole("127.0.0.1", 0)
  local before = support.open_files()
  local e = test.raises("TimeoutError", net.connect,
    { host = "127.0.0.1", port = port, timeout = 0.02 })
  test.eq({ e.message, e.address },
    { "timed out after 0.02 s: connect 127.0.0.1:" .. port, "127.0.0.1:" .. port })
  support.open_files(before)
  listener:close()
end)

test("a timeout that is zero leaves no connection behind either", function()
  local listener = net.listen {}
  local before = support.open_files()
  local options = { host = "127.0.0.1", port = listener:address().port, timeout = 0 }
  for _ = 1, 10 do
    local ok, result = pcall(net.connect, options)
    if ok then result:close() end
  end
  for _ = 1, 10 do
    local ok, stream = pcall(async.wait_for, listener.accept, 0.001, listener)
    if not ok then break end
    stream:close()
  end
  support.open_files(before)
  listener:close()
end)

test("where the first address refuses, the next is tried", function()
  local listener, port = port_of_both "127.0.0.1"
  local stream = connect.any({ "::1", "127.0.0.2", "127.0.0.1" }, port)
  test.eq(stream:peer().host, "127.0.0.1")
  stream:close()
  listener:close()
end)

test("where the first address does not answer, another one is tried beside it", function()
  local _, port = black_hole("127.0.0.2", 0)
  local listener = net.listen { host = "::1", port = port }
  local before = support.open_files()
  local stream = connect.any({ "127.0.0.2", "::1" }, port)
  test.eq(stream:peer().host, "::1")
  -- The attempt that lost is gone.
  support.open_files(before + 1)
  stream:close()
  listener:close()
end)

test("a slow address wins if the others refuse", function()
  local hole, port = black_hole("127.0.0.2", 0)
  local connecting = async.spawn(connect.any, { "127.0.0.2", "::1" }, port)
  async.sleep(0.3) -- the second has been refused by now
  test.eq(connecting:done(), false)
  for _ = 1, 2 do hole:accept():close() end -- the system tries again after a second
  local stream = connecting:await()
  test.eq(stream:peer().host, "127.0.0.2")
  stream:close()
end)

test("families take turns", function()
  local port = support.dead_port()
  local e = test.raises("OSError", connect.any,
    { "::1", "127.0.0.1", "127.0.0.2", "127.0.0.3" }, port)
  local order = {}
  for i, failure in ipairs(e.errors) do order[i] = failure.address end
  test.eq(order, { "[::1]:" .. port, "127.0.0.1:" .. port, "127.0.0.2:" .. port,
    "127.0.0.3:" .. port })
  e = test.raises("OSError", connect.any, { "127.0.0.1", "127.0.0.2", "::1" }, port)
  test.eq(e.errors[2].address, "[::1]:" .. port)
end)

test("when all addresses fail, one error tells of each", function()
  local port = support.dead_port()
  local e = test.raises("OSError", connect.any, { "::1", "127.0.0.1" }, port)
  test.eq({ e.code, e.syscall, #e.errors }, { "ECONNREFUSED", "connect", 2 })
  test.eq(e.message, ("connection refused: connect [::1]:%d; connection refused: connect "
    .. "127.0.0.1:%d"):format(port, port))
end)

test("a race that is cancelled leaves no attempt behind", function()
  local _, port = black_hole("127.0.0.2", 0)
  black_hole("127.0.0.3", port)
  local before = support.open_files()
  for turns = 0, 3 do
    local racing = async.spawn(connect.any, { "127.0.0.2", "127.0.0.3" }, port)
    test.turns(turns)
    if turns == 3 then async.sleep(0.3) end -- both attempts run
    racing:cancel()
    async.wait { racing }
    test.eq(racing:cancelled(), true)
    support.open_files(before)
  end
end)

test("a Unix socket is connected to by its path", function()
  local path = test.tmpdir() .. "/socket"
  local e = test.raises("OSError", net.connect, { path = path })
  test.eq({ e.code, e.syscall, e.path, e.message },
    { "ENOENT", "connect", path, ("no such file or directory: connect '%s'"):format(path) })
  local listener = net.listen { path = path }
  local near = net.connect { path = path, timeout = 5 }
  local far = listener:accept()
  near:write "over a path"
  near:close()
  test.eq(support.read_all(far), "over a path")
  far:close()
  listener:close()
  e = test.raises("OSError", net.connect, { path = path .. ("x"):rep(108) })
  test.eq({ e.code, e.syscall }, { "ENAMETOOLONG", "connect" })
end)

test("connecting to a Unix socket waits while its backlog is full", function()
  local listener = net.listen { path = test.tmpdir() .. "/socket", backlog = 1 }
  local path = listener:address().path
  local inside, waiting = {}, async.spawn(net.connect, { path = path })
  async.sleep(0.01)
  while waiting:done() do
    inside[#inside + 1] = waiting:result()
    waiting = async.spawn(net.connect, { path = path })
    async.sleep(0.01)
  end
  assert(#inside >= 1)
  local e = test.raises("TimeoutError", net.connect, { path = path, timeout = 0.01 })
  test.contains(e.message, path)
  for _ = 1, #inside + 1 do listener:accept():close() end
  waiting:await():close()
  for _, stream in ipairs(inside) do stream:close() end
  listener:close()
end)

test("a lookup of a name can be cancelled", function()
  for turns = 0, 3 do
    local connecting = async.spawn(net.connect, { host = "localhost", port = 1 })
    test.turns(turns)
    connecting:cancel()
    async.wait { connecting }
    assert(connecting:cancelled() or connecting:error())
  end
end)

test("reports say what is being connected to", function()
  local waits_for = require("rille.core.report").waits_for
  local _, port = black_hole("127.0.0.1", 0)
  for _, host in ipairs { "127.0.0.1", "localhost" } do
    local connecting = async.spawn(net.connect, { host = host, port = port, timeout = 100 })
    test.turns()
    test.eq(waits_for(connecting), "waits for a connection to " .. host)
    connecting:cancel()
    async.wait { connecting }
  end
end)

test("wrong arguments name the option and blame the script's line", function()
  test.blames_caller("bad argument #1 to 'connect' (table expected", function() net.connect() end)
  test.blames_caller("unknown option 'prot'; there are: host, path, port, timeout, tls",
    function() net.connect { host = "a", prot = 1 } end)
  for _, port in ipairs { 0, -1, 65536, 1.5, 0 / 0, "http", true } do
    test.blames_caller("bad argument 'port' to 'connect' (integer between 1 and 65535 expected",
      function() net.connect { host = "127.0.0.1", port = port } end)
  end
  test.blames_caller("bad argument 'port' to 'connect'", function() net.connect { host = "a" } end)
  for _, host in ipairs { "", "a\0b", 5, {} } do
    test.blames_caller("bad argument 'host' to 'connect'",
      function() net.connect { host = host, port = 1 } end)
  end
  test.blames_caller("bad argument 'host' to 'connect'", function() net.connect { port = 80 } end)
  test.blames_caller("either 'path' or 'host' expected, got both",
    function() net.connect { path = "/a", host = "b" } end)
  test.blames_caller("either 'path' or 'port' expected, got both",
    function() net.connect { path = "/a", port = 1 } end)
  for _, path in ipairs { "", "/a\0b", 5, "@", "\0", "\0a\0b" } do
    test.blames_caller("bad argument 'path' to 'connect'",
      function() net.connect { path = path } end)
  end
  test.blames_caller("bad argument 'timeout' to 'connect'",
    function() net.connect { host = "a", port = 1, timeout = "soon" } end)
end)
