-- Servers on other transports than plain TCP, and what `serve` can be told.
local async, test = require "rille.async", require "support.test"
local http, net = require "rille.http", require "rille.net"
local fs = require "rille.fs"
local raw = require "stdlib.http.raw"
local tls = require "support.tls"

local GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
local CLOSING = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

local function start(options, handler)
  options.handler = handler or function() return "hello" end
  local server = http.serve(options)
  test.defer(function() server:close(0) end)
  return server
end

local function exchange(stream, bytes)
  stream:write(bytes)
  local parts = {}
  while true do
    local data = stream:read()
    if not data then return table.concat(parts) end
    parts[#parts + 1] = data
  end
end

-- ---- Unix sockets -------------------------------------------------------------------------------

test("a server on a Unix socket, whose file goes with it", function()
  local path = test.tmpdir() .. "/s"
  local server = start({ path = path }, function(req)
    return ("%s %s %s"):format(tostring(req.remote), req.peer.family, req.scheme)
  end)
  test.eq({ server.path, server.port, tostring(server) }, { path, nil, "Server: " .. path })
  local stream = net.connect { path = path }
  test.matches(exchange(stream, CLOSING), "nil unix http$")
  stream:close()
  test.eq(raw.run("curl -sS --unix-socket " .. path .. " http://x/"), "nil unix http")
  server:close()
  test.eq(fs.exists(path), false)
end)

test("an abstract socket, and paths that are none", function()
  local name = "@rille-http-" .. tostring(os.time()) .. tostring({}):sub(-6)
  start { path = name }
  local stream = net.connect { path = name }
  test.matches(exchange(stream, CLOSING), "hello$")
  stream:close()
  local function ok() return 200 end
  local e = test.raises("OSError", http.serve, { handler = ok, path = "/nowhere/at/all" })
  test.eq({ e.code, e.path }, { "ENOENT", "/nowhere/at/all" })
  test.blames_caller("either 'path' or 'port' expected, got both",
    function() http.serve { handler = ok, path = "/x", port = 1 } end)
  test.blames_caller("'path' to 'serve' (path expected, got number)",
    function() http.serve { handler = ok, path = 1 } end)
end)

-- ---- TLS ----------------------------------------------------------------------------------------

local function connect(server, options)
  return tls.connect(server.port, options)
end

test("a server over TLS: keep-alive, large bodies both ways, the end in order", function()
  local server = start({ tls = tls.server_options() }, function(req)
    return req.scheme .. #req:body() .. ("x"):rep(300000)
  end)
  local stream = connect(server)
  local body = ("y"):rep(500000)
  local request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n"
  local answer = exchange(stream, ("%s\r\n%s%sConnection: close\r\n\r\n%s"):format(request, body,
    request, body))
  local _, count = answer:gsub("https500000x", "")
  test.eq({ count, #answer:match "https500000(x+)$" }, { 2, 300000 })
end)

test("TLS: http/1.1 is chosen by ALPN, and a stranger's handshake is nothing to report", function()
  local server = start { tls = tls.server_options() }
  local stream = connect(server, { alpn = { "h9", "http/1.1" } })
  test.eq(stream:tls().alpn, "http/1.1")
  test.matches(exchange(stream, CLOSING), "hello$")
  test.raises("TLSError", connect, server, { alpn = { "h9" } })
  local plain = net.connect { host = "127.0.0.1", port = server.port }
  plain:write(GET)
  pcall(plain.read, plain)
  plain:close()
  plain = net.connect { host = "127.0.0.1", port = server.port }
  plain:close()
  test.matches(exchange(connect(server), CLOSING), "hello$")
  server:close()
  test.eq(#test.reports(), 0)
end)

test("TLS: streams, files, and a server that closes while somebody shakes hands", function()
  local path = test.write(test.tmpdir() .. "/f", ("x"):rep(1000000))
  local server = start({ tls = tls.server_options() }, function(req)
    if req.path == "/file" then return http.response { file = path } end
    local n = 0
    return http.response { stream = function()
      n = n + 1
      return n <= 100 and ("x"):rep(10000) or nil
    end }
  end)
  local stream = connect(server)
  local answer = exchange(stream, "GET /file HTTP/1.1\r\nHost: a\r\n\r\n" .. CLOSING)
  local _, count = answer:gsub("x", "")
  test.eq(count, 2000000)
  local idle = connect(server)
  local slow = net.connect { host = "127.0.0.1", port = server.port }
  async.sleep(0.01)
  server:close()
  test.eq(idle:read(), nil)
  slow:close()
end)

test("TLS: what is wrong with certificates is raised by serve", function()
  local function ok() return 200 end
  test.blames_caller("a server needs the options 'cert' and 'key'",
    function() http.serve { handler = ok, tls = {} } end)
  test.blames_caller("bad argument 'tls' to 'serve'",
    function() http.serve { handler = ok, tls = 1 } end)
  test.raises("OSError", http.serve, { handler = ok, tls = { cert = "/no/such", key = "/file" } })
end)

test("curl over TLS", function()
  local server = start { tls = tls.server_options() }
  local url = "https://localhost:" .. server.port .. "/"
  local output, status = raw.run(("curl -sS --http1.1 --cacert %s %s %s"):format(tls.ca.path, url,
    url))
  test.eq({ output, status }, { "hellohello", 0 })
end)

-- ---- what serve can be told ---------------------------------------------------------------------

test("max_requests ends a connection after so many", function()
  local server = start { max_requests = 2 }
  local peer = raw.connect(server.port):send(GET .. GET .. GET)
  local text = peer:read_all()
  local _, count = text:gsub("HTTP/1.1 200", "")
  test.eq(count, 2)
  test.matches(text, "Connection: close\r\n\r\nhello$")
end)

test("handler_timeout cancels a handler and answers 503", function()
  local cleaned = false
  local server = start({ handler_timeout = 0.01 }, function(req)
    if req.path == "/fast" then return "fast" end
    async.finally(function() async.sleep(1000) end, function() cleaned = true end)
  end)
  local peer = raw.connect(server.port):send(GET)
  test.matches(peer:read_response(), "^HTTP/1.1 503 .*Service Unavailable$")
  test.eq(cleaned, true)
  test.contains(tostring(test.reports()[1].error), "the handler took longer than 0.01 s")
  peer:send "GET /fast HTTP/1.1\r\nHost: a\r\n\r\n"
  test.matches(peer:read_response(), "fast$")
end)

test("cancel_on_disconnect cancels a handler whose client has gone", function()
  local begun, ended = async.Event(), async.Event()
  local server = start({ cancel_on_disconnect = true }, function(req)
    if req.path == "/fast" then return "fast" end
    begun:set()
    async.finally(function() async.sleep(1000) end, function() ended:set() end)
  end)
  for _, how in ipairs { "close", "abort" } do
    local peer = raw.connect(server.port):send(GET)
    begun:wait()
    peer[how](peer)
    ended:wait()
    begun:clear()
    ended:clear()
  end
  test.matches(raw.answer(server.port, "GET /fast HTTP/1.1\r\nHost: a\r\n\r\n"), "fast$")
  server:close()
  test.eq(#test.reports(), 0)
end)

test("without it a handler goes on although its client has gone", function()
  local begun, go_on, done = async.Event(), async.Event(), false
  local server = start({}, function()
    begun:set()
    go_on:wait()
    done = true
    return "x"
  end)
  local peer = raw.connect(server.port):send(GET)
  begun:wait()
  peer:abort()
  async.sleep(0.005)
  go_on:set()
  server:close()
  test.eq(done, true)
end)

test("an access log gets a record of each answer", function()
  local records = {}
  local server = start({ access_log = function(r) records[#records + 1] = r end }, function(req)
    if req.path == "/error" then error "x" end
    if req.path == "/stream" then
      local n = 0
      return http.response { stream = function()
        n = n + 1
        return n < 3 and "abc" or nil
      end }
    end
    return "hello"
  end)
  local peer = raw.connect(server.port)
  for _, path in ipairs { "/?a=b", "/error", "/stream" } do
    peer:send("GET " .. path .. " HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nReferer: there\r\n\r\n")
    peer:read_until(path == "/stream" and "0\r\n\r\n" or "r")
  end
  peer:send("HEAD / HTTP/1.0\r\n\r\n"):read_all()
  test.reports()
  local list = {}
  for i, r in ipairs(records) do
    list[i] = ("%s %s %s %s %d %d"):format(r.remote, r.method, r.target, r.version, r.status,
      r.bytes)
    assert(r.duration >= 0 and r.time > 1e9 and #r.id > 0)
  end
  test.eq(list, { "127.0.0.1 GET /?a=b 1.1 200 5", "127.0.0.1 GET /error 1.1 500 21",
    "127.0.0.1 GET /stream 1.1 200 6", "127.0.0.1 HEAD / 1.0 200 5" })
  test.eq({ records[1].path, records[1].user_agent, records[1].referer }, { "/", "me", "there" })
end)

test("the access log has what was refused, with what is known of it", function()
  local records = {}
  local server = start({
    access_log = function(r) records[#records + 1] = r end,
    max_header_bytes = 200, max_target_bytes = 100, header_timeout = 0.05,
  }, function() return "hello" end)
  local function send(bytes)
    local peer = raw.connect(server.port):send(bytes)
    peer:read_all()
    peer:close()
  end
  send "GET / HTTP/1.1\r\n\r\n"
  send "GET /a HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n"
  send("GET /" .. ("x"):rep(300) .. " HTTP/1.1\r\n")
  send("GET / HTTP/1.1\r\nHost: a\r\nX: " .. ("x"):rep(300))
  send "GET / HTTP/3.0\r\n\r\n"
  send "GET / HTTP/1.1\r\nHo"
  local list = {}
  for i, r in ipairs(records) do
    test.eq({ r.remote, r.duration == 0 and r.line == nil }, { "127.0.0.1", false })
    list[i] = ("%s %s %s %d %d"):format(r.method, r.target, r.version, r.status, r.bytes)
  end
  test.eq(list, {
    "GET / 1.1 400 27", "GET /a 1.1 200 5", "nil nil nil 400 36",
    "nil nil nil 414 30", "GET / 1.1 431 50", "GET / 3.0 505 71", "GET / 1.1 408 42",
  })
  test.eq({ records[3].line, #records[4].line }, { "nonsense", 164 })
end)

-- What a server with access_log=true writes to stderr about a request of these bytes.
local function logged(bytes)
  return test.script([[
    local http, net = require "rille.http", require "rille.net"
    local server = http.serve { access_log = true, handler = function() return "hello" end }
    local c = net.connect { host = "127.0.0.1", port = server.port }
    c:write(]] .. ("%q"):format(bytes) .. [[)
    while c:read() do end
    server:close()
  ]]).stderr
end

test("access_log=true writes refused requests too", function()
  test.matches(logged 'NON"SENSE\1\r\n\r\n',
    '^127.0.0.1 %[[^%]]+%] "NON\\x22SENSE\\x01" 400 36 0.000000 %-\n$')
end)

test("access_log=true writes lines to stderr, of which nobody can make two", function()
  test.matches(logged 'GET /"x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    '^127.0.0.1 %[[^%]]+%] "GET /\\x22x HTTP/1.1" 200 5 [%d.]+ %S+\n$')
end)

test("each request has an id of its own", function()
  local server = start({}, function(req)
    local id = req.id
    return req.id == id and id or "changed"
  end)
  local one, two = raw.answer(server.port, GET), raw.answer(server.port, GET)
  assert(one:match "\r\n\r\n(%S+)$" ~= two:match "\r\n\r\n(%S+)$")
end)

test("forwarded fields count only if they come from a trusted proxy", function()
  local trusted
  local function answer(fields)
    local server = start({ trusted_proxies = trusted }, function(req)
      return ("%s %s %s"):format(req.remote, req.scheme, req.host)
    end)
    local text = raw.answer(server.port, "GET / HTTP/1.1\r\nHost: a:80\r\n" .. fields .. "\r\n")
    server:close()
    return text:match "\r\n\r\n(.*)$"
  end
  local fields = "X-Forwarded-For: 9.9.9.9, 10.1.2.3, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n"
    .. "X-Forwarded-Host: b\r\n"
  test.eq(answer(fields), "127.0.0.1 http a:80")
  trusted = { "10.0.0.0/8" }
  test.eq(answer(fields), "127.0.0.1 http a:80")
  trusted = { "127.0.0.1", "10.0.0.0/16" }
  test.eq(answer(fields), "10.1.2.3 https b")
  trusted = { "127.0.0.0/8", "10.0.0.0/8", "::1" }
  test.eq(answer(fields), "9.9.9.9 https b")
  test.eq(answer "X-Forwarded-For: nonsense, [2001:db8::1]:99\r\n", "2001:db8::1 http a:80")
  trusted = true
  test.eq(answer "X-Forwarded-Proto: gopher\r\n", "127.0.0.1 http a:80")
  local function ok() return 200 end
  test.blames_caller("'1.2.3' is no address or network",
    function() http.serve { handler = ok, trusted_proxies = { "1.2.3" } } end)
end)

test("reuse_port: two servers share a port", function()
  local one = start { reuse_port = true }
  local two = start { reuse_port = true, port = one.port }
  test.eq(two.port, one.port)
  for _ = 1, 10 do test.matches(raw.answer(one.port, CLOSING), "hello$") end
  test.raises("OSError", start, { port = one.port })
end)

test("another protocol can take a connection over", function()
  local told
  local server = start({}, function(req)
    test.raises("'Upgrade' has a value", req.upgrade, req, { Upgrade = print })
    local stream = req:upgrade({ Upgrade = "echo" }, function(reason) told = reason end)
    test.raises("InvalidStateError", req.upgrade, req, { Upgrade = "echo" })
    stream:write("got ", stream:read())
    while true do
      local data = stream:read()
      if not data then return end
      stream:write(data)
    end
  end)
  local peer = raw.connect(server.port)
  peer:send(GET:gsub("\r\n\r\n$", "\r\nUpgrade: echo\r\n\r\n") .. "early")
  test.eq(peer:read_until "\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\n"
    .. "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n")
  test.eq(peer:read_until "early", "got early")
  peer:send "more"
  test.eq(peer:read_until "more", "more")
  local closer = async.spawn(server.close, server)
  test.turns()
  test.eq({ told, closer:done() }, { "the server is closed", false })
  peer:finish()
  test.eq(peer:read_all(), "")
  closer:await()
end)

test("wrong options are named", function()
  local function ok() return 200 end
  test.blames_caller("'reuse_port' to 'serve' (boolean expected, got number)",
    function() http.serve { handler = ok, reuse_port = 1 } end)
  test.blames_caller("'access_log' to 'serve' (boolean or function expected, got string)",
    function() http.serve { handler = ok, access_log = "x" } end)
  test.blames_caller("'handler_timeout' to 'serve'",
    function() http.serve { handler = ok, handler_timeout = "x" } end)
  test.blames_caller("'cancel_on_disconnect' to 'serve'",
    function() http.serve { handler = ok, cancel_on_disconnect = 1 } end)
end)
