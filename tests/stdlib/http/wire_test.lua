-- What goes over the wire between server and client, to the byte.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local raw = require "stdlib.http.raw"

local HELLO = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 5\r\n"
  .. "\r\nhello"
local HELLO_CLOSED = HELLO:gsub("\r\n\r\n", "\r\nConnection: close\r\n\r\n")

local function hello() return "hello" end

local function serve(handler, options)
  options = options or {}
  options.handler = handler
  local _, server = raw.start(options)
  return server.port
end

-- The whole answer to what cannot be answered otherwise.
local function refusal(status, what)
  local body = status:sub(5) .. ": " .. what .. "\n"
  return ("HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
    .. "Connection: close\r\n\r\n%s"):format(status, #body, body)
end

test("a request is answered, and the connection stays for the next one", function()
  local peer = raw.connect(serve(hello))
  for _ = 1, 3 do
    peer:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    test.eq(peer:read_response(), HELLO)
  end
end)

test("the same head again is the same request, whole or in pieces; another is another", function()
  local port = serve(function(req)
    return ("%s %s %s %s"):format(req.method, req.target, req.headers.x or "-", req:body())
  end)
  local peer = raw.connect(port)
  local function body(bytes, no_body)
    peer:send(bytes)
    return peer:read_response(no_body):match "\r\n\r\n(.*)$"
  end
  local same = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
  for _ = 1, 3 do test.eq(body(same), "GET /a - ") end
  test.eq(body("\r\n" .. same), "GET /a - ")
  test.eq(body(same), "GET /a - ")
  test.eq(body((same:gsub("\r\n$", "X: 1\r\n\r\n"))), "GET /a 1 ")
  test.eq(body(same), "GET /a - ")
  for c in same:gmatch "." do peer:send(c) end
  test.eq(body "", "GET /a - ")
  peer:send(same:sub(1, 9))
  async.sleep(0.01)
  test.eq(body(same:sub(10)), "GET /a - ")
  local post = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
  for _, text in ipairs { "xy", "zz" } do test.eq(body(post .. text), "POST /p - " .. text) end
  local head = "HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n"
  for _ = 1, 2 do test.eq(body(head, true), "") end
  test.eq(body(same .. same), "GET /a - ")
  test.eq(body(same), "GET /a - ")
  test.eq(body "", "GET /a - ")
  peer:send(same .. "GET /a HTTP/1.1\r\nHost : a\r\n\r\n")
  test.eq(peer:read_response():match "^HTTP/1.1 (%d+)", "200")
  test.eq(peer:read_response():match "^HTTP/1.1 (%d+)", "400")
end)

test("HTTP/1.0 asks to keep its connection with each head anew", function()
  local peer = raw.connect(serve(hello))
  local keep = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
  for _ = 1, 3 do
    test.matches(peer:send(keep):read_response(), "Connection: keep%-alive\r\n")
  end
  test.matches(peer:send("GET / HTTP/1.0\r\n\r\n"):read_response(), "Connection: close\r\n")
end)

test("the response has a Date, in the form that RFC 9110 wants", function()
  local peer = raw.connect(serve(hello)):send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
  test.matches(peer:read_until "\r\n\r\n",
    "\r\nDate: %u%l%l, %d%d %u%l%l 20%d%d %d%d:%d%d:%d%d GMT\r\n")
end)

test("requests that come at once are answered in their order", function()
  local port = serve(function(req)
    if req.path == "/1" then async.sleep(0.01) end
    return req.path
  end)
  local peer = raw.connect(port):send(
    "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
      .. "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
      .. "GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
  )
  local bodies = {}
  for i = 1, 3 do bodies[i] = peer:read_response():match "\r\n\r\n(.*)$" end
  test.eq(bodies, { "/1", "/2", "/3" })
  test.eq(peer:read_all(), "")
end)

test("many more requests at once than are kept in memory are all answered", function()
  local port = serve(function(req) return req.path end)
  local peer, n = raw.connect(port), math.max(2500, 20000 * test.SCALE)
  local writer = async.spawn(function()
    local one = {}
    for i = 1, n do one[i] = ("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(i) end
    peer:send(table.concat(one))
  end)
  for i = 1, n do test.eq(peer:read_response():match "\r\n\r\n/(%d+)$", tostring(i)) end
  writer:await()
end)

test("a request may come in single bytes", function()
  local peer = raw.connect(serve(function(req) return req:body() end))
  local bytes = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
  for i = 1, #bytes do
    peer:send(bytes:sub(i, i))
    async.sleep(0.001)
  end
  test.eq(peer:read_response(), HELLO)
end)

test("empty lines before a request are passed over", function()
  test.eq(raw.answer(serve(hello), "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), HELLO)
end)

test("Connection: close is answered and obeyed", function()
  local peer = raw.connect(serve(hello))
  peer:send "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
  test.eq(peer:read_response(), HELLO_CLOSED)
  test.eq(peer:read_all(), "")
end)

test("HTTP/1.0 is closed after the answer, unless it asks for more", function()
  local port = serve(hello)
  test.eq(raw.answer(port, "GET / HTTP/1.0\r\n\r\n"), HELLO_CLOSED)
  local peer = raw.connect(port)
  for _ = 1, 2 do
    peer:send "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    test.eq(peer:read_response(), (HELLO:gsub("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n")))
  end
end)

test("a client that half-closes after its request gets its answer", function()
  local port = serve(function()
    async.sleep(0.01)
    return "hello"
  end)
  local peer = raw.connect(port):send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
  peer:finish()
  test.eq(peer:read_response(), HELLO_CLOSED)
  test.eq(peer:read_all(), "")
end)

test("HEAD is answered like GET, without the body", function()
  local peer = raw.connect(serve(hello))
  for _ = 1, 2 do
    peer:send "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
    test.eq(peer:read_response(true), (HELLO:gsub("hello", "")))
  end
end)

test("204 and 304 have neither body nor length", function()
  local port = serve(function(req) return tonumber(req.path:sub(2)) end)
  for status, text in pairs { [204] = "No Content", [304] = "Not Modified" } do
    local peer = raw.connect(port):send(("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"):format(status))
    test.eq(peer:read_response(), ("HTTP/1.1 %d %s\r\n\r\n"):format(status, text))
    test.eq(peer.input, "")
    peer:send "GET /200 HTTP/1.1\r\nHost: a\r\n\r\n"
    test.matches(peer:read_response(), "\r\nContent%-Length: 2\r\n\r\nOK$")
  end
end)

test("a body comes with its length or in chunks", function()
  local port = serve(function(req) return req:body() end)
  test.eq(raw.answer(port, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"), HELLO)
  local chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
  test.eq(raw.answer(port, chunked .. "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), HELLO)
  local extended = '2;a=b\r\nhe\r\n03;c="d"\r\nllo\r\n0\r\nX: y\r\n\r\n'
  test.eq(raw.answer(port, chunked .. extended), HELLO)
end)

test("who expects to be told to go on is told when the body is asked for", function()
  local asked = async.Event()
  local port = serve(function(req)
    asked:wait()
    return req:body()
  end)
  local peer = raw.connect(port)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
  asked:set()
  test.eq(peer:read_until "\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n")
  peer:send "hello"
  test.eq(peer:read_response(), HELLO)
end)

test("who expects to be told to go on and is not gets the answer, and the end", function()
  local peer = raw.connect(serve(hello))
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
  test.eq(peer:read_response(), HELLO_CLOSED)
  test.eq(peer:read_all(), "")
end)

test("a large body in between does not hold up what follows", function()
  local peer = raw.connect(serve(function(req)
    if req.path == "/late" then async.sleep(0.005) end
    return #req:body() .. ""
  end))
  for _, path in ipairs { "/", "/late", "/" } do
    peer:send(("POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"):format(path))
    peer:send(("x"):rep(300000))
    test.matches(peer:read_response(), "300000$")
    peer:send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    test.matches(peer:read_response(), "\r\n\r\n0$")
  end
end)

test("a body that nobody reads is passed over if it is short", function()
  local peer = raw.connect(serve(hello))
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"
  test.eq(peer:read_response(), HELLO)
  peer:send(("x"):rep(50000) .. "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
  test.eq(peer:read_response(), HELLO)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n"
  test.eq(peer:read_response(), HELLO_CLOSED)
end)

test("a chunked body that nobody reads is passed over if it is short", function()
  local peer = raw.connect(serve(hello))
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
  test.eq(peer:read_response(), HELLO)
  peer:send "0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
  test.eq(peer:read_response(), HELLO)
  peer:send "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
  test.eq(peer:read_response(), HELLO)
  peer:send("11170\r\n" .. ("x"):rep(70000))
  test.eq(peer:read_all(), "")
end)

-- Requests that are refused, and how.
local BAD = "400 Bad Request"
local function with(fields, method)
  return (method or "GET") .. " / HTTP/1.1\r\nHost: a\r\n" .. fields .. "\r\n"
end
local CHUNKED = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
local LINE_END = "line that does not end with CR LF"
local refused = {
  { "no request line", "hello\r\n\r\n", BAD, "malformed request line" },
  { "a request line of one word", "GET\r\n\r\n", BAD, "malformed request line" },
  { "HTTP/0.9", "GET /\r\n", BAD, "malformed request line" },
  { "two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "malformed request line" },
  { "a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", BAD,
    "malformed request line" },
  { "a space at the end", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", BAD, "malformed request line" },
  { "a tab", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "malformed request line" },
  { "a method that is no token", "G(T / HTTP/1.1\r\nHost: a\r\n\r\n", BAD,
    "malformed request line" },
  { "TLS", "\22\3\1\2\0\1\0\1\252\3\3\r\n\r\n", BAD, "malformed request line" },
  { "a response", "HTTP/1.1 200 OK\r\n\r\n", BAD, "malformed request line" },
  { "RTSP", "DESCRIBE / RTSP/1.0\r\nHost: a\r\n\r\n", BAD, "malformed request line" },
  { "ICE", "SOURCE / ICE/1.0\r\nHost: a\r\n\r\n", BAD, "malformed request line" },
  { "http in small letters", "GET / http/1.1\r\nHost: a\r\n\r\n", BAD, "malformed request line" },
  { "not HTTP/2", "PRI * HTTP/2.0\r\n\r\nMS\r\n\r\n", "505 HTTP Version Not Supported",
    "only HTTP/1.0 and HTTP/1.1 are spoken here" },
  { "HTTP/0.9 with a version", "GET / HTTP/0.9\r\n\r\n", "505 HTTP Version Not Supported",
    "only HTTP/1.0 and HTTP/1.1 are spoken here" },
  { "HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", "505 HTTP Version Not Supported",
    "only HTTP/1.0 and HTTP/1.1 are spoken here" },
  { "an unknown method", with("", "FOO"), "501 Not Implemented", "unknown method" },
  { "a method in small letters", with("", "get"), "501 Not Implemented", "unknown method" },
  { "a method of RTSP", with("", "PLAY"), "501 Not Implemented", "unknown method" },
  { "a method of Icecast", with("", "SOURCE"), "501 Not Implemented", "unknown method" },
  { "a tunnel", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "501 Not Implemented",
    "unknown method" },
  { "a target without a slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "malformed target" },
  { "a star for GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "malformed target" },
  { "a fragment", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "malformed target" },
  { "a URL of another kind", "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "malformed target" },
  { "a URL without a host", "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "malformed target" },
  { "a control character in the target", "GET /\1 HTTP/1.1\r\nHost: a\r\n\r\n", BAD,
    "malformed target" },
  { "bytes beyond ASCII in the target", "GET /\195\164 HTTP/1.1\r\nHost: a\r\n\r\n", BAD,
    "malformed target" },
  { "NUL in the path", "GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "NUL in the path" },
  { "a path that is not UTF-8", "GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "path is not UTF-8" },
  { "an overlong path", "GET /%c0%af HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "path is not UTF-8" },
  { "half a character", "GET /%c3 HTTP/1.1\r\nHost: a\r\n\r\n", BAD, "path is not UTF-8" },
  { "a lone percent sign", "GET /% HTTP/1.1\r\nHost: a\r\n\r\n", BAD,
    "percent sign without two hexadecimal digits in the path" },
  { "no Host", "GET / HTTP/1.1\r\n\r\n", BAD, "no Host field" },
  { "two Hosts", with "Host: a\r\n", BAD, "more than one Host field" },
  { "two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", BAD,
    "more than one Host field" },
  { "a Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BAD, "malformed Host field" },
  { "a Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", BAD, "malformed Host field" },
  { "a Host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", BAD, "malformed Host field" },
  { "two Hosts in one", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BAD, "malformed Host field" },
  { "a Host with a bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", BAD, "malformed Host field" },
  { "lines without CR", "GET / HTTP/1.1\nHost: a\n\n", BAD, LINE_END },
  { "one line without CR", "GET / HTTP/1.1\r\nHost: a\n\r\n", BAD, LINE_END },
  { "a bare CR in a value", with "X: a\rb\r\n", BAD, "malformed header field" },
  { "a bare CR in the request line", "GET / HTTP/1.1\rX: y\r\nHost: a\r\n\r\n", BAD,
    "malformed request line" },
  { "a folded field", with "X: a\r\n b\r\n", BAD, "folded header field" },
  { "a space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", BAD,
    "folded header field" },
  { "a space before the colon", with "X : a\r\n", BAD, "malformed header field" },
  { "a field without a colon", with "X\r\n", BAD, "malformed header field" },
  { "a field without a name", with ": a\r\n", BAD, "malformed header field" },
  { "a name that is no token", with "X(Y): a\r\n", BAD, "malformed header field" },
  { "NUL in a value", with "X: a\0b\r\n", BAD, "malformed header field" },
  { "a control character in a value", with "X: a\1b\r\n", BAD, "malformed header field" },
  { "two lengths", with("Content-Length: 1\r\nContent-Length: 1\r\n", "POST"), BAD,
    "more than one Content-Length field" },
  { "a list of lengths", with("Content-Length: 1, 1\r\n", "POST"), BAD,
    "malformed Content-Length field" },
  { "an empty length", with("Content-Length:\r\n", "POST"), BAD, "malformed Content-Length field" },
  { "a negative length", with("Content-Length: -1\r\n", "POST"), BAD,
    "malformed Content-Length field" },
  { "a length with a sign", with("Content-Length: +1\r\n", "POST"), BAD,
    "malformed Content-Length field" },
  { "a hexadecimal length", with("Content-Length: 0x1\r\n", "POST"), BAD,
    "malformed Content-Length field" },
  { "a huge length", with("Content-Length: 99999999999999999999999\r\n", "POST"),
    "413 Content Too Large", "body too large" },
  { "a length that wraps around", with("Content-Length: 18446744073709551621\r\n", "POST"),
    "413 Content Too Large", "body too large" },
  { "a length over the limit", with("Content-Length: 16777217\r\n", "POST"),
    "413 Content Too Large", "body too large" },
  { "length and coding", with("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "POST"), BAD,
    "both Content-Length and Transfer-Encoding" },
  { "coding and length", with("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "POST"), BAD,
    "both Content-Length and Transfer-Encoding" },
  { "a coding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BAD,
    "Transfer-Encoding in HTTP/1.0" },
  { "an empty coding", with("Transfer-Encoding:\r\n", "POST"), BAD,
    "malformed Transfer-Encoding field" },
  { "an unknown coding", with("Transfer-Encoding: gzip\r\n", "POST"), "501 Not Implemented",
    "unknown transfer coding" },
  { "a coding before chunked", with("Transfer-Encoding: gzip, chunked\r\n", "POST"),
    "501 Not Implemented", "unknown transfer coding" },
  { "identity before chunked", with("Transfer-Encoding: identity, chunked\r\n", "POST"),
    "501 Not Implemented", "unknown transfer coding" },
  { "a coding after chunked", with("Transfer-Encoding: chunked, gzip\r\n", "POST"),
    "501 Not Implemented", "unknown transfer coding" },
  { "a coding that only looks like chunked", with("Transfer-Encoding: xchunked\r\n", "POST"),
    "501 Not Implemented", "unknown transfer coding" },
  { "a quoted coding", with('Transfer-Encoding: "chunked"\r\n', "POST"), BAD,
    "malformed Transfer-Encoding field" },
  { "chunked twice", with("Transfer-Encoding: chunked, chunked\r\n", "POST"), BAD,
    "chunked more than once" },
  { "chunked in two fields", with("Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "POST"), BAD, "chunked more than once" },
  { "an unknown expectation", with("Expect: tea\r\n", "POST"), "417 Expectation Failed",
    "unknown expectation" },
}

test("malformed requests are refused with the right status, and the connection ends", function()
  local called = 0
  local port = serve(function()
    called = called + 1
    return "hello"
  end)
  for _, case in ipairs(refused) do
    local name, bytes, status, what = unpack(case)
    local peer = raw.connect(port):send(bytes)
    test.eq(peer:read_response(), refusal(status, what), name)
    test.eq(peer:read_all(), "", name)
  end
  test.eq(called, 0)
end)

test("a malformed request does not get in front of the one before it", function()
  local peer = raw.connect(serve(hello))
  peer:send "GET / HTTP/1.1\r\nHost: a\r\n\r\nrubbish\r\n\r\n"
  test.eq(peer:read_response(), HELLO)
  test.eq(peer:read_response(), refusal(BAD, "malformed request line"))
  test.eq(peer:read_all(), "")
end)

test("a refused HEAD request gets no body", function()
  local peer = raw.connect(serve(hello)):send "HEAD / HTTP/1.1\r\n\r\n"
  local answer = peer:read_all()
  test.matches(answer, "^HTTP/1.1 400 Bad Request\r\n.*\r\n\r\n$")
end)

local bad_bodies = {
  { "a size that is no number", "x\r\nhello\r\n0\r\n\r\n" },
  { "a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n" },
  { "a size with a sign", "+5\r\nhello\r\n0\r\n\r\n" },
  { "a space before the size", " 5\r\nhello\r\n0\r\n\r\n" },
  { "a space behind the size", "5 \r\nhello\r\n0\r\n\r\n" },
  { "no size", "\r\nhello\r\n0\r\n\r\n" },
  { "a size that wraps around", "10000000000000005\r\nhello\r\n0\r\n\r\n" },
  { "LF behind the size", "5\nhello\r\n0\r\n\r\n" },
  { "CR behind the size", "5\rhello\r\n0\r\n\r\n" },
  { "LF behind the chunk", "5\r\nhello\n0\r\n\r\n" },
  { "a chunk that is too long", "5\r\nhelloXX0\r\n\r\n" },
  { "a chunk that is too short", "5\r\nhell\r\n0\r\n\r\n" },
  { "LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n" },
  { "LF at the end", "5\r\nhello\r\n0\r\n\n" },
  { "LF in a trailer", "5\r\nhello\r\n0\r\nX: y\n\r\n" },
  { "a trailer without a colon", "5\r\nhello\r\n0\r\nX\r\n\r\n" },
}

test("a malformed body is a 400, and the connection ends", function()
  local reading = async.Event()
  local port = serve(function(req)
    reading:set()
    return req:body()
  end)
  for _, case in ipairs(bad_bodies) do
    for _, later in ipairs { false, true } do
      local peer = raw.connect(port):send(CHUNKED)
      if later then
        reading:clear()
        reading:wait()
      end
      peer:send(case[2])
      local answer = peer:read_response()
      test.matches(answer, "^HTTP/1.1 400 Bad Request\r\n.*\r\nConnection: close\r\n")
      test.eq(peer:read_all(), "", case[1])
    end
  end
end)

test("a malformed body that nobody reads ends the connection after the answer", function()
  local begun, go_on = async.Event(), async.Event()
  local port = serve(function()
    begun:set()
    go_on:wait()
    return "hello"
  end)
  local peer = raw.connect(port):send(CHUNKED)
  begun:wait()
  peer:send "x\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"
  async.sleep(0.01)
  go_on:set()
  test.eq(peer:read_response(), HELLO_CLOSED)
  test.eq(peer:read_all(), "")
end)

test("the whole URL as target, as proxies send it", function()
  local port = serve(function(req) return req.path .. " " .. req.target end)
  local answer = raw.answer(port, "GET http://b:81/a%20b?c HTTP/1.1\r\nHost: b:81\r\n\r\n")
  test.contains(answer, "\r\n\r\n/a b http://b:81/a%20b?c")
  answer = raw.answer(port, "GET http://b HTTP/1.1\r\nHost: b\r\n\r\n")
  test.contains(answer, "\r\n\r\n/ http://b")
  answer = raw.answer(port, "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n")
  test.contains(answer, "\r\n\r\n* *")
end)

test("Hosts that are unusual and right", function()
  local port = serve(hello)
  for _, host in ipairs { "", "[::1]", "[::1]:80", "a.b-c_d:8080", "127.0.0.1" } do
    test.eq(raw.answer(port, "GET / HTTP/1.1\r\nHost: " .. host .. "\r\n\r\n"), HELLO, host)
  end
end)

test("a wish for another protocol is not granted", function()
  local fields = "Connection: Upgrade\r\nUpgrade: h2c\r\n"
  local peer = raw.connect(serve(hello)):send(with(fields) .. with(fields))
  test.eq(peer:read_response(), HELLO)
  test.eq(peer:read_response(), HELLO)
end)

test("the client sends just this", function()
  local seen
  local port = raw.serve(function(peer)
    seen = peer:read_until "\r\n\r\n"
    peer:send "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
  end)
  local base = "http://127.0.0.1:" .. port
  local common = ("User-Agent: rille/%s\r\nAccept: */*\r\n"):format(rille.version)
  local coding = "Accept-Encoding: gzip, deflate, br, zstd\r\n"
  http.get(base)
  test.eq(seen, ("GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s\r\n"):format(port, common, coding))
  http.get(base .. "/a?b=c d#e", { headers = { Host = "x", ["X-Y"] = { 1, "z" }, Accept = false } })
  test.eq(seen, ("GET /a?b=c%%20d HTTP/1.1\r\nUser-Agent: rille/%s\r\n" .. coding
    .. "Host: x\r\nX-Y: 1\r\nX-Y: z\r\n\r\n"):format(rille.version))
  http.post(base)
  test.contains(seen, "POST / HTTP/1.1\r\n")
  test.contains(seen, "Content-Length: 0\r\n")
end)
