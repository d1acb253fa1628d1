-- Sessions that are taken up again.
local async = require "rille.async"
local net = require "rille.net"
local tls = require "rille.tls"
local support = require "support.tls"
local test = require "support.test"

local function once(port, context, host)
  local stream = support.connect(port, context, host)
  stream:write "x"
  test.eq(stream:read(), "x")
  local info = stream:tls()
  stream:close()
  return info.resumed, info
end

for _, version in ipairs { "1.2", "1.3" } do
  test("a context takes its sessions up again, TLS " .. version, function()
    local seen = async.Queue()
    local port = support.serve({ max_version = version }, function(stream)
      seen:put(stream:tls().resumed)
      support.echo(stream)
    end)
    local context = tls.context(support.client_options())
    test.eq(once(port, context), false)
    test.eq(seen:get(), false)
    for _ = 1, 5 do
      local resumed, info = once(port, context)
      test.eq(resumed, true)
      test.eq(info.peer.subject, "O=Rille, CN=localhost")
      test.eq(seen:get(), true)
    end
  end)

  test("a session is resumed only with the same peer and name, TLS " .. version, function()
    local port = support.serve({ max_version = version }, support.echo)
    local other = support.serve({ max_version = version }, support.echo)
    local context = tls.context(support.client_options())
    once(port, context)
    test.eq(once(other, context), false)
    test.eq(once(port, context, "127.0.0.1"), false)
    test.eq(once(port, tls.context(support.client_options())), false)
    test.eq(once(port, context), true)
  end)

  test("a server that verifies resumes with the client's certificate, TLS " .. version, function()
    local client = support.ca:issue "somebody"
    local seen = async.Queue()
    local port = support.serve({ max_version = version, verify = true, ca = support.ca.path },
      function(stream)
        local info = stream:tls()
        seen:put(tostring(info.resumed) .. " " .. info.peer.subject)
        support.echo(stream)
      end)
    local context = tls.context(support.client_options { cert = client.cert, key = client.key })
    once(port, context)
    test.eq(once(port, context), true)
    test.eq(seen:get(), "false O=Rille, CN=somebody")
    test.eq(seen:get(), "true O=Rille, CN=somebody")
  end)
end

test("a server that has forgotten the session gets a whole handshake", function()
  local listener = net.listen { tls = support.server_options() }
  local port = listener:address().port
  local server = async.spawn(listener.serve, listener, support.echo, { grace = 0 })
  local context = tls.context(support.client_options())
  once(port, context)
  listener:close(0)
  server:await()
  listener = net.listen { port = port, tls = support.server_options() }
  server = async.spawn(listener.serve, listener, support.echo, { grace = 0 })
  test.eq(once(port, context), false)
  test.eq(once(port, context), true)
  listener:close(0)
  server:await()
end)

test("tls=true shares its sessions", function()
  local code = ([[
    local async, net = require "rille.async", require "rille.net"
    local l = net.listen { tls = { cert = %q, key = %q } }
    async.spawn(l.serve, l, function(s) s:write(s:read()) end, { grace = 0 })
    for _ = 1, 3 do
      local s = net.connect { host = "localhost", port = l:address().port, tls = true }
      s:write "x"
      s:read()
      io.write(tostring(s:tls().resumed), " ")
      s:close()
    end
    l:close(0)
  ]]):format(support.server.cert, support.server.key)
  local done = test.rille({ "-e", code }, { env = { SSL_CERT_FILE = support.ca.path } })
  test.eq(done.stdout, "false true true ")
end)
