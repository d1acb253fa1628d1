-- The client's HTTP/2: opposite nghttpd and our own server.
local async, test = require "rille.async", require "support.test"
local http, net, process = require "rille.http", require "rille.net", require "rille.process"
local tls = require "support.tls"
local raw = require "stdlib.http.raw"

if not require("stdlib.http.frames").are_spoken() then return end

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

-- Fails if the session does not come to rest with one connection.
local function wait_for_idle(s)
  local idle = "Session: 0 connections in use, 1 idle"
  for _ = 1, 500 do
    if tostring(s) == idle then return end
    async.sleep(0.002)
  end
  test.eq(tostring(s), idle)
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

-- ---- our own server, and ways to it -------------------------------------------------------------

local function own_server(options)
  options.handler = options.handler or function(req)
    return 200, req:body(), { ["X-Version"] = req.version, ["X-Seen"] = req.headers["x-a"] or "" }
  end
  local server = http.serve(options)
  test.defer(function() server:close(0) end)
  return server
end

test("HTTP/2 is the default where a server of https chooses it, and can be left out", function()
  local server = own_server { tls = tls.server_options() }
  local url = ("https://localhost:%d/"):format(server.port)
  local trust = { ca = tls.ca.path }
  for _, case in ipairs {
    { {}, "2.0" }, { { http2 = true }, "2.0" }, { { http2 = "prior" }, "2.0" },
    { { http2 = false }, "1.1" },
  } do
    case[1].tls = trust
    local s = http.Session(case[1])
    local response = s:post(url, { body = "text", headers = { ["X-A"] = "b" } })
    test.eq({ response.version, response.headers["x-version"], response:text(),
      response.headers["x-seen"] }, { case[2], case[2], "text", "b" })
    s:close()
  end
  test.eq(http.get(url, { tls = trust }).version, "2.0")
  local only = own_server { tls = tls.server_options { alpn = { "http/1.1" } }, http2 = false }
  local s = session { tls = trust, http2 = true }
  local list = {}
  for i = 1, 5 do list[i] = ("https://localhost:%d/%d"):format(only.port, i) end
  local got = async.map(list, function(u) return s:get(u).version end)
  for i = 1, 5 do test.eq(got[i], "1.1") end
end)

test("http goes by HTTP/1.1 unless the script knows better", function()
  local server = own_server {}
  local url = ("http://127.0.0.1:%d/"):format(server.port)
  test.eq(http.get(url).version, "1.1")
  test.eq(session({ http2 = true }):get(url).version, "1.1")
  test.eq(session():get(url).version, "2.0")
  local path = test.tmpdir() .. "/s"
  own_server { path = path }
  local s = session { path = path }
  test.eq({ s:get("http://name/").version, s:get("http://name/x").version }, { "2.0", "2.0" })
end)

