-- The network in a sandbox.
local test = require "support.test"
local sandbox = require "support.sandbox"
local async, fs = require "rille.async", require "rille.fs"
local process = require "rille.process"
local run = sandbox.run

-- A server for scripts that run meanwhile, in a process of its own: os.execute holds this one up.
local function serve(code)
  local dir = test.tmpdir()
  local path = test.write(dir .. "/server.lua", ([[
    local http, net, fs = require "rille.http", require "rille.net", require "rille.fs"
    local dir = %q
    local function tell(port) fs.write_file(dir .. "/port", tostring(port), { atomic = true }) end
    %s
  ]]):format(dir, code))
  local child = process.spawn { test.executable(), path }
  test.defer(function() child:close() end)
  while not fs.exists(dir .. "/port") do async.sleep(0.005) end
  return tonumber(test.read(dir .. "/port"))
end

local ECHO = [[
  local listener = net.listen { port = 0 }
  tell(listener:address().port)
  listener:serve(function(stream)
    for line in stream:lines() do stream:write(line, "\n") end
  end)
]]

test("nothing is reachable without a grant, and the refusal names what to grant", function()
  run [[
    local net, http, dns = require "rille.net", require "rille.http", require "rille.dns"
    refused("network access to '127.0.0.1:80' is not granted (allow_net \"127.0.0.1:80\", "
      .. "--allow-net=127.0.0.1:80)", net.connect, { host = "127.0.0.1", port = 80 })
    refused("'[::1]:80'", net.connect, { host = "::1", port = 80 })
    refused("'localhost:80'", net.connect, { host = "localhost", port = 80 })
    refused("'example.com:80'", net.connect, { host = "example.com", port = 80 })
    refused("'example.com'", dns.lookup, "example.com")
    refused("'example.com'", dns.resolve, "example.com")
    refused("'127.0.0.1:53'", dns.resolve, "example.com", "A", { servers = { "127.0.0.1" } })
    refused("'127.0.0.1:5353'", dns.Resolver, { servers = { "127.0.0.1:5353" } })
    refused("'127.0.0.1'", net.listen, { port = 0 })
    refused("allow_net", net.listen, { host = "*", port = 0 })
    refused("allow_net", net.udp, {})
    refused("allow_net", net.udp, { host = "127.0.0.1" })
    refused("'127.0.0.1:80'", http.get, "http://127.0.0.1/")
    refused("'example.com:443'", http.get, "https://example.com/")
    refused("'127.0.0.1'", http.serve, { handler = print })
    refused("'127.0.0.1:80'", require("rille.websocket").connect, "ws://127.0.0.1/")
    refused("abstract", net.connect, { path = "@name" })
    refused("abstract", net.listen, { path = "\0name" })
    refused("allow_read", net.connect, { path = "/run/socket" })
    refused("allow_", net.listen, { path = "/tmp/socket" })
    refused("allow_read", http.get, "http+unix://%2Frun%2Fsocket/")
  ]]
end)

test("a grant whose port is none grants nothing", function()
  for _, port in ipairs { "65536", "99999999999", "4294967297" } do
    run([[
      local net = require "rille.net"
      refused("allow_net", net.connect, { host = "127.0.0.1", port = 1 })
      refused("allow_net", net.listen, { port = 0 })
    ]], { "--allow-net=127.0.0.1:" .. port })
  end
end)

test("the refusal of a name names its port", function()
  run([[
    refused("--allow-net=example.org:81)", require("rille.net").connect,
      { host = "example.org", port = 81 })
    refused("--allow-net=example.com:80)", require("rille.http").get, "http://example.com/")
  ]], { "--allow-net=example.org:80" })
end)

test("a connection to a proxy that is used again does not lead to what is not granted", function()
  local port = serve [[
    local server = http.serve { port = 0, handler = function(req) return req.target end }
    tell(server.port)
    server:wait()
  ]]
  run(([[
    local session = require("rille.http").Session { proxy = "http://127.0.0.1:%d" }
    for _ = 1, 2 do
      assert(session:get("http://example.org/"):text() == "http://example.org/")
      refused("--allow-net=example.com:80)", session.get, session, "http://example.com/")
    end
    session:close()
  ]]):format(port), { "--allow-net=example.org:80,127.0.0.1:" .. port })
end)

test("what is granted is reachable, and no other port or host", function()
  local port = serve(ECHO)
  local code = ([[
    local net, port = require "rille.net", %d
    local function echo(host)
      local s = net.connect { host = host, port = port }
      s:write "x\n"
      assert(s:read_until "\n" == "x\n")
      s:close()
    end
  ]]):format(port)
  run(code .. [[
    echo "127.0.0.1"
    echo "localhost"
    echo "::ffff:127.0.0.1"
    refused("allow_net", net.connect, { host = "127.0.0.1", port = port + 1 })
    refused("allow_net", net.connect, { host = "127.0.0.2", port = port })
    refused("allow_net", net.connect, { host = "::1", port = port })
    refused("allow_net", net.connect, { host = "localhost", port = port + 1 })
    refused("allow_net", net.connect, { host = "0.0.0.0", port = port })
    refused("allow_net", net.connect, { host = "0", port = port })
    refused("allow_net", net.connect, { host = "2130706433", port = port })
    refused("allow_net", net.connect, { host = "127.1", port = port })
    refused("allow_net", net.listen, { port = 0 })
  ]], { "--allow-net=127.0.0.1:" .. port })
  for _, grant in ipairs {
    "127.0.0.1", "localhost", "localhost:" .. port, "*:" .. port, "LocalHost",
  } do
    run(code .. [[ echo "127.0.0.1" echo "localhost" ]], { "--allow-net=" .. grant })
  end
  run(code .. [[ echo "127.0.0.1" ]], { "--allow-net" })
  run(code .. [[ refused("allow_net", net.connect, { host = "127.0.0.1", port = port }) ]],
    { "--allow-net=*:1", "--allow-net=example.com" })
end)

