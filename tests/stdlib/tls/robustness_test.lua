-- Peers that are broken, slow or hostile: an error that says so, and nothing left behind.
local async = require "rille.async"
local errors = require "rille.errors"
local net = require "rille.net"
local tls = require "rille.tls"
local probe = require "rille.core.probe"
local support = require "support.tls"
local test = require "support.test"

-- An echo whose errors are nothing to report.
local function quiet_echo(stream) pcall(support.echo, stream) end

local function listen(options)
  local listener = net.listen(options or {})
  test.defer(function() listener:close(0) end)
  return listener, listener:address().port
end

-- A TLS server that takes one connection, and a plain client of it.
local function raw_client(options)
  local listener, port = listen { tls = support.server_options(options) }
  local accepted = async.spawn(listener.accept, listener)
  local client = net.connect { host = "127.0.0.1", port = port }
  local server = accepted:await()
  test.defer(function()
    client:close()
    server:close()
  end)
  return client, server
end

-- A TLS client that meets a plain server, which does fn(stream). Gives the client's error.
local function failed_client(fn, options)
  local listener, port = listen()
  local serving = async.spawn(function()
    local stream = listener:accept()
    fn(stream)
    stream:close()
  end)
  local ok, err = pcall(net.connect, { host = "localhost", port = port,
    tls = support.client_options(options), timeout = 5 })
  assert(not ok, "it was accepted")
  serving:await()
  return err, port
end

-- Between a client and a server: passes bytes on, as `alter(data, count)` makes them; false cuts
-- the connection off, "reset" resets it.
local function middleman(port, from_client, from_server)
  local listener, own = listen()
  local function pump(from, to, alter)
    local count = 0
    while true do
      local ok, data = pcall(from.read, from)
      if not ok or not data then break end
      count = count + #data
      if alter then data = alter(data, count) end
      if data == "reset" then
        from:abort()
        to:abort()
        return
      end
      if not data then break end
      if type(data) == "string" then
        ok = pcall(to.write, to, data)
      else
        for _, piece in ipairs(data) do
          ok = ok and pcall(to.write, to, piece)
          async.sleep(0)
        end
      end
      if not ok then break end
    end
    pcall(to.shutdown, to)
  end
  local client, server
  local task = async.spawn(function()
    client = listener:accept()
    server = net.connect { host = "127.0.0.1", port = port }
    async.gather {
      function() pump(client, server, from_client) end,
      function() pump(server, client, from_server) end,
    }
  end)
  test.defer(function()
    task:cancel()
    async.wait { task }
    if client then client:abort() end
    if server then server:abort() end
  end)
  return own
end

-- ---- the handshake ------------------------------------------------------------------------------

test("garbage in the place of a handshake ends that connection alone", function()
  local served = 0
  local port = support.serve({}, function(stream)
    served = served + 1
    support.echo(stream)
  end)
  for _, garbage in ipairs { "\0", "garbage\r\n\r\n", ("\255"):rep(100000), "\22\3\1\255\255",
    "\22\3\1\0\5\1\0\0\1\0" } do
    local raw = net.connect { host = "127.0.0.1", port = port }
    pcall(raw.write, raw, garbage)
    raw:shutdown()
    repeat
      local ok, data = pcall(raw.read, raw)
    until not ok or not data
    raw:close()
  end
  local stream = support.connect(port)
  stream:write "still there"
  test.eq(stream:read(), "still there")
  test.eq(served, 1)
end)

test("plain HTTP on a TLS port is told as what it is", function()
  local client, server = raw_client()
  client:write "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
  local err = test.raises("TLSError", server.read, server)
  test.eq(err.code, "HTTP_REQUEST")
  test.contains(err.message, tostring(client:address()))
  test.raises("TLSError", server.write, server, "x")
  test.raises("TLSError", server.tls, server)
  server:close()
  test.eq(client:read(), nil)
end)

test("a server that speaks no TLS is told as what it is", function()
  local err, port = failed_client(function(stream)
    stream:write "220 ready\r\n"
    stream:read()
  end)
  test.eq(err.code, "WRONG_VERSION_NUMBER")
  test.contains(err.message, "localhost:" .. port)
end)

