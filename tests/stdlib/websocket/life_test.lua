-- WebSockets in their lives: closing from both sides at any time, dead and slow peers,
-- cancellation, many at once.
local async, test = require "rille.async", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local errors, net = require "rille.errors", require "rille.net"
local http, websocket = require "rille.http", require "rille.websocket"
local raw = require "stdlib.http.raw"
local wire = require "stdlib.websocket.wire"

local echo, serve = wire.echo, wire.serve

local function url_of(port) return ("ws://127.0.0.1:%d/"):format(port) end

local function connect(port, options)
  local ws = websocket.connect(url_of(port), options)
  test.defer(function() ws:close() end)
  return ws
end

-- ---- iterating ----------------------------------------------------------------------------------

test("messages() is an iterator that can be closed, and leaves the WebSocket open", function()
  local ws = connect((serve(function(ws)
    for i = 1, 5 do ws:send(tostring(i)) end
    ws:recv()
  end)))
  local got = {}
  for message, kind in ws:messages() do
    got[#got + 1] = message .. kind
    if #got == 2 then break end
  end
  async.with(ws:messages(), function(messages) got[#got + 1] = messages() end)
  local messages = ws:messages()
  got[#got + 1] = messages()
  messages:close()
  messages:close()
  test.eq(messages(), nil)
  test.eq(got, { "1text", "2text", "3", "4" })
  test.eq(ws:recv(), "5")
end)

-- ---- the end ------------------------------------------------------------------------------------

test("1012, 1013 and 1014 are codes like others, from both sides", function()
  for _, code in ipairs { 1012, 1013, 1014 } do
    local seen = async.Future()
    local port = serve(function(ws)
      if ws:recv() then ws:close(code, "later") end
      seen:set_result(ws.close_code)
    end)
    local ws = connect(port)
    ws:send "close"
    test.eq({ ws:recv(), ws.close_code, ws.close_reason }, { nil, code, "later" })
    test.eq(seen:await(), code)
    seen = async.Future()
    ws = connect(port)
    ws:close(code)
    test.eq({ seen:await(), ws.close_code }, { code, code })
  end
end)

test("closing wakes who receives and who waits for a pong", function()
  local port = serve(function(ws) ws:recv() end)
  local ws = connect(port)
  local receiver = async.spawn(function()
    local data, kind = ws:recv()
    return tostring(data), tostring(kind)
  end)
  test.turns()
  ws:close(4000, "enough")
  test.eq({ receiver:await() }, { "nil", "nil" })
  local peer = wire.connected(function(own)
    local pinger = async.spawn(function() return test.raises("WebSocketError", own.ping, own) end)
    test.turns()
    own:close()
    test.eq(pinger:await().code, 1000)
  end)
  test.eq((peer:read()), 0x89)
  test.eq((peer:read_close()), 1000)
  peer:send(0x88, wire.code(1000))
  peer:read_end()
end)

test("a send that waits when the connection ends is a WebSocketError with the code", function()
  local peer, task = wire.connected(function(ws)
    local e = test.raises("WebSocketError", function()
      for _ = 1, 100 do ws:send_binary(("x"):rep(1000000)) end
    end)
    test.eq({ e.code, e.code == ws.close_code, e.cause.kind }, { 1006, true, "OSError" })
    test.eq(ws:recv(), nil)
  end, { connect = { compress = false } })
  async.sleep(0.02)
  peer.stream:abort()
  task:await()
end)

test("who never answers a close is cut off after close_timeout: 1006", function()
  local peer, task = wire.connected(function(ws)
    ws:close()
    test.eq(ws.close_code, 1006)
  end, { connect = { close_timeout = 0.02 } })
  test.eq((peer:read_close()), 1000)
  task:await()
end)

test("a close in the middle of a large send comes behind it", function()
  local seen = async.Future()
  local port = serve(function(ws)
    async.sleep(0.02)
    seen:set_result { #ws:recv(), ws:recv(), ws.close_code }
  end, { compress = false, max_message = false })
  local ws = connect(port, { compress = false })
  local sender = async.spawn(ws.send_binary, ws, ("x"):rep(10000000))
  async.sleep(0)
  ws:close(3000)
  sender:await()
  test.eq(seen:await(), { 10000000, nil, 3000 })
end)

test("both may close at once: each learns the other's code", function()
  local peer, task = wire.connected(function(ws)
    ws:close(4001)
    test.eq({ ws.close_code, ws.close_reason }, { 4002, "mine" })
  end)
  test.eq((peer:read_close()), 4001)
  peer:send(0x88, wire.code(4002, "mine"))
  peer:read_end()
  task:await()
end)

test("a peer that has ended its side without a close is 1006, and is let go", function()
  local seen = async.Future()
  local port = serve(function(ws)
    test.eq(ws:recv(), nil)
    seen:set_result(ws.close_code)
  end)
  local peer = wire.client(port)
  peer.stream:shutdown()
  test.eq(seen:await(), 1006)
  peer:read_end()
end)

-- ---- who is there -------------------------------------------------------------------------------

test("pings come at their interval, also when their answers have more time", function()
  local peer, task = wire.connected(function(ws)
    test.eq({ ws:recv() }, { "over", "text" })
  end, { connect = { ping_interval = 0.15, ping_timeout = 0.08 } })
  local began = async.time()
  for _ = 1, 3 do
    local first, payload = peer:read()
    test.eq(first, 0x89)
    peer:send(0x8a, payload)
  end
  -- Were they as often as the timeout, it would be half of that.
  assert(async.time() - began > 0.3, async.time() - began)
  peer:send(0x81, "over")
  repeat local first = peer:read() until first == 0x88
  peer:send(0x88, wire.code(1000))
  task:await()
end)

test("who is not listened to is not taken for dead", function()
  local port = serve(function(ws)
    for _ = 1, 5 do ws:send_binary(("x"):rep(900000)) end
    ws:recv()
  end, { compress = false, ping_interval = false })
  local ws = connect(port, { ping_interval = 0.01, ping_timeout = 0.01, compress = false })
  async.sleep(0.1)
  local n = 0
  for _ = 1, 5 do n = n + #ws:recv() end
  test.eq({ n, ws.close_code }, { 4500000, nil })
end)

test("a server that has gone without a word is found by pings", function()
  local over = async.Future()
  local port = serve(function(ws)
    ws:recv()
    over:set_result { ws.close_code, ws.close_reason }
  end, { ping_interval = 0.01, ping_timeout = 0.02 })
  local peer = wire.client(port)
  test.eq(over:await(), { 1006, "the peer did not answer a ping" })
  test.eq((peer:read()), 0x89)
end)

test("a WebSocket outlives the limits that a server has for requests", function()
  local port = serve(echo, nil, { handler_timeout = 0.3, idle_timeout = 0.3, header_timeout = 0.3,
    body_timeout = 0.3, write_timeout = 0.3, max_requests = 1, cancel_on_disconnect = true })
  local ws = connect(port)
  async.sleep(0.5)
  ws:send "still there"
  test.eq(ws:recv(), "still there")
end)

-- ---- many ---------------------------------------------------------------------------------------

test("neither a slow nor a dead one holds a broadcast up, and the slow one learns why", function()
  local list, all = {}, async.Event()
  local port = serve(function(ws)
    list[#list + 1] = ws
    if #list == 12 then all:set() end
    ws:recv()
  end, { compress = false, close_timeout = 0.5, ping_interval = false })
  local slow, dead = wire.client(port), wire.client(port)
  local clients = {}
  for i = 1, 10 do clients[i] = connect(port) end
  all:wait()
  local receivers = {}
  for i, ws in ipairs(clients) do
    receivers[i] = async.spawn(function()
      local n = 0
      for data in ws:messages() do
        if data == "end" then return n end
        n = n + 1
      end
    end)
  end
  dead.stream:abort()
  local piece, sent = ("x"):rep(500000), 0
  local reached
  repeat
    reached = websocket.broadcast(list, piece, { binary = true })
    sent = sent + 1
    async.sleep(0.001)
  until reached == 10 or sent == 1000
  test.eq(reached, 10)
  test.eq(websocket.broadcast(list, "end"), 10)
  for _, receiver in ipairs(receivers) do test.eq(receiver:await(), sent) end
  -- What was sent before comes first.
  local got = 0
  while true do
    local first, payload = slow:read()
    if first == 0x88 then
      test.eq(payload, wire.code(1013, "too slow"))
      break
    end
    test.eq({ first, #payload }, { 0x82, 500000 })
    got = got + 1
  end
  assert(got < sent)
  test.blames_caller("bad argument 'max_backlog' to 'broadcast'",
    function() websocket.broadcast({}, "x", { max_backlog = "y" }) end)
  test.blames_caller("WebSocket expected, got string",
    function() websocket.broadcast({ "x" }, "x") end)
end)

test("a thousand at once, and nothing of them is left", { limit = 4 }, function()
  local before = raw.open_files()
  local port = serve(echo)
  local n = 1000 * test.SCALE
  local got = 0
  async.group(function(group)
    for i = 1, n do
      group:spawn(function()
        async.with(websocket.connect(url_of(port), { timeout = 30 }), function(ws)
          ws:send("message " .. i)
          if ws:recv() == "message " .. i then got = got + 1 end
        end)
      end)
    end
  end)
  test.eq(got, n)
  raw.open_files(before + 1) -- the listener
end)

-- ---- cancellation -------------------------------------------------------------------------------

test("whatever waits may be cancelled anywhere", { limit = 6 }, function()
  local before = raw.open_files()
  cancel_everywhere {
    patience = 300,
    setup = function()
      local app = http.App()
      app:websocket("/", echo, { compress = false, close_timeout = 0.05 })
      return { server = app:serve {}, got = {} }
    end,
    body = function(state)
      -- It may be the server that is cancelled.
      local function is_the_servers(e)
        return errors.is(e, "OSError") or errors.is(e, "HTTPError")
          or errors.is(e, "WebSocketError")
      end
      local url = url_of(state.server.port)
      local opened, ws = pcall(websocket.connect, url, { close_timeout = 0.05 })
      if not opened then return not is_the_servers(ws) and error(ws, 0) end
      local ok, e = pcall(function()
        async.with(ws, function()
          ws:send "one"
          state.got[1] = ws:recv()
          ws:ping()
          local sender = async.spawn(pcall, ws.send_binary, ws, ("x"):rep(1000000))
          local large = ws:recv()
          state.got[2] = large and #large
          sender:await()
        end)
      end)
      if not ok and not is_the_servers(e) then error(e, 0) end
    end,
    check = function(state, victim)
      if not victim then test.eq(state.got, { "one", 1000000 }) end
      state.server:close(0)
    end,
  }
  raw.open_files(before)
end)

test("tasks that receive take turns, and whoever is cancelled takes no message", function()
  local ws = connect((serve(echo)))
  local got = {}
  local function receiver(name)
    return async.spawn(function()
      local message = ws:recv()
      got[#got + 1] = name .. message
    end)
  end
  for round = 1, 3 do -- without a lock at first, then with one
    local tasks = {}
    for i = 1, 5 do
      tasks[i] = receiver(tostring(i))
      async.sleep(0)
    end
    tasks[1]:cancel() -- has its turn
    tasks[3]:cancel() -- waits for it
    for i = 1, 5 do
      if i ~= 1 and i ~= 3 then
        ws:send(":" .. round)
        tasks[i]:await()
      end
    end
    local mark = ":" .. round
    test.eq(got, { "2" .. mark, "4" .. mark, "5" .. mark })
    got = {}
    ws:send "alone"
    test.eq(ws:recv(), "alone")
  end
end)

test("a cancelled send still goes out whole", function()
  local seen = async.Future()
  local port = serve(function(ws)
    async.sleep(0.02)
    local large = ws:recv()
    seen:set_result { #large, (ws:recv()) }
  end, { compress = false, max_message = 20000000 })
  local ws = connect(port, { compress = false })
  local sender = async.spawn(ws.send_binary, ws, ("x"):rep(10000000))
  test.turns()
  sender:cancel()
  async.wait { sender }
  test.eq(sender:cancelled(), true)
  ws:send "after it"
  test.eq(seen:await(), { 10000000, "after it" })
end)

test("a cancelled close leaves nothing behind", function()
  local listener = net.listen { port = 0 }
  test.defer(function() listener:close() end)
  local server = async.spawn(function()
    local stream = listener:accept()
    local key = stream:read_until "\r\n\r\n":match "Key: (%S+)"
    stream:write("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
      "Sec-WebSocket-Accept: ", require("rille.websocket.handshake").accept(key), "\r\n\r\n")
    while stream:read() do local _ = nil end
    stream:close()
  end)
  local ws = websocket.connect(url_of(listener:address().port), { close_timeout = 0.05 })
  local closing = async.spawn(ws.close, ws)
  test.turns()
  closing:cancel()
  async.wait { closing }
  test.eq({ closing:cancelled(), ws:recv(), ws.close_code }, { true, nil, 1006 })
  ws:close()
  server:await()
end)

test("a peer that pings and does not read is read again once it has taken the answers", function()
  local port = wire.serve(function(ws)
    for text in ws:messages() do ws:send(text) end
  end)
  local peer = wire.client(port)
  local pings = wire.frame(0x89, ("p"):rep(125), true):rep(500)
  -- Until nothing goes out any more: the server has stopped reading.
  local sent = 0
  while async.move_on_after(0.3, function() peer:write(pings) end) do
    sent = sent + 1
    assert(sent < 2000, "nobody stops it")
  end
  local sender = async.spawn(peer.send, peer, 0x81, "hello")
  local first, payload
  repeat
    first, payload = peer:read()
  until first ~= 0x8a
  test.eq({ first, payload }, { 0x81, "hello" })
  sender:await()
end)

test("messages that hold nothing take memory as well, and are read only as they are received",
  function()
    local go_on = async.Event()
    local port = wire.serve(function(ws)
      go_on:wait()
      for text in ws:messages() do
        if text ~= "" then ws:send(text) end
      end
    end)
    local peer = wire.client(port)
    local empty = wire.frame(0x81, "", true):rep(10000)
    local sent = 0
    while async.move_on_after(0.3, function() peer:write(empty) end) do
      sent = sent + 1
      assert(sent < 500, "all of it was read")
    end
    go_on:set()
    peer:send(0x81, "end")
    test.eq({ peer:read() }, { 0x81, "end" })
  end)
