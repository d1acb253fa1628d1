-- The client's HTTP/2: opposite nghttpd and node, and a server that says whatever it is told to.
local async, test = require "rille.async", require "support.test"
local http, net, process = require "rille.http", require "rille.net", require "rille.process"
local tls = require "support.tls"
local frames = require "stdlib.http.client_frames"

local function has(command)
  return os.execute("command -v " .. command .. " > /dev/null 2>&1") == 0
end

local function peer_test(command, name, fn)
  if has(command) then return test(name, { limit = 10 }, fn) end
  print("# skipped: " .. command .. " is not there: " .. name)
end

local function session(options)
  options = options or {}
  if options.http2 == nil then options.http2 = "prior" end
  local s = http.Session(options)
  test.defer(function() s:close() end)
  return s
end

local function free_port()
  local listener = net.listen { port = 0 }
  local port = listener:address().port
  listener:close()
  return port
end

-- Starts a program that listens on a port, and ends it with the test.
local function start(port, options)
  local child = process.spawn(options)
  test.defer(function()
    child:kill "SIGKILL"
    child:wait()
  end)
  for _ = 1, 500 do
    local ok, stream = pcall(net.connect, { host = "127.0.0.1", port = port })
    if ok then return stream:close() end
    async.sleep(0.01)
  end
  error("it does not listen: " .. options[1], 0)
end

-- ---- nghttpd ------------------------------------------------------------------------------------

local BIG = ("0123456789abcdef"):rep(200000)

local function plain_nghttpd()
  local dir, port = test.tmpdir(), free_port()
  test.write(dir .. "/index.html", "hello")
  test.write(dir .. "/big", BIG)
  start(port, { "nghttpd", "-d", dir, "--echo-upload", "--no-tls", tostring(port),
    stdout = "null", stderr = "null" })
  return "http://127.0.0.1:" .. port
end

local function tls_nghttpd()
  local dir, port = test.tmpdir(), free_port()
  test.write(dir .. "/index.html", "hello")
  test.write(dir .. "/big", BIG)
  start(port, { "nghttpd", "-d", dir, "--echo-upload", tostring(port), tls.server.key,
    tls.server.cert, stdout = "null", stderr = "null" })
  return "https://localhost:" .. port
end