test("a server that hangs up during the handshake is a TLSError", function()
  local err = failed_client(function(stream) stream:read() end)
  assert(errors.is(err, "TLSError"), tostring(err))
  test.eq(err.code, "UNEXPECTED_EOF_WHILE_READING")
  test.contains(err.message, "during the TLS handshake")
end)

test("a reset during the handshake is an OSError", function()
  local err, port = failed_client(function(stream)
    stream:read()
    stream:abort()
  end)
  test.eq({ err.kind, err.code, err.address }, { "OSError", "ECONNRESET", "localhost:" .. port })
end)

test("a server that stops in the handshake is left to the time-out", function()
  local listener, port = listen()
  local before = probe.stats().handles
  local err = test.raises("TimeoutError", net.connect, { host = "localhost", port = port,
    tls = support.client_options(), timeout = 0.05 })
  test.contains(err.message, "localhost")
  test.turns(20)
  assert(probe.stats().handles <= before)
  listener:close()
end)

test("a client that never begins does not hold up the others, and is dropped in time", function()
  local port = support.serve({}, support.echo)
  local silent = net.connect { host = "127.0.0.1", port = port }
  local stream = support.connect(port)
  stream:write "x"
  test.eq(stream:read(), "x")
  silent:close()
end)

test("a handshake that takes too long fails by itself", function()
  local client, server = support.pair()
  require("rille.tls.stream").server(server, tls.context(support.server_options()), 0.02)
  client:write "\22\3\1"
  for _, call in ipairs { server.tls, server.read } do
    test.eq(test.raises("TLSError", call, server).code, "HANDSHAKE_TIMEOUT")
  end
  server:close()
  test.eq(client:read(), nil)
end)

test("closing the listener does not wait for handshakes", function()
  local listener, port = listen { tls = support.server_options() }
  local server = async.spawn(listener.serve, listener, support.echo, { grace = 0 })
  local silent = net.connect { host = "127.0.0.1", port = port }
  async.sleep(0.01)
  listener:close(0)
  server:await()
  test.eq(silent:read(), nil)
  silent:close()
end)

