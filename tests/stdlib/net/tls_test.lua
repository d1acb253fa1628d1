-- What TLS changes in connecting, listening and serving; TLS itself has tests of its own.
local async, test = require "rille.async", require "support.test"
local net = require "rille.net"
local support = require "stdlib.net.support"

if not pcall(require, "rille.tls.stream") then return print "OpenSSL is not there" end

local dir = io.popen("mktemp -d"):read "*l"
assert(os.execute(("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
  .. "-keyout %s/key -out %s/cert -days 2 -subj /CN=localhost "
  .. "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 2> /dev/null"):format(dir, dir)) == 0)
local SERVER = { cert = test.read(dir .. "/cert"), key = test.read(dir .. "/key") }
local CLIENT = { ca = SERVER.cert }
os.execute("rm -r " .. dir)

local function serving(fn)
  local listener = net.listen { tls = SERVER }
  local task = async.spawn(listener.serve, listener, fn)
  test.defer(function()
    listener:close(0)
    async.wait { task }
  end)
  return listener, listener:address().port
end

test("connect and serve speak TLS, by name and by address", function()
  local _, port = serving(function(stream)
    stream:write(stream:tls().version, " ", stream:read())
  end)
  for _, host in ipairs { "localhost", "127.0.0.1" } do
    local stream = net.connect { host = host, port = port, tls = CLIENT, timeout = 10 }
    stream:write(host)
    test.matches(support.read_all(stream), "^TLSv1.3 " .. host)
    stream:close()
  end
end)

test("the timeout of connect covers the handshake", function()
  local listener = net.listen {} -- accepts, and says nothing
  local before = support.open_files()
  local options = { host = "localhost", port = listener:address().port, tls = CLIENT,
    timeout = 0.05 }
  local e = test.raises("TimeoutError", net.connect, options)
  test.contains(e.message, "connect localhost:" .. options.port)
  support.open_files(before)
  listener:close()
end)

test("a handshake that fails leaves no descriptor, on either side", function()
  local _, port = serving(function(stream) stream:write "hello" end)
  local stream = net.connect { host = "127.0.0.1", port = port, tls = CLIENT }
  test.eq(support.read_all(stream), "hello")
  stream:close()
  local before = support.open_files()
  for _ = 1, 5 do
    test.raises("TLSError", net.connect, { host = "127.0.0.1", port = port, tls = true })
  end
  support.open_files(before)
end)

test("whoever speaks no TLS neither ends the server nor is reported", function()
  local called = 0
  local listener, port = serving(function(stream)
    called = called + 1
    stream:write "hello"
  end)
  for _, bytes in ipairs { "GET / HTTP/1.0\r\n\r\n", "", ("x"):rep(100) } do
    local stream = net.connect { host = "127.0.0.1", port = port }
    stream:write(bytes)
    stream:shutdown()
    pcall(support.read_all, stream)
    stream:close()
  end
  net.connect({ host = "127.0.0.1", port = port }):abort()
  local stream = net.connect { host = "127.0.0.1", port = port, tls = CLIENT }
  test.eq(support.read_all(stream), "hello")
  stream:close()
  test.eq({ called, #test.reports() }, { 1, 0 })
  listener:close()
end)

test("an error of a handler is reported with TLS too", function()
  local _, port = serving(function() error "broken" end)
  local stream = net.connect { host = "127.0.0.1", port = port, tls = CLIENT }
  test.eq(stream:read(), nil)
  stream:close()
  local reports = test.reports()
  test.eq(#reports, 1)
  test.contains(reports[1].error, "broken")
end)

test("a slow handshake keeps nobody else from being accepted or served", function()
  local listener, port = serving(function(stream) stream:write "hello" end)
  local slow = net.connect { host = "127.0.0.1", port = port }
  local stream = net.connect { host = "127.0.0.1", port = port, tls = CLIENT }
  test.eq(support.read_all(stream), "hello")
  stream:close()
  slow:close()
  listener:close()

  listener = net.listen { tls = SERVER }
  slow = net.connect { host = "127.0.0.1", port = listener:address().port }
  local connecting = async.spawn(net.connect,
    { host = "127.0.0.1", port = listener:address().port, tls = CLIENT })
  local first, second = listener:accept(), listener:accept()
  second:write "hello"
  stream = connecting:await()
  test.eq(stream:read(), "hello")
  for _, s in ipairs { first, second, stream, slow } do s:close() end
  listener:close()
end)

test("a connection of a TLS server that is closed at any moment is closed", function()
  for turns = 1, 5 do
    local before = support.open_files()
    local listener = net.listen { tls = SERVER }
    local server = async.spawn(listener.serve, listener, function(stream) stream:read() end)
    local client = async.spawn(pcall, net.connect,
      { host = "127.0.0.1", port = listener:address().port, tls = CLIENT, timeout = 10 })
    test.turns(turns)
    if turns == 5 then async.sleep(0.005) end
    listener:close(0)
    server:await()
    local ok, stream = client:await()
    if ok then stream:close() end
    support.open_files(before)
  end
end)

test("options that are wrong leave nothing open", function()
  local before = support.open_files()
  test.blames_caller("bad argument 'tls' to 'listen'", function() net.listen { tls = true } end)
  test.blames_caller("bad argument 'tls' to 'connect'",
    function() net.connect { host = "127.0.0.1", port = 1, tls = { no_such = 1 } } end)
  support.open_files(before)
end)