peer_test("nghttpd", "nghttpd: bodies both ways, whole and in pieces", function()
  local base, s = plain_nghttpd(), session()
  local response = s:get(base .. "/index.html")
  test.eq({ response.status, response.reason, response.version, response:text() },
    { 200, "OK", "2.0", "hello" })
  test.contains(response.headers.Server, "nghttpd")
  test.eq(s:head(base .. "/index.html").headers["content-length"], "5")
  test.eq(s:get(base .. "/none").status, 404)
  test.eq(s:get(base .. "/big"):bytes() == BIG, true)
  local size = 0
  for piece in s:get(base .. "/big", { stream = true }):chunks() do size = size + #piece end
  test.eq(size, #BIG)
  test.eq(s:post(base .. "/echo", { body = BIG }):bytes() == BIG, true)
  local n = 0
  response = s:post(base .. "/echo", { body = function()
    n = n + 1
    async.sleep(0)
    if n <= 50 then return BIG:sub(1, 50000) end
  end })
  test.eq(#response:bytes(), 50 * 50000)
  test.eq(s:post(base .. "/echo", { form = { a = "1" } }):text(), "a=1")
  test.eq(s:post(base .. "/echo", { body = "" }):text(), "")
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
end)

peer_test("nghttpd", "nghttpd: over TLS it is chosen, and many requests share it", function()
  local base = tls_nghttpd()
  local options = { tls = { ca = tls.ca.path }, http2 = true, limit = 300 }
  local s = session(options)
  local all = {}
  for i = 1, 300 do all[i] = i end
  local got = async.map(all, function() return s:get(base .. "/index.html").version end)
  for i = 1, 300 do test.eq(got[i], "2.0") end
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
  test.eq(s:get(base .. "/big"):bytes() == BIG, true)

  local plain = http.Session { tls = { ca = tls.ca.path } }
  test.eq(plain:get(base .. "/index.html").version, "2.0")
  plain:close()
  s = session { tls = { ca = tls.ca.path, alpn = { "h2" } }, http2 = true }
  test.eq(s:get(base .. "/index.html").version, "2.0")
end)

peer_test("nghttpd", "nghttpd: a cancelled request leaves the connection to others", function()
  local base, s = plain_nghttpd(), session()
  for _ = 1, 20 do
    local big = async.spawn(s.get, s, base .. "/big")
    local other = async.spawn(s.get, s, base .. "/big")
    async.sleep(0.001)
    big:cancel()
    async.wait { big }
    test.eq(#other:await():bytes(), #BIG)
  end
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
end)

-- ---- the shapes of responses --------------------------------------------------------------------

-- A server that handles the first connection with `fn(peer)`, answers "again" on others.
local function serve(fn, settings)
  return frames.serve(function(peer)
    if peer.number == 1 then return fn(peer) end
    for id in peer.request, peer do peer:answer(id, "again") end
  end, settings)
end

test("a response has cookies, repeated fields, trailers, interim ones before it", function()
  local base = frames.serve(function(peer)
    for id in peer.request, peer do
      peer:head(id, 4, "103", { "link", "x" }):head(id, 4, "100")
      peer:head(id, 4, "207", { "set-cookie", "a=1", "set-cookie", "b=2", "x", "1", "x", "2" })
      peer:send("DATA", 0, id, "hel"):send("DATA", 0, id, "lo")
      peer:send("HEADERS", 5, id, frames.block { "checksum", "1" })
    end
  end)
  local s = session()
  local response = s:get(base .. "/p?q")
  test.eq({ response.status, response.reason, response.version, response:text(), response.ok },
    { 207, "Multi-Status", "2.0", "hello", true })
  test.eq({ response.headers.X, response.cookies }, { "1, 2", { a = "1", b = "2" } })
  test.eq(response.headers:get_all "set-cookie", { "a=1", "b=2" })
  response = s:get(base, { stream = true })
  test.eq({ response.status, response:bytes() }, { 207, "hello" })
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
end)

test("redirects go on over the same connection, cookies too", function()
  local got = {}
  local base, connections = frames.serve(function(peer)
    for _ = 1, 2 do
      local f = peer:wait_for "HEADERS"
      got[#got + 1] = f.payload
      if #got == 1 then
        peer:head(f.id, 5, "302", { "location", "/there", "set-cookie", "k=v" })
      else
        peer:answer(f.id, "arrived")
      end
    end
    peer:read()
  end)
  local s = session()
  local response = s:get(base .. "/here")
  test.eq({ response:text(), response.url, #response.history, connections() },
    { "arrived", base .. "/there", 1, 1 })
  test.eq(s.cookies:get "k", "v")
end)

local bad = {
  { "malformed response", function(p, id) p:send("HEADERS", 5, id, frames.block { "a", "b" }) end },
  { "malformed response", function(p, id) p:head(id, 5, "200", { "A", "b" }) end },
  { "malformed response", function(p, id) p:head(id, 5, "200", { "a", "b\r\nc" }) end },
  { "malformed response", function(p, id) p:head(id, 5, "200", { "connection", "close" }) end },
  { "malformed response", function(p, id) p:head(id, 5, "20x") end },
  { "malformed response", function(p, id) p:head(id, 4, "200", { "content-length", "9" })
    p:send("DATA", 1, id, "short") end },
  { "malformed response", function(p, id) p:head(id, 4, "101") end },
  { "header too large", function(p, id)
    local list = {}
    for i = 1, 80 do
      list[2 * i - 1], list[2 * i] = "x-" .. i, ("y"):rep(1000)
    end
    local block = frames.block { ":status", "200", unpack(list) }
    p:send("HEADERS", 1, id, block:sub(1, 16000))
    for at = 16001, #block, 16000 do
      p:send("CONTINUATION", at + 16000 > #block and 4 or 0, id, block:sub(at, at + 15999))
    end
  end },
  { "too many header fields", function(p, id)
    local list = {}
    for i = 1, 1100 do list[2 * i - 1], list[2 * i] = "a", "" end
    p:head(id, 5, "200", list)
  end },
  { "too many interim responses", function(p, id)
    for _ = 1, 101 do p:head(id, 4, "103") end
  end },
  { "the server reset the stream: INTERNAL_ERROR", function(p, id) p:reset(id, 2) end },
  { "the server reset the stream: ENHANCE_YOUR_CALM", function(p, id)
    p:head(id, 4, "200"):reset(id, 11)
  end },
  { "the connection was closed in the middle of the response", function(p, id)
    p:head(id, 4, "200"):send("DATA", 0, id, "x"):reset(id, 0)
  end },
}

test("a bad response is an HTTPError that says how, and the connection goes on", function()
  for _, case in ipairs(bad) do
    local message, misbehave = case[1], case[2]
    local base, connections = frames.serve(function(peer)
      misbehave(peer, peer:request())
      for id in peer.request, peer do peer:answer(id, "well") end
    end)
    local s = session()
    local e = test.raises("HTTPError", s.get, s, base .. "/x")
    test.eq({ e.message, e.url }, { message .. ": GET " .. base .. "/x", base .. "/x" })
    test.eq({ s:get(base):text(), connections() }, { "well", 1 }, message)
  end
end)

local broken = {
  function(p) p:bytes "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" end,
  function(p) p:bytes(("\0"):rep(1000)) end,
  function(p) p:send("DATA", 0, 0, "x") end,
  function(p)
    p:send("PUSH_PROMISE", 4, 1, frames.be(2, 4) .. frames.block { ":method", "GET" })
  end,
  function(p) p:send("HEADERS", 5, 1, "\255\255\255\255\255\255") end,
  function(p) p:send("HEADERS", 5, 7, frames.block { ":status", "200" }) end,
  function(p) p:send("WINDOW_UPDATE", 0, 0, frames.be(0, 4)) end,
  function(p)
    for _ = 1, 3 do p:send("WINDOW_UPDATE", 0, 0, frames.be(0x7fffffff, 4)) end
  end,
  function(p) p:settings { 4, 0xffffffff } end,
  function(p) p:send("RST_STREAM", 0, 9, frames.be(0, 4)) end,
  function(p) p:send("CONTINUATION", 4, 1, "") end,
  function(p) p:head(1, 4):send("DATA", 0, 1, ("x"):rep(20000)) end,
}

test("a server that breaks the rules of the connection ends it", function()
  for i, misbehave in ipairs(broken) do
    local base = serve(function(peer)
      peer:request()
      misbehave(peer)
      while peer:read() do end
    end)
    local s = session()
    local e = test.raises("HTTPError", s.get, s, base)
    test.eq(e.message, "the server broke the rules of HTTP/2: GET " .. base .. "/", "case " .. i)
    test.eq(s:get(base):text(), "again")
  end
end)

test("frames that cost a server nothing are not taken without end", function()
  local floods = {
    frames.frame("PING", 0, 0, "12345678"), frames.frame("SETTINGS", 0, 0, ""),
    frames.frame("DATA", 0, 1, ""),
  }
  for _, frame in ipairs(floods) do
    local base = serve(function(peer)
      peer:head(peer:request(), 4)
      for _ = 1, 100 do peer:bytes(frame:rep(100)) end
      while peer:read() do end
    end)
    local s = session()
    local e = test.raises("HTTPError", s.get, s, base)
    test.contains(e.message, "too many frames that say nothing")
    test.eq(s:get(base):text(), "again")
  end
end)

test("a body over max_body is given up, and its stream with it", function()
  local code
  local base = frames.serve(function(peer)
    local id = peer:request()
    peer:head(id, 4):send("DATA", 0, id, ("x"):rep(60)):send("DATA", 0, id, ("x"):rep(60))
    code = peer:wait_for("RST_STREAM").code
    peer:answer(peer:request(), "well")
    peer:read()
  end)
  local s = session { max_body = 100 }
  test.contains(test.raises("HTTPError", s.get, s, base).message, "body too large")
  test.eq({ s:get(base):text(), code }, { "well", 8 })
end)
