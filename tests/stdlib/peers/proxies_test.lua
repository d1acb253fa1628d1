-- Proxies of a few lines between curl and a web server in Python: plain, with TLS on either side,
-- by the SOCKS protocol, over Unix sockets; with large files, many at once, and clients that go in
-- the middle.
local async = require "rille.async"
local fs = require "rille.fs"
local net = require "rille.net"
local process = require "rille.process"
local support = require "support.tls"
local test = require "support.test"

local SIZE = math.max(2 ^ 20, 2 ^ 24 * test.SCALE)

local function has(command)
  return process.run({ "sh", "-c", 'command -v "$1"', "sh", command }).ok
end

if not (has "curl" and has "python3") then return end

local SERVER = [[
import http.server, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
]]

-- It repeats itself, but at odd places.
local lines = {}
for i = 1, 999 do lines[i] = ("%063d\n"):format(i * 2654435761 % 2 ^ 40) end
local content = table.concat(lines):rep(math.ceil(SIZE / 64 / 999))

-- The port of a web server that has the file "large", and the files "1" to "20".
local function web_server(cert, key)
  local dir = test.tmpdir()
  fs.write_file(dir .. "/large", content)
  for i = 1, 20 do fs.write_file(("%s/%d"):format(dir, i), ("file %d\n"):format(i)) end
  local child = process.spawn { "python3", "-c", SERVER, cert, key, cwd = dir, stdout = "pipe",
    stderr = "null" }
  test.defer(function() child:close() end)
  return tonumber(child.stdout:read_line())
end


local function pump(from, to)
  for data in function() return from:read() end do to:write(data) end
  to:shutdown()
end

-- Joins both. When one direction fails the other is given up; often both do.
local function join(a, b)
  async.group(function(group)
    group:spawn(pump, a, b)
    pump(b, a)
  end)
end

-- Serves until the test is over; gives the port.
local function serve(options, fn)
  local listener = net.listen(options)
  local failures = {}
  local server = async.spawn(listener.serve, listener, function(stream)
    local ok, err = pcall(fn, stream)
    if not ok then failures[#failures + 1] = err end
  end, { grace = 0 })
  test.defer(function()
    listener:close(0)
    server:await()
  end)
  return listener:address().port, failures
end

local function forward_to(options)
  return function(client)
    async.with(net.connect(options), function(upstream) join(client, upstream) end)
  end
end

local function curl(...)
  return process.run { "curl", "--silent", "--show-error", "--noproxy", "", "--max-time", 60, ... }
end

local function expect_large(result)
  test.eq(result.stderr, "")
  test.eq(result.code, 0)
  assert(result.stdout == content, "the file is not what it was")
end

test("curl loads a large file through a proxy, and small ones over one connection", function()
  local port = serve({}, forward_to { host = "127.0.0.1", port = web_server() })
  expect_large(curl("http://127.0.0.1:" .. port .. "/large"))

  local result = curl("http://127.0.0.1:" .. port .. "/[1-20]")
  local want = {}
  for i = 1, 20 do want[i] = ("file %d\n"):format(i) end
  test.eq(result.stdout, table.concat(want))
end)

test("ten clients at once go through one proxy", function()
  local port = serve({}, forward_to { host = "127.0.0.1", port = web_server() })
  local list = {}
  for i = 1, 10 do list[i] = i end
  async.map(list, function() expect_large(curl("http://127.0.0.1:" .. port .. "/large")) end,
    { limit = 3 })
end)

test("curl speaks TLS to a proxy whose server does not", function()
  local port = serve({ tls = support.server_options() },
    forward_to { host = "127.0.0.1", port = web_server() })
  expect_large(curl("--cacert", support.ca.path, "https://localhost:" .. port .. "/large"))

  local refused = curl("https://localhost:" .. port .. "/large")
  test.eq(refused.code, 60) -- curl does not know who has signed it
end)

test("a proxy speaks TLS to a server for a client that does not", function()
  local port = serve({}, forward_to {
    host = "localhost",
    port = web_server(support.server.cert, support.server.key),
    tls = support.client_options(),
  })
  expect_large(curl("http://127.0.0.1:" .. port .. "/large"))
end)

-- RFC 1928: no authentication, CONNECT to a name or an IPv4 address.
local function socks(client)
  local version, methods = client:read_exactly(2):byte(1, 2)
  assert(version == 5, "not SOCKS 5")
  client:read_exactly(methods)
  client:write "\5\0"
  local _, command, _, kind = client:read_exactly(4):byte(1, 4)
  assert(command == 1, "not CONNECT")
  local host
  if kind == 1 then
    host = ("%d.%d.%d.%d"):format(client:read_exactly(4):byte(1, 4))
  else
    assert(kind == 3, "neither a name nor an IPv4 address")
    host = client:read_exactly(client:read_exactly(1):byte())
  end
  local high, low = client:read_exactly(2):byte(1, 2)
  local ok, upstream = pcall(net.connect, { host = host, port = high * 256 + low, timeout = 10 })
  if not ok then
    client:write "\5\5\0\1\0\0\0\0\0\0"
    error(upstream, 0)
  end
  client:write "\5\0\0\1\0\0\0\0\0\0"
  async.with(upstream, function() join(client, upstream) end)
end

test("curl goes through a SOCKS proxy, by name and by address", function()
  local port, failures = serve({}, socks)
  local web = web_server()
  for _, option in ipairs { "--socks5", "--socks5-hostname" } do
    local host = option == "--socks5" and "127.0.0.1" or "localhost"
    expect_large(curl(option, "127.0.0.1:" .. port, ("http://%s:%d/large"):format(host, web)))
  end
  test.eq(failures, {})

  -- Where nobody listens: port 1 of loopback.
  local result = curl("--socks5-hostname", "127.0.0.1:" .. port, "http://localhost:1/")
  test.eq(result.code, 97) -- what curl says of a proxy that has failed
  test.eq(failures[1].code, "ECONNREFUSED")
end)

test("a client that goes in the middle ends its server's connection, and nothing else", function()
  local web = web_server()
  local ended = async.Queue()
  local port = serve({}, function(client)
    local upstream = net.connect { host = "127.0.0.1", port = web }
    async.finally(function() join(client, upstream) end, function()
      upstream:close()
      ended:put(true)
    end)
  end)
  local url = "http://127.0.0.1:" .. port .. "/large"
  for _ = 1, 5 do
    local child = process.spawn { "curl", "--silent", "--noproxy", "", url, stdout = "pipe" }
    child.stdout:read() -- it is in the middle, and we read no more
    child:kill "SIGKILL"
    ended:get()
    child:close()
  end
  expect_large(curl(url))
end)

test("curl asks over a Unix socket", function()
  local path = test.tmpdir() .. "/socket"
  local listener = net.listen { path = path }
  local web = web_server()
  local server = async.spawn(listener.serve, listener, forward_to {
    host = "127.0.0.1", port = web,
  })
  expect_large(curl("--unix-socket", path, "http://any.name/large"))
  listener:close()
  server:await()
end)
