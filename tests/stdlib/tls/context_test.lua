-- What TLS is set up with: options, files, versions, protocols.
local async = require "rille.async"
local net = require "rille.net"
local tls = require "rille.tls"
local support = require "support.tls"
local test = require "support.test"

local ca, server, serve, connect, echo = support.ca, support.server, support.serve, support.connect,
  support.echo

-- ---- options ------------------------------------------------------------------------------------

test("an unknown option is named", function()
  test.blames_caller("unknown option 'certificate'",
    function() tls.context { certificate = "x" } end)
  test.blames_caller("bad argument 'tls' to 'connect' (unknown option 'verfy'",
    function() net.connect { host = "localhost", port = 1, tls = { verfy = false } } end)
  test.blames_caller("bad argument 'tls' to 'listen' (unknown option 'x'",
    function() net.listen { tls = { x = 1 } } end)
end)

test("wrong options are bad arguments", function()
  local wrong = {
    { { ca = 1 }, "bad argument 'ca' to 'context' (string expected, got number)" },
    { { cert = "" }, "bad argument 'cert' to 'context' (it is empty)" },
    { { cert = "a\0b" }, "it contains a NUL byte" },
    { { key = "x" }, "bad argument 'key' to 'context' (there is no 'cert'" },
    { { verify = "yes" }, "bad argument 'verify' to 'context' (boolean expected, got string)" },
    { { alpn = "h2" }, "bad argument 'alpn' to 'context' (list of protocols expected" },
    { { alpn = { "h2", "" } }, "entry 2: a name of 1 to 255 bytes expected" },
    { { alpn = { ("x"):rep(256) } }, "entry 1: a name of 1 to 255 bytes expected" },
    { { alpn = { "h2", x = 1 } }, "got other keys" },
    { { server_name = 5 }, "bad argument 'server_name' to 'context' (string expected" },
    { { min_version = "1.4" }, "bad argument 'min_version' to 'context' (\"1.2\" or \"1.3\"" },
    { { min_version = 1.25 }, "bad argument 'min_version'" },
    { { max_version = {} }, "bad argument 'max_version'" },
    { { min_version = "1.3", max_version = "1.2" }, "1.2 is below min_version, which is 1.3" },
    { { max_version = "1.1" }, "1.1 is below min_version, which is 1.2" },
    { { ciphers = 1 }, "bad argument 'ciphers' to 'context'" },
    { { password = 1 }, "bad argument 'password' to 'context'" },
  }
  for _, case in ipairs(wrong) do
    test.contains(tostring(test.raises(".", tls.context, case[1])), case[2])
  end
  test.blames_caller("bad argument #1 to 'context' (table expected, got nil)",
    function() tls.context() end)
  test.blames_caller("bad argument 'tls' to 'connect' (true, a table of options or a TLS context",
    function() net.connect { host = "localhost", port = 1, tls = "yes" } end)
end)

test("a server needs a certificate", function()
  for _, options in ipairs { true, {}, { verify = true }, { ca = ca.path } } do
    test.contains(tostring(test.raises(".", net.listen, { tls = options })),
      "a server needs the options 'cert' and 'key'")
  end
  test.contains(tostring(test.raises(".", net.listen, { tls = tls.context {} })),
    "a server needs a context with 'cert' and 'key'")
end)

test("a list of ciphers that says nothing is refused", function()
  test.eq(test.raises("TLSError", tls.context, { ciphers = "NONSENSE" }).code, "NO_CIPHER_MATCH")
  local err = test.raises("TLSError", tls.context, { ciphers = "TLS_NONSENSE" })
  test.contains(err.message, "the option 'ciphers' (TLS_NONSENSE)")
end)

-- ---- files --------------------------------------------------------------------------------------

test("a missing file is ENOENT with its path", function()
  for _, option in ipairs { "ca", "cert" } do
    local err = test.raises("OSError", tls.context, { [option] = "/nowhere/x.pem" })
    test.eq({ err.code, err.path }, { "ENOENT", "/nowhere/x.pem" })
  end
  local err = test.raises("OSError", tls.context, { cert = server.cert, key = "/nowhere/k" })
  test.eq({ err.code, err.path }, { "ENOENT", "/nowhere/k" })
end)

