-- Sessions: connections that are kept, and how many there are.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local process = require "rille.process"
local scripted = require "stdlib.http.scripted"
local serve, answer, session = scripted.serve, scripted.answer, scripted.session

test("requests one after another share a connection", function()
  local base, connections = serve(function(r) return answer(tostring(r.count)) end)
  local s = session()
  for i = 1, 5 do test.eq(s:get(base):text(), tostring(i)) end
  test.eq(connections(), 1)
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
end)

test("a response that ends the connection is the last one on it", function()
  local base, connections = serve(function() return answer("x", "Connection: close\r\n") end)
  local s = session()
  for _ = 1, 3 do test.eq(s:get(base):text(), "x") end
  test.eq(connections(), 3)
end)

test("no more connections than the limits allow, and those who waited first come first", function()
  local base = serve(function(r)
    async.sleep(0.001)
    return answer(r.head:match "GET (%S+)")
  end)
  local s = session { limit = 3 }
  local list, order, most = {}, {}, 0
  for i = 1, 30 do list[i] = "/" .. i end
  async.map(list, function(path)
    test.eq(s:get(base .. path):text(), path)
    local used, resting = s._pool:counts()
    most = math.max(most, used + resting)
    order[#order + 1] = path
  end)
  test.eq(#order, 30)
  assert(most <= 3)
  local one = session { limit_per_host = 1 }
  order = {}
  async.map(list, function(path)
    one:get(base .. path)
    order[#order + 1] = path
  end)
  test.eq(order, list)
end)

test("an idle connection makes room for one to another server", function()
  local first = serve(function() return answer "1" end)
  local second = serve(function() return answer "2" end)
  local s = session { limit = 1 }
  for _ = 1, 3 do
    test.eq(s:get(first):text() .. s:get(second):text(), "12")
    local used, resting = s._pool:counts()
    test.eq({ used, resting }, { 0, 1 })
  end
end)

test("a connection that the server has closed while it rested is not used again", function()
  local base, connections = serve(function(r)
    if r.count == 1 then return answer "x" end
  end)
  local s = session()
  test.eq(s:get(base):text(), "x")
  -- The second request of each connection finds it closed, and is sent again over a new one.
  test.eq(s:get(base):text(), "x")
  test.eq(connections(), 2)
end)

test("what is not idempotent is not sent a second time", function()
  local posts = 0
  local base = serve(function(r)
    if r.head:find "^GET" then return answer "x" end
    posts = posts + 1
  end)
  local s = session()
  s:get(base)
  local e = test.raises("HTTPError", s.post, s, base, { body = "once" })
  test.eq(e.message, "the connection was closed before a response came: POST " .. base .. "/")
  test.eq(posts, 1)
end)

test("a cancelled request leaves no connection in the pool", function()
  local base, connections = serve(function(r)
    if r.head:find "/slow" then async.sleep(0.05) end
    return answer(r.head:match "GET (%S+)")
  end)
  local s = session()
  test.eq(s:get(base .. "/a"):text(), "/a")
  test.eq((async.move_on_after(0.005, function() s:get(base .. "/slow") end)), false)
  test.eq(s:get(base .. "/b"):text(), "/b")
  test.eq(connections(), 2)
end)

test("a connection rests as long as the session says, counted from its last request", function()
  local IDLE = 0.1
  local base, connections = serve(function() return answer "x" end)
  local s = session { idle_timeout = IDLE }
  local longest, last = 0, nil
  for _ = 1, 4 do
    s:get(base)
    local now = async.time()
    if last then longest = math.max(longest, now - last) end
    last = now
    async.sleep(IDLE / 3)
  end
  local before = connections()
  -- On a busy machine a pause may have been longer than the limit.
  assert(before == 1 or longest >= IDLE / 2, longest)
  while tostring(s) ~= "Session: 0 connections in use, 0 idle" do async.sleep(0.002) end
  -- The clock of timers stands while the loop is busy.
  assert(async.time() - last >= IDLE / 2, async.time() - last)
  s:get(base)
  test.eq(connections(), before + 1)
end)

test("closing the session ends its requests, and refuses others", function()
  local arrived = async.Event()
  local base = serve(function()
    arrived:set()
    async.sleep(5)
  end)
  local s = http.Session()
  local request = async.spawn(s.get, s, base)
  arrived:wait()
  s:close()
  test.raises("InvalidStateError", request.await, request)
  test.raises("get: the session is closed", s.get, s, base)
  s:close()
end)

test("an idle connection does not hide that nothing can go on", function()
  local base = serve(function() return answer "x" end)
  local code = ([[
    local async, http = require "rille.async", require "rille.http"
    print(http.get("%s"):text())
    print(pcall(function() async.Event():wait() end))
  ]]):format(base)
  local out = process.run { test.executable(), "-e", code, timeout = 30 }
  test.contains(out.stdout, "x\nfalse\tDeadlockError")
end)

test("a session that is closed leaves alone what the collector has taken", function()
  local base = serve(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    r.stream:read()
    return false
  end)
  local closed = {}
  for way = 1, 2 do
    local s = http.Session()
    for _ = 1, 20 do
      -- Neither read nor closed, and nobody has it any more.
      async.spawn(function() s:get(base, { stream = true }) end):await()
    end
    collectgarbage()
    if way == 2 then collectgarbage() end
    s:close()
    for _, connection in pairs(s._pool._open) do
      closed[#closed + 1] = connection:is_open()
    end
  end
  for _, is_open in ipairs(closed) do test.eq(is_open, false) end
end)

test("a session that is closed refuses those who wait for a place or for a connection", function()
  local base = serve(function() return "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome" end)
  for _, options in ipairs { { limit = 1 }, { limit_per_host = 1 } } do
    local s = session(options)
    local held = s:get(base, { stream = true })
    local waiters = {}
    for i = 1, 3 do waiters[i] = async.spawn(s.get, s, base, { timeout = false }) end
    async.sleep(0)
    s:close()
    for _, w in ipairs(waiters) do test.raises("InvalidStateError", w.await, w) end
    held:close()
  end
  -- This one does not speak TLS, and waits for something else.
  local s = session()
  local url = base:gsub("^http", "https")
  local dialers = {}
  for i = 1, 2 do dialers[i] = async.spawn(s.get, s, url, { timeout = false }) end
  async.sleep(0.01)
  s:close()
  for _, d in ipairs(dialers) do test.raises("InvalidStateError", d.await, d) end
end)
