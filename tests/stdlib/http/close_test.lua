-- The end of a server, and what limits bring to an end.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local raw = require "stdlib.http.raw"

local GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

local function start(handler, options)
  options = options or {}
  options.handler = handler
  return select(2, raw.start(options))
end

local function hello() return "hello" end

-- A server whose handler tells that it has begun.
local function start_and_tell(handler)
  local begun = async.Event()
  local server = start(function(req)
    begun:set()
    return handler(req)
  end)
  return server, begun
end

local function refused(port)
  local e = test.raises("OSError", http.get, "http://127.0.0.1:" .. port .. "/")
  return e.code == "ECONNREFUSED"
end

-- ---- close --------------------------------------------------------------------------------------

test("close ends idle connections, and nobody can connect any more", function()
  local server = start(hello)
  local fresh, used = raw.connect(server.port), raw.connect(server.port)
  used:send(GET):read_response()
  server:close()
  test.eq({ fresh:read_all(), used:read_all() }, { "", "" })
  assert(refused(server.port))
end)

test("close answers what had been sent by then", function()
  local server = start(hello)
  local fresh, used = {}, {}
  for i = 1, 5 do
    used[i] = raw.connect(server.port)
    used[i]:send(GET):read_response()
  end
  -- Some are in the backlog, the bytes of others have not been read.
  for i = 1, 5 do
    fresh[i] = raw.connect(server.port):send(GET)
    used[i]:send(GET)
  end
  server:close()
  for i = 1, 5 do
    for _, peer in ipairs { fresh[i], used[i] } do
      test.matches(peer:read_response(), "^HTTP/1.1 200 OK.*\r\n\r\nhello$")
      test.eq(peer:read_all(), "")
    end
  end
end)

test("close waits for requests in progress, whose connections then end", function()
  local go_on = async.Event()
  local server, begun = start_and_tell(function()
    go_on:wait()
    return "hello"
  end)
  local peer = raw.connect(server.port):send(GET)
  begun:wait()
  local closer = async.spawn(server.close, server)
  test.turns()
  test.eq(closer:done(), false)
  assert(refused(server.port))
  go_on:set()
  test.contains(peer:read_response(), "\r\nConnection: close\r\n\r\nhello")
  test.eq(peer:read_all(), "")
  closer:await()
end)