test("through the tunnel of a proxy HTTP/2 is chosen too", function()
  local server = own_server { tls = tls.server_options() }
  local asked = {}
  local proxy = net.listen { port = 0 }
  local task = async.spawn(proxy.serve, proxy, function(stream)
    asked[#asked + 1] = stream:read_until("\r\n\r\n"):match "^[^\r]+"
    local to = net.connect { host = "127.0.0.1", port = server.port }
    stream:write "HTTP/1.1 200 Here\r\n\r\n"
    async.group(function(g)
      g:spawn(function()
        for bytes in function() return to:read() end do stream:write(bytes) end
        stream:close()
      end)
      for bytes in function() return stream:read() end do to:write(bytes) end
      to:close()
    end)
  end)
  local s = session { tls = { ca = tls.ca.path }, http2 = true,
    proxy = "http://127.0.0.1:" .. proxy:address().port }
  for i = 1, 3 do
    test.eq(s:get(("https://localhost:%d/%d"):format(server.port, i)).version, "2.0")
  end
  test.eq(asked, { ("CONNECT localhost:%d HTTP/1.1"):format(server.port) })
  s:close()
  proxy:close(0)
  pcall(task.await, task)
end)

test("bodies stream both ways, with a handler that answers while it reads", function()
  local server = own_server { handler = function(req)
    local pieces = req:chunks()
    return http.response { stream = function()
      local ok, piece = pcall(pieces)
      return ok and piece or nil -- the client may give up
    end }
  end, max_body_bytes = 0 }
  local url = ("http://127.0.0.1:%d/"):format(server.port)
  local s = session()
  local n = 0
  local function body()
    n = n + 1
    async.sleep(0)
    if n <= 500 then return ("x"):rep(10000) end
  end
  test.eq(#s:post(url, { body = body }):bytes(), 5000000)
  n = 0
  local size = 0
  for piece in s:post(url, { body = body, stream = true }):chunks() do size = size + #piece end
  test.eq(size, 5000000)

  -- Question and answer over one request.
  local questions, closed = async.Queue(), async.Event()
  local source = {
    chunks = function()
      return function() return questions:get() end
    end,
    close = function() closed:set() end,
  }
  questions:put "one"
  local response = s:post(url, { body = source, stream = true })
  local answers = response:chunks()
  test.eq(answers(), "one")
  questions:put "two"
  test.eq(answers(), "two")
  response:close()
  closed:wait()

  local go = async.Event()
  n = 0
  response = s:post(url, { stream = true, body = function()
    n = n + 1
    if n == 1 then return "first" end
    go:wait()
    error("no more", 0)
  end })
  answers = response:chunks()
  test.eq(answers(), "first")
  go:set()
  test.eq({ pcall(answers) }, { false, "no more" })
  test.raises("no more", s.post, s, url, { stream = true, body = function()
    error("no more", 0)
  end })
  wait_for_idle(s) -- when the resets have gone out
end)

test("a streamed response is released at the end of its task", function()
  local server = own_server { handler = function()
    return http.response { stream = function()
      async.sleep(0.001)
      return "more"
    end }
  end }
  local url = ("http://127.0.0.1:%d/"):format(server.port)
  local s = session { limit = 1 }
  async.spawn(function() test.eq(s:get(url, { stream = true }):chunks()(), "more") end):await()
  async.with(s:get(url, { stream = true }), function(r) test.eq(r.version, "2.0") end)
  local response = s:get(url, { stream = true })
  for piece in response:chunks() do
    test.eq(piece, "more")
    break
  end
  response:close()
  wait_for_idle(s)
end)

-- Cancels what `make` does at its wait number `n`; false once it has no more of them.
local function cancel_at(n, turns, make)
  local reached, victim = raw.cancel_at(n, turns, make)
  if not victim:cancelled() then victim:await() end
  return reached
end

test("what is cancelled wherever it waits leaves nothing behind", { limit = 20 }, function()
  local server = own_server { max_body_bytes = 0, handler = function(req)
    if req.path == "/slow" then async.sleep(0.001) end
    local size = 0
    for piece in req:chunks() do size = size + #piece end
    return BIG:sub(1, size)
  end }
  local url = ("http://127.0.0.1:%d"):format(server.port)
  local before = raw.open_files()
  local s
  local ways = {
    function() test.eq(s:get(url .. "/slow").status, 200) end,
    function() -- a connection of its own
      async.with(http.Session { http2 = "prior" }, function(own) own:get(url) end)
    end,
    function()
      local n = 0
      s:post(url, { body = function()
        n = n + 1
        async.sleep(0)
        if n <= 4 then return ("x"):rep(50000) end
      end })
    end,
    function()
      for _ in s:post(url, { body = ("x"):rep(300000), stream = true }):chunks() do
        async.sleep(0)
      end
    end,
    function()
      local n = 0
      local response = s:post(url, { stream = true, body = function()
        n = n + 1
        async.sleep(0)
        if n <= 4 then return ("x"):rep(50000) end
      end })
      response:bytes()
    end,
    function() s:post(url, { body = "x", headers = { Expect = "100-continue" } }) end,
    function() async.map({ 1, 2, 3 }, function() s:get(url .. "/slow") end) end,
  }
  for _, way in ipairs(ways) do
    for turns = 0, 3 do
      local n, more = 0, true
      while more do
        n = n + 1
        -- A server ends connections with too many resets.
        s = http.Session { http2 = "prior" }
        test.eq(s:get(url).status, 200)
        more = cancel_at(n, turns, way)
        test.eq(s:get(url).status, 200)
        test.contains(tostring(s), "Session: 0 connections in use")
        s:close()
      end
      assert(n > 1)
    end
  end
  raw.open_files(before)
end)