test("names are looked up if they are granted, and do not stand for this machine", function()
  local host = io.popen("hostname"):read "*l"
  local known = pcall(require("rille.dns").lookup, host)
  run([[
    local dns = require "rille.dns"
    refused("'secret.example.com'", dns.lookup, "secret.example.com")
    refused("allow_net", dns.resolve, "secret.example.com", "TXT")
    refused("allow_net", require("rille.net").connect, { host = "a.example.com", port = 1 })
  ]], { "--allow-net=example.com", "--allow-net=127.0.0.1" })
  if not known then return end
  local local_only = true
  for _, ip in ipairs(require("rille.dns").lookup(host)) do
    local_only = local_only and (ip:find "^127%." or ip == "::1") and true or false
  end
  if not local_only then return end
  run(([[ refused("which is", require("rille.dns").lookup, %q) ]]):format(host),
    { "--allow-net=" .. host })
  run(([[ assert(#require("rille.dns").lookup(%q) > 0) ]]):format(host),
    { "--allow-net=" .. host, "--allow-net=localhost" })
end)

test("a redirect does not lead to what is not granted", function()
  local inner = serve [[
    local server = http.serve { port = 0, handler = function() return "secret" end }
    tell(server.port)
    server:wait()
  ]]
  local outer = serve(([[
    local server = http.serve { port = 0, handler = function(req)
      return http.redirect(req.query.to or "http://127.0.0.1:%d/")
    end }
    tell(server.port)
    server:wait()
  ]]):format(inner))
  run(([[
    local http = require "rille.http"
    local outer, inner = %d, %d
    refused("'127.0.0.1:" .. inner .. "'", http.get, "http://127.0.0.1:" .. outer .. "/")
    refused("allow_net", http.get, "http://localhost:" .. outer .. "/")
    assert(http.get("http://127.0.0.1:" .. outer .. "/", { redirects = 0 }).status == 302)
    local session = http.Session { proxy = "http://127.0.0.1:" .. outer }
    refused("'127.0.0.1:" .. inner .. "'", session.get, session,
      "http://127.0.0.1:" .. inner .. "/")
    refused("'example.com", session.get, session, "https://example.com/")
    session:close()
  ]]):format(outer, inner), { "--allow-net=127.0.0.1:" .. outer })
  run(([[
    local http = require "rille.http"
    assert(http.get("http://127.0.0.1:%d/"):text() == "secret")
  ]]):format(outer), { "--allow-net=127.0.0.1:" .. outer, "--allow-net=127.0.0.1:" .. inner })
end)

test("a server, its client and datagrams work where they are granted", function()
  run([[
    local http, net = require "rille.http", require "rille.net"
    local websocket = require "rille.websocket"
    local app = http.App()
    app:get("/json", function() return { a = 1 } end)
    app:websocket("/ws", function(ws) ws:send(ws:recv()) end)
    local server = app:serve { port = 0 }
    local url = "http://127.0.0.1:" .. server.port
    assert(http.get(url .. "/json"):json().a == 1)
    local ws = websocket.connect("ws://127.0.0.1:" .. server.port .. "/ws")
    ws:send "hello"
    assert(ws:recv() == "hello")
    ws:close()
    server:close(0)
    local a, b = net.udp { host = "127.0.0.1" }, net.udp { host = "127.0.0.1" }
    a:send("x", "127.0.0.1", b:address().port)
    assert(b:recv() == "x")
    refused("allow_net", a.send, a, "x", "127.0.0.2", 1)
    refused("allow_net", net.udp,
      { host = "127.0.0.1", connect = { host = "127.0.0.2", port = 1 } })
    a:close()
    b:close()
  ]], { "--allow-net=127.0.0.1" })
end)

test("Unix sockets are files that must be granted for both", function()
  local _, granted, secret = sandbox.folders()
  local code = ([[
    local net, granted, secret = require "rille.net", %q, %q
    local function refusals()
      for _, path in ipairs {
        secret .. "/socket", granted .. "/../secret/socket", granted .. "/folder/socket",
      } do
        refused("allow_", net.connect, { path = path })
        refused("allow_", net.listen, { path = path })
      end
    end
  ]]):format(granted, secret)
  assert(os.execute(("ln -s '%s' '%s/folder'"):format(secret, granted)) == 0)
  run(code .. [[
    local path = granted .. "/socket"
    local listener = net.listen { path = path }
    assert(listener:address().path == path)
    local server = async.spawn(listener.serve, listener, function(s)
      assert(s:address().path == path, s:address().path)
      s:write(s:read_until "\n")
    end)
    local s = net.connect { path = path }
    assert(s:peer().path == path, s:peer().path)
    s:write "x\n"
    assert(s:read_until "\n" == "x\n")
    s:close()
    listener:close(0)
    server:await()
    assert(not require("rille.fs").exists(path))
    refusals()
  ]], { "--allow-read=" .. granted, "--allow-write=" .. granted })
  run(code .. [[
    refusals()
    refused("allow_write", net.connect, { path = granted .. "/socket" })
    refused("allow_write", net.listen, { path = granted .. "/socket" })
  ]], { "--allow-read=" .. granted })
end)

test("certificates are read where files may be", function()
  run [[
    refused("allow_read", require("rille.tls").context, { ca = "/etc/ssl/certificates.crt" })
  ]]
end)
