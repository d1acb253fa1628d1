-- Sessions: connections that are kept, redirects, cookies, bodies that stream.
local async, test = require "rille.async", require "support.test"
local errors, http, net = require "rille.errors", require "rille.http", require "rille.net"
local process = require "rille.process"
local compress = require "rille.core.compress"
local tls = require "support.tls"

-- A server that hands each request, as { head =, body =, connection =, count = }, to `fn`, which
-- gives the bytes to answer with; false closes the connection.
local function serve(fn)
  local connections = 0
  local listener = net.listen { port = 0 }
  local server = async.spawn(listener.serve, listener, function(stream)
    connections = connections + 1
    local connection, count = connections, 0
    while true do
      local ok, head = pcall(stream.read_until, stream, "\r\n\r\n")
      if not ok then return end
      count = count + 1
      local length = tonumber(head:match "Content%-Length: (%d+)") or 0
      local answered, bytes = pcall(function()
        return fn {
          head = head, body = stream:read_exactly(length), connection = connection, count = count,
          stream = stream,
        }
      end)
      if not answered and not errors.is(bytes, "IncompleteReadError") then error(bytes, 0) end
      if not answered or not bytes then return end
      stream:write(bytes)
    end
  end)
  test.defer(function()
    listener:close(0)
    async.wait { server }
  end)
  local port = listener:address().port
  return "http://127.0.0.1:" .. port, function() return connections end
end