for _, version in ipairs { "1.2", "1.3" } do
  test("peers whose bytes come one by one are understood, TLS " .. version, function()
    local port = support.serve({ max_version = version }, support.echo)
    local function drip(data)
      local pieces = {}
      for i = 1, #data do pieces[i] = data:sub(i, i) end
      return pieces
    end
    local stream = support.connect(middleman(port, drip, drip))
    test.eq(stream:tls().version, "TLSv" .. version)
    stream:write(("slow"):rep(50))
    test.eq(stream:read_exactly(200), ("slow"):rep(50))
    stream:shutdown()
    test.eq(stream:read(), nil)
  end)

  -- ---- afterwards -------------------------------------------------------------------------------

  test("an end without close_notify is a TLSError, TLS " .. version, function()
    local port = support.serve({ max_version = version }, function(stream)
      stream:write(("x"):rep(100000))
      pcall(stream.read, stream)
    end)
    local stream = support.connect(middleman(port, nil, function(data, count)
      local left = 50000 - (count - #data)
      return left > 0 and data:sub(1, left)
    end))
    local got = 0
    local err = test.raises("TLSError", function()
      while true do got = got + #stream:read() end
    end)
    test.eq(err.code, "UNEXPECTED_EOF_WHILE_READING")
    test.contains(err.message, "cut off")
    assert(got < 100000)
    test.raises("TLSError", stream.read, stream)
  end)

  test("what was changed on the way is refused, TLS " .. version, function()
    local seen = async.Future()
    local port = support.serve({ max_version = version }, function(stream)
      local ok, err = pcall(stream.read_exactly, stream, 100000)
      seen:set_result(not ok and err)
    end)
    local active = false
    local stream = support.connect(middleman(port, function(data)
      if not active then return data end
      return data:sub(1, -2) .. string.char((data:byte(-1) + 1) % 256)
    end))
    stream:tls()
    async.sleep(0.01)
    active = true
    local err = test.raises("TLSError", function()
      stream:write(("x"):rep(100000))
      stream:read()
    end)
    test.eq(err.code, "SSLV3_ALERT_BAD_RECORD_MAC")
    test.eq(seen:await().code, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC")
  end)

  test("a reset in the middle is an OSError for all who wait, TLS " .. version, function()
    local port = support.serve({ max_version = version }, function(stream)
      pcall(stream.read_exactly, stream, 1000000)
    end)
    local stream = support.connect(middleman(port, function(data, count)
      return count < 300000 and data or "reset"
    end))
    local reader = async.spawn(stream.read, stream)
    local err = test.raises("OSError", function()
      while true do
        stream:write(("x"):rep(100000))
        async.sleep(0)
      end
    end)
    assert(err.code == "ECONNRESET" or err.code == "EPIPE", err.code)
    err = test.raises("OSError", reader.await, reader)
    test.eq(err.code, "ECONNRESET")
  end)
end

test("a record that is too long is refused", function()
  local client, server = raw_client()
  client:write("\22\3\1\72\1", ("x"):rep(18433))
  local err = test.raises("TLSError", server.read, server)
  assert(err.code == "PACKET_LENGTH_TOO_LONG" or err.code == "ENCRYPTED_LENGTH_TOO_LONG"
    or err.code == "DATA_LENGTH_TOO_LONG", err.code)
end)

test("the end of what we write is the end of the connection's half, too", function()
  local ended = async.Event()
  local port = support.serve({}, function(stream)
    stream:read()
    ended:wait()
    stream:write "answer"
  end)
  -- Not all peers look at close_notify; but each sees this.
  local listener, own = listen()
  local passing = async.spawn(function()
    local client = listener:accept()
    local server = net.connect { host = "127.0.0.1", port = port }
    local back = async.spawn(function()
      for data in function() return server:read() end do client:write(data) end
    end)
    for data in function() return client:read() end do server:write(data) end
    ended:set()
    back:await()
    client:close()
    server:close()
  end)
  local stream = support.connect(own)
  stream:shutdown()
  test.eq(stream:read(), "answer")
  test.eq(stream:read(), nil)
  passing:await()
end)

test("a plain record after the handshake is refused", function()
  local port = support.serve({}, quiet_echo)
  local active = false
  local stream = support.connect(middleman(port, function(data)
    return active and "\23\3\3\0\5hello" .. data or data
  end))
  async.sleep(0.01)
  active = true
  stream:write "x"
  test.raises("TLSError", stream.read, stream)
end)

-- ---- nothing is left ----------------------------------------------------------------------------

local function descriptors()
  local n = 0
  local pipe = io.popen("ls /proc/" .. io.open "/proc/self/stat":read "*n" .. "/fd")
  for _ in pipe:lines() do n = n + 1 end
  pipe:close()
  return n
end

local function resident()
  local file = io.open "/proc/self/statm"
  local _, pages = file:read("*n", "*n")
  file:close()
  return pages * 4096
end

local function settle()
  for _ = 1, 10 do
    collectgarbage()
    async.sleep(0.001)
  end
end

test("a thousand failed handshakes leave neither descriptors nor memory", function()
  local port = support.serve({}, quiet_echo)
  local wrong = tls.context { ca = support.ca.path, server_name = "other" }
  local function fail()
    test.raises("TLSError", net.connect, { host = "127.0.0.1", port = port, tls = wrong })
    local raw = net.connect { host = "127.0.0.1", port = port }
    raw:write "garbage\r\n"
    pcall(raw.read, raw)
    raw:close()
  end
  local rounds = math.max(50, 500 * test.SCALE)
  for _ = 1, rounds / 2 do fail() end
  settle()
  local files, memory = descriptors(), resident()
  for _ = 1, rounds do fail() end
  settle()
  test.eq(descriptors(), files)
  local grown = resident() - memory
  if test.SCALE == 1 then assert(grown < 1500000, grown) end
end)

test("connections that are dropped without a close free everything", function()
  local port = support.serve({}, quiet_echo)
  local context = tls.context(support.client_options())
  settle()
  local before = probe.stats().handles
  for _ = 1, 20 do
    local stream = net.connect { host = "localhost", port = port, tls = context }
    stream:write "x"
    stream:read()
  end
  settle()
  settle()
  assert(probe.stats().handles <= before, probe.stats().handles - before)
end)
