-- What handlers get, and what becomes of what they return.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local errors = require "rille.errors"
local raw = require "stdlib.http.raw"

local function start(handler, options)
  options = options or {}
  options.handler = handler
  return raw.start(options)
end

local reported = raw.reported

test("a string is a body, a number a status", function()
  local base = start(function(req) return req.path == "/number" and 404 or "text" end)
  local response = http.get(base)
  test.eq({ response.status, response:text() }, { 200, "text" })
  test.eq(response.headers["content-type"], "text/plain; charset=utf-8")
  response = http.get(base .. "/number")
  test.eq({ response.status, response.reason, response:text() }, { 404, "Not Found", "Not Found" })
end)

test("status, body and headers", function()
  local base = start(function()
    return 201, "made", { ["Content-Type"] = "text/x", ["X-A"] = { 1, "b" }, Location = "/x" }
  end)
  local response = http.get(base)
  test.eq({ response.status, response:text() }, { 201, "made" })
  test.eq(response.headers["content-type"], "text/x")
  test.eq(response.headers:get_all "x-a", { "1", "b" })
  test.eq(response.headers.location, "/x")
end)

test("a response object, changed until it is sent", function()
  local base = start(function(req)
    if req.path == "/html" then return http.response { html = "<p>", status = 202 } end
    if req.path == "/empty" then return http.response { status = 204 } end
    local response = http.response { body = "b", headers = { { "A", "1" }, { "A", "2" } } }
    response.status = 203
    return response
  end)
  local response = http.get(base)
  test.eq({ response.status, response:text(), response.headers.a }, { 203, "b", "1, 2" })
  response = http.get(base .. "/html")
  test.eq({ response.status, response:text() }, { 202, "<p>" })
  test.eq(response.headers["content-type"], "text/html; charset=utf-8")
  response = http.get(base .. "/empty")
  test.eq({ response.status, response:text() }, { 204, "" })
  test.eq(response.headers["content-type"], nil)
end)

