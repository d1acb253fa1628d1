-- Who is let in: certificates of servers and of clients.
local async = require "rille.async"
local errors = require "rille.errors"
local net = require "rille.net"
local certificates = require "support.certificates"
local support = require "support.tls"
local test = require "support.test"

local ca, serve, connect, echo = support.ca, support.serve, support.connect, support.echo

-- The error of a client that meets this certificate.
local function refusal(issued, options, host)
  local port = serve({ cert = issued.cert, key = issued.key }, echo)
  local err = test.raises("TLSError", connect, port, options, host)
  test.contains(err.message, ("%s:%d"):format(host or "localhost", port))
  test.eq(err.address, ("%s:%d"):format(host or "localhost", port))
  return err
end

test("a certificate that fits is accepted, and its data are there", function()
  local port = serve({}, echo)
  local stream = connect(port)
  local info = stream:tls()
  test.eq(info.version, "TLSv1.3")
  test.eq(info.server_name, "localhost")
  test.eq(info.resumed, false)
  test.eq(info.peer.subject, "O=Rille, CN=localhost")
  test.eq(info.peer.issuer, "O=Rille, CN=Test CA")
  test.eq(info.peer.names, { "localhost", "127.0.0.1", "::1" })
  test.eq(info.peer.not_after, 2524607999)
  test.matches(info.cipher, "^TLS_")
  stream:write "hello"
  test.eq(stream:read(), "hello")
end)

test("an expired certificate is refused with its date", function()
  local err = refusal(ca:issue("localhost", { to = "20200201000000Z" }))
  test.eq(err.code, "CERT_HAS_EXPIRED")
  test.contains(err.message, "certificate has expired: O=Rille, CN=localhost, expired on "
    .. "2020-02-01 00:00:00 UTC")
end)

test("a certificate of the future is refused with its date", function()
  local err = refusal(ca:issue("localhost", { from = "20481231000000Z" }))
  test.eq(err.code, "CERT_NOT_YET_VALID")
  test.contains(err.message, "valid from 2048-12-31 00:00:00 UTC")
end)

test("a self-signed certificate is refused, and accepted when it is what is trusted", function()
  local own = ca:issue("localhost", { self_signed = true })
  test.eq(refusal(own).code, "DEPTH_ZERO_SELF_SIGNED_CERT")
  local port = serve({ cert = own.cert, key = own.key }, echo)
  test.eq(connect(port, { ca = own.cert }):tls().peer.subject, "O=Rille, CN=localhost")
end)

test("an unknown issuer is refused by name", function()
  local other = certificates.authority(support.dir, "Other CA")
  local err = refusal(other:issue "localhost")
  test.eq(err.code, "UNABLE_TO_GET_ISSUER_CERT_LOCALLY")
  test.contains(err.message, "issued by O=Rille, CN=Other CA")
end)

test("a self-signed root in the chain is named", function()
  local other = certificates.authority(support.dir, "Root in chain")
  local issued = other:issue "localhost"
  local chain = test.write(support.dir .. "/chain.pem", test.read(issued.cert) .. other.pem)
  test.eq(refusal({ cert = chain, key = issued.key }).code, "SELF_SIGNED_CERT_IN_CHAIN")
end)

test("a certificate for somebody else is refused with both names", function()
  local err = refusal(ca:issue "good.example")
  test.eq(err.code, "HOSTNAME_MISMATCH")
  test.contains(err.message, "the certificate is for good.example, not for localhost")
end)

test("an address must stand among the certificate's addresses", function()
  local issued = ca:issue("127.0.0.1", { names = "DNS:localhost,DNS:127.0.0.1,IP:127.0.0.9" })
  local err = refusal(issued, {}, "127.0.0.1")
  test.eq(err.code, "IP_ADDRESS_MISMATCH")
  test.contains(err.message, "127.0.0.9, not for 127.0.0.1")
  local port = serve({}, echo)
  test.eq(connect(port, {}, "127.0.0.1"):tls().server_name, "127.0.0.1")
end)

