-- Bodies of requests and of responses that come and go in parts.
local async, test = require "rille.async", require "support.test"
local errors = require "rille.errors"
local http = require "rille.http"
local fs = require "rille.fs"
local raw = require "stdlib.http.raw"

local function start(handler, options)
  options = options or {}
  options.handler = handler
  return select(2, raw.start(options)).port
end

local GET = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
local POST = "POST / HTTP/1.1\r\nHost: a\r\n"

-- Head and body of all that the server sends.
local function whole(peer)
  local text = peer:read_all():gsub("Date: [^\r\n]*\r\n", "")
  return text:match "^(.-\r\n\r\n)(.*)$"
end

local function reported()
  local list = {}
  for i, report in ipairs(test.reports()) do
    list[i] = report.message .. ": " .. tostring(report.error)
  end
  return list
end

-- ---- bodies of requests -------------------------------------------------------------------------

test("chunks gives a body as it comes", function()
  local log, got = test.log(), async.Event()
  local port = start(function(req)
    for chunk in req:chunks() do
      log(chunk)
      got:set()
    end
    return "end"
  end)
  local peer = raw.connect(port):send(POST .. "Content-Length: 6\r\n\r\nab")
  got:wait()
  got:clear()
  peer:send "cd"
  got:wait()
  peer:send("ef" .. GET)
  test.matches(peer:read_response(), "end$")
  test.matches(peer:read_response(), "end$")
  test.eq(log, { "ab", "cd", "ef" })
  peer:send(POST .. "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
  test.matches(peer:read_response(), "end$")
  test.eq(log[4], "abc")
end)

test("a body is taken once, and what is left of it is passed over", function()
  local port = start(function(req)
    if req.path == "/part" then
      local chunks = req:chunks()
      local first = chunks()
      chunks:close()
      return tostring(#first > 0) .. tostring(chunks())
    end
    if req.path == "/after" then
      local body = req:body()
      local parts = {}
      for chunk in req:chunks() do parts[#parts + 1] = chunk end
      return body .. table.concat(parts)
    end
    for _ in req:chunks() do break end
    local e = test.raises("InvalidStateError", req.body, req)
    test.raises("InvalidStateError", req.chunks, req)
    return tostring(e)
  end)
  local peer = raw.connect(port):send(POST .. "Content-Length: 3\r\n\r\nabc")
  test.matches(peer:read_response(), "InvalidStateError: body: the body was taken by chunks%(%)$")
  peer:send "POST /part HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"
  peer:send(("x"):rep(50000))
  test.matches(peer:read_response(), "truenil$")
  peer:send "POST /after HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
  test.matches(peer:read_response(), "abab$")
end)

test("a client is held back while nobody takes its body", { limit = 3 }, function()
  local go_on = async.Event()
  local port = start(function(req)
    go_on:wait()
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end, { max_body_bytes = 0 })
  local size = 64 * 1048576
  local peer = raw.connect(port):send(POST .. "Content-Length: " .. size .. "\r\n\r\n")
  local sent = 0
  local sender = async.spawn(function()
    local block = ("x"):rep(1048576)
    while sent < size do
      peer:send(block)
      sent = sent + #block
    end
  end)
  for _ = 1, 50 do async.sleep(0.002) end
  assert(sent < size / 2, "it was all taken: " .. sent)
  go_on:set()
  test.matches(peer:read_response(), tostring(size) .. "$")
  sender:await()
end)

test("limits of a body that is read in parts", function()
  local port = start(function(req)
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end, { max_body_bytes = 100, max_collect_bytes = 10, body_timeout = 0.05 })
  local function answer(text) return raw.answer(port, POST .. text):match "^HTTP/1.1 (%d+)" end
  test.eq(answer("Content-Length: 100\r\n\r\n" .. ("x"):rep(100)), "200")
  test.eq(answer "Content-Length: 101\r\n\r\n", "413")
  test.eq(answer("Transfer-Encoding: chunked\r\n\r\n65\r\n" .. ("x"):rep(101)), "413")
  test.eq(answer "Content-Length: 100\r\n\r\nx", "408")
  test.eq(answer "Transfer-Encoding: chunked\r\n\r\nx", "400")
  -- Who dawdles is late, however often a byte comes.
  local peer = raw.connect(port):send(POST .. "Content-Length: 90\r\n\r\n")
  local dripping = async.spawn(function()
    for _ = 1, 90 do
      peer:send "x"
      async.sleep(0.01)
    end
  end)
  test.matches(peer:read_response(), "^HTTP/1.1 408 ")
  dripping:cancel()
  async.wait { dripping }
  -- A body that is cut off.
  peer = raw.connect(port):send(POST .. "Content-Length: 90\r\n\r\nabc")
  peer:finish()
  test.matches(peer:read_response(), "^HTTP/1.1 400 ")
  test.eq(#test.reports(), 0)
end)

test("trailers are there once the body has been read", function()
  local port = start(function(req)
    req:body()
    local list = {}
    for name, value in req.trailers:iter() do list[#list + 1] = name .. "=" .. value end
    return ("%s %s"):format(tostring(req.trailers["x-SUM"]), table.concat(list, ";"))
  end)
  local peer = raw.connect(port):send(POST .. "Transfer-Encoding: chunked\r\n\r\n")
  async.sleep(0)
  peer:send "3\r\nabc\r\n0\r\nX-Sum:  12 \r\nEmpty:\r\nX-B: c d\r\n\r\n"
  test.matches(peer:read_response(), "\r\n12 X%-Sum=12;Empty=;X%-B=c d$")
  peer:send(POST .. "Content-Length: 0\r\n\r\n")
  test.matches(peer:read_response(), "nil $")
end)

test("JSON: the value of a body, and a 400 that says what is wrong with it", function()
  local port = start(function(req) return { got = req:json() } end)
  local answer = raw.answer(port, POST .. 'Content-Length: 7\r\n\r\n{"a":1}')
  test.contains(answer, "Content-Type: application/json\r\n")
  test.matches(answer, '{"got":{"a":1}}$')
  answer = raw.answer(port, POST .. "Content-Length: 3\r\n\r\n{a}")
  test.matches(answer, "^HTTP/1.1 400 ")
  test.contains(answer, "line 1")
  test.matches(raw.answer(port, POST .. "Content-Length: 0\r\n\r\n"), "^HTTP/1.1 400 ")
  test.eq(#test.reports(), 0)
end)

test("JSON that has another shape than is wanted is a 422 that lists what is wrong", function()
  local port = start(function(req)
    local value = req:json {
      name = "string", age = "integer?", tags = { "string" }, at = { x = "number", y = "any" },
      even = function(n) return n == nil or n % 2 == 0, "an even number expected" end,
    }
    return value.name
  end)
  local function answer(body)
    local text = raw.answer(port, ("%sContent-Length: %d\r\n\r\n%s"):format(POST, #body, body))
    return text:match "^HTTP/1.1 (%d+)", text:match "\r\n\r\n(.*)$"
  end
  test.eq({ answer '{"name":"n","age":null,"tags":[],"at":{"x":1.5,"y":false},"more":1}' },
    { "200", "n" })
  local status, body = answer '{"age":1.5,"tags":["a",2],"at":[],"even":3}'
  test.eq(status, "422")
  local faults = require("rille.json").decode(body).errors
  local list = {}
  for i, fault in ipairs(faults) do list[i] = fault.path .. ": " .. fault.message end
  test.eq(list, { "age: integer expected, got number", "at: object expected, got list",
    "even: an even number expected", "name: string expected, got nothing",
    "tags[2]: string expected, got number" })
  status = answer "[1]"
  test.eq(status, "422")
  test.eq(#test.reports(), 0)
end)

test("cookies that were sent", function()
  local port = start(function(req)
    return req.cookies.a .. req.cookies.b .. tostring(req.cookies.c) .. req.cookies.d
  end)
  test.matches(raw.answer(port, "GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=\"2 3\"; a=9\r\n"
    .. "Cookie: d==x=; c\r\n\r\n"), "12 3nil=x=$")
end)

-- ---- multipart ----------------------------------------------------------------------------------

local function multipart(boundary, parts)
  local lines = {}
  for _, part in ipairs(parts) do
    lines[#lines + 1] = "--" .. boundary .. "\r\n" .. part[1] .. "\r\n\r\n" .. part[2] .. "\r\n"
  end
  local body = table.concat(lines) .. "--" .. boundary .. "--\r\n"
  return ("Content-Type: multipart/form-data; boundary=%s\r\nContent-Length: %d\r\n\r\n"):format(
    boundary, #body), body
end

test("multipart: parts as they come, in single bytes too", function()
  local port = start(function(req)
    local list = {}
    for part in req:multipart() do
      list[#list + 1] = ("%s|%s|%s|%s"):format(tostring(part.name), tostring(part.filename),
        part.content_type, part.headers["x-a"] or "") .. "|" .. part:text()
    end
    return table.concat(list, "\n")
  end)
  local head, body = multipart("b-1", {
    { 'Content-Disposition: form-data; name="a"', "1" },
    { 'Content-Disposition: form-data; name="f"; filename="a \\"b\\".txt"\r\n'
      .. "Content-Type: text/x\r\nx-a: y", "\r\n--b-\r\n--b-1x\r\n--b" },
    { "Content-Disposition: form-data; name=n; filename*=UTF-8''%C3%A4", "" },
    { "", "" },
  })
  local expected = 'a|nil|text/plain||1\nf|a "b".txt|text/x|y|\r\n--b-\r\n--b-1x\r\n--b\n'
    .. "n|ä|text/plain||\nnil|nil|text/plain||\r\n"
  local peer = raw.connect(port):send(POST .. head .. body)
  test.eq(peer:read_response():match "\r\n\r\n(.*)$", expected)
  peer:send(POST .. head)
  for i = 1, #body do
    peer:send(body:sub(i, i))
    async.sleep(0)
  end
  test.eq(peer:read_response():match "\r\n\r\n(.*)$", expected)
end)

test("multipart: parts that are not read are passed over, files are saved", function()
  local dir = test.tmpdir()
  local port = start(function(req)
    local log = {}
    for part in req:multipart() do
      if part.filename then
        log[#log + 1] = part:save(dir .. "/" .. part.name)
        test.raises("InvalidStateError", part.bytes, part)
      end
    end
    return table.concat(log, " ")
  end, { max_collect_bytes = 1000 })
  local big = ("0123456789abcde\n"):rep(20000)
  local head, body = multipart("xyz", {
    { 'Content-Disposition: form-data; name="skipped"', big },
    { 'Content-Disposition: form-data; name="one"; filename="x"', big },
    { 'Content-Disposition: form-data; name="two"; filename="y"', "" },
  })
  test.matches(raw.answer(port, POST .. head .. body), "320000 0$")
  test.eq(test.read(dir .. "/one") == big, true)
  test.eq(test.read(dir .. "/two"), "")
end)

test("multipart: what is malformed, too large or something else is refused", function()
  local dir = test.tmpdir()
  local port = start(function(req)
    for part in req:multipart() do
      if part.filename then part:save(dir .. "/f") else part:bytes() end
    end
    return "ok"
  end, { max_collect_bytes = 1000 })
  local function answer(head, body)
    return raw.answer(port, POST .. head .. (body or "")):match "^HTTP/1.1 (%d+)"
  end
  local function with(body, kind)
    return answer(("Content-Type: %s\r\nContent-Length: %d\r\n\r\n"):format(
      kind or "multipart/form-data; boundary=b", #body), body)
  end
  test.eq(with("--b--\r\n"), "200")
  test.eq(with("--b--"), "200")
  test.eq(with("preamble\r\n--b \t\r\n\r\nx\r\n--b--epilogue"), "200")
  test.eq(with("x", "text/plain"), "415")
  test.eq(with("x", "multipart/form-data"), "400")
  test.eq(with(""), "400")
  test.eq(with("--b\r\nA: b\r\n\r\nx"), "400")
  test.eq(with("--b\r\nno field\r\n\r\nx\r\n--b--"), "400")
  test.eq(with("--b\r\n" .. ("A: b\r\n"):rep(4000) .. "\r\nx\r\n--b--"), "400")
  test.eq(with("--b\r\nA: " .. ("x"):rep(20000)), "400")
  test.eq(answer(multipart("b", { { "A: b", ("x"):rep(1001) } })), "413")
  -- A file that does not come whole is none.
  test.eq(with('--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\nhalf'), "400")
  test.eq(fs.exists(dir .. "/f"), false)
  test.eq(#test.reports(), 0)
end)

test("multipart: random parts, cut at random places", function()
  math.randomseed(7)
  local pieces = { "\r\n", "--", "b", "bound", "--bound", "\r", "\n", "-", "x", "\r\n--bound",
    "\0" }
  local read = require("rille.http.parts").read
  for _ = 1, 300 * test.SCALE do
    local sent, body = {}, {}
    for i = 1, math.random(0, 4) do
      local content = {}
      for k = 1, math.random(0, 12) do content[k] = pieces[math.random(#pieces)] end
      -- What would be a separator cannot be content.
      local text = "\r\n" .. table.concat(content) .. "\r\n"
      local found
      repeat text, found = text:gsub("\r\n%-%-bound([\r-])", "\r\nx%1") until found == 0
      text = text:sub(3, -3)
      sent[i] = text
      body[#body + 1] = ("--bound\r\nContent-Disposition: form-data; name=%d\r\n\r\n"):format(i)
        .. text .. "\r\n"
    end
    body = table.concat(body) .. "--bound--\r\n"
    local source = setmetatable({ close = function() end }, { __call = function()
      if body == "" then return nil end
      local n = math.random(1, 20)
      local data = body:sub(1, n)
      body = body:sub(n + 1)
      return data
    end })
    local got = {}
    for part in read(source, "bound", 1000) do got[#got + 1] = part:bytes() end
    test.eq(got, sent)
  end
end)

test("a form may be multipart", function()
  local port = start(function(req)
    local form = req:form()
    return form.a .. table.concat(form:get_all "b")
  end)
  local head, body = multipart("b", { { 'Content-Disposition: form-data; name="a"', "1" },
    { 'Content-Disposition: form-data; name="b"', "2" },
    { 'Content-Disposition: form-data; name="b"', "3" } })
  test.matches(raw.answer(port, POST .. head .. body), "123$")
end)

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

-- ---- files --------------------------------------------------------------------------------------

-- Serves a file of these bytes; gives a function that asks for it.
local function serve_file(bytes, name, more)
  local path = test.write(test.tmpdir() .. "/" .. (name or "f.txt"), bytes)
  local port = start(function()
    local options = { file = path }
    for key, value in pairs(more or {}) do options[key] = value end
    return http.response(options)
  end)
  return function(headers, method)
    local peer = raw.connect(port):send((method or "GET") .. " / HTTP/1.1\r\nHost: a\r\n"
      .. "Connection: close\r\n" .. (headers or "") .. "\r\n")
    local head, body = whole(peer)
    peer:close()
    return tonumber(head:match "^HTTP/1.1 (%d+)"), body, head
  end, path
end

test("a file has a type, a length, a tag and a date", function()
  local ask = serve_file("hello", "a.HTML")
  local status, body, head = ask()
  test.eq({ status, body }, { 200, "hello" })
  for _, field in ipairs { "Content-Type: text/html; charset=utf-8", "Content-Length: 5",
    "Accept-Ranges: bytes", 'ETag: "', "Last-Modified: " } do
    test.contains(head, "\r\n" .. field)
  end
  status, body, head = ask("", "HEAD")
  test.eq({ status, body }, { 200, "" })
  test.contains(head, "Content-Length: 5\r\n")
  status, body = serve_file("")()
  test.eq({ status, body }, { 200, "" })
end)

test("ranges of a file", function()
  local ask = serve_file "0123456789"
  local function range(text, more)
    local status, body, head = ask("Range: " .. text .. "\r\n" .. (more or ""))
    return { status, body, head:match "Content%-Range: ([^\r]*)" }
  end
  test.eq(range "bytes=0-0", { 206, "0", "bytes 0-0/10" })
  test.eq(range "bytes=2-4", { 206, "234", "bytes 2-4/10" })
  test.eq(range "bytes=7-", { 206, "789", "bytes 7-9/10" })
  test.eq(range "bytes=7-100", { 206, "789", "bytes 7-9/10" })
  test.eq(range "bytes=-3", { 206, "789", "bytes 7-9/10" })
  test.eq(range "bytes=-100", { 206, "0123456789", "bytes 0-9/10" })
  test.eq(range "bytes=10-", { 416, "", "bytes */10" })
  test.eq(range "bytes=-0", { 416, "", "bytes */10" })
  for _, odd in ipairs { "bytes=4-2", "bytes=x", "bytes=-", "lines=0-1", "bytes",
    "bytes=0-1,x", "bytes=0-1,4-2", "bytes=,", "bytes=0-1;3-4", ("bytes=" .. ("0-1,"):rep(33)) } do
    test.eq({ odd, unpack(range(odd)) }, { odd, 200, "0123456789" })
  end
  local _, _, head = ask()
  local tag, date = head:match "ETag: ([^\r]*)", head:match "Last%-Modified: ([^\r]*)"
  test.eq(range("bytes=0-1", "If-Range: " .. tag .. "\r\n")[1], 206)
  test.eq(range("bytes=0-1", "If-Range: " .. date .. "\r\n")[1], 206)
  test.eq(range("bytes=0-1", 'If-Range: "other"\r\n')[1], 200)
  test.eq(range("bytes=0-1", "If-Range: Sat, 01 Jan 2000 00:00:00 GMT\r\n")[1], 200)
end)

-- The parts of a multipart/byteranges body, each as "bytes a-b/size: content".
local function byte_ranges_of(head, body)
  local boundary = head:match "Content%-Type: multipart/byteranges; boundary=(%x+)\r\n"
  test.eq(tonumber(head:match "Content%-Length: (%d+)"), #body)
  test.eq(head:find "Content%-Range", nil)
  local list = {}
  local rest = "\r\n" .. body
  local mark = "\r\n--" .. boundary
  while true do
    local _, last = rest:find(mark, 1, true)
    rest = rest:sub(last + 1)
    if rest == "--\r\n" then return list end
    local content = rest:sub(1, rest:find(mark, 1, true) - 1)
    local kind, range, data =
      content:match "^\r\nContent%-Type: ([^\r]*)\r\nContent%-Range: ([^\r]*)\r\n\r\n(.*)$"
    list[#list + 1] = kind .. " " .. range .. ": " .. data
  end
end

test("several ranges of a file come as parts", function()
  for _, filler in ipairs { 200, 200000 } do -- read at once, and piece by piece
    local ask = serve_file("0123456789" .. ("x"):rep(filler) .. "abcdefghij")
    local size = filler + 20
    local function ranges(text)
      local status, body, head = ask("Range: " .. text .. "\r\n")
      test.eq(status, 206)
      return byte_ranges_of(head, body)
    end
    local first = ("text/plain; charset=utf-8 bytes 0-2/%d: 012"):format(size)
    local last = ("text/plain; charset=utf-8 bytes %d-%d/%d: ij"):format(size - 2, size - 1, size)
    test.eq(ranges "bytes=0-2,-2", { first, last })
    test.eq(ranges "bytes=-2 , ,0-2", { last, first })
    test.eq(ranges "bytes=0-0,-2,2-2,1-1", { first, last })
    test.eq(#ranges "bytes=0-1,3-4", 2)
    test.eq(ranges "bytes=0-2,99999999-,-2", { first, last })
    local status, body, head = ask "Range: bytes=0-2,1-4\r\n"
    test.eq({ status, body, head:match "Content%-Range: ([^\r]*)" },
      { 206, "01234", ("bytes 0-4/%d"):format(size) })
    status, body, head = ask "Range: bytes=99999999-,99999999-\r\n"
    test.eq({ status, body, head:match "Content%-Range: ([^\r]*)" },
      { 416, "", ("bytes */%d"):format(size) })
  end
end)

test("conditions on a file", function()
  local ask = serve_file "hello"
  local _, _, head = ask()
  local tag, date = head:match "ETag: ([^\r]*)", head:match "Last%-Modified: ([^\r]*)"
  local old, new = "Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2038 00:00:00 GMT"
  local function with(field) return (ask(field .. "\r\n")) end
  test.eq({ with("If-None-Match: " .. tag), with("If-None-Match: W/" .. tag),
    with('If-None-Match: "x", ' .. tag), with "If-None-Match: *", with 'If-None-Match: "x"' },
    { 304, 304, 304, 304, 200 })
  test.eq({ with("If-Modified-Since: " .. date), with("If-Modified-Since: " .. old),
    with("If-Modified-Since: " .. new), with "If-Modified-Since: nonsense",
    with("If-Modified-Since: " .. date .. '\r\nIf-None-Match: "x"') }, { 304, 200, 304, 200, 200 })
  test.eq({ with("If-Match: " .. tag), with "If-Match: *", with 'If-Match: "x"',
    with("If-Match: W/" .. tag) }, { 200, 200, 412, 412 })
  test.eq({ with("If-Unmodified-Since: " .. date), with("If-Unmodified-Since: " .. old) },
    { 200, 412 })
  local status, body
  status, body, head = ask("If-None-Match: " .. tag .. "\r\n")
  test.eq({ status, body, head:find "Content%-Length", head:match "ETag: ([^\r]*)" },
    { 304, "", nil, tag })
end)

test("a large file, an open one, one that is missing, one that shrinks", function()
  local bytes = ("0123456789abcdef"):rep(200000)
  local ask, path = serve_file(bytes, "big.bin")
  local status, body = ask()
  test.eq({ status, body == bytes }, { 200, true })
  status, body = ask "Range: bytes=3000000-\r\n"
  test.eq({ status, body == bytes:sub(3000001) }, { 206, true })
  local file
  local port = start(function(req)
    if req.path == "/folder" then return http.response { file = "/tmp" } end
    if req.path == "/missing" then return http.response { file = path .. "x" } end
    file = fs.open(path)
    file:read(10)
    return http.response { file = file }
  end)
  test.eq(raw.answer(port, GET):sub(-#bytes) == bytes, true)
  test.turns()
  test.raises("InvalidStateError", file.read, file)
  test.matches(raw.answer(port, "GET /missing HTTP/1.1\r\nHost: a\r\n\r\n"), "^HTTP/1.1 404 ")
  test.matches(raw.answer(port, "GET /folder HTTP/1.1\r\nHost: a\r\n\r\n"), "^HTTP/1.1 404 ")
  -- While it is sent it becomes shorter.
  os.execute(("truncate -s 100M %s"):format(path))
  local peer = raw.connect(port):send(GET)
  peer:read_until "\r\n\r\n"
  test.write(path, "")
  local got, data = 0, nil -- luacheck: ignore 311
  repeat
    data = peer.socket:read()
    got = got + (data and #data or 0)
  until not data
  assert(got < 100 * 1048576)
  test.contains(reported()[1], "became shorter while it was sent")
end)

-- ---- other responses ----------------------------------------------------------------------------

test("cookies that are set", function()
  local port = start(function()
    return http.response { body = "", headers = { ["set-cookie"] = "first=1" } }
      :set_cookie("a", "b"):set_cookie("c", "d", { path = false, domain = "x.org", max_age = 60,
        expires = 0, secure = true, http_only = false, same_site = "Strict" })
      :set_cookie("e", "f", { same_site = "None" }):delete_cookie "g"
  end)
  local list = {}
  for value in raw.answer(port, GET):gmatch "%-[cC]ookie: ([^\r]*)" do list[#list + 1] = value end
  test.eq(list, {
    "first=1", "a=b; Path=/; SameSite=Lax; HttpOnly",
    "c=d; Domain=x.org; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Strict; Secure",
    "e=f; Path=/; SameSite=None; Secure; HttpOnly",
    "g=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax; HttpOnly",
  })
  local r = http.response {}
  test.blames_caller("no name for a cookie", function() r:set_cookie("a b", "c") end)
  test.blames_caller("a cookie's value cannot have", function() r:set_cookie("a", "b;c") end)
  test.blames_caller("'same_site'", function() r:set_cookie("a", "b", { same_site = "x" }) end)
  test.blames_caller("'path'", function() r:set_cookie("a", "b", { path = "/\r\nx" }) end)
  test.blames_caller("unknown option 'pth'", function() r:set_cookie("a", "b", { pth = "/" }) end)
end)

test("redirects", function()
  local port = start(function(req)
    if req.path == "/m" then return http.redirect("/n", 308) end
    return http.redirect "/ä b?c=%20#d"
  end)
  local answer = raw.answer(port, GET)
  test.matches(answer, "^HTTP/1.1 302 Found\r\n")
  test.contains(answer, "Location: /%C3%A4%20b?c=%20#d\r\n")
  test.matches(raw.answer(port, "GET /m HTTP/1.1\r\nHost: a\r\n\r\n"), "^HTTP/1.1 308 ")
  test.blames_caller("bad argument #2 to 'redirect'", function() http.redirect("/", 200) end)
  test.blames_caller("CR, LF or NUL", function() http.redirect "/\r\nX: y" end)
end)

test("JSON as a response", function()
  local port = start(function(req)
    if req.path == "/plain" then return { a = { 1, 2 } } end
    if req.path == "/status" then return 201, { b = true } end
    if req.path == "/cycle" then
      local t = {}
      t.t = t
      return t
    end
    return http.response { json = "text", status = 202 }
  end)
  local function answer(path)
    return raw.answer(port, "GET " .. path .. " HTTP/1.1\r\nHost: a\r\n\r\n")
  end
  for path, expected in pairs { ["/plain"] = '^HTTP/1.1 200 .*\r\n\r\n{"a":%[1,2%]}$',
    ["/status"] = '^HTTP/1.1 201 .*\r\n\r\n{"b":true}$',
    ["/"] = '^HTTP/1.1 202 .*\r\n\r\n"text"$' } do
    test.matches(answer(path), expected)
    test.contains(answer(path), "Content-Type: application/json\r\n")
  end
  test.matches(answer "/cycle", "^HTTP/1.1 500 ")
  test.eq(errors.is(test.reports()[1].error, "JSONError"), true)
end)
