-- TLS opposite socat, which makes a pipe of everything: both ways, to the end, and when the
-- certificate is somebody else's.
local net = require "rille.net"
local process = require "rille.process"
local support = require "support.tls"
local test = require "support.test"

if not process.run({ "sh", "-c", "command -v socat" }).ok then return end

local SIZE = math.max(2 ^ 18, math.floor(2 ^ 22 * test.SCALE))
local text = ("a line of text, and another one\n"):rep(SIZE / 32)

local function read_all(stream)
  local parts = {}
  for data in function() return stream:read() end do parts[#parts + 1] = data end
  return table.concat(parts)
end

local function with_ca(address, ...)
  return ("%s,cafile=%s%s"):format(address, support.ca.path, table.concat { ... })
end

-- `socat` that listens with TLS and does `what` with each connection; gives its port.
local function listen(options, what)
  local child = process.spawn {
    "socat", "-d", "-d", ("OPENSSL-LISTEN:0,bind=127.0.0.1,fork,cert=%s,key=%s,%s"):format(
      support.server.cert, support.server.key, options), what,
    stderr = "pipe", group = true,
  }
  test.defer(function() child:close() end)
  while true do
    local line = assert(child.stderr:read_line(), "socat has ended")
    local port = line:match "listening on .*:(%d+)$"
    if port then return tonumber(port) end
  end
end

test("socat sends megabytes by TLS, half-closes, and gets its answer", function()
  local port = support.serve({}, function(stream)
    local data = read_all(stream)
    stream:write(#data, " bytes, ", data == text and "all well" or "but others", "\n")
  end)
  local result = process.run {
    "socat", "-t", 30, "-", with_ca("OPENSSL:localhost:" .. port), input = text, timeout = 60,
  }
  test.eq({ result.stderr, result.stdout }, { "", #text .. " bytes, all well\n" })
end)

test("socat is known by its certificate", function()
  local own = support.ca:issue "somebody"
  local port = support.serve({ ca = support.ca.path, verify = true }, function(stream)
    stream:write(stream:tls().peer.subject, "\n")
  end)
  local result = process.run {
    "socat", "-u", with_ca("OPENSSL:localhost:" .. port, ",cert=", own.cert, ",key=", own.key), "-",
    timeout = 60,
  }
  test.contains(result.stdout, "CN=somebody")
end)

test("socat refuses a certificate for another name, and the server goes on", function()
  local port = support.serve({}, support.echo)
  local refused = process.run {
    "socat", "-", with_ca("OPENSSL:127.0.0.1:" .. port, ",commonname=elsewhere"), timeout = 60,
  }
  test.eq(refused.ok, false)
  local stream = support.connect(port)
  stream:write "still there\n"
  test.eq(stream:read_line(), "still there")
  stream:close()
end)

test("socat's TLS server sends back what it gets", function()
  local port = listen("verify=0", "PIPE")
  for _ = 1, 3 do
    local stream = support.connect(port)
    for i = 1, 100 do
      stream:write("line ", i, "\n")
      test.eq(stream:read_line(), "line " .. i)
    end
    stream:close()
  end
end)

test("a command behind socat's TLS server answers to its end", function()
  local port = listen("verify=0", "SYSTEM:seq 1 20000")
  local stream = support.connect(port)
  local sum = 0
  for line in stream:lines() do sum = sum + tonumber(line) end
  test.eq(sum, 20000 * 20001 / 2)
  stream:close()
end)

test("socat's TLS server wants a certificate of its clients", function()
  local port = listen("verify=1,cafile=" .. support.ca.path, "PIPE")
  test.raises("TLSError", function()
    local stream = support.connect(port)
    stream:read()
  end)
  local own = support.ca:issue "somebody"
  local stream = net.connect {
    host = "localhost", port = port,
    tls = support.client_options { cert = own.cert, key = own.key },
  }
  stream:write "known\n"
  test.eq(stream:read_line(), "known")
  stream:close()
end)