test("a file with something else in it is a TLSError with its path", function()
  local garbage = test.write(test.tmpdir() .. "/garbage.pem", "no certificate\n")
  for _, options in ipairs {
    { ca = garbage }, { cert = garbage }, { cert = server.cert, key = garbage },
    { cert = server.key }, { cert = server.cert, key = server.cert },
  } do
    local err = test.raises("TLSError", tls.context, options)
    test.eq(err.code, "NO_START_LINE")
    local path = options.ca or options.cert ~= server.cert and options.cert or options.key
    test.contains(err.message, path)
    test.eq(err.path, path)
  end
  local broken = test.write(test.tmpdir() .. "/broken.pem",
    "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
  test.contains(test.raises("TLSError", tls.context, { ca = broken }).message, broken)
  broken = test.write(test.tmpdir() .. "/broken.key",
    "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
  test.contains(test.raises("TLSError", tls.context, { cert = server.cert, key = broken }).message,
    broken)
end)

test("a key that does not fit is named with the certificate", function()
  local other = ca:issue "other"
  local err = test.raises("TLSError", tls.context, { cert = server.cert, key = other.key })
  test.eq(err.code, "KEY_VALUES_MISMATCH")
  test.contains(err.message, server.cert)
  test.contains(err.message, other.key)
  test.eq(err.path, other.key)
end)

test("a key with a password needs the right one", function()
  local locked = ca:issue("localhost", { password = "open sesame" })
  local err = test.raises("TLSError", tls.context, { cert = locked.cert, key = locked.key })
  test.eq(err.code, "BAD_PASSWORD_READ")
  test.contains(err.message, locked.key)
  err = test.raises("TLSError", tls.context,
    { cert = locked.cert, key = locked.key, password = "wrong" })
  test.eq(err.code, "BAD_DECRYPT")
  test.contains(err.message, "wrong password")
  test.raises("TLSError", tls.context, { cert = locked.cert, key = locked.key, password = "" })
  local port = serve({ cert = locked.cert, key = locked.key, password = "open sesame" }, echo)
  connect(port)
end)

test("PEM text does as well as a path, and a key may stand in the certificate's file", function()
  local both = test.read(server.cert) .. test.read(server.key)
  local port = serve(tls.context { cert = both }, echo)
  connect(port, { ca = ca.pem })
  local path = test.write(test.tmpdir() .. "/both.pem", both)
  port = serve(tls.context { cert = path }, echo)
  connect(port, { ca = ca.pem })
  local err = test.raises("TLSError", tls.context, { ca = "-----BEGIN NOTHING-----" })
  test.contains(err.message, "the option 'ca'")
  test.eq(err.path, nil)
end)

test("an RSA certificate serves as well", function()
  local rsa = ca:issue("localhost", { rsa = true })
  local port = serve({ cert = rsa.cert, key = rsa.key }, echo)
  test.eq(connect(port):tls().version, "TLSv1.3")
  test.matches(connect(port, { max_version = "1.2" }):tls().cipher, "^ECDHE%-RSA")
end)

test("a context serves both sides, and many connections", function()
  local context = tls.context { ca = ca.path, cert = server.cert, key = server.key }
  local port = serve(context, echo)
  for _ = 1, 3 do
    local stream = connect(port, context)
    stream:write "x"
    test.eq(stream:read(), "x")
  end
end)

-- ---- versions -----------------------------------------------------------------------------------

test("the versions that both sides have are agreed on", function()
  local cases = {
    { {}, {}, "TLSv1.3" },
    { { max_version = "1.2" }, {}, "TLSv1.2" },
    { {}, { max_version = 1.2 }, "TLSv1.2" },
    { { min_version = 1.3 }, { min_version = "1.2" }, "TLSv1.3" },
  }
  for _, case in ipairs(cases) do
    test.eq(connect(serve(case[1], echo), case[2]):tls().version, case[3])
  end
  local err = test.raises("TLSError", connect, serve({ min_version = "1.3" }, echo),
    { max_version = "1.2" })
  test.eq(err.code, "TLSV1_ALERT_PROTOCOL_VERSION")
end)

test("TLS 1.1 is refused unless both sides allow it", function()
  local old = { min_version = "1.0", max_version = "1.1", ciphers = "DEFAULT:@SECLEVEL=0" }
  local err = test.raises("TLSError", connect, serve({}, echo), old)
  test.eq(err.code, "TLSV1_ALERT_PROTOCOL_VERSION")
  test.eq(connect(serve(old, echo), old):tls().version, "TLSv1.1")
end)

test("ciphers are those that are named", function()
  local gcm, chacha = "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_CHACHA20_POLY1305_SHA256"
  local port = serve({}, echo)
  test.eq(connect(port, { ciphers = chacha }):tls().cipher, chacha)
  local info = connect(port, { ciphers = gcm }):tls()
  test.eq({ info.cipher, info.version }, { gcm, "TLSv1.2" })
  info = connect(port, { ciphers = chacha .. ":" .. gcm }):tls()
  test.eq({ info.cipher, info.version }, { chacha, "TLSv1.3" })
  info = connect(port, { ciphers = "HIGH:!aNULL" }):tls()
  test.eq(info.version, "TLSv1.3")
  local err = test.raises("TLSError", connect, serve({ ciphers = gcm }, echo), { ciphers = chacha })
  test.matches(err.code, "ALERT")
end)

-- ---- ALPN ---------------------------------------------------------------------------------------

test("the server's order of protocols decides", function()
  local seen = async.Queue()
  local port = serve({ alpn = { "h2", "http/1.1" } }, function(stream)
    seen:put(stream:tls().alpn or "none")
    echo(stream)
  end)
  test.eq(connect(port, { alpn = { "http/1.1", "h2" } }):tls().alpn, "h2")
  test.eq(seen:get(), "h2")
  test.eq(connect(port, { alpn = { "x", "http/1.1" } }):tls().alpn, "http/1.1")
  test.eq(seen:get(), "http/1.1")
  test.eq(connect(port):tls().alpn, nil)
  test.eq(seen:get(), "none")
end)

test("without a common protocol the client is refused", function()
  local port = serve({ alpn = { "h2" } }, echo)
  local err = test.raises("TLSError", connect, port, { alpn = { "http/1.1" } })
  test.eq(err.code, "TLSV1_ALERT_NO_APPLICATION_PROTOCOL")
end)

test("a server without protocols ignores those of the client", function()
  test.eq(connect(serve({}, echo), { alpn = { "h2" } }):tls().alpn, nil)
end)

-- ---- the rest -----------------------------------------------------------------------------------

test("a plain stream has no TLS", function()
  local client = support.pair()
  test.eq(client:tls(), nil)
end)

test("over a Unix socket the name has to be given", function()
  local path = test.tmpdir() .. "/socket"
  local listener = net.listen { path = path, tls = support.server_options() }
  local serving = async.spawn(listener.serve, listener, echo, { grace = 0 })
  local err = test.raises(".", net.connect, { path = path, tls = support.client_options() })
  test.contains(tostring(err), "bad argument 'server_name' to 'connect'")
  local stream = net.connect { path = path,
    tls = support.client_options { server_name = "localhost" } }
  stream:write "over a path"
  test.eq(stream:read(), "over a path")
  stream:close()
  listener:close(0)
  serving:await()
end)