test("close cancels what has not ended when the grace is over, and lets it clean up", function()
  local log = test.log()
  local server, begun = start_and_tell(function()
    async.finally(function() async.sleep(1000) end, function()
      async.sleep(0)
      log "cleaned up"
    end)
  end)
  local peer = raw.connect(server.port):send(GET)
  begun:wait()
  server:close(0.005)
  test.eq(log, { "cleaned up" })
  test.eq(peer:read_all(), "")
  test.eq(#test.reports(), 0)
end)

test("close without grace cancels at once", function()
  local server, begun = start_and_tell(function() async.sleep(1000) end)
  local peer = raw.connect(server.port):send(GET)
  begun:wait()
  server:close(0)
  test.eq(peer:read_all(), "")
end)

test("a request whose header is arriving is still answered", function()
  local server = start(hello)
  local peer = raw.connect(server.port):send "GET / HTTP/1.1\r\n"
  async.sleep(0.005)
  local closer = async.spawn(server.close, server)
  test.turns()
  peer:send "Host: a\r\n\r\n"
  test.contains(peer:read_response(), "\r\nConnection: close\r\n\r\nhello")
  closer:await()
end)

test("close may be called twice, and at once, and waits each time", function()
  local go_on = async.Event()
  local server, begun = start_and_tell(function()
    go_on:wait()
    return "hello"
  end)
  local peer = raw.connect(server.port):send(GET)
  begun:wait()
  local closers = { async.spawn(server.close, server), async.spawn(server.close, server) }
  test.turns()
  test.eq({ closers[1]:done(), closers[2]:done() }, { false, false })
  go_on:set()
  async.gather(closers)
  server:close()
  peer:read_all()
end)

test("a cancelled close closes without grace", function()
  local ended
  local server, begun = start_and_tell(function()
    async.finally(function() async.sleep(1000) end, function() ended = true end)
  end)
  raw.connect(server.port):send(GET)
  begun:wait()
  local closer = async.spawn(server.close, server)
  test.turns()
  closer:cancel()
  async.wait { closer }
  test.eq({ closer:cancelled(), ended }, { true, true })
end)

test("a handler may close its server, and its answer is still sent", function()
  local server
  server = start(function()
    server:close()
    return "bye"
  end)
  test.eq(http.get("http://127.0.0.1:" .. server.port):text(), "bye")
  server:wait()
  assert(refused(server.port))
end)

test("wait ends with the server; to cancel it leaves the server alone", function()
  local server = start(hello)
  local one, two = async.spawn(server.wait, server), async.spawn(server.wait, server)
  test.turns()
  one:cancel()
  async.wait { one }
  test.eq({ one:cancelled(), two:done() }, { true, false })
  test.eq(http.get("http://127.0.0.1:" .. server.port):text(), "hello")
  server:close()
  two:await()
  server:wait()
end)

test("a server in async.with is closed at its end", function()
  local port
  async.with(http.serve { handler = hello }, function(server)
    port = server.port
    test.eq(http.get("http://127.0.0.1:" .. port):text(), "hello")
  end)
  assert(refused(port))
end)

test("a server ends with the async.run that it was started under", function()
  local port, ended
  async.run(function()
    local begun = async.Event()
    local server = http.serve {
      handler = function()
        begun:set()
        async.finally(function() async.sleep(1000) end, function() ended = true end)
      end,
    }
    port = server.port
    raw.connect(port):send(GET)
    begun:wait()
  end)
  test.eq(ended, true)
  assert(refused(port))
end)

test("a program that ends with its server open ends", function()
  local result = test.script [[
    local async, http = require "rille.async", require "rille.http"
    local server = http.serve { handler = function() async.sleep(1000) end }
    async.spawn(pcall, http.get, "http://127.0.0.1:" .. server.port)
    async.sleep(0.01)
    print "end"
  ]]
  test.eq({ result.code, result.stdout, result.stderr }, { 0, "end\n", "" })
end)

test("wrong arguments of close are named", function()
  local server = start(hello)
  test.blames_caller("bad argument #1 to 'close'", function() server:close "now" end)
end)

-- ---- limits -------------------------------------------------------------------------------------

local function status_of(answer) return answer:match "^HTTP/1.1 (%d+ [^\r]*)\r\n" end

test("a header that is too large is refused, before all of it has come", function()
  local server = start(hello, { max_header_bytes = 1000 })
  local head = "GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n"
  local fitting = head:format(("x"):rep(1000 - #head + 2))
  test.eq(#fitting, 1000)
  test.eq(status_of(raw.answer(server.port, fitting)), "200 OK")
  test.eq(status_of(raw.answer(server.port, (fitting:gsub("X: ", "X: x")))),
    "431 Request Header Fields Too Large")
  local peer = raw.connect(server.port):send "GET / HTTP/1.1\r\nHost: a\r\nX: "
  async.sleep(0.002)
  peer:send(("x"):rep(1000))
  test.eq(status_of(peer:read_response()), "431 Request Header Fields Too Large")
  test.eq(peer:read_all(), "")
end)

test("too many header fields are refused", function()
  local server = start(hello, { max_headers = 3 })
  local function status_with(fields)
    local request = "GET / HTTP/1.1\r\nHost: a\r\n" .. fields .. "\r\n"
    return status_of(raw.answer(server.port, request))
  end
  test.eq(status_with "A: b\r\nA: b\r\n", "200 OK")
  test.eq(status_with "A: b\r\nA: b\r\nA: b\r\n", "431 Request Header Fields Too Large")
end)

test("a target that is too long is refused, before all of it has come", function()
  local server = start(hello, { max_target_bytes = 1000 })
  local request = "GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"
  test.eq(status_of(raw.answer(server.port, request:format(("x"):rep(999)))), "200 OK")
  test.eq(status_of(raw.answer(server.port, request:format(("x"):rep(1000)))), "414 URI Too Long")
  local peer = raw.connect(server.port):send("GET /" .. ("x"):rep(2000))
  test.eq(status_of(peer:read_response()), "414 URI Too Long")
end)

test("a body over the limit is refused before it has come, and not at the last byte", function()
  local server = start(hello, { max_body_bytes = 10 })
  local post = "POST / HTTP/1.1\r\nHost: a\r\n"
  test.eq(status_of(raw.answer(server.port, post .. "Content-Length: 10\r\n\r\n")), "200 OK")
  test.eq(status_of(raw.answer(server.port, post .. "Content-Length: 11\r\n\r\n")),
    "413 Content Too Large")
end)

test("a client that sends a refused body nevertheless gets to read the answer", function()
  local server = start(hello, { max_body_bytes = 10 })
  local size = 3000000
  local file = test.write(test.tmpdir() .. "/body", ("x"):rep(size))
  local command = "curl -sS -H Expect: -o /dev/null -w '%%{http_code}' -T %s http://127.0.0.1:%d/"
  local output = raw.run(command:format(file, server.port))
  test.matches(output, "^413")
end)

test("limits can be switched off", function()
  local server = start(function(req) return #req.target .. " " .. #req:body() end, {
    max_header_bytes = 0, max_headers = false, max_target_bytes = 0, max_body_bytes = false,
    max_collect_bytes = 0, header_timeout = 0, idle_timeout = false, body_timeout = 0,
    write_timeout = 0, max_connections = 0,
  })
  local bytes = "POST /" .. ("x"):rep(39999) .. " HTTP/1.1\r\nHost: a\r\n" .. ("A: b\r\n"):rep(200)
    .. "Content-Length: 2000000\r\n\r\n" .. ("x"):rep(2000000)
  test.matches(raw.answer(server.port, bytes), "40000 2000000$")
end)

test("who is slow with the header is told so, however busy he seems", function()
  local server = start(hello, { header_timeout = 0.05 })
  local peer = raw.connect(server.port)
  local drip = async.spawn(function()
    for c in ("GET / HTTP/1.1\r\nHost: abcdefghijklmnopqrstuvwxyz"):gmatch "." do
      peer:send(c)
      async.sleep(0.01)
    end
  end)
  test.eq(status_of(peer:read_response()), "408 Request Timeout")
  drip:cancel()
  peer:close()
  async.wait { drip }
end)

test("who says nothing is left without a word", function()
  local server = start(hello, { header_timeout = 0.02 })
  test.eq(raw.connect(server.port):read_all(), "")
  server = start(hello, { idle_timeout = 0.02 })
  local peer = raw.connect(server.port):send(GET)
  peer:read_response()
  test.eq(peer:read_all(), "")
end)

test("a body that takes too long is a 408, however it drips", function()
  local server = start(function(req) return req:body() end, { body_timeout = 0.05 })
  local peer = raw.connect(server.port)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"
  local drip = async.spawn(function()
    for _ = 1, 50 do
      peer:send "x"
      async.sleep(0.01)
    end
  end)
  local answer = peer:read_response()
  test.eq(status_of(answer), "408 Request Timeout")
  test.contains(answer, "Connection: close")
  drip:cancel()
  peer:close()
  async.wait { drip }
end)

test("the time that a handler takes is not the body's", function()
  local server = start(function(req)
    async.sleep(0.06)
    return req:body()
  end, { body_timeout = 0.03, header_timeout = 0.03, idle_timeout = 0.03 })
  local peer = raw.connect(server.port)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
  test.matches(peer:read_response(), "hello$")
end)

test("a peer that does not read its answer is left in the end", function()
  local answered = async.Event()
  local server = start(function()
    answered:set()
    return ("x"):rep(20000000)
  end, { write_timeout = 0.05 })
  local peer = raw.connect(server.port):send(GET)
  answered:wait()
  while next(server._children) do async.sleep(0.005) end
  assert(#peer:read_until "never" < 20000000)
  test.eq(#test.reports(), 0)
end)

test("connections over the limit wait until others have ended", function()
  local server = start(hello, { max_connections = 2 })
  local peers = {}
  for i = 1, 5 do peers[i] = raw.connect(server.port):send(GET) end
  test.matches(peers[1]:read_response(), "hello$")
  test.matches(peers[2]:read_response(), "hello$")
  async.sleep(0.02)
  test.eq(server._count, 2)
  for i = 3, 5 do
    peers[i - 2]:close()
    test.matches(peers[i]:read_response(), "hello$")
  end
end)

test("a loop that was held up does not count against who has sent in time", function()
  local server = start(hello, { header_timeout = 0.2 })
  local peer = raw.connect(server.port):send "GET / HTTP/1.1\r\n"
  async.sleep(0.005)
  peer:send "Host: a\r\n\r\n"
  local till = async.time() + 0.4
  while async.time() < till do end
  test.matches(peer:read_response(), "hello$")
end)

-- ---- many, and nothing left ---------------------------------------------------------------------

test("a thousand connections at once, and none is left", { limit = 4 }, function()
  local before = raw.open_files()
  local server = start(function(req) return req.path end)
  local peers = {}
  for i = 1, 1000 do peers[i] = raw.connect(server.port) end
  for i = 1, 1000 do peers[i]:send(("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i)) end
  for i = 1, 1000 do test.matches(peers[i]:read_response(), "/" .. i .. "$") end
  assert(raw.open_files() >= before + 2000)
  for i = 1, 1000 do peers[i]:close() end
  server:close()
  raw.open_files(before)
end)

test("a thousand connections in progress end with their server", { limit = 4 }, function()
  local before = raw.open_files()
  local begun, cleaned = 0, 0
  local server = start(function()
    begun = begun + 1
    async.finally(function() async.sleep(1000) end, function() cleaned = cleaned + 1 end)
  end)
  local peers = {}
  for i = 1, 1000 do peers[i] = raw.connect(server.port):send(GET) end
  while begun < 1000 do async.sleep(0.001) end
  server:close(0)
  test.eq(cleaned, 1000)
  for i = 1, 1000 do
    test.eq(peers[i]:read_all(), "")
    peers[i]:close()
  end
  raw.open_files(before)
end)

test("requests that are cut off anywhere leave nothing behind", function()
  local before = raw.open_files()
  local server = start(function(req) return req:body() end)
  local whole = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    .. "5\r\nhello\r\n0\r\n\r\n"
  for i = 0, #whole do
    local peer = raw.connect(server.port):send(whole:sub(1, i))
    async.sleep(0)
    if i % 2 == 0 then peer:close() else peer:abort() end
  end
  test.matches(raw.answer(server.port, whole), "hello$")
  server:close()
  test.eq(#test.reports(), 0)
  raw.open_files(before + 1) -- the last peer's
end)

test("a server that has run out of descriptors goes on when there are some again", function()
  local script = [[
    local http, async, net = require "rille.http", require "rille.async", require "rille.net"
    local server = http.serve { handler = function() return "hello" end }
    local sockets = {}
    for _ = 1, 100 do
      local ok, socket = pcall(net.connect, { host = "127.0.0.1", port = server.port })
      if not ok then break end
      sockets[#sockets + 1] = socket
    end
    print(#sockets > 5 and #sockets < 60)
    for _, socket in ipairs(sockets) do socket:close() end
    async.sleep(0.02)
    print(http.get("http://127.0.0.1:" .. server.port):text())
  ]]
  local result = test.rille({ "-e", script }, { prefix = "prlimit --nofile=64" })
  test.eq({ result.code, result.stdout, result.stderr }, { 0, "true\nhello\n", "" })
end)

test("garbage is refused, and the server goes on", function()
  math.randomseed(1)
  local server = start(hello)
  for _ = 1, 300 do
    local bytes = {}
    for i = 1, math.random(200) do bytes[i] = string.char(math.random(0, 255)) end
    local peer = raw.connect(server.port):send(table.concat(bytes) .. "\r\n\r\n")
    test.matches(peer:read_all(), "^HTTP/1.1 [45]%d%d ")
    peer:close()
  end
  test.eq(http.get("http://127.0.0.1:" .. server.port):text(), "hello")
end)