test("server_name is what is sent and checked", function()
  local issued = ca:issue "a.example"
  local names = {}
  local port = serve({ cert = issued.cert, key = issued.key }, function(stream)
    names[#names + 1] = stream:tls().server_name
    echo(stream)
  end)
  local stream = connect(port, { server_name = "a.example" })
  test.eq(stream:tls().server_name, "a.example")
  stream:write "x"
  stream:read()
  test.eq(names, { "a.example" })
  test.eq(test.raises("TLSError", connect, port, { server_name = "b.example" }).code,
    "HOSTNAME_MISMATCH")
end)

test("a wildcard stands for one whole label on the left", function()
  local issued = ca:issue("wild", { names = "DNS:*.a.example,DNS:part*.b.example" })
  local port = serve({ cert = issued.cert, key = issued.key }, echo)
  connect(port, { server_name = "x.a.example" })
  for _, name in ipairs { "a.example", "x.y.a.example", "partly.b.example", "example" } do
    local err = test.raises("TLSError", connect, port, { server_name = name })
    test.eq(err.code, "HOSTNAME_MISMATCH", name)
  end
end)

test("a dot at the end of a name is not part of it", function()
  local port = serve({}, echo)
  test.eq(connect(port, { server_name = "localhost." }):tls().server_name, "localhost")
end)

test("a name beyond ASCII is checked as the DNS has it", function()
  local issued = ca:issue("idn", { names = "DNS:xn--bcher-kva.example" })
  local port = serve({ cert = issued.cert, key = issued.key }, echo)
  local stream = connect(port, { server_name = "b\195\188cher.example" })
  test.eq(stream:tls().server_name, "xn--bcher-kva.example")
end)

test("no name at all is not a name that fits", function()
  local port = serve({}, echo)
  local err = test.raises(".", connect, port, { server_name = "." })
  test.contains(tostring(err), "bad argument 'server_name' to 'connect'")
end)

test("verify=false takes any certificate", function()
  local issued = ca:issue("good.example", { to = "20200201000000Z" })
  local port = serve({ cert = issued.cert, key = issued.key }, echo)
  local stream = connect(port, { verify = false })
  test.eq(stream:tls().peer.names, { "good.example" })
end)

test("without ca the system's store decides, which SSL_CERT_FILE names", function()
  local port = serve({}, echo)
  local code = ([[
    local net = require "rille.net"
    local ok, e = pcall(net.connect, { host = "localhost", port = %d, tls = true, timeout = 5 })
    print(ok, ok and e:tls().version or e.code)
  ]]):format(port)
  -- The child blocks this process: so the server is one of its own.
  local server = ([[
    local async, net = require "rille.async", require "rille.net"
    local l = net.listen { tls = { cert = %q, key = %q } }
    async.spawn(l.serve, l, function(s) s:read() end, { grace = 0 })
    %s
    l:close(0)
  ]]):format(support.server.cert, support.server.key,
    (code:gsub("port = %d+", "port = l:address().port")))
  local function run(env) return test.rille({ "-e", server }, { env = env }).stdout end
  test.eq(run { SSL_CERT_FILE = false }, "false\tUNABLE_TO_GET_ISSUER_CERT_LOCALLY\n")
  test.eq(run { SSL_CERT_FILE = ca.path }, "true\tTLSv1.3\n")
  test.eq(run { SSL_CERT_FILE = "/nowhere" }, "false\tUNABLE_TO_GET_ISSUER_CERT_LOCALLY\n")
end)

test("an intermediate certificate is sent with the server's own", function()
  local middle = ca:issue("Middle", { ca = true })
  local leaf = middle:issue "localhost"
  test.eq(refusal(leaf).code, "UNABLE_TO_GET_ISSUER_CERT_LOCALLY")
  local chain = test.write(support.dir .. "/full.pem",
    test.read(leaf.cert) .. test.read(middle.cert))
  local port = serve({ cert = chain, key = leaf.key }, echo)
  test.eq(connect(port):tls().peer.issuer, "O=Rille, CN=Middle")
  -- And what is trusted need not be a root.
  port = serve({ cert = leaf.cert, key = leaf.key }, echo)
  connect(port, { ca = middle.path })
end)

test("a common name counts where there are no names", function()
  local issued = ca:issue("localhost", { names = false })
  local port = serve({ cert = issued.cert, key = issued.key }, echo)
  test.eq(connect(port):tls().peer.names, {})
end)

-- ---- certificates of clients --------------------------------------------------------------------

for _, version in ipairs { "1.2", "1.3" } do
  test("a server that verifies sees the client's certificate, TLS " .. version, function()
    local client = ca:issue "somebody"
    local seen = async.Future()
    local port = serve({ verify = true, ca = ca.path, max_version = version }, function(stream)
      seen:set_result(stream:tls().peer.subject)
      echo(stream)
    end)
    local stream = connect(port, { cert = client.cert, key = client.key })
    stream:write "x"
    test.eq(stream:read(), "x")
    test.eq(seen:await(), "O=Rille, CN=somebody")
  end)

  test("a client without a certificate is refused, TLS " .. version, function()
    local served = 0
    local port = serve({ verify = true, ca = ca.path, max_version = version },
      function() served = served + 1 end)
    local err = test.raises("TLSError", function()
      -- In TLS 1.3 the client is through before the server has looked.
      local stream = connect(port)
      stream:write "x"
      stream:read()
    end)
    test.eq(err.code, version == "1.3" and "TLSV13_ALERT_CERTIFICATE_REQUIRED"
      or "SSLV3_ALERT_HANDSHAKE_FAILURE")
    test.eq(served, 0)
  end)

  test("a client's certificate of an unknown issuer is refused, TLS " .. version, function()
    local other = certificates.authority(support.dir, "Somebody's CA"):issue "somebody"
    local listener = net.listen { tls = support.server_options {
      verify = true, ca = ca.path, max_version = version } }
    test.defer(function() listener:close() end)
    local accepted = async.spawn(function()
      local stream = listener:accept()
      local ok, err = pcall(stream.tls, stream)
      stream:close()
      return not ok and err
    end)
    local err = test.raises("TLSError", function()
      local stream = connect(listener:address().port, { cert = other.cert, key = other.key })
      stream:read()
    end)
    test.eq(err.code, "TLSV1_ALERT_UNKNOWN_CA")
    local found = accepted:await()
    test.eq(found.code, "UNABLE_TO_GET_ISSUER_CERT_LOCALLY")
    test.contains(found.message, "CN=somebody")
    assert(errors.is(found, "TLSError"))
  end)
end

test("what a server refuses only after the handshake, writing says too", function()
  local port = serve({ verify = true, ca = ca.path }, echo)
  local stream = connect(port)
  local err = test.raises("TLSError", function()
    while true do
      stream:write(("x"):rep(1000))
      async.sleep(0.001)
    end
  end)
  test.eq(err.code, "TLSV13_ALERT_CERTIFICATE_REQUIRED")
end)