local function answer(body, fields)
  return ("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s"):format(#body, fields or "", body)
end

local function session(options)
  local s = http.Session(options)
  test.defer(function() s:close() end)
  return s
end

-- ---- connections --------------------------------------------------------------------------------

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

-- The second request like another takes a shorter way.
local function second(answer_second, options)
  local base, connections = serve(function(r)
    if r.count == 1 or r.connection > 1 then return answer "first" end
    return answer_second(r)
  end)
  local s = session(options)
  test.eq(s:get(base):text(), "first")
  return s, base, connections
end

test("a request made again fails as the first one does", function()
  local function never() async.sleep(5) end
  local s, base = second(never, { timeout = { total = 0.01 } })
  local e = test.raises("TimeoutError", s.get, s, base)
  test.eq({ e.phase, e.url }, { "total", base .. "/" })
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")

  s, base = second(never)
  local request = async.spawn(s.get, s, base)
  async.sleep(0.005)
  request:cancel()
  async.wait { request }
  test.eq({ request:cancelled(), tostring(s) },
    { true, "Session: 0 connections in use, 0 idle" })
  s, base = second(never)
  e = test.raises("TimeoutError", async.wait_for, s.get, 0.01, s, base)
  test.eq(e.url, nil) -- not its own

  s, base = second(function() return "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234" end)
  request = async.spawn(s.get, s, base)
  async.sleep(0.005)
  s:close()
  test.raises("InvalidStateError", request.await, request)

  s, base = second(function() return "rubbish\r\n\r\n" end)
  e = test.raises("HTTPError", s.get, s, base)
  test.eq({ e.message, e.url }, { "malformed status line: GET " .. base .. "/", base .. "/" })

  s, base = second(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234"
    return false
  end)
  e = test.raises("HTTPError", s.get, s, base)
  test.contains(e.message, "the connection was closed in the middle of the response")

  s, base = second(function() return answer(("x"):rep(100)) end, { max_body = 50 })
  e = test.raises("HTTPError", s.get, s, base)
  test.contains(e.message, "body too large")
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("a request made again is tried once more, in its time, if its connection ended", function()
  local s, base, connections = second(function(r)
    r.stream:abort()
    return false
  end)
  test.eq({ s:get(base):text(), connections() }, { "first", 2 })

  local asked = 0
  base = serve(function(r)
    asked = asked + 1
    if r.count == 1 and r.connection == 1 then return answer "first" end
    if r.connection > 1 then async.sleep(5) end
    return false
  end)
  s = session { timeout = 0.3 }
  s:get(base)
  local e = test.raises("TimeoutError", s.get, s, base)
  test.eq({ e.phase, asked }, { "total", 3 })
end)

test("a request made again heeds cookies, codings, redirects and Connection: close", function()
  local s, base, connections = second(function(r)
    if r.head:find "Cookie: a=b" then return answer "with a cookie" end
    return answer("x", "Set-Cookie: a=b\r\n")
  end)
  test.eq(s:get(base).cookies, { a = "b" })
  test.eq({ s:get(base):text(), connections() }, { "with a cookie", 1 })

  local bytes = compress.encoder("gzip"):finish "unpacked"
  s, base = second(function() return answer(bytes, "Content-Encoding: gzip\r\n") end)
  test.eq(s:get(base):text(), "unpacked")

  s, base, connections = second(function(r)
    if r.head:find "/there" then return answer "arrived" end
    return "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
  end)
  local response = s:get(base)
  test.eq({ response:text(), response.url, #response.history, connections() },
    { "arrived", base .. "/there", 1, 1 })

  s, base, connections = second(function() return answer("last", "Connection: close\r\n") end)
  test.eq({ s:get(base):text(), s:get(base):text(), connections() }, { "last", "first", 2 })
end)

test("a request made again waits for its turn", function()
  local s, base, connections = second(function(r)
    async.sleep(0.005)
    return answer(tostring(r.count))
  end, { limit = 1 })
  local got = async.map({ 1, 2, 3 }, function() return s:get(base):text() end)
  test.eq({ got[1], got[2], got[3], connections() }, { "2", "3", "4", 1 })
end)

test("a connection rests as long as the session says, counted from its last request", function()
  local base, connections = serve(function() return answer "x" end)
  local s = session { idle_timeout = 0.06 }
  for _ = 1, 4 do
    s:get(base)
    async.sleep(0.03)
  end
  test.eq(connections(), 1)
  async.sleep(0.12)
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
  s:get(base)
  test.eq(connections(), 2)
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

-- ---- redirects ----------------------------------------------------------------------------------

local function redirect(status, location)
  return ("HTTP/1.1 %d Go\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"):format(status, location)
end

test("redirects change the method as browsers do, and keep it where they must", function()
  local seen
  local base = serve(function(r)
    local status = r.head:match "^%S+ /(%d+)"
    if status then return redirect(status, "../end?x") end
    seen = r.head:match "^(%S+)" .. " " .. r.body .. (r.head:match "Content%-Type: (%S+)" or "")
    return answer "end"
  end)
  local s = session()
  for _, case in ipairs {
    { 301, "POST", "GET " }, { 302, "POST", "GET " }, { 303, "POST", "GET " },
    { 303, "PUT", "GET " }, { 303, "HEAD", "HEAD " }, { 301, "PUT", "PUT bodytext/plain" },
    { 307, "POST", "POST bodytext/plain" }, { 308, "PUT", "PUT bodytext/plain" },
  } do
    local has_body = case[2] ~= "HEAD"
    local r = s:request(case[2], base .. "/" .. case[1], {
      body = has_body and "body" or nil,
      headers = has_body and { ["Content-Type"] = "text/plain" } or nil,
    })
    test.eq(seen, case[3], case[1] .. " " .. case[2])
    test.eq({ r.url, #r.history, r.history[1].status }, { base .. "/end?x", 1, case[1] })
  end
end)

test("redirects have an end, and can be looked at", function()
  local base = serve(function() return redirect(302, "/again") end)
  local s = session()
  local e = test.raises("HTTPError", s.get, s, base)
  test.eq(e.message, "more than 10 redirects: GET " .. base .. "/again")
  test.eq(e.response.status, 302)
  for _, none in ipairs { 0, false } do
    test.eq(s:get(base, { redirects = none }).headers.location, "/again")
  end
  local ftp = serve(function() return redirect(302, "ftp://127.0.0.1/") end)
  test.contains(test.raises("HTTPError", s.get, s, ftp).message,
    "the redirect goes nowhere (scheme 'ftp' is not supported")
end)

test("a redirect to another origin takes no secrets along", function()
  local seen
  local other = serve(function(r)
    seen = r.head
    return answer "there"
  end)
  local base = serve(function(r)
    seen = r.head
    return redirect(302, other .. "/x")
  end)
  local s = session { cookies = { c = "secret" }, auth = { bearer = "secret" } }
  s:get(base, { headers = { Cookie = "d=secret", ["X-Mine"] = "kept" }, redirects = 0 })
  test.contains(seen, "secret")
  test.eq(s:get(base, { headers = { Cookie = "d=secret", ["X-Mine"] = "kept" } }):text(), "there")
  test.eq(seen:find "secret", nil)
  test.contains(seen, "X-Mine: kept")
end)

-- ---- cookies, auth ------------------------------------------------------------------------------

test("a session keeps cookies, and sends them where they belong", function()
  local seen
  local base = serve(function(r)
    seen = r.head:match "Cookie: ([^\r]*)" or ""
    return answer("x", "Set-Cookie: a=1; Path=/deep\r\nSet-Cookie: b=2; Max-Age=60; Path=/\r\n"
      .. "Set-Cookie: c=3; Path=/; Secure\r\nSet-Cookie: d=4; Path=/; Domain=example.com\r\n")
  end)
  local s = session { cookies = { mine = "0" } }
  local r = s:get(base .. "/deep/page")
  test.eq({ r.cookies.a, r.cookies.d, s.cookies:get "a", s.cookies:get "c" }, { "1", "4", "1" })
  s:get(base .. "/deep/other")
  test.eq(seen, "a=1; mine=0; b=2")
  s:get(base .. "/")
  test.eq(seen, "mine=0; b=2")
  s.cookies:clear "mine"
  s.cookies:set("e", "5")
  s:get(base .. "/")
  test.eq(seen, "b=2; e=5")
  s.cookies:clear()
  s:get(base .. "/")
  test.eq(seen, "")
  http.get(base .. "/")
  http.get(base .. "/")
  test.eq(seen, "")
end)

test("a cookie ends when its server says so", function()
  local set = "Set-Cookie: a=1; Path=/\r\n"
  local seen
  local base = serve(function(r)
    seen = r.head:match "Cookie: ([^\r]*)" or ""
    return answer("x", set)
  end)
  local s = session()
  for _, ending in ipairs {
    "Max-Age=0", "Max-Age=-1", "Expires=Thu, 01 Jan 1970 00:00:00 GMT",
    "Expires=Sunday, 06-Nov-94 08:49:37 GMT", "expires=Sun Nov  6 08:49:37 1994",
  } do
    set = "Set-Cookie: a=1; Path=/; Expires=Wed, 01 Jan 2098 00:00:00 GMT\r\n"
    s:get(base)
    set = "Set-Cookie: a=1; Path=/; " .. ending .. "\r\n"
    s:get(base)
    test.eq(seen, "a=1", ending)
    set = ""
    s:get(base)
    test.eq(seen, "", ending)
  end
end)

test("credentials come from options or from the URL, and are in no error", function()
  local seen
  local base = serve(function(r)
    seen = r.head:match "Authorization: ([^\r]*)"
    return answer "x"
  end)
  local s = session { auth = { user = "Aladdin", password = "open sesame" } }
  s:get(base)
  test.eq(seen, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
  s:get(base, { auth = { bearer = "t0ken" } })
  test.eq(seen, "Bearer t0ken")
  local r = s:get((base:gsub("//", "//u%%40:p@")))
  test.eq(seen, "Basic dUA6cA==")
  test.eq(r.url, base .. "/")
  local e = test.raises("OSError", s.get, s, "http://user:secret@127.0.0.1:1/")
  test.eq(e.url, "http://127.0.0.1:1/")
  test.blames_caller("a user name has no colon",
    function() s:get(base, { auth = { user = "a:b" } }) end)
end)

test("base_url, headers and timeouts of the session are defaults", function()
  local seen
  local base = serve(function(r)
    seen = r.head
    if r.head:find "/slow" then async.sleep(5) end
    return answer "x"
  end)
  local s = session {
    base_url = base .. "/api", headers = { ["X-A"] = "1", ["X-B"] = "1" },
    timeout = { total = 0.02 },
  }
  s:get("items?q", { headers = { ["x-b"] = "2" } })
  test.contains(seen, "GET /api/items?q HTTP/1.1\r\n")
  test.contains(seen, "X-A: 1\r\n")
  test.contains(seen, "x-b: 2\r\n")
  test.eq(seen:find "X%-B", nil)
  s:get "/top"
  test.contains(seen, "GET /top HTTP/1.1\r\n")
  test.eq(test.raises("TimeoutError", s.get, s, "slow").phase, "total")
  test.raises("HTTPError", http.Session, { base_url = "nowhere" })
  test.blames_caller("unknown option 'baseurl'", function() http.Session { baseurl = "" } end)
  test.blames_caller("true, false or 'prior' expected",
    function() http.Session { http2 = "yes" } end)
end)

-- ---- bodies -------------------------------------------------------------------------------------

local function echo()
  local base = serve(function(r)
    if r.head:find "Transfer%-Encoding: chunked" then
      local parts = {}
      while true do
        local size = tonumber(r.stream:read_until "\r\n":match "%x+", 16)
        parts[#parts + 1] = r.stream:read_exactly(size)
        r.stream:read_exactly(2)
        if size == 0 then break end
      end
      return answer("chunked " .. table.concat(parts, "|"))
    end
    return answer(r.body)
  end)
  return base
end

test("a body may be a function, or anything with chunks()", function()
  local base, s = echo(), session()
  local n = 0
  local function pieces()
    n = n + 1
    return ({ "a", "", 7, "bc" })[n]
  end
  test.eq(s:post(base, { body = pieces }):text(), "chunked a|7|bc|")
  n = 0
  test.eq(s:post(base, { body = pieces, headers = { ["Content-Length"] = 4 } }):text(), "a7bc")
  local closed = 0
  local source = {
    chunks = function()
      local left = 2
      return function()
        left = left - 1
        if left >= 0 then return "x" end
      end
    end,
    close = function() closed = closed + 1 end,
  }
  test.eq(s:post(base, { body = source }):text(), "chunked x|x|")
  test.eq(closed, 1)
end)

test("a body that is not what was said fails, and leaves no connection behind", function()
  local base, s = echo(), session()
  local function body(text)
    local given = false
    return function()
      if given then return nil end
      given = true
      return text
    end
  end
  local headers = { ["Content-Length"] = 4 }
  for text, message in pairs {
    abc = "the body ended 1 bytes before its Content-Length",
    abcde = "the body is longer than its Content-Length",
  } do
    local e = test.raises("HTTPError", s.post, s, base, { body = body(text), headers = headers })
    test.contains(e.message, message)
  end
  test.raises("of type boolean, not a string", s.post, s, base, { body = body(true) })
  test.raises("oops", s.post, s, base, { body = function() error "oops" end })
  local used, resting = s._pool:counts()
  test.eq({ used, resting }, { 0, 0 })
end)

test("multipart: texts and files, as servers read them", function()
  local dir = test.tmpdir()
  test.write(dir .. "/report.txt", ("line\n"):rep(20000))
  local seen
  local base = serve(function(r)
    seen = r
    if r.head:find "chunked" then
      local parts = {}
      while true do
        local size = tonumber(r.stream:read_until "\r\n":match "%x+", 16)
        parts[#parts + 1] = r.stream:read_exactly(size)
        r.stream:read_exactly(2)
        if size == 0 then break end
      end
      r.body = table.concat(parts)
    end
    return answer "x"
  end)
  local s = session()
  s:post(base, { multipart = { b = "2", ['a"'] = { data = "1", content_type = "text/x" } } })
  local mark = seen.head:match "multipart/form%-data; boundary=(%S+)"
  test.eq(seen.body, (([[
--MARK
Content-Disposition: form-data; name="a%22"
Content-Type: text/x

1
--MARK
Content-Disposition: form-data; name="b"

2
--MARK--
]]):gsub("MARK", (mark:gsub("%-", "%%-"))):gsub("%%%-", "-"):gsub("\n", "\r\n")))
  s:post(base, { multipart = { { name = "f", file = dir .. "/report.txt" } } })
  test.contains(seen.body, 'name="f"; filename="report.txt"\r\n')
  test.contains(seen.body, "\r\nContent-Type: application/octet-stream\r\n\r\n")
  test.contains(seen.body, ("line\n"):rep(20000) .. "\r\n--")
  local e = test.raises("OSError", s.post, s, base,
    { multipart = { { name = "f", file = dir .. "/none" } } })
  test.eq({ e.code, e.path }, { "ENOENT", dir .. "/none" })
  test.blames_caller("part 1: one of data and file expected",
    function() s:post(base, { multipart = { { name = "f" } } }) end)
end)

test("Expect: 100-continue waits for leave, and takes a refusal", function()
  local base = serve(function(r)
    if r.head:find "POST /no" then return "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n" end
    r.stream:write "HTTP/1.1 100 Continue\r\n\r\n"
    return answer(r.stream:read_until "0\r\n\r\n")
  end)
  local s = session()
  local given
  local function post(path)
    given = 0
    return s:post(base .. path, {
      body = function()
        given = given + 1
        if given == 1 then return "abcd" end
      end,
      headers = { Expect = "100-continue" },
    })
  end
  test.eq(post("/no").status, 413)
  test.eq(given, 0)
  test.eq(post("/yes"):text(), "4\r\nabcd\r\n0\r\n\r\n")
end)

test("compressed bodies are decoded, whole and in pieces", function()
  local text = ("The same line again and again.\n"):rep(5000)
  local coding
  local base = serve(function(r)
    local e = compress.encoder(coding)
    local bytes = e:finish(text)
    if r.head:find "/cut" then bytes = bytes:sub(1, -9) end
    if r.head:find "/bad" then bytes = bytes:sub(1, 20) .. ("\255"):rep(50) .. bytes:sub(71) end
    if r.head:find "/more" then bytes = bytes .. "garbage" end
    return answer(bytes, "Content-Encoding: " .. coding .. "\r\n")
  end)
  local s = session()
  for name in compress.accepted:gmatch "[%w]+" do
    coding = name
    test.eq(s:get(base):text(), text, name)
    local parts = {}
    for piece in s:get(base, { stream = true }):chunks() do parts[#parts + 1] = piece end
    test.eq(table.concat(parts), text, name)
    for _, path in ipairs { "/cut", "/bad", "/more" } do
      local e = test.raises("HTTPError", s.get, s, base .. path)
      test.contains(e.message, "compressed body")
      test.eq(e.url, base .. path)
    end
    local e = test.raises("HTTPError", s.get, s, base, { max_body = 1000 })
    test.contains(e.message, "the body is longer than 1000 bytes")
  end
end)

test("a body of several codings, and one that nobody knows", function()
  local text = ("abc"):rep(1000)
  local fields, bytes
  local base = serve(function() return answer(bytes, fields) end)
  local s = session()
  bytes = compress.encoder("br"):finish(compress.encoder("gzip"):finish(text))
  fields = "Content-Encoding: gzip, br\r\n"
  test.eq(s:get(base):text(), text)
  bytes, fields = "raw", "Content-Encoding: mine\r\n"
  test.eq(s:get(base):text(), "raw")
  bytes, fields = "", "Content-Encoding: gzip\r\n"
  test.eq(s:get(base):text(), "")
end)

-- ---- responses that stream ----------------------------------------------------------------------

test("a streamed response is read as it comes, and frees its connection at its end", function()
  local go_on = async.Event()
  local base, connections = serve(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    go_on:wait()
    return "6\r\nsecond\r\n0\r\n\r\n"
  end)
  local s = session()
  local r = s:get(base, { stream = true })
  local chunks = r:chunks()
  test.eq(chunks(), "first")
  test.eq(tostring(s), "Session: 1 connections in use, 0 idle")
  go_on:set()
  test.eq(chunks(), "second")
  test.eq(chunks(), nil)
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
  s:get(base)
  test.eq(connections(), 1)
  test.raises("InvalidStateError", r.text, r)
end)

test("a streamed response is dropped by close, by with, and at the end of its task", function()
  local base = serve(function()
    return "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" .. ("x"):rep(100000)
  end)
  local s = session()
  local r = s:get(base, { stream = true })
  r:close()
  r:close()
  test.raises("InvalidStateError", r.bytes, r)
  async.with(s:get(base, { stream = true }), function(inner)
    test.eq(inner:chunks()():sub(1, 1), "x")
  end)
  local t = async.spawn(function()
    s:get(base, { stream = true })
    return "done"
  end)
  test.eq(t:await(), "done")
  test.turns(3)
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("a slow reader holds the server up, and memory stays bounded", function()
  local written = 0
  local base = serve(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"
    local piece = ("x"):rep(1048576)
    pcall(function()
      for _ = 1, 900 do
        r.stream:write(piece)
        written = written + 1
      end
    end)
    return false
  end)
  local s = session()
  local r = s:get(base, { stream = true })
  local before
  repeat
    before = written
    async.sleep(0.05)
  until written == before
  assert(written < 100, written)
  r:close()
end)

test("lines and events of a response", function()
  local base = serve(function(r)
    if r.head:find "/lines" then return answer "one\ntwo\r\n\nlast" end
    return answer("\239\187\191: comment\nid: 7\ndata: a\ndata:  b\n\nevent: ping\r\ndata\r\n\r\n"
      .. "retry: 10\nid: 8\ndata:x\n\ndata: cut")
  end)
  local s = session()
  for _, options in ipairs { {}, { stream = true } } do
    local lines = {}
    for line in s:get(base .. "/lines", options):lines() do lines[#lines + 1] = line end
    test.eq(lines, { "one", "two\r", "", "last" })
    local events = {}
    for event in s:get(base, options):events() do events[#events + 1] = event end
    test.eq(events, {
      { data = "a\n b", event = "message", id = "7" }, { data = "", event = "ping", id = "7" },
      { data = "x", event = "message", id = "8", retry = 10 },
    })
  end
  test.raises("LimitOverrunError", function()
    for _ in s:get(base .. "/lines", { stream = true }):lines(2) do local _ = nil end
  end)
end)

test("trailers are there once the body has been read, with and without stream", function()
  local base, connections = serve(function(r)
    local last = r.head:find "/none" and "" or "Sum: 1\r\nX:  a \r\nx: b\r\n"
    return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
      .. "3\r\nabc\r\n0\r\n" .. last .. "\r\n"
  end)
  local s = session()
  for _ = 1, 3 do -- by a connection that is new, and by one that has rested
    for _, options in ipairs { false, { stream = true } } do
      local response = s:get(base .. "/some", options or nil)
      if options then test.eq(response.trailers.sum, nil) end
      test.eq(response:text(), "abc")
      test.eq({ response.trailers.sum, response.trailers.X }, { "1", "a, b" })
      test.eq(response.trailers:get_all "x", { "a", "b" })
      response = s:get(base .. "/none", options or nil)
      test.eq({ response:text(), response.trailers.sum }, { "abc" })
    end
  end
  test.eq(connections(), 1)
  local own = http.serve { handler = function()
    return http.response { body = "abc", trailers = { Sum = "6" } }
  end }
  test.defer(function() own:close(0) end)
  test.eq(s:get("http://127.0.0.1:" .. own.port).trailers.sum, "6")
end)

test("a streamed response that nobody has any more gives its place back", function()
  local base = serve(function(r)
    if r.head:find "/short" then return answer "short" end
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    r.stream:read()
    return false
  end)
  local s = session { limit = 1 }
  for _ = 1, 3 do
    local function drop() s:get(base, { stream = true }):chunks()() end
    drop()
    collectgarbage()
    collectgarbage()
    test.eq(s:get(base .. "/short"):text(), "short")
  end
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
  -- One that is in use keeps it, whatever the collector does.
  local response = s:get(base, { stream = true })
  collectgarbage()
  collectgarbage()
  local pieces = response:chunks()
  test.eq({ pieces(), tostring(s) }, { "half", "Session: 1 connections in use, 0 idle" })
  response:close()
end)

test("a response that is dropped unread is told of in debug mode, and one that is closed is not",
  function()
    local base = serve(function() return answer "x" end)
    local program = ([[
      local http = require "rille.http"
      local s = http.Session { limit = 1 }
      local function ask(close)
        local response = s:get("%s", { stream = true })
        if close then response:close() end
      end
      ask(true)
      ask(false)
      collectgarbage()
      collectgarbage()
      s:get("%s")]]):format(base, base)
    local path = test.write(test.tmpdir() .. "/script.lua", program)
    local result = process.run { test.executable(), "--debug", path, timeout = 30 }
    test.eq({ result.code, result.stderr },
      { 0, ("rille: unclosed response: GET %s/\nmade at %s:4\n"):format(base, path) })
    test.eq(process.run({ test.executable(), path, timeout = 30 }).stderr, "")
  end)

test("timeouts bound a streamed body too, and the pauses in it", function()
  local base = serve(function(r)
    r.stream:write "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"
    async.sleep(5)
  end)
  local s = session()
  for name in pairs { total = true, read = true } do
    local r = s:get(base, { stream = true, timeout = { [name] = 0.02 } })
    local e = test.raises("TimeoutError", r.bytes, r)
    test.eq({ e.phase, e.url }, { name, base .. "/" })
  end
  local e = test.raises("TimeoutError", s.get, s, base, { timeout = { read = 0.02 } })
  test.eq(e.phase, "read")
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("a server that answers and closes before it has read everything is heard", function()
  local base = serve(function(r)
    r.stream:write "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig"
    r.stream:shutdown()
    return false
  end)
  local s = session()
  local left = 400
  local r = s:post(base, {
    body = function()
      left = left - 1
      if left > 0 then return ("x"):rep(100000) end
    end,
  })
  test.eq({ r.status, r:text() }, { 413, "big" })
end)

-- ---- ways ---------------------------------------------------------------------------------------

test("requests go over Unix sockets", function()
  local path = test.tmpdir() .. "/s"
  local listener = net.listen { path = path }
  local server = async.spawn(listener.serve, listener, function(stream)
    while pcall(function()
      local head = stream:read_until "\r\n\r\n"
      stream:write(answer(head:match "GET (%S+)" .. " " .. head:match "Host: (%S+)"))
    end) do local _ = nil end
  end)
  local escaped = path:gsub("/", "%%2F")
  test.eq(http.get("http+unix://" .. escaped .. "/a?b"):text(), "/a?b localhost")
  local s = session { path = path, base_url = "http://name/" }
  test.eq(s:get("c"):text(), "/c name")
  test.eq(s:get("d"):text(), "/d name")
  s:close()
  listener:close(0)
  async.wait { server }
  local e = test.raises("OSError", http.get, "http+unix://" .. escaped .. "/")
  test.eq({ e.code, e.syscall }, { "ENOENT", "connect" })
end)

test("a proxy is asked for whole URLs, with its own credentials", function()
  local seen
  local proxy = serve(function(r)
    seen = r.head
    return answer "by proxy"
  end)
  local s = session { proxy = (proxy:gsub("//", "//me:pw@")), no_proxy = "internal.test, .local" }
  test.eq(s:get("http://far.test/x?y"):text(), "by proxy")
  test.contains(seen, "GET http://far.test/x?y HTTP/1.1\r\nHost: far.test\r\n")
  test.contains(seen, "Proxy-Authorization: Basic bWU6cHc=\r\n")
  local direct = serve(function() return answer "direct" end)
  test.eq(s:get(direct, { proxy = false }):text(), "direct")
  test.eq(s:get(direct, { no_proxy = "127.0.0.1" }):text(), "direct")
  local e = test.raises("OSError", s.get, s, "http://a.b.internal.test/")
  test.eq(e.syscall, "getaddrinfo")
end)

test("a proxy that refuses a tunnel is an HTTPError", function()
  local seen
  local proxy = serve(function(r)
    seen = r.head
    return "HTTP/1.1 403 Not you\r\nContent-Length: 0\r\n\r\n"
  end)
  local e = test.raises("HTTPError", http.get, "https://far.test/", { proxy = proxy })
  test.contains(e.message, "refused the connection to far.test:443: 403 Not you")
  test.eq(e.url, "https://far.test/")
  test.contains(seen, "CONNECT far.test:443 HTTP/1.1\r\nHost: far.test:443\r\n")
  assert(errors.is(e, "HTTPError"))
end)

test("a file as the body goes with its length, in a form too", function()
  local fs = require "rille.fs"
  local path = test.tmpdir() .. "/f"
  fs.write_file(path, ("0123456789"):rep(20000))
  local heads = {}
  local base = serve(function(r)
    heads[#heads + 1] = r.head
    if r.head:find "Transfer%-Encoding" then
      return answer(r.stream:read_until "\r\n0\r\n\r\n")
    end
    return answer(r.body)
  end)
  local s = session()
  async.with(fs.open(path, "rb"), function(file)
    file:read(5)
    local response = s:put(base, { body = file })
    test.eq({ #response:bytes(), response:text():sub(1, 5) }, { 199995, "56789" })
    test.contains(heads[1], "Content-Length: 199995\r\n")
  end)
  local parts = { { name = "a", data = "1" }, { name = "f", file = path } }
  test.contains(s:post(base, { multipart = parts }):text(), ("0123456789"):rep(20000))
  test.eq({ heads[2]:find "Content%-Length: %d+\r\n" ~= nil, heads[2]:find "Transfer%-Enc" },
    { true, nil })
  async.with(fs.open(path, "rb"), function(file)
    parts[2].file = file
    test.contains(s:post(base, { multipart = parts }):text(), ("0123456789"):rep(20000))
  end)
  test.contains(heads[3], "Content-Length: ")
  local e = test.raises("OSError", s.post, s, base, { multipart = { f = { file = path .. "x" } } })
  test.eq({ e.code, e.url }, { "ENOENT", base .. "/" })
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

-- ---- answers that come before the request has ended ---------------------------------------------

-- Gives the pieces of a list, after a turn of the loop each.
local function slowly(list)
  local i = 0
  return function()
    async.sleep(0)
    i = i + 1
    return list[i]
  end
end

test("a connection on which a body was not sent to its end serves nobody else", function()
  local base, connections = serve(function(r) return answer(r.head:match "^%S+ %S+") end)
  local s = session()
  local never, pieces = async.Future(), slowly { "some" }
  local r = s:post(base, { body = function() return pieces() or never:await() end, timeout = 5 })
  test.eq(r:text(), "POST /")
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
  test.eq(s:get(base):text(), "GET /")
  test.eq(connections(), 2)
  -- A refusal in the place of a 100 leaves the body unsent as well.
  base, connections = serve(function(request)
    if request.head:find "^GET" then return answer "x" end
    return "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n"
  end)
  local headers = { Expect = "100-continue" }
  test.eq(s:post(base, { body = slowly { "some" }, headers = headers }).status, 417)
  test.eq(s:get(base):text(), "x")
  test.eq(connections(), 2)
end)

test("a server may answer while it reads: the body goes out to its end", function()
  local server = http.serve {
    handler = function(req) return http.response { stream = req:chunks() } end,
    max_body_bytes = false,
  }
  test.defer(function() server:close(0) end)
  local base, s = "http://127.0.0.1:" .. server.port, session { timeout = 30 }
  for _, stream in ipairs { false, true } do
    test.eq(s:post(base, { body = slowly { "a", "bc", "d" }, stream = stream }):text(), "abcd")
    local big = ("x"):rep(3000000)
    test.eq(#s:post(base, { body = slowly { big, big, big }, stream = stream }):text(), 9000000)
  end
  test.eq(tostring(s), "Session: 0 connections in use, 1 idle")
end)

test("a source of a body has ended when its request has", function()
  local base = serve(function(r)
    r.stream:read_until "never"
    return false
  end)
  local s, ended = session(), false
  local function body()
    async.finally(function() async.sleep(60) end, function()
      async.sleep(0)
      ended = true
    end)
  end
  test.eq((async.move_on_after(0.01, function() s:post(base, { body = body }) end)), false)
  test.eq(ended, true)
  test.eq(tostring(s), "Session: 0 connections in use, 0 idle")
end)

test("the limit for pauses does not count while the request is being sent", function()
  local base = serve(function(r)
    r.stream:read_until "0\r\n\r\n"
    return answer "all"
  end)
  local n = 0
  local function body()
    n = n + 1
    if n > 5 then return nil end
    async.sleep(0.02)
    return "x"
  end
  test.eq(session():post(base, { body = body, timeout = { read = 0.05 } }):text(), "all")
end)

-- ---- what one request leaves to the next --------------------------------------------------------

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

test("the body of a redirect without end is not kept", function()
  local base = serve(function(r)
    if r.head:find "GET /end" then return answer "end" end
    r.stream:write "HTTP/1.1 302 Found\r\nLocation: /end\r\n\r\n"
    local piece = ("x"):rep(65536)
    -- Until the client closes the connection.
    while pcall(r.stream.write, r.stream, piece) do end
    return false
  end)
  local r = session():get(base, { stream = true, timeout = 30 })
  test.eq(r:text(), "end")
  test.eq(r.history[1]:text(), "")
end)

test("what was not verified is not used for a request that verifies", function()
  local server = http.serve { tls = tls.server_options(), handler = function() return "x" end }
  test.defer(function() server:close(0) end)
  local s, url = session(), "https://127.0.0.1:" .. server.port
  for _ = 1, 30 do
    test.eq(s:get(url, { tls = { verify = false } }):text(), "x")
    -- Its context is gone, and another may lie where it lay.
    for _ = 1, 3 do collectgarbage() end
    for _ = 1, 5 do test.raises("TLSError", s.get, s, url, { tls = {} }) end
  end
end)

test("a session with a socket follows redirects as others do, and to no other socket", function()
  local dir = require("rille.fs").mkdtemp()
  test.defer(function() require("rille.fs").remove(dir, { recursive = true }) end)
  local path, seen = dir .. "/x", {}
  local server = http.serve {
    path = path,
    handler = function(req)
      seen[#seen + 1] = { req.path, req.headers.authorization, req.headers.cookie }
      if req.path == "/a" then return http.redirect "/b" end
      if req.path == "/c" then return http.redirect("http+unix://%2Frun%2Fother.sock/") end
      if req.path == "/d" then return http.redirect "http://y/e" end
      return "x"
    end,
  }
  test.defer(function() server:close(0) end)
  local s = session { path = path, auth = { bearer = "t" }, cookies = { k = "v" } }
  test.eq(s:get("http://x/a"):text(), "x")
  test.eq(seen, { { "/a", "Bearer t", "k=v" }, { "/b", "Bearer t", "k=v" } })
  local e = test.raises("HTTPError", s.get, s, "http://x/c")
  test.contains(e.message, "a redirect to a Unix socket is not followed")
  test.eq(s:get("http://x/d"):text(), "x")
  test.eq(seen[5], { "/e" })
  -- Neither does one that was asked by the URL.
  local one = "http+unix://" .. path:gsub("/", "%%2F")
  e = test.raises("HTTPError", s.get, s, one .. "/c")
  test.contains(e.message, "a redirect to a Unix socket is not followed")
end)

test("credentials in base_url are for its server", function()
  local function show(r) return answer(r.head:match "Authorization: ([^\r]*)" or "none") end
  local base, other = serve(show), serve(show)
  local s = session { base_url = base:gsub("//", "//u:p@") .. "/" }
  test.eq(s:get("x"):text(), "Basic dTpw")
  test.eq(s:get(base .. "/x"):text(), "Basic dTpw")
  test.eq(s:get(other .. "/x"):text(), "none")
  test.eq(s:get("x", { auth = { bearer = "t" } }):text(), "Bearer t")
end)

test("cookies whose names promise something keep it, or are not kept", function()
  local jar, url_of = require("rille.http.cookies").new(), require "rille.http.url"
  local url = url_of.parse "https://www.x.org/a/b"
  local function header(...)
    jar:clear()
    jar:_take({ ... }, url)
    return jar:_header(url, true)
  end
  test.eq(header("__Host-a=1; Secure; Path=/", "__Host-b=1; Secure", "__Host-c=1; Path=/",
    "__Host-d=1; Secure; Path=/; Domain=www.x.org", "__host-e=1; Path=/"), "__Host-a=1")
  test.eq(header("__Secure-a=1; Secure", "__Secure-b=1", "__SECURE-c=1"), "__Secure-a=1")
end)

test("cookies that have expired make room for others", function()
  local jar, url_of = require("rille.http.cookies").new(), require "rille.http.url"
  for i = 1, 3000 do
    jar:set("k", "v", { domain = "h" .. i .. ".org", expires = os.time() + 1e6 })
  end
  local url = url_of.parse "http://x.org/"
  jar:_take({ "a=1" }, url)
  test.eq(jar:_header(url, true), nil)
  for i = 1, 10 do jar._domains["h" .. i .. ".org"][1].expires = 0 end
  jar:_take({ "a=1" }, url)
  test.eq(jar:_header(url, true), "a=1")
end)
