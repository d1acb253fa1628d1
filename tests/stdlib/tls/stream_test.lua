-- Bytes in TLS: both ways, slowly and fast, to the end and beyond; start_tls.
local async = require "rille.async"
local errors = require "rille.errors"
local net = require "rille.net"
local process = require "rille.process"
local tls = require "rille.tls"
local support = require "support.tls"
local test = require "support.test"

local pair, tls_pair = support.pair, support.tls_pair

local VERSIONS = { "1.2", "1.3" }

-- A length that no piece of the way is a multiple of: what is lost or doubled shows.
local block = {}
for i = 1, 4099 do block[i] = string.char(i * i % 251) end
block = table.concat(block)

local function noise(size) return block:rep(math.ceil(size / #block)):sub(1, size) end

for _, version in ipairs(VERSIONS) do
  local function tls_of() return tls_pair({ max_version = version }) end

  test("what is written arrives as it was, of any size, TLS " .. version, function()
    local client, server = tls_of()
    local sizes = { 1, 2, 16383, 16384, 16385, 65536, 100000, 1000003 }
    local writer = async.spawn(function()
      for _, size in ipairs(sizes) do client:write(noise(size)) end
    end)
    for _, size in ipairs(sizes) do
      assert(server:read_exactly(size) == noise(size), "size " .. size)
    end
    writer:await()
  end)

  test("both sides may write much before they read, TLS " .. version, function()
    local client, server = tls_of()
    local data = noise(4000000)
    local writers, readers = {}, {}
    for i, stream in ipairs { client, server } do
      writers[i] = async.spawn(stream.write, stream, data)
    end
    async.sleep(0.01)
    for i, stream in ipairs { client, server } do
      readers[i] = async.spawn(stream.read_exactly, stream, #data)
    end
    for _, task in ipairs(readers) do assert(task:await() == data) end
    for _, task in ipairs(writers) do task:await() end
  end)

  test("shutdown ends one direction in order, TLS " .. version, function()
    local client, server = tls_of()
    client:write "the last"
    client:shutdown()
    test.eq(server:read(), "the last")
    test.eq(server:read(), nil)
    server:write "answer"
    test.eq(client:read(), "answer")
    test.raises("InvalidStateError", client.write, client, "more")
    server:close()
    test.eq(client:read(), nil)
  end)

  test("close tells the peer, after what was written, TLS " .. version, function()
    local client, server = tls_of()
    local data = noise(8000000)
    local writer = async.spawn(client.write, client, data)
    async.sleep(0)
    client:close()
    test.raises("InvalidStateError", writer.await, writer)
    assert(server:read_exactly(#data) == data)
    test.eq(server:read(), nil)
  end)

  test("many strings in one write are one message, TLS " .. version, function()
    local client, server = tls_of()
    client:write("a", 1, ("b"):rep(20000), "c", ("d"):rep(16384), "", "e")
    test.eq(server:read_exactly(36388), "a1" .. ("b"):rep(20000) .. "c" .. ("d"):rep(16384) .. "e")
    local parts = {}
    for i = 1, 5000 do parts[i] = tostring(i) .. ";" end
    client:write(unpack(parts))
    local text = table.concat(parts)
    test.eq(server:read_exactly(#text), text)
  end)
end

test("a reader that never reads stops the writer, and memory stays bounded", function()
  local client, server = tls_pair()
  local written = 0
  local writer = async.spawn(function()
    local data = ("x"):rep(100000)
    while true do
      client:write(data)
      written = written + #data
    end
  end)
  local before
  repeat
    before = written
    async.sleep(0.05)
  until written == before
  assert(written < 30e6, written)
  writer:cancel()
  async.wait { writer }
  -- What was written before is all there.
  server:read_exactly(written)
end)

test("abort drops what was not written yet, during the handshake and after it", function()
  local client, server = pair()
  require("rille.tls.stream").server(server, tls.context(support.server_options()))
  local write = async.spawn(server.write, server, "x")
  async.sleep(0)
  server:abort()
  test.raises("InvalidStateError", write.await, write)
  test.eq(test.raises("OSError", client.read, client).code, "ECONNRESET")

  client, server = tls_pair()
  write = async.spawn(client.write, client, noise(20000000))
  async.sleep(0)
  client:abort()
  test.raises("InvalidStateError", write.await, write)
  local err = test.raises("OSError", function()
    while true do server:read() end
  end)
  test.eq(err.code, "ECONNRESET")
end)

test("a pause between reads loses nothing", function()
  local client, server = tls_pair()
  local data = noise(2000000)
  local writer = async.spawn(function()
    client:write(data)
    client:close()
  end)
  local parts = {}
  repeat
    local piece = server:read(777)
    parts[#parts + 1] = piece
    if #parts % 200 == 0 then async.sleep(0) end
  until not piece
  assert(table.concat(parts) == data)
  writer:await()
end)

test("lines and separators work as on any stream", function()
  local client, server = tls_pair()
  client:write "one\ntwo\r\n--three"
  client:shutdown()
  test.eq(server:read_until "\n", "one\n")
  local lines = {}
  for line in server:lines() do lines[#lines + 1] = line end
  test.eq(lines, { "two\r", "--three" })
end)

test("addresses are those of the socket below", function()
  local client, server = tls_pair()
  test.eq(tostring(client:peer()), tostring(server:address()))
  client:set_nodelay(false)
  client:set_keepalive(30)
end)

test("a child cannot be given a stream in TLS, whose bytes are not those on the wire", function()
  local client = tls_pair()
  local err = test.raises(".", process.spawn, { "true", stdin = client })
  test.contains(tostring(err), "bad argument")
end)

test("TLS works within TLS", function()
  local client, server = tls_pair()
  local upgraded = async.spawn(server.start_tls, server, support.server_options())
  client:start_tls(support.client_options())
  upgraded:await()
  local data = noise(500000)
  local writer = async.spawn(function()
    client:write(data)
    client:shutdown()
  end)
  assert(server:read_exactly(#data) == data)
  test.eq(server:read(), nil)
  server:write "back"
  test.eq(client:read(), "back")
  writer:await()
  server:close()
  test.eq(client:read(), nil)
end)

-- ---- start_tls ----------------------------------------------------------------------------------

test("a plain conversation goes on in TLS, on both sides", function()
  local client, server = pair()
  local serving = async.spawn(function()
    test.eq(server:read_line(), "STARTTLS")
    server:write "go on\n"
    assert(server:start_tls(support.server_options()) == server)
    test.eq(server:read_line(), "secret")
    server:write "safe\n"
  end)
  client:write "STARTTLS\n"
  test.eq(client:read_line(), "go on")
  assert(client:start_tls(support.client_options()) == client)
  test.eq(client:tls().peer.subject, "O=Rille, CN=localhost")
  client:write "secret\n"
  test.eq(client:read_line(), "safe")
  serving:await()
end)

test("the server's handshake waits for a client that takes its time", function()
  local client, server = pair()
  local upgraded = async.spawn(server.start_tls, server, support.server_options())
  async.sleep(0.01)
  assert(not upgraded:done())
  client:start_tls(support.client_options())
  upgraded:await()
end)

test("plain bytes that came before are refused, and the stream is closed", function()
  local client, server = pair()
  server:write "ready\ninjected\n"
  test.eq(client:read_line(), "ready")
  local err = test.raises("TLSError", client.start_tls, client, support.client_options())
  test.eq(err.code, "UNEXPECTED_PLAINTEXT")
  test.raises("InvalidStateError", client.read, client)
end)

test("so are those of a client", function()
  local client, server = pair()
  client:write "STARTTLS\nDELETE everything\n"
  test.eq(server:read_line(), "STARTTLS")
  test.raises("TLSError", server.start_tls, server, support.server_options())
  test.raises("InvalidStateError", server.read, server)
end)

test("plain bytes still on their way are no part of the conversation", function()
  local client, server = pair()
  server:write "ready\n"
  test.eq(client:read_line(), "ready")
  server:write "220 injected\n"
  local err = test.raises("TLSError", client.start_tls, client, support.client_options())
  assert(err.code == "UNEXPECTED_PLAINTEXT" or err.code == "WRONG_VERSION_NUMBER", err.code)
end)

test("start_tls is refused while another task reads", function()
  local client = pair()
  local reader = async.spawn(client.read, client)
  async.sleep(0)
  test.raises("InvalidStateError", client.start_tls, client, support.client_options())
  test.raises("InvalidStateError", reader.await, reader)
end)

test("start_tls with wrong options, or on a closed stream, is an error", function()
  local client, server = pair()
  test.contains(tostring(test.raises(".", server.start_tls, server)),
    "a server needs the options 'cert' and 'key'")
  test.raises("OSError", client.start_tls, client, { ca = "/nowhere" })
  test.raises("InvalidStateError", client.start_tls, client, support.client_options())
  test.raises("InvalidStateError", client.tls, client)
end)

test("a failed start_tls closes the stream", function()
  local client, server = pair()
  local upgraded = async.spawn(server.start_tls, server, support.server_options())
  local err = test.raises("TLSError", client.start_tls, client, { ca = support.server.cert,
    server_name = "other" })
  test.eq(err.code, "HOSTNAME_MISMATCH")
  test.raises("InvalidStateError", client.write, client, "x")
  -- The server is through already, or learns why.
  local ok, e = pcall(upgraded.await, upgraded)
  if ok then ok, e = pcall(server.read, server) end
  assert(not ok and errors.is(e, "TLSError"), tostring(e))
end)

test("a client that connected by name checks that name", function()
  local listener = net.listen {}
  local accepted = async.spawn(listener.accept, listener)
  local client = net.connect { host = "localhost", port = listener:address().port }
  local server = accepted:await()
  listener:close()
  local upgraded = async.spawn(server.start_tls, server, support.server_options())
  client:start_tls(support.client_options())
  test.eq(client:tls().server_name, "localhost")
  upgraded:await()
  client:close()
  server:close()
end)

-- ---- who waits ----------------------------------------------------------------------------------

test("several tasks wait for one handshake", function()
  local listener = net.listen { tls = support.server_options() }
  local accepted = async.spawn(listener.accept, listener)
  local plain = net.connect { host = "localhost", port = listener:address().port }
  local server = accepted:await()
  local waiting = {}
  for i = 1, 3 do waiting[i] = async.spawn(server.tls, server) end
  waiting[4] = async.spawn(server.read, server)
  async.sleep(0)
  waiting[1]:cancel()
  plain:start_tls(support.client_options())
  plain:write "x"
  test.eq(waiting[2]:await().version, "TLSv1.3")
  test.eq(waiting[3]:await().version, "TLSv1.3")
  test.eq(waiting[4]:await(), "x")
  assert(waiting[1]:cancelled())
  listener:close()
  plain:close()
  server:close()
end)

test("closing a stream wakes who waits for its handshake", function()
  local listener = net.listen { tls = support.server_options() }
  local accepted = async.spawn(listener.accept, listener)
  local plain = net.connect { host = "localhost", port = listener:address().port }
  local server = accepted:await()
  local waiting = { async.spawn(server.tls, server), async.spawn(server.read, server),
    async.spawn(server.write, server, "x") }
  async.sleep(0)
  server:close()
  for _, task in ipairs(waiting) do test.raises("InvalidStateError", task.await, task) end
  listener:close()
  plain:close()
end)

test("what is written during the handshake goes out after it", function()
  local listener = net.listen { tls = support.server_options() }
  local accepted = async.spawn(listener.accept, listener)
  local plain = net.connect { host = "localhost", port = listener:address().port }
  local server = accepted:await()
  local writes = {
    async.spawn(server.write, server, "first "), async.spawn(server.write, server, "second"),
  }
  async.sleep(0)
  plain:start_tls(support.client_options())
  test.eq(plain:read_exactly(12), "first second")
  for _, task in ipairs(writes) do task:await() end
  listener:close()
  plain:close()
  server:close()
end)

test("close delivers what was written during the handshake", function()
  local listener = net.listen { tls = support.server_options() }
  local accepted = async.spawn(listener.accept, listener)
  local plain = net.connect { host = "localhost", port = listener:address().port }
  local server = accepted:await()
  local write = async.spawn(server.write, server, "farewell")
  async.sleep(0)
  server:close()
  test.raises("InvalidStateError", write.await, write)
  plain:start_tls(support.client_options())
  test.eq(plain:read(), "farewell")
  test.eq(plain:read(), nil)
  listener:close()
  plain:close()
end)
