-- The client's HTTP/2 opposite a server that says whatever it is told to.
local async, test = require "rille.async", require "support.test"
local http, process = require "rille.http", require "rille.process"
local frames = require "stdlib.http.client_frames"

if not require("stdlib.http.frames").are_spoken() then return end

local function session(options)
  options = options or {}
  if options.http2 == nil then options.http2 = "prior" end
  local s = http.Session(options)
  test.defer(function() s:close() end)
  return s
end

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
  test.eq(response.trailers.Checksum, "1")
  test.eq({ response.headers.X, response.cookies }, { "1, 2", { a = "1", b = "2" } })
  test.eq(response.headers:get_all "set-cookie", { "a=1", "b=2" })
  response = s:get(base, { stream = true })
  test.eq({ response.status, response:bytes(), response.trailers.checksum }, { 207, "hello", "1" })
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

-- ---- the life of a connection -------------------------------------------------------------------

local function get_all(s, base, n)
  local tasks = {}
  for i = 1, n do tasks[i] = async.spawn(s.get, s, base .. "/" .. i) end
  return tasks
end

test("after GOAWAY what the server has seen goes on, the rest moves", function()
  local gone = async.Event()
  local base, connections = serve(function(peer)
    local first = peer:request()
    peer:request()
    peer:request()
    peer:go_away(first, 0)
    gone:wait()
    peer:answer(first, "seen")
    while peer:read() do end
  end)
  local s = session()
  local tasks = get_all(s, base, 3)
  test.eq({ tasks[2]:await():text(), tasks[3]:await():text() }, { "again", "again" })
  test.eq(s:get(base):text(), "again")
  gone:set()
  test.eq({ tasks[1]:await():text(), connections() }, { "seen", 2 })
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
end)

test("a refused request is sent again, whatever its method, but not for ever", function()
  local asked = 0
  local base, connections = frames.serve(function(peer)
    for id in peer.request, peer do
      asked = asked + 1
      if asked <= 7 or asked > 10 then peer:reset(id, 7) else peer:answer(id, "at last") end
    end
  end)
  local s = session()
  test.eq(s:post(base, { body = "text" }):text(), "at last")
  test.eq({ asked, connections() }, { 8, 1 })
  asked = 10
  local e = test.raises("HTTPError", s.get, s, base)
  test.contains(e.message, "the server refused the request")
  test.eq(asked, 61)
  e = test.raises("HTTPError", s.post, s, base, { body = function() return nil end })
  test.contains(e.message, "the server refused the request")
end)