test("default headers are replaced or taken away", function()
  local port = select(2, start(function()
    return 200, "b", { Date = "never", ["content-type"] = false, Connection = "close" }
  end)).port
  local answer = raw.connect(port):send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"):read_all()
  test.eq(answer,
    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\nDate: never\r\n\r\nb")
  port = select(2, start(function()
    return 200, "b", { Date = false, ["Content-Type"] = "x", ["Content-Length"] = "1" }
  end)).port
  answer = raw.connect(port):send("GET / HTTP/1.0\r\n\r\n"):read_all()
  test.eq(answer,
    "HTTP/1.1 200 OK\r\nContent-Type: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nb")
end)

test("what a handler may not return is a 500 that the log explains", function()
  local returns
  local base = start(function() return unpack(returns, 1, 3) end)
  local log = {}
  local function case(what, ...)
    returns = { ... }
    local response = http.get(base .. "/x")
    test.eq({ response.status, response:text() }, { 500, "Internal Server Error" }, what)
    log[#log + 1] = reported()[1]
    test.eq(log[#log], "error in the handler of GET /x: " .. what)
  end
  case "the handler returned nothing"
  case("a body cannot be of type boolean", true)
  case("status 99 is not one between 200 and 599", 99)
  case("status 101 is not one between 200 and 599", 101)
  case("status 200.5 is not one between 200 and 599", 200.5)
  case("status ok is not one between 200 and 599", http.response { status = "ok" })
  case("a body stands before the status", "body", 200)
  case("header 'X' has a value with CR, LF or NUL", 200, "b", { X = "a\r\nb: c" })
  case("header 'X' has a value with CR, LF or NUL", 200, "b", { X = "a\0" })
  case("header name 'X:' is not allowed", 200, "b", { ["X:"] = "a" })
  case("header name '' is not allowed", 200, "b", { [""] = "a" })
  case("header 'X' has a value of type function", 200, "b", { X = print })
  case("headers: table expected, got string", 200, "b", "X: y")
  case("headers: entry 1 is no pair { name, value }", 200, "b", { "X: y" })
  case("header 'Content-Length' says 5, the body has 1 bytes", 200, "b", { ["Content-Length"] = 5 })
  case("header 'Transfer-Encoding' cannot be set", 200, "b", { ["Transfer-Encoding"] = "chunked" })
end)

test("an error in a handler is a 500 that shows nothing of it, and is reported", function()
  local base, server = start(function(req)
    if req.path == "/object" then error(errors.new("OSError", "secret"), 0) end
    local function inner() error "secret" end
    inner()
  end)
  for _, path in ipairs { "/", "/object" } do
    local response = http.get(base .. path)
    test.eq({ response.status, response:text() }, { 500, "Internal Server Error" })
    for _, value in response.headers:iter() do assert(not value:find "secret") end
    local report = test.reports()[1]
    test.eq(report.message, "error in the handler of GET " .. path)
    test.contains(tostring(report.error), "secret")
    test.matches(report.traceback, "server_test.lua:%d+: in function")
    test.eq(type(report.task.cancel), "function")
  end
  local peer = raw.connect(server.port)
  for _ = 1, 2 do -- the connection is kept
    peer:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    test.matches(peer:read_response(), "^HTTP/1.1 500 ")
  end
  test.reports()
end)

test("any value may be raised", function()
  local value
  local base = start(function() error(value, 0) end)
  for _, v in ipairs { 42, true, setmetatable({}, { __tostring = function() return "it" end }) } do
    value = v
    test.eq(http.get(base).status, 500)
    test.eq(reported(), { "error in the handler of GET /: " .. tostring(v) })
  end
end)

test("abort answers from any depth, and is no error", function()
  local base = start(function(req)
    local function deep()
      if req.path == "/plain" then http.abort(404) end
      if req.path == "/text" then http.abort(403, "no") end
      http.abort(401, { body = "who?", headers = { ["WWW-Authenticate"] = "Basic" } })
    end
    deep()
  end)
  local response = http.get(base .. "/plain")
  test.eq({ response.status, response:text() }, { 404, "Not Found" })
  response = http.get(base .. "/text")
  test.eq({ response.status, response:text() }, { 403, "no" })
  response = http.get(base .. "/full")
  test.eq({ response.status, response:text() }, { 401, "who?" })
  test.eq(response.headers["www-authenticate"], "Basic")
end)

test("an abort can be caught, and says what it was", function()
  local base = start(function()
    local ok, e = pcall(http.abort, 418)
    return tostring(ok) .. " " .. tostring(e) .. " " .. e.status
  end)
  test.eq(http.get(base):text(), "false HTTPError: 418 I'm a teapot 418")
end)

test("an HTTPError of a request that the handler made is a 500", function()
  local base
  base = start(function(req)
    if req.path == "/inner" then return 404 end
    return http.get(base .. "/inner"):raise_for_status():text()
  end)
  test.eq(http.get(base).status, 500)
  test.contains(reported()[1], "HTTPError: 404 Not Found: GET " .. base .. "/inner")
end)

test("a request tells all about itself", function()
  local seen
  local base, server = start(function(req)
    seen = {
      req.method, req.path, req.target, req.remote, req.version, req.query.a, req.headers.HOST,
      req.headers["x-a"], req.nothing,
    }
    return "ok"
  end)
  http.request("put", base .. "/%C3%A4%2F+b/?a=1+2&a=3", { headers = { ["X-A"] = { 1, 2 } } })
  test.eq(seen, {
    "PUT", "/ä/+b/", "/%C3%A4%2F+b/?a=1+2&a=3", "127.0.0.1", "1.1", "1 2",
    "127.0.0.1:" .. server.port, "1, 2",
  })
end)

test("parameters: the first value, all of them, and in order", function()
  local query
  local base = start(function(req)
    query = req.query
    return "ok"
  end)
  http.get(base .. "/?a=1&b=%26&a=2&c&=d&A=3&iter=4&%c3%a4=%zz")
  test.eq({ query.a, query.b, query.c, query[""], query.A, query.missing },
    { "1", "&", "", "d", "3" })
  test.eq(query:get_all "a", { "1", "2" })
  test.eq(query:get_all "iter", { "4" })
  test.eq(query["ä"], "%zz")
  local list = {}
  for name, value in query:iter() do list[#list + 1] = name .. "=" .. value end
  test.eq(table.concat(list, " "), "a=1 b=& a=2 c= =d A=3 iter=4 ä=%zz")
  test.raises("parameters that were received cannot be changed: 'x'", function() query.x = 1 end)
end)

test("header fields: in any case, joined, and as they came", function()
  local headers
  local _, server = start(function(req)
    headers = req.headers
    return "ok"
  end)
  raw.answer(server.port, "GET / HTTP/1.1\r\nHost: a\r\nX-a:  1 \t\r\nx-A: 2\r\nCookie: c=1\r\n"
    .. "cookie: d=2\r\nSet-Cookie: e\r\nSet-Cookie: f\r\nEmpty:\r\n\r\n")
  test.eq(headers["X-A"], "1, 2")
  test.eq(headers.cookie, "c=1; d=2")
  test.eq(headers["set-cookie"], "e")
  test.eq(headers:get_all "Set-Cookie", { "e", "f" })
  test.eq({ headers.empty, headers.missing }, { "" })
  local names = {}
  for name in headers:iter() do names[#names + 1] = name end
  test.eq(table.concat(names, " "), "Host X-a x-A Cookie cookie Set-Cookie Set-Cookie Empty")
end)

test("a body can be asked for again, also after the request", function()
  local kept
  local base = start(function(req)
    kept = req
    return req:body() .. req:text()
  end)
  test.eq(http.post(base, { body = "ab" }):text(), "abab")
  test.eq(kept:body(), "ab")
  test.eq(http.get(base):text(), "")
end)

test("a body that was not asked for in time cannot be had", function()
  local kept
  local base = start(function(req)
    kept = req
    return "ok"
  end)
  http.post(base, { body = "ab" })
  test.raises("InvalidStateError", kept.body, kept)
  test.eq(kept.method, "POST")
end)

test("tasks that share a request all get its body", function()
  local base, server = start(function(req)
    local function read() return req:body() end
    local bodies = async.gather { read, read }
    return bodies[1] .. bodies[2]
  end)
  test.eq(http.post(base, { body = "ab" }):text(), "abab")
  local peer = raw.connect(server.port)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
  async.sleep(0.005)
  peer:send "cd"
  test.matches(peer:read_response(), "\r\n\r\ncdcd$")
end)

test("a task that waits for a body when its request is answered learns that", function()
  local reader
  local _, server = start(function(req)
    if req.method == "GET" then return req:body() end
    reader = async.spawn(req.body, req)
    async.sleep(0)
    return "answered"
  end)
  local peer = raw.connect(server.port)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
  test.matches(peer:read_response(), "answered$")
  test.raises("InvalidStateError", reader.await, reader)
  peer:send "abGET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\ncde"
  test.matches(peer:read_response(), "cde$")
end)

test("forms", function()
  local base = start(function(req)
    local form = req:form()
    local again = tostring(req:form() == form)
    return table.concat(form:get_all "a", "|") .. " " .. tostring(form.b) .. " " .. again
  end)
  local response = http.post(base, { form = { a = { "1 2", "ä&=+" }, b = true } })
  test.eq(response:text(), "1 2|ä&=+ true true")
  test.eq(http.post(base, { body = "a=1" }).status, 415)
  response = http.post(base, {
    body = "a=1",
    headers = { ["content-type"] = "Application/X-WWW-form-urlencoded; charset=UTF-8" },
  })
  test.eq(response:text(), "1 nil true")
end)

test("a body over the limit is refused by who reads it", function()
  local function handler(req) return #req:body() .. "" end
  local base, server = start(handler, { max_collect_bytes = 1000 })
  test.eq(http.post(base, { body = ("x"):rep(1000) }):text(), "1000")
  test.eq(http.post(base, { body = ("x"):rep(1001) }).status, 413)
  local peer = raw.connect(server.port)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"
  peer:send(("x"):rep(1001))
  test.matches(peer:read_response(), "^HTTP/1.1 413 Content Too Large\r\n")
end)

test("a failed body can be answered in another way", function()
  local base = start(function(req)
    local ok, e = pcall(req.body, req)
    return 200, tostring(ok) .. " " .. e.status .. " " .. tostring(e)
  end, { max_collect_bytes = 1 })
  test.eq(http.post(base, { body = "xx" }):text(),
    "false 413 HTTPError: 413 Content Too Large: body too large")
end)

test("large bodies go both ways, to slow peers too", function()
  local body = ("0123456789abcdef"):rep(65536 * 4)
  local base, server = start(function(req) return req:body() end, { max_collect_bytes = 1e9 })
  test.eq(http.post(base, { body = body }):text() == body, true)
  local peer = raw.connect(server.port)
  local writer = async.spawn(function()
    peer:send(("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"):format(#body))
    for i = 1, #body, 100000 do
      peer:send(body:sub(i, i + 99999))
      async.sleep(0.0005)
    end
  end)
  writer:await()
  test.eq(peer:read_response():match "\r\n\r\n(.*)$" == body, true)
end)

test("requests of one connection are handled one at a time, those of several at once", function()
  local now, most = 0, 0
  local _, server = start(function()
    now = now + 1
    most = math.max(most, now)
    async.sleep(0.005)
    now = now - 1
    return "ok"
  end)
  local request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
  local one = raw.connect(server.port):send(request:rep(3))
  for _ = 1, 3 do one:read_response() end
  test.eq(most, 1)
  local two = raw.connect(server.port):send(request)
  one:send(request)
  one:read_response()
  two:read_response()
  test.eq(most, 2)
end)

test("context variables of one request are not seen by the next", function()
  local variable = async.ContextVar("v", "none")
  variable:set "outer"
  local _, server = start(function()
    local value = variable:get()
    variable:set "inner"
    return value
  end)
  local peer = raw.connect(server.port)
  for _ = 1, 2 do
    peer:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    test.matches(peer:read_response(), "outer$")
  end
end)

test("a handler may be any object that can be called", function()
  local object = setmetatable({ text = "it" }, {
    __call = function(self, req) return self.text .. req.path end,
  })
  local base = start(object)
  test.eq(http.get(base):text(), "it/")
end)

test("a timeout within a handler ends in the handler", function()
  local base = start(function()
    local ok, e = pcall(async.wait_for, async.sleep, 0.005, 10)
    return tostring(ok) .. " " .. e.kind
  end)
  test.eq(http.get(base):text(), "false TimeoutError")
end)

test("a cancelled read of the body can be tried again", function()
  local _, server = start(function(req)
    local ok = async.move_on_after(0.005, function() req:body() end)
    return tostring(ok) .. req:body()
  end)
  local peer = raw.connect(server.port)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na"
  async.sleep(0.03)
  peer:send "b"
  test.matches(peer:read_response(), "falseab$")
end)

test("a peer that goes away before its answer is nothing to speak of", function()
  local handled = 0
  local _, server = start(function(req)
    async.sleep(0.005)
    handled = handled + 1
    return req.path == "/big" and ("x"):rep(5000000) or "ok"
  end)
  for _, path in ipairs { "/", "/big" } do
    for _, how in ipairs { "close", "abort" } do
      local before = handled
      local peer = raw.connect(server.port)
      peer:send(("GET %s HTTP/1.1\r\nHost: a\r\n\r\n"):format(path))
      async.sleep(0.002)
      peer[how](peer)
      while handled == before do async.sleep(0.001) end
      async.sleep(0.005)
    end
  end
  test.eq(#test.reports(), 0)
end)

test("a peer that goes away in the middle of a request ends its connection alone", function()
  local _, server = start(function(req) return req:body() end)
  local post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
  for _, bytes in ipairs { "GET", "GET / HTTP/1.1\r\nHost", post .. "a" } do
    for _, how in ipairs { "close", "abort" } do
      local peer = raw.connect(server.port):send(bytes)
      async.sleep(0.002)
      peer[how](peer)
    end
  end
  test.matches(raw.answer(server.port, post .. "abc"), "abc$")
  test.eq(#test.reports(), 0)
end)

test("curl speaks with it", function()
  local base = start(function(req)
    return ("%s %s %s %s"):format(req.method, req.path, req.version, req:body())
  end)
  local command = "curl -sS -i -d 'a=b' %s/x %s/y | tr -d '\\r' | grep -v ^Date"
  local output, status = raw.run(command:format(base, base))
  local one = "HTTP/1.1 200 OK\nContent-Type: text/plain; charset=utf-8\nContent-Length: 15\n\n"
    .. "POST /%s 1.1 a=b"
  test.eq(output, one:format "x" .. one:format "y" .. "\n")
  test.eq(status, 0)
  -- A body of more than 1 MiB makes curl ask first.
  local file = test.write(test.tmpdir() .. "/body", ("x"):rep(1500000))
  local big = start(function(req) return #req:body() .. "" end, { max_collect_bytes = 2e6 })
  test.eq(raw.run(("curl -sS -T %s %s/"):format(file, big)), "1500000")
  test.eq(raw.run(("curl -sS -T - %s/ < %s"):format(big, file)), "1500000")
  test.eq(raw.run("curl -sS -0 " .. base), "GET / 1.0 ")
  test.eq(raw.run("curl -sS -I " .. base):match "^%S+ %d+", "HTTP/1.1 200")
end)

-- ---- wrong use ----------------------------------------------------------------------------------

test("serve names what is wrong with its options", function()
  test.blames_caller("bad argument #1 to 'serve' (table expected, got nil)",
    function() http.serve() end)
  test.blames_caller("bad argument 'handler' to 'serve' (function expected, got nil)",
    function() http.serve {} end)
  local function ok() return 200 end
  test.blames_caller("unknown option 'hndler'", function() http.serve { hndler = ok } end)
  test.blames_caller("'port' to 'serve' (integer between 0 and 65535 expected, got 65536)",
    function() http.serve { handler = ok, port = 65536 } end)
  test.blames_caller("got 1.5", function() http.serve { handler = ok, port = 1.5 } end)
  test.blames_caller("'host' to 'serve' (name or address of a host expected, got number)",
    function() http.serve { handler = ok, host = 1 } end)
  test.blames_caller("expected, got 'a\\0b'",
    function() http.serve { handler = ok, host = "a\0b" } end)
  test.blames_caller("'idle_timeout' to 'serve' (number of at least 0, or false, expected, got -1)",
    function() http.serve { handler = ok, idle_timeout = -1 } end)
  test.blames_caller("got nan", function() http.serve { handler = ok, header_timeout = 0 / 0 } end)
  test.blames_caller("got string", function() http.serve { handler = ok, max_headers = "1" } end)
end)

test("response and abort name what is wrong with their arguments", function()
  test.blames_caller("unknown option 'bdy'", function() http.response { bdy = "" } end)
  test.blames_caller("both 'body' and 'html'",
    function() http.response { body = "", html = "" } end)
  test.blames_caller("bad argument #1 to 'abort'", function() http.abort() end)
  test.blames_caller("bad argument #1 to 'abort'", function() http.abort(100) end)
  test.blames_caller("bad argument #2 to 'abort'", function() http.abort(400, true) end)
end)

test("a port that is taken is an OSError that names it", function()
  local _, server = start(function() return 200 end)
  local e = test.raises("OSError", http.serve, { handler = function() end, port = server.port })
  test.eq({ e.code, e.syscall, e.address }, { "EADDRINUSE", "bind", "127.0.0.1:" .. server.port })
  test.eq(tostring(e), "OSError: address already in use: bind 127.0.0.1:" .. server.port)
  e = test.raises("OSError", http.serve, { handler = function() end, host = "192.0.2.1" })
  test.eq({ e.code, e.syscall, e.address }, { "EADDRNOTAVAIL", "bind", "192.0.2.1:0" })
end)

test("hosts: by name, all of them, IPv6", function()
  for _, host in ipairs { "localhost", "*", "127.0.0.1" } do
    local _, server = start(function(req) return req.remote end, { host = host })
    test.eq(http.get("http://127.0.0.1:" .. server.port):text(), "127.0.0.1")
  end
  local function remote(req) return req.remote end
  local ok, server = pcall(http.serve, { handler = remote, host = "::1" })
  if not ok then return end -- this machine has no IPv6
  test.defer(function() server:close(0) end)
  test.eq(http.get("http://[::1]:" .. server.port .. "/"):text(), "::1")
  test.eq(tostring(server), "Server: [::1]:" .. server.port)
end)
