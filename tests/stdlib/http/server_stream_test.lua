-- Responses that go out in parts, and events.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local fs = require "rille.fs"
local raw = require "stdlib.http.raw"

local GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
local POST = "POST / HTTP/1.1\r\nHost: a\r\n"

local start, reported, whole = raw.handle, raw.reported, raw.whole

-- ---- responses in parts -------------------------------------------------------------------------

-- Gives the parts one after another.
local function parts_of(...)
  local list, i = { ... }, 0
  return function()
    i = i + 1
    return list[i]
  end
end

test("a stream is sent in chunks, with its length, or to the end of the connection", function()
  local headers
  local port = start(function()
    return http.response { stream = parts_of("ab", "", 1, "cd"), headers = headers,
      status = 201 }
  end)
  local peer = raw.connect(port)
  peer:send(GET)
  test.eq(peer:read_until "0\r\n\r\n":gsub("Date: [^\r\n]*\r\n", ""),
    "HTTP/1.1 201 Created\r\nContent-Type: application/octet-stream\r\n"
    .. "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\n1\r\n2\r\ncd\r\n0\r\n\r\n")
  peer:send "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
  test.contains(peer:read_response(true), "Transfer-Encoding: chunked")
  headers = { ["Content-Length"] = 5, ["Content-Type"] = "text/x" }
  peer:send(GET)
  test.eq(peer:read_response(), "HTTP/1.1 201 Created\r\nContent-Type: text/x\r\n"
    .. "Content-Length: 5\r\n\r\nab1cd")
  headers = nil
  peer = raw.connect(port):send "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
  local head, body = whole(peer)
  test.eq({ head:find "Transfer%-Encoding", head:find "Content%-Length" }, {})
  test.contains(head, "Connection: close")
  test.eq(body, "ab1cd")
end)