test("of requests that are refused again and again the oldest goes first", function()
  local base, connections = frames.serve(function(peer)
    local first
    for _ = 1, 3 do
      local id = peer:request()
      if not id then return end
      first = first or id
    end
    peer:go_away(first, 0):answer(first, "x")
    while peer:read() do end
  end, { 3, 3 })
  for _, limit in ipairs { 100, 4 } do
    local s, before = session { limit = limit }, connections()
    local tasks, order = {}, {}
    for i = 1, 12 do
      tasks[i] = async.spawn(function()
        s:get(base .. "/" .. i)
        order[#order + 1] = i
      end)
    end
    for i = 1, 10 do tasks[i]:await() end
    -- For these two the server waits until a third one comes.
    for i = 11, 12 do tasks[i]:cancel() end
    async.wait(tasks)
    test.eq(order, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
    assert(connections() - before >= 10)
  end
end)

test("a connection that ends while it rests is not used, and what it lost sent again", function()
  local base, connections = frames.serve(function(peer)
    peer:answer(peer:request(), "x")
    if peer.number == 1 then return end
    peer:request() -- and closes
  end)
  local s = session()
  s:get(base)
  async.sleep(0.01)
  test.eq({ s:get(base):text(), connections() }, { "x", 2 })
  test.eq({ s:get(base):text(), connections() }, { "x", 3 })
  local e = test.raises("HTTPError", s.post, s, base, { body = "once" })
  test.eq(e.message, "the connection was closed before a response came: POST " .. base .. "/")
end)

test("a connection that is cut in a response, or reset, fails all that is on it", function()
  local base = serve(function(peer)
    peer:head(peer:request(), 4)
    peer:request()
    -- All that the client has sent is read, or the end would be a reset.
    async.move_on_after(0.01, function() while peer:read() do end end)
  end)
  local s = session()
  local tasks = {}
  for i = 1, 2 do tasks[i] = async.spawn(s.post, s, base .. "/" .. i) end
  local e = test.raises("HTTPError", tasks[1].await, tasks[1])
  test.contains(e.message, "the connection was closed in the middle of the response")
  e = test.raises("HTTPError", tasks[2].await, tasks[2])
  test.contains(e.message, "the connection was closed before a response came")
  test.eq(e.url, base .. "/2")

  base = serve(function(peer)
    peer:head(peer:request(), 4)
    peer.stream:abort()
  end)
  e = test.raises("OSError", s.get, s, base)
  test.eq({ e.code, e.url }, { "ECONNRESET", base .. "/" })
end)

test("more requests than the server allows wait for their turn, in their order", function()
  local open, most, order = 0, 0, {}
  local base, connections = frames.serve(function(peer)
    for id in peer.request, peer do
      open = open + 1
      most = math.max(most, open)
      async.spawn(function()
        async.sleep(0.001)
        open = open - 1
        peer:answer(id, "x")
      end)
    end
  end, { 3, 3 })
  local s = session()
  s:get(base)
  local tasks = {}
  for i = 1, 20 do
    tasks[i] = async.spawn(function()
      s:get(base)
      order[#order + 1] = i
    end)
  end
  async.gather(tasks)
  for i = 1, 20 do test.eq(order[i], i) end
  test.eq({ most, connections() }, { 3, 1 })
end)

test("waiting until the server allows a request counts as connecting", function()
  local release = async.Event()
  local base = frames.serve(function(peer)
    local id = peer:request()
    peer:answer(id, "")
    id = peer:request()
    release:wait()
    peer:answer(id, "")
    for other in peer.request, peer do peer:answer(other, "") end
  end, { 3, 1 })
  local s = session()
  s:get(base)
  local first = async.spawn(s.get, s, base)
  async.sleep(0)
  local e = test.raises("TimeoutError", s.get, s, base, { timeout = { connect = 0.01 } })
  test.eq(e.phase, "connect")
  local second, third = async.spawn(s.get, s, base), async.spawn(s.get, s, base)
  async.sleep(0)
  second:cancel()
  async.wait { second }
  release:set()
  test.eq({ first:await().status, third:await().status, second:cancelled() }, { 200, 200, true })
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
end)

test("a server that allows nothing at first is waited for", function()
  local base = frames.serve(function(peer)
    async.sleep(0.01)
    peer:settings { 3, 10 }
    for id in peer.request, peer do peer:answer(id, "x") end
  end, { 3, 0 })
  local s = session()
  local got = async.map({ 1, 2 }, function() return s:get(base):text() end)
  test.eq({ got[1], got[2] }, { "x", "x" })
end)

test("an idle connection says goodbye after its time, counted from its last request", function()
  local IDLE = 0.1
  local goodbyes = async.Queue()
  local base, connections = frames.serve(function(peer)
    for f in peer.read, peer do
      if f.type == "HEADERS" then peer:answer(f.id, "x") end
      if f.type == "GOAWAY" then goodbyes:put(f.code) end
    end
  end)
  local s = session { idle_timeout = IDLE }
  local longest, last = 0, nil
  for _ = 1, 4 do
    s:get(base)
    local now = async.time()
    if last then longest = math.max(longest, now - last) end
    last = now
    async.sleep(IDLE / 3)
  end
  for _ = 1, connections() do test.eq(goodbyes:get(), 0) end
  -- The clock of timers stands while the loop is busy.
  assert(async.time() - last >= IDLE / 2, async.time() - last)
  -- On a busy machine a pause may have been longer than the limit.
  assert(connections() == 1 or longest >= IDLE / 2, longest)
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("closing the session ends its requests, those that wait for their turn too", function()
  local base = frames.serve(function(peer)
    peer:answer(peer:request(), "")
    while peer:read() do end
  end, { 3, 1 })
  local s = session()
  s:get(base)
  local tasks = get_all(s, base, 3)
  async.sleep(0.005)
  s:close()
  for i = 1, 3 do test.raises("InvalidStateError", tasks[i].await, tasks[i]) end
  test.raises("get: the session is closed", s.get, s, base)
end)

test("an idle connection makes room, and does not hide that nothing can go on", function()
  local function answer(peer)
    for id in peer.request, peer do peer:answer(id, "x") end
  end
  local one, two = frames.serve(answer), frames.serve(answer)
  local s = session { limit = 1 }
  s:get(one)
  s:get(two)
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
  local result = process.run { os.getenv "RILLE", "-e", ([[
    local s = require("rille.http").Session { http2 = "prior" }
    s:get "%s"
    require("rille.async").Event():wait()
  ]]):format(one) }
  test.contains(result.stderr, "DeadlockError")
end)

-- ---- cancellation and time ----------------------------------------------------------------------

test("what is given up is reset, and the connection serves others", function()
  local codes, asked = {}, 0
  local base, connections = frames.serve(function(peer)
    for f in peer.read, peer do
      if f.type == "RST_STREAM" then codes[#codes + 1] = f.code end
      if f.type == "HEADERS" then
        asked = asked + 1
        if asked == 5 then peer:answer(f.id, "well") end
        if asked == 3 or asked == 4 then peer:head(f.id, 4):send("DATA", 0, f.id, "begun") end
      end
    end
  end)
  local function wait_until(is_so)
    while not is_so() do async.sleep(0.001) end
  end
  local s = session()
  local task = async.spawn(s.get, s, base)
  wait_until(function() return asked == 1 end)
  task:cancel()
  wait_until(function() return #codes == 1 end)
  local e = test.raises("TimeoutError", s.get, s, base, { timeout = 0.02 })
  test.eq({ e.phase, e.url }, { "total", base .. "/" })
  wait_until(function() return #codes == 2 end)
  e = test.raises("TimeoutError", s.get, s, base, { timeout = { read = 0.02 } })
  test.eq(e.phase, "read")
  wait_until(function() return #codes == 3 end)
  local response = s:get(base, { stream = true })
  test.eq(response:chunks()(), "begun")
  response:close()
  test.raises("InvalidStateError", response:chunks())
  wait_until(function() return #codes == 4 end)
  test.eq({ s:get(base):text(), connections() }, { "well", 1 })
  test.eq(codes, { 8, 8, 8, 8 })
end)

test("of a request that is given up before it went out the server learns nothing", function()
  local seen = {}
  local base, connections = frames.serve(function(peer)
    for f in peer.read, peer do
      if f.type ~= "SETTINGS" and f.type ~= "WINDOW_UPDATE" then seen[#seen + 1] = f.type end
      if f.type == "HEADERS" then peer:answer(f.id, "x") end
    end
  end)
  local s = session()
  s:get(base)
  for _ = 1, 3 do
    local task = async.spawn(s.get, s, base)
    async.sleep(0)
    task:cancel()
    async.wait { task }
  end
  local options = { stream = true, body = function() error("no more", 0) end }
  test.raises("no more", s.post, s, base, options)
  async.sleep(0.005)
  test.eq({ s:get(base):text(), connections() }, { "x", 1 })
  test.eq(seen, { "HEADERS", "HEADERS" })
end)

test("a request that failed to make its body resets its stream", function()
  local code
  local base = frames.serve(function(peer)
    code = peer:wait_for("RST_STREAM").code
    peer:answer(peer:request(), "well")
    peer:read()
  end)
  local s = session()
  local n = 0
  test.raises("no more", s.post, s, base, { body = function()
    n = n + 1
    if n == 2 then error "no more" end
    async.sleep(0.005)
    return "some"
  end })
  test.eq({ s:get(base):text(), code }, { "well", 8 })
end)

test("a slow reader holds the server up, one that collects does not", function()
  local sent, windows = 0, {}
  local function send(peer, id)
    sent = 0
    peer:head(id, 4)
    while sent < 4000000 do
      if windows[id] < 16000 then
        async.sleep(0.001)
      else
        peer:send("DATA", 0, id, ("x"):rep(16000))
        sent, windows[id] = sent + 16000, windows[id] - 16000
      end
    end
    peer:send("DATA", 1, id, "")
  end
  local base = frames.serve(function(peer)
    for f in peer.read, peer do
      if f.type == "HEADERS" then
        windows[f.id] = 1048576
        async.spawn(send, peer, f.id)
      elseif f.type == "WINDOW_UPDATE" and f.id > 0 then
        windows[f.id] = windows[f.id] + frames.number(f.payload, 1, 4)
      end
    end
  end)
  local s = session()
  local response = s:get(base, { stream = true })
  async.sleep(0.05)
  test.eq(sent <= 1048576, true)
  local size = 0
  for piece in response:chunks() do size = size + #piece end
  test.eq(size, 4000000)
  test.eq(#s:get(base):bytes(), 4000000)
end)

test("a server that takes nothing holds the body up", function()
  local made, go = 0, async.Event()
  local base = frames.serve(function(peer)
    local id = peer:request()
    go:wait()
    peer:send("WINDOW_UPDATE", 0, 0, frames.be(10000000, 4))
    peer:send("WINDOW_UPDATE", 0, id, frames.be(10000000, 4))
    local size = 0
    repeat
      local f = peer:wait_for "DATA"
      size = size + #f.payload
    until f.ends
    peer:answer(id, tostring(size))
    peer:read()
  end)
  local s = session()
  local task = async.spawn(s.post, s, base, { body = function()
    made = made + 1
    if made <= 100 then return ("x"):rep(10000) end
  end })
  async.sleep(0.03)
  test.eq(made < 30, true)
  go:set()
  test.eq(task:await():text(), "1000000")
end)

test("a server that has answered wants no more of the body", function()
  local base = frames.serve(function(peer)
    local id = peer:request()
    peer:head(id, 5, "413"):reset(id, 0)
    for other in peer.request, peer do peer:answer(other, "well") end
  end)
  local s = session()
  local n = 0
  local response = s:post(base, { body = function()
    n = n + 1
    async.sleep(0)
    return ("x"):rep(10000)
  end })
  test.eq({ response.status, n < 100 }, { 413, true })
  test.eq(s:post(base, { body = ("x"):rep(1000000) }):text(), "well")
end)

test("Expect: 100-continue waits for leave", function()
  local early
  local base = frames.serve(function(peer)
    local id = peer:request()
    early = async.move_on_after(0.01, function() peer:wait_for "DATA" end)
    peer:head(id, 4, "100")
    local f = peer:wait_for "DATA"
    peer:answer(id, f.payload)
    id = peer:request()
    peer:head(id, 5, "417")
    peer:read()
  end)
  local s = session()
  local options = { body = "hello", headers = { Expect = "100-continue" } }
  test.eq({ s:post(base, options):text(), early }, { "hello", false })
  test.eq(s:post(base, options).status, 417)
end)

test("a server that has fallen silent gets no further requests", { limit = 10 }, function()
  local base, connections = serve(function(peer)
    peer:answer(peer:request(), "x")
    while peer:read() do end -- and says nothing
  end)
  local s = session()
  s:get(base)
  test.raises("TimeoutError", s.get, s, base, { timeout = 0.01 })
  test.eq(connections(), 1) -- that may have been a slow answer
  local task = async.spawn(s.get, s, base, { timeout = 2.1 })
  test.raises("TimeoutError", task.await, task)
  test.eq({ s:get(base):text(), connections() }, { "again", 2 })
end)
