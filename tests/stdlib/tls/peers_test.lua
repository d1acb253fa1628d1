-- TLS with others' implementations at the other end: openssl's s_server and s_client, Python's ssl.
local async = require "rille.async"
local net = require "rille.net"
local process = require "rille.process"
local tls = require "rille.tls"
local support = require "support.tls"
local test = require "support.test"

-- Starts a program that is killed when the test is over.
local function start(options)
  options.stdin, options.stdout, options.stderr = "pipe", "pipe", "stdout"
  local child = process.spawn(options)
  test.defer(function()
    child:kill "SIGKILL"
    child:wait()
    for _, stream in ipairs { child.stdin, child.stdout } do stream:close() end
  end)
  return child
end

-- `openssl s_server` with further arguments; gives the child and its port.
local function s_server(...)
  local options = { "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", support.server.cert,
    "-key", support.server.key, ... }
  local child = start(options)
  while true do
    local line = assert(child.stdout:read_line(), "s_server has ended")
    local port = line:match "^ACCEPT .*:(%d+)$"
    if port then return child, tonumber(port) end
  end
end

local function s_client(port, ...)
  return start { "openssl", "s_client", "-connect", "127.0.0.1:" .. port, "-CAfile",
    support.ca.path, ... }
end

-- Reads a child's output up to its end.
local function rest_of(stream)
  local parts = {}
  for chunk in function() return stream:read() end do parts[#parts + 1] = chunk end
  return table.concat(parts)
end

-- ---- openssl's server ---------------------------------------------------------------------------

for _, version in ipairs { "1.2", "1.3" } do
  local flag = "-tls" .. version:gsub("%.", "_")

  test("s_server answers, and its end is an end, TLS " .. version, function()
    local _, port = s_server(flag, "-rev")
    local stream = support.connect(port)
    test.eq(stream:tls().version, "TLSv" .. version)
    stream:write "drawer\n"
    test.eq(stream:read_line(), "reward")
    stream:shutdown()
    test.eq(stream:read(), nil)
  end)

  for tickets, kind in pairs { ["-no_ticket"] = "its own", ["-state"] = "tickets" } do
    test(("sessions of s_server (%s) are taken up again, TLS %s"):format(kind, version), function()
      local _, port = s_server(flag, "-rev", tickets)
      local context = tls.context(support.client_options())
      for round = 1, 3 do
        local stream = support.connect(port, context)
        stream:write "x\n"
        test.eq(stream:read_line(), "x")
        test.eq(stream:tls().resumed, round > 1, "round " .. round)
        stream:close()
      end
    end)
  end

  test("s_server demands a certificate, TLS " .. version, function()
    local client = support.ca:issue "somebody"
    local _, port = s_server(flag, "-rev", "-Verify", "2", "-verify_return_error", "-CAfile",
      support.ca.path)
    local stream = support.connect(port, { cert = client.cert, key = client.key })
    stream:write "x\n"
    test.eq(stream:read_line(), "x")
    stream:close()
    test.raises("TLSError", function()
      stream = support.connect(port)
      stream:read()
    end)
  end)
end

test("s_server picks a protocol", function()
  local _, port = s_server("-rev", "-alpn", "h2,http/1.1")
  test.eq(support.connect(port, { alpn = { "http/1.1", "h2" } }):tls().alpn, "h2")
end)

test("a file from s_server ends with its connection", function()
  local dir = test.tmpdir()
  local data = ("0123456789abcdef"):rep(100000)
  test.write(dir .. "/file", data)
  local child = start { "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert",
    support.server.cert, "-key", support.server.key, "-WWW", cwd = dir }
  local line
  repeat line = assert(child.stdout:read_line()) until line:find "^ACCEPT"
  local stream = support.connect(tonumber(line:match "(%d+)$"))
  stream:write "GET /file HTTP/1.0\r\n\r\n"
  stream:read_until "\r\n\r\n"
  assert(stream:read_exactly(#data) == data)
  test.eq(stream:read(), nil)
end)

test("key updates of the server are followed", function()
  local child, port = s_server "-tls1_3"
  local stream = support.connect(port)
  for i = 1, 6 do
    child.stdin:write(("line %d\n"):format(i))
    test.eq(stream:read_line(), "line " .. i)
    child.stdin:write(i % 2 == 0 and "K\n" or "k\n")
    -- Of two things that have come, s_server looks at its input first.
    stream:write("back ", i, "\n")
    repeat until child.stdout:read_line() == "back " .. i
  end
end)

test("a server that wants to renegotiate gets nothing", function()
  local child, port = s_server "-tls1_2"
  local stream = support.connect(port)
  stream:write "before\n"
  repeat until child.stdout:read_line() == "before"
  child.stdin:write "r\n"
  -- s_server takes that for a reason to give up.
  test.eq(test.raises("TLSError", stream.read, stream).code, "SSLV3_ALERT_HANDSHAKE_FAILURE")
end)

-- ---- openssl's client ---------------------------------------------------------------------------

test("s_client verifies and talks, and its end is an end", function()
  local seen = async.Future()
  local port = support.serve({ alpn = { "x" } }, function(stream)
    local line = stream:read_line()
    stream:write("got ", line, "\n")
    local info = stream:tls()
    seen:set_result { line, info.alpn, info.server_name, stream:read() == nil }
  end)
  local client = s_client(port, "-verify_return_error", "-servername", "localhost", "-alpn", "x",
    "-verify_hostname", "localhost")
  client.stdin:write "hello\n"
  local output = {}
  for line in client.stdout:lines() do
    output[#output + 1] = line
    if line == "got hello" then break end
  end
  output = table.concat(output, "\n")
  test.contains(output, "Verification: OK")
  test.contains(output, "Verified peername: localhost")
  test.contains(output, "ALPN protocol: x")
  client.stdin:write "Q\n"
  test.eq(seen:await(), { "hello", "x", "localhost", true })
  test.eq(client:wait().code, 0)
end)

test("s_client sees the end that shutdown makes", function()
  local port = support.serve({}, function(stream)
    stream:write "bye\n"
    stream:shutdown()
    stream:read()
  end)
  local client = s_client(port, "-quiet")
  local output = rest_of(client.stdout)
  test.contains(output, "bye\n")
  assert(not output:find "unexpected eof", output)
  client:wait()
end)

test("s_client is told whose certificates will do", function()
  local somebody = support.ca:issue "somebody"
  local port = support.serve({ verify = true, ca = support.ca.path }, function(stream)
    stream:write "welcome\n"
  end)
  local client = s_client(port, "-cert", somebody.cert, "-key", somebody.key)
  local output = rest_of(client.stdout)
  test.contains(output, "Acceptable client certificate CA names\nO = Rille, CN = Test CA")
  test.contains(output, "welcome")
  client:wait()
end)

test("s_client without TLS 1.2 is refused", function()
  local port = support.serve({}, support.echo)
  local client = s_client(port, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
  test.contains(rest_of(client.stdout), "alert protocol version")
  assert(client:wait().code ~= 0)
end)

for _, case in ipairs { { "1.2" }, { "1.2", "-no_ticket" }, { "1.3" }, { "1.3", "-no_ticket" } } do
  local version, flag = case[1], case[2]
  test(("s_client %s takes its session up again, TLS %s"):format(flag or "", version), function()
    local resumed = async.Queue()
    local port = support.serve({ max_version = version }, function(stream)
      resumed:put(stream:tls().resumed)
      stream:write "x\n"
      pcall(stream.read, stream)
    end)
    local path = test.tmpdir() .. "/session"
    for round = 1, 2 do
      local client = s_client(port, round == 1 and "-sess_out" or "-sess_in", path,
        flag or "-ign_eof")
      repeat until client.stdout:read_line() == "x"
      client.stdin:write "Q\n"
      client.stdin:close()
      test.eq(resumed:get(), round == 2)
      client:kill()
      client:wait()
    end
  end)
end

test("key updates of the client in the middle of a transfer lose nothing", function()
  local mark, line_sent = "the end of it", ("0123456789abcdef"):rep(63) .. "0123456789abcde"
  local piece = (line_sent .. "\n"):rep(128)
  local read = async.Event()
  local port = support.serve({}, function(stream)
    for i = 1, 160 do
      stream:write(piece)
      if i == 8 then read:wait() end
    end
    stream:write(mark, "\n")
    pcall(stream.read, stream)
  end)
  local client = s_client(port)
  local commands = async.spawn(function()
    for i = 1, 40 do
      client.stdin:write(i % 2 == 0 and "K\n" or "k\n")
      async.sleep(0.001)
      if i == 20 then read:set() end
    end
  end)
  local count = 0
  for line in client.stdout:lines() do
    if line == line_sent then count = count + 1 end
    if line == mark then break end
  end
  commands:await()
  -- s_client says "KEYUPDATE" in between, perhaps in the middle of a line.
  assert(count > 160 * 128 - 100, count)
end)

test("a client that wants to renegotiate gets nothing, and harms nobody", function()
  local over = async.Queue()
  local port = support.serve({ max_version = "1.2" }, function(stream)
    pcall(support.echo, stream)
    over:put(true)
  end)
  local client = s_client(port)
  client.stdin:write "before\n"
  repeat until client.stdout:read_line() == "before"
  client.stdin:write "R\n"
  test.contains(rest_of(client.stdout), "no renegotiation")
  client:wait()
  over:get()
  local stream = support.connect(port)
  stream:write "x"
  test.eq(stream:read(), "x")
end)

test("s_client goes on after SMTP's STARTTLS", function()
  local listener = net.listen {}
  local serving = async.spawn(function()
    local stream = listener:accept()
    stream:write "220 ready\r\n"
    test.matches(stream:read_line(), "^EHLO")
    stream:write "250 STARTTLS\r\n"
    test.eq(stream:read_line(), "STARTTLS\r")
    stream:write "220 go on\r\n"
    stream:start_tls(support.server_options())
    local line = stream:read_line()
    stream:close()
    return line
  end)
  local client = s_client(listener:address().port, "-starttls", "smtp", "-crlf")
  client.stdin:write "in secret\n"
  test.eq(serving:await(), "in secret\r")
  listener:close()
end)

-- ---- Python -------------------------------------------------------------------------------------

local function python(code, ...)
  return start { "python3", "-c", code, ... }
end

test("Python's asyncio server answers after our shutdown", function()
  local child = python([[
import asyncio, ssl, sys
async def serve(reader, writer):
    data = await reader.read()
    writer.write(b"got %d bytes" % len(data))
    await writer.drain()
    writer.close()
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
]], support.server.cert, support.server.key)
  local port = tonumber(child.stdout:read_line())
  local stream = support.connect(port)
  stream:write(("x"):rep(1000000))
  stream:shutdown()
  -- asyncio gives a stream in TLS no half-closed state: it may answer, or just end in order.
  local answer = stream:read()
  assert(answer == nil or answer == "got 1000000 bytes", answer)
end)

test("Python's blocking sockets answer after our shutdown", function()
  local child = python([[
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
peer = context.wrap_socket(listener.accept()[0], server_side=True)
size = 0
while True:
    data = peer.recv(65536)
    if not data: break
    size += len(data)
peer.sendall(b"got %d bytes" % size)
peer.unwrap()
print("unwrapped", flush=True)
]], support.server.cert, support.server.key)
  local stream = support.connect(tonumber(child.stdout:read_line()))
  stream:write(("x"):rep(1000000))
  stream:shutdown()
  test.eq(stream:read_exactly(17), "got 1000000 bytes")
  test.eq(stream:read(), nil)
  test.eq(child.stdout:read_line(), "unwrapped")
end)

test("a Python client's unwrap is an end, and so is ours for it", function()
  local got = async.Future()
  local port = support.serve({}, function(stream)
    local data = {}
    while true do
      local piece = stream:read()
      if not piece then break end
      data[#data + 1] = piece
    end
    got:set_result(table.concat(data))
    stream:write "answer"
  end)
  local child = python([[
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
peer = context.wrap_socket(socket.create_connection(("localhost", int(sys.argv[2]))),
                           server_hostname="localhost")
print(peer.version(), flush=True)
peer.sendall(b"request")
try:
    peer.unwrap()
except ssl.SSLError as error:
    # An answer that comes after its close_notify is more than this module can take.
    print(error.reason, flush=True)
]], support.ca.path, tostring(port))
  test.eq(child.stdout:read_line(), "TLSv1.3")
  test.eq(got:await(), "request")
  child:wait()
end)

test("a Python client upgrades a plain conversation", function()
  local listener = net.listen {}
  local serving = async.spawn(function()
    local stream = listener:accept()
    test.eq(stream:read_line(), "STARTTLS")
    stream:write "go on\n"
    stream:start_tls(support.server_options())
    stream:write("hello ", stream:read_line(), "\n")
    stream:close()
  end)
  local child = python([[
import asyncio, ssl, sys
async def main():
    reader, writer = await asyncio.open_connection("localhost", int(sys.argv[2]))
    writer.write(b"STARTTLS\n")
    await reader.readline()
    await writer.start_tls(ssl.create_default_context(cafile=sys.argv[1]))
    writer.write(b"python\n")
    print((await reader.readline()).decode().strip(), flush=True)
asyncio.run(main())
]], support.ca.path, tostring(listener:address().port))
  test.eq(child.stdout:read_line(), "hello python")
  serving:await()
  listener:close()
end)

test("a client that causes answers without end and reads none is cut off", { limit = 4 }, function()
  local failure = async.Future()
  local port = support.serve({}, function(stream)
    local ok, err = pcall(stream.read, stream)
    failure:set_result(not ok and err)
  end)
  -- Key updates that demand one in return; Python's module has none, the library below it has.
  local child = python([[
import ctypes, socket, ssl, sys
lib = ctypes.CDLL("libssl.so.3")
for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
    getattr(lib, name).restype = ctypes.c_void_p
for name in ("SSL_CTX_new", "SSL_new", "SSL_set_connect_state", "SSL_do_handshake"):
    getattr(lib, name).argtypes = [ctypes.c_void_p]
lib.SSL_set_fd.argtypes = lib.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
sock = socket.socket()
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
sock.connect(("127.0.0.1", int(sys.argv[1])))
conn = lib.SSL_new(lib.SSL_CTX_new(lib.TLS_client_method()))
lib.SSL_set_fd(conn, sock.fileno())
lib.SSL_set_connect_state(conn)
assert lib.SSL_do_handshake(conn) == 1
while lib.SSL_key_update(conn, 1) == 1 and lib.SSL_do_handshake(conn) == 1:
    pass
print("cut off", flush=True)
]], tostring(port))
  local err = failure:await()
  test.eq(err.code, "TOO_MANY_KEY_UPDATES")
  test.eq(child.stdout:read_line(), "cut off")
end)