test("a stream may be anything with chunks, and is closed at its end", function()
  local dir = test.tmpdir()
  test.write(dir .. "/f", ("x"):rep(100000))
  local file
  local port = start(function()
    file = fs.open(dir .. "/f")
    return http.response { stream = file, headers = { ["Content-Length"] = 100000 } }
  end)
  local answer = raw.answer(port, GET)
  test.eq(#answer:match "\r\n\r\n(.*)$", 100000)
  test.turns()
  test.raises("InvalidStateError", file.read, file)
end)

test("the head goes out before a stream has anything to send", function()
  local queue = async.Queue()
  local port = start(function()
    return http.response { stream = function() return queue:get() end }
  end)
  local peer = raw.connect(port):send(GET)
  test.matches(peer:read_until "\r\n\r\n", "^HTTP/1.1 200 ")
  queue:put "hello"
  test.eq(peer:read_until "hello\r\n", "5\r\nhello\r\n")
  queue:put(nil)
  test.eq(peer:read_until "0\r\n\r\n", "0\r\n\r\n")
end)

test("errors of a stream: before the first byte a 500, after it the connection is cut", function()
  local function failing(after)
    return function()
      after = after - 1
      if after < 0 then error "broken" end
      return "x"
    end
  end
  local port = start(function(req)
    if req.path == "/none" then return http.response { stream = 42 } end
    if req.path == "/part" then return http.response { stream = parts_of(true) } end
    return http.response { stream = failing(tonumber(req.path:sub(2))),
      headers = req.query.length and { ["Content-Length"] = req.query.length } }
  end)
  local peer = raw.connect(port)
  for _, path in ipairs { "/0", "/none", "/part", "/0?length=5" } do
    peer:send("GET " .. path .. " HTTP/1.1\r\nHost: a\r\n\r\n")
    test.matches(peer:read_response(), "^HTTP/1.1 500 .*Internal Server Error$")
    test.contains(reported()[1], "error in the response of GET " .. path)
  end
  peer:send "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
  local _, body = whole(peer)
  test.eq(body, "1\r\nx\r\n1\r\nx\r\n")
  test.contains(reported()[1], "broken")
  -- Without chunks the end would look like the end: it is a reset.
  peer = raw.connect(port):send "GET /2 HTTP/1.0\r\n\r\n"
  test.raises("OSError", peer.read_all, peer)
  reported()
end)

test("what a streamed answer leaves of a body is drained up to a bound", function()
  local go_on = async.Event()
  local port = start(function(req)
    if req.path == "/whole" then return "whole" end
    return http.response { stream = function()
      if go_on:is_set() then return nil end
      go_on:set()
      return "part"
    end }
  end)
  local function post(path, size)
    go_on:clear()
    local peer = raw.connect(port)
    peer:send(("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\nsome"):format(path, size))
    return peer, peer:read_until "\r\n\r\n"
  end
  local peer, head = post("/", 262144)
  test.eq(head:find "Connection: close", nil)
  test.eq(peer:read_until "0\r\n\r\n", "4\r\npart\r\n0\r\n\r\n")
  peer:send(("x"):rep(262140)):send "GET /whole HTTP/1.1\r\nHost: a\r\n\r\n"
  test.matches(peer:read_response(), "whole$")
  test.contains(select(2, post("/", 262149)), "Connection: close\r\n")
  -- One that is complete knows that nothing more will be read.
  test.contains(select(2, post("/whole", 65541)), "Connection: close\r\n")
  test.eq(select(2, post("/whole", 65540)):find "Connection: close", nil)
end)

test("a stream that never waits needs no task that watches its client", function()
  local seen = {}
  local function watchers()
    local n = 0
    for _, task in ipairs(async.all_tasks()) do
      if task:name():find "^watch over" then n = n + 1 end
    end
    return n
  end
  local port = start(function(req)
    local i = 0
    return http.response { [req.path:sub(2)] = function()
      i = i + 1
      if i == 3 then test.turns(2) end
      seen[#seen + 1] = watchers()
      if i < 5 then return "part" end
    end }
  end)
  for _, kind in ipairs { "stream", "sse" } do
    seen = {}
    local body = ("4\r\npart\r\n"):rep(4)
    if kind == "sse" then body = ("c\r\ndata: part\n\n\r\n"):rep(4) end
    local peer = raw.connect(port):send(("GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"):format(kind))
    peer:read_until "\r\n\r\n"
    test.eq(peer:read_until "\r\n0\r\n\r\n", body .. "0\r\n\r\n")
    test.eq(seen, { 0, 0, 1, 1, 1 })
    test.turns()
    test.eq(watchers(), 0)
  end
end)

test("small parts and large ones come in their order", function()
  local sizes = { 1, 16384, 5, 100000, 16383, 1, 0, 2, 40000 }
  local port = start(function(req)
    local i = 0
    return http.response { stream = function()
      i = i + 1
      if req.path == "/slowly" then async.sleep(0) end
      return sizes[i] and (tostring(i)):rep(sizes[i])
    end }
  end)
  local want = {}
  for i, size in ipairs(sizes) do
    if size > 0 then
      want[#want + 1] = ("%x\r\n%s\r\n"):format(size, tostring(i):rep(size))
    end
  end
  want = table.concat(want) .. "0\r\n\r\n"
  for _, path in ipairs { "/", "/slowly" } do
    local peer = raw.connect(port)
    for _ = 1, 2 do
      peer:send(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path))
      peer:read_until "\r\n\r\n"
      assert(peer:read_until "\r\n0\r\n\r\n" == want)
    end
  end
end)

test("a stream that does not have the length that was announced is cut", function()
  local port = start(function(req)
    return http.response { stream = parts_of("abc", "def"),
      headers = { ["Content-Length"] = req.path:sub(2) } }
  end)
  local _, body = whole(raw.connect(port):send "GET /9 HTTP/1.1\r\nHost: a\r\n\r\n")
  test.eq(body, "abcdef")
  test.contains(reported()[1], "the body is shorter than the 9 bytes of its Content-Length")
  _, body = whole(raw.connect(port):send "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n")
  test.eq(body, "abc")
  test.contains(reported()[1], "the body is longer than the 4 bytes of its Content-Length")
end)

test("a stream waits for a slow client, and its memory stays bounded", { limit = 3 }, function()
  local made = 0
  local port = start(function()
    return http.response { stream = function()
      made = made + 1
      return made <= 1000 and ("x"):rep(65536) or nil
    end }
  end)
  local peer = raw.connect(port):send(GET)
  for _ = 1, 30 do async.sleep(0.002) end
  assert(made < 500, "it did not wait: " .. made)
  local last = ""
  repeat last = (last .. peer.socket:read()):sub(-7) until last == "\r\n0\r\n\r\n"
  test.eq(made, 1001)
end)

test("a stream is ended and closed when its client goes", function()
  local log = test.log()
  local closed = async.Event()
  local port = start(function(req)
    local queue = async.Queue()
    return http.response { stream = {
      chunks = function()
        return function()
          if req.path == "/busy" then return ("x"):rep(1000) end
          return queue:get()
        end
      end,
      close = function()
        log("closed", req.path)
        closed:set()
      end,
    } }
  end)
  for _, case in ipairs { { "/busy", "abort" }, { "/silent", "abort" }, { "/silent", "close" } } do
    local peer = raw.connect(port):send("GET " .. case[1] .. " HTTP/1.1\r\nHost: a\r\n\r\n")
    peer:read_until "\r\n\r\n"
    peer[case[2]](peer)
    closed:wait()
    closed:clear()
  end
  test.eq(log, { "closed /busy", "closed /silent", "closed /silent" })
  test.eq(#test.reports(), 0)
end)

test("who half-closes gets the rest of a stream", function()
  local port = start(function()
    local n = 0
    return http.response { stream = function()
      n = n + 1
      async.sleep(0.001)
      return n <= 20 and "x" or nil
    end }
  end)
  local peer = raw.connect(port):send "GET / HTTP/1.0\r\n\r\n"
  peer:finish()
  local _, body = whole(peer)
  test.eq(body, ("x"):rep(20))
end)

test("a stream may read the request while it answers", function()
  local port = start(function(req)
    local chunks = req:chunks()
    return http.response { stream = function()
      local chunk = chunks()
      return chunk and chunk:upper()
    end }
  end)
  local peer = raw.connect(port):send(POST .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
  test.matches(peer:read_until "ABC\r\n", "3\r\nABC\r\n$")
  peer:send "2\r\nde\r\n0\r\n\r\n"
  test.eq(peer:read_until "0\r\n\r\n", "2\r\nDE\r\n0\r\n\r\n")
  peer:send(POST .. "Content-Length: 1\r\n\r\nf")
  test.matches(peer:read_until "0\r\n\r\n", "1\r\nF\r\n0\r\n\r\n$")
end)

test("trailers of a response", function()
  local port = start(function(req)
    if req.path == "/text" then
      return http.response { body = "abc", trailers = { ["X-A"] = 1 } }
    end
    return http.response { stream = parts_of "abc",
      trailers = function() return { ["X-B"] = "c" } end }
  end)
  local peer = raw.connect(port):send "GET /text HTTP/1.1\r\nHost: a\r\n\r\n"
  local text = peer:read_until "X-A: 1\r\n\r\n"
  test.contains(text, "Trailer: X-A\r\n")
  test.contains(text, "\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\n\r\n")
  peer:send(GET)
  test.contains(peer:read_until "X-B: c\r\n\r\n", "3\r\nabc\r\n0\r\nX-B: c\r\n\r\n")
end)

-- ---- events -------------------------------------------------------------------------------------

test("events are sent one by one", function()
  local queue = async.Queue()
  local port = start(function()
    return http.response { sse = function() return queue:get() end }
  end)
  local peer = raw.connect(port):send(GET)
  local head = peer:read_until "\r\n\r\n"
  test.contains(head, "Content-Type: text/event-stream\r\n")
  test.contains(head, "Cache-Control: no-cache\r\n")
  local function event(value, expected)
    queue:put(value)
    local text = peer:read_until "\n\n\r\n"
    test.eq(text:match "^%x+\r\n(.*)\r\n$", expected)
  end
  event("hello", "data: hello\n\n")
  event("two\nlines\r\nthree\rfour\n",
    "data: two\ndata: lines\ndata: three\ndata: four\ndata: \n\n")
  event({ event = "x", id = 7, retry = 100, data = "d", comment = "c" },
    ": c\nevent: x\nid: 7\nretry: 100\ndata: d\n\n")
  event({ comment = "just so" }, ": just so\n\n")
  queue:put { event = "a\nb" }
  peer:read_all()
  test.contains(reported()[1], "an event's 'event' cannot be 'a?b'")
end)

test("a silent stream of events says now and then that it is there, and ends with its peer",
  function()
    local sender = require "rille.http.sender"
    local pause = sender.SSE_PAUSE
    sender.SSE_PAUSE = 0.01
    test.defer(function() sender.SSE_PAUSE = pause end)
    local ended = async.Event()
    local port = start(function()
      return http.response { sse = function()
        async.finally(function() async.sleep(1000) end, function() ended:set() end)
      end }
    end)
    local peer = raw.connect(port):send(GET)
    peer:read_until "3\r\n:\n\n\r\n3\r\n:\n\n\r\n"
    peer:close()
    ended:wait()
  end)
