-- Requests to servers good and bad.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local process = require "rille.process"
local probe = require "rille.core.probe"
local tls = require "support.tls"
local raw = require "stdlib.http.raw"

local function start(handler)
  return (raw.start { handler = handler })
end

-- A server that sends these bytes to whoever asks, and closes.
local function answering(bytes)
  return "http://127.0.0.1:" .. raw.serve(function(peer)
    peer:read_until "\r\n\r\n"
    peer:send(bytes)
  end) .. "/"
end

-- A port that nobody listens on.
local function dead_port()
  local listener = require("rille.net").listen { port = 0 }
  local port = listener:address().port
  listener:close()
  return port
end

test("each method has its function", function()
  local base = start(function(req)
    return 200, req.method .. " " .. req:body(), { ["X-M"] = req.method }
  end)
  for _, name in ipairs { "get", "post", "put", "patch", "delete", "options" } do
    test.eq(http[name](base):text(), name:upper() .. " ")
    test.eq(http[name](base, { body = "x" }):text(), name:upper() .. " x")
  end
  local response = http.head(base)
  test.eq({ response:text(), response.headers["x-m"], response.headers["content-length"] },
    { "", "HEAD", "5" })
  test.eq(http.request("PROPFIND", base):text(), "PROPFIND ")
  test.eq(http.request("delete", base):text(), "DELETE ")
end)

test("a response tells all about itself", function()
  local url = answering "HTTP/1.1 207 All right so\r\nA: 1\r\na:2\r\nContent-Length: 5\r\n\r\nhello"
  local response = http.get(url .. "a b#c")
  test.eq({ response.status, response.reason, response.ok, response.version, response.url },
    { 207, "All right so", true, "1.1", url .. "a%20b" })
  test.eq({ response:text(), response:text(), response:bytes() }, { "hello", "hello", "hello" })
  test.eq({ response.headers.A, response.headers["content-length"] }, { "1, 2", "5" })
  test.eq(response.headers:get_all "a", { "1", "2" })
  test.eq(response:raise_for_status() == response, true)
  test.eq(tostring(response), "Response: 207 All right so: GET " .. url .. "a%20b")
  response:close()
  async.with(http.get(url), function(r) test.eq(r.status, 207) end)
end)

test("raise_for_status raises for 400 and more", function()
  local base = start(function(req) return tonumber(req.path:sub(2)) end)
  test.eq(http.get(base .. "/399"):raise_for_status().status, 399)
  for _, status in ipairs { 400, 599 } do
    local response = http.get(base .. "/" .. status)
    test.eq(response.ok, false)
    local e = test.raises("HTTPError", response.raise_for_status, response)
    test.eq({ e.status, e.reason, e.url }, { status, response.reason, base .. "/" .. status })
    test.eq(e.response == response, true)
    local text = ("HTTPError: %d %s: GET %s/%d"):format(status, e.reason, base, status)
    test.eq(tostring(e), text)
  end
end)

test("bodies of responses: with a length, in chunks, to the end", function()
  local function body(bytes) return http.get(answering(bytes)):bytes() end
  test.eq(body "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more", "hello")
  test.eq(body("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    .. "2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n"), "hello")
  test.eq(body "HTTP/1.1 200 OK\r\n\r\nhello to the end", "hello to the end")
  test.eq(body "HTTP/1.0 200 OK\r\n\r\n", "")
  test.eq(body "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", "x")
  test.eq(body "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", "")
  test.eq(body "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", "")
  test.eq(body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    .. "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), "hello")
  local url = answering "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
  test.eq(http.head(url):bytes(), "")
end)

test("a response may come in single bytes", function()
  local bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
  local port = raw.serve(function(peer)
    peer:read_until "\r\n\r\n"
    for c in bytes:gmatch "." do
      peer:send(c)
      async.sleep(0.0005)
    end
  end)
  test.eq(http.get("http://127.0.0.1:" .. port):text(), "hello")
end)

local CUT = "the connection was closed in the middle of the response"
local bad = {
  { "", "the connection was closed before a response came" },
  { "HTTP/1.1 200 OK\r\nContent-Le", CUT },
  { "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", CUT },
  { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", CUT },
  { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "malformed body" },
  { "220 mail.example ESMTP\r\n", "malformed status line" },
  { "HTTP/1.1 20 OK\r\n\r\n", "malformed status line" },
  { "HTTP/1.1 2000 OK\r\n\r\n", "malformed status line" },
  { "HTTP/1.1  200 OK\r\n\r\n", "malformed status line" },
  { "HTTP/1.1 099 OK\r\n\r\n", "malformed status line" },
  { "HTTP/1.1 200 OK\nA: b\n\n", "line that does not end with CR LF" },
  { "HTTP/2.0 200 OK\r\n\r\n", "unknown version of HTTP" },
  { "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "folded header field" },
  { "HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "malformed header field" },
  { "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", "malformed header field" },
  { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "more than one Content-Length field" },
  { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "both Content-Length and Transfer-Encoding" },
  { "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "unknown transfer coding" },
  { "HTTP/1.1 200 OK\r\nA: " .. ("x"):rep(70000), "header too large" },
  { "HTTP/1.1 200 OK\r\n" .. ("A: b\r\n"):rep(1001) .. "\r\n", "too many header fields" },
  { ("HTTP/1.1 100 Continue\r\n\r\n"):rep(101), "too many interim responses" },
  { "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "the server changed to another protocol" },
}

test("a server that speaks HTTP badly is an HTTPError that says how and names the URL", function()
  for _, case in ipairs(bad) do
    local url = answering(case[1])
    local e = test.raises("HTTPError", http.get, url)
    test.eq({ e.message, e.url }, { case[2] .. ": GET " .. url, url })
  end
end)

test("a connection that is reset is an OSError that names the URL", function()
  local port = raw.serve(function(peer)
    peer:read_until "\r\n\r\n"
    peer:abort()
  end)
  local url = "http://127.0.0.1:" .. port .. "/"
  local e = test.raises("OSError", http.get, url)
  test.eq({ e.code, e.syscall, e.address, e.url }, { "ECONNRESET", "read",
    "127.0.0.1:" .. port, url })
end)

test("nobody there is an OSError that names address and URL", function()
  local port = dead_port()
  local url = "http://127.0.0.1:" .. port .. "/x"
  local e = test.raises("OSError", http.get, url)
  test.eq({ e.code, e.syscall, e.address, e.url }, { "ECONNREFUSED", "connect",
    "127.0.0.1:" .. port, url })
  test.eq(tostring(e), "OSError: connection refused: connect 127.0.0.1:" .. port)
  test.matches(e.traceback, "client_test.lua:%d+")
end)

test("a name is resolved, and all of its addresses are tried", function()
  local _, server = raw.start { handler = function(req) return req.headers.host end }
  test.eq(http.get("http://localhost:" .. server.port):text(), "localhost:" .. server.port)
  local port = dead_port()
  local e = test.raises("OSError", http.get, "http://localhost:" .. port)
  test.eq({ e.code, e.url }, { "ECONNREFUSED", "http://localhost:" .. port .. "/" })
  test.contains(e.message, "connection refused: connect 127.0.0.1:" .. port)
end)

test("a name that nobody knows is an OSError that names it", function()
  local e = test.raises("OSError", http.get, "http://no-such-host.invalid/")
  test.eq({ e.syscall, e.address, e.url },
    { "getaddrinfo", "no-such-host.invalid", "http://no-such-host.invalid/" })
  test.matches(e.code, "^EAI_")
end)

test("a body over max_body is an HTTPError", function()
  local body = ("x"):rep(1000)
  local base = start(function() return body end)
  test.eq(#http.get(base, { max_body = 1000 }):bytes(), 1000)
  local e = test.raises("HTTPError", http.get, base, { max_body = 999 })
  test.eq(e.message, "body too large: GET " .. base .. "/")
  local url = answering("HTTP/1.1 200 OK\r\n\r\n" .. body)
  test.raises("body too large", http.get, url, { max_body = 999 })
  test.eq(#http.get(url, { max_body = false }):bytes(), 1000)
end)

test("a timeout ends the request, names the URL and what took so long", function()
  local gone = async.Event()
  local port = raw.serve(function(peer)
    peer:read_all() -- until the client has closed
    gone:set()
  end)
  local url = "http://127.0.0.1:" .. port .. "/"
  for _, timeout in ipairs { 0.02, { total = 0.02 }, { total = 0.02, connect = false } } do
    gone:clear()
    local e = test.raises("TimeoutError", http.get, url, { timeout = timeout })
    test.eq({ e.url, e.phase, e.message }, { url, "total", "timed out after 0.02 s: GET " .. url })
    gone:wait()
  end
end)

test("a timeout bounds the whole, however much drips in", function()
  local port = raw.serve(function(peer)
    pcall(function()
      peer:read_until "\r\n\r\n"
      peer:send "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
      for _ = 1, 100 do
        peer:send "x"
        async.sleep(0.005)
      end
    end)
  end)
  test.raises("TimeoutError", http.get, "http://127.0.0.1:" .. port .. "/", { timeout = 0.03 })
end)

test("the time to connect has its own limit", function()
  -- What is not accepted fills the backlog, and the next connect waits.
  local output = raw.run("RILLE='" .. test.executable() .. "' python3 - <<'END'\n" .. [[
import os, socket, subprocess
s = socket.socket()
s.bind(("127.0.0.1", 0))
s.listen(0)
held = []
for _ in range(3):
    c = socket.socket()
    c.setblocking(False)
    c.connect_ex(s.getsockname())
    held.append(c)
code = """
local http = require "rille.http"
local ok, e = pcall(http.get, "http://127.0.0.1:%d/", { timeout = { connect = 0.05 } })
print(ok, e.kind, e.phase, e.message:gsub(":%%d+", ":PORT"))
""" % s.getsockname()[1]
print(subprocess.run([os.environ["RILLE"], "-e", code], capture_output=True, text=True).stdout)
END]])
  test.matches(output,
    "^false\tTimeoutError\tconnect\ttimed out after 0.05 s: GET http://127.0.0.1:PORT/")
end)

test("an outer timeout is the outer one's", function()
  local port = raw.serve(function(peer) peer:read_all() end)
  local url = "http://127.0.0.1:" .. port .. "/"
  local e = test.raises("TimeoutError", async.wait_for, http.get, 0.02, url)
  test.eq({ e.message, e.url }, { "timed out after 0.02 s" })
end)

test("many requests at once", function()
  local base = start(function(req)
    async.sleep(0)
    return req.path
  end)
  local paths = {}
  for i = 1, 500 do paths[i] = "/" .. i end
  local texts = async.map(paths, function(path) return http.get(base .. path):text() end)
  texts.n = nil
  test.eq(texts, paths)
end)

test("query and form", function()
  local base = start(function(req) return req.target .. " " .. req:body() end)
  local function target(url, query)
    return http.get(base .. url, { query = query }):text():match "^%S+"
  end
  test.eq(target("/", { b = 1, a = { "x y", true }, ["ä&="] = "+/?" }),
    "/?a=x%20y&a=true&b=1&%C3%A4%26%3D=%2B%2F%3F")
  test.eq(target("/?x=1", { y = 2 }), "/?x=1&y=2")
  test.eq(target("/?", { y = 2 }), "/?y=2")
  test.eq(target("/?x#frag", { { "b", 1 }, { "a", 2 }, { "b", { 3, 4 } } }), "/?x&b=1&a=2&b=3&b=4")
  test.eq(target("/", {}), "/")
  test.eq(http.post(base, { form = { a = "b c", d = "é" } }):text(), "/ a=b+c&d=%C3%A9")
end)

test("URLs that cannot be asked for are HTTPErrors", function()
  local function case(url, message)
    local e = test.raises("HTTPError", http.get, url)
    test.eq(e.message, message .. ": '" .. url .. "'")
  end
  case("", "not a URL with a scheme and a host")
  case("/path", "not a URL with a scheme and a host")
  case("localhost:80", "not a URL with a scheme and a host")
  case("ftp://127.0.0.1/", "scheme 'ftp' is not supported")
  case("http://", "no host, or one that is not allowed, in the URL")
  case("http:///path", "no host, or one that is not allowed, in the URL")
  case("http://a b/", "wrong port in the URL")
  local e = test.raises("HTTPError", http.get, "http://good.com\\@127.0.0.1/")
  test.eq(e.message, "backslash before the path of the URL: 'http://127.0.0.1/'")
  case("http://a\\b/", "backslash before the path of the URL")
  case("http://127.0.0.1:0/", "wrong port in the URL")
  case("http://127.0.0.1:65536/", "wrong port in the URL")
  case("http://127.0.0.1:x/", "wrong port in the URL")
  e = test.raises("HTTPError", http.get, "http://a\r\nb/")
  test.eq(e.message, "control character in the URL: 'http://a??b/'")
  e = test.raises("HTTPError", http.get, "ftp://user:secret@127.0.0.1/")
  test.eq(e.message, "scheme 'ftp' is not supported: 'ftp://127.0.0.1/'")
end)

test("wrong arguments are named, at the caller's line", function()
  local url = "http://127.0.0.1:1/"
  test.blames_caller("bad argument #1 to 'get' (string expected, got nil)",
    function() http.get() end)
  test.blames_caller("bad argument #2 to 'request' (string expected, got nil)",
    function() http.request "GET" end)
  test.blames_caller("bad argument #1 to 'request' ('G T' is no method)",
    function() http.request("G T", url) end)
  test.blames_caller("bad argument #2 to 'get' (table expected, got string)",
    function() http.get(url, "x") end)
  test.blames_caller("bad argument #2 to 'post' (unknown option 'bdy'",
    function() http.post(url, { bdy = "" }) end)
  test.blames_caller("bad argument 'body' to 'post' (string, function or something with",
    function() http.post(url, { body = {} }) end)
  test.blames_caller("bad argument 'form' to 'post' (more than one of body, form",
    function() http.post(url, { body = "", form = {} }) end)
  test.blames_caller("bad argument 'form' to 'post' (form: 'a' has a value of type function)",
    function() http.post(url, { form = { a = print } }) end)
  test.blames_caller("bad argument 'query' to 'get' (query: table expected, got string)",
    function() http.get(url, { query = "a=b" }) end)
  test.blames_caller("bad argument 'headers' to 'get' (header 'A' has a value with CR, LF or NUL)",
    function() http.get(url, { headers = { A = "b\r\nC: d" } }) end)
  test.blames_caller("bad argument 'headers' to 'get' (header name 'A b' is not allowed)",
    function() http.get(url, { headers = { ["A b"] = "c" } }) end)
  test.blames_caller("bad argument 'headers' to 'get' (header 'Transfer-Encoding' cannot be set)",
    function() http.get(url, { headers = { ["Transfer-Encoding"] = "chunked" } }) end)
  local expected = "bad argument 'timeout' to 'get' (a time in seconds, or false, expected, got "
  test.blames_caller(expected .. "string)", function() http.get(url, { timeout = "1" }) end)
  test.blames_caller(expected .. "NaN)", function() http.get(url, { timeout = 0 / 0 }) end)
  test.blames_caller("bad argument 'timeout' to 'get' (unknown option 'conect'",
    function() http.get(url, { timeout = { conect = 1 } }) end)
  test.blames_caller("bad argument 'timeout.total' to 'get'",
    function() http.get(url, { timeout = { total = {} } }) end)
  test.blames_caller("bad argument 'max_body' to 'get'",
    function() http.get(url, { max_body = -1 }) end)
end)

test("a request outside of a task, or where nothing can wait, says so", function()
  local base = start(function() return 200 end)
  local e = test.raises(".", string.gsub, "x", "x", function() http.get(base) end)
  test.contains(tostring(e), "gsub")
end)

-- ---- cancellation -------------------------------------------------------------------------------

-- Cancels one request at its n-th wait; false if it has no such wait.
local function cancel_at(url, n, turns, options)
  local reached, victim = raw.cancel_at(n, turns, http.get, url, options)
  if reached and not victim:cancelled() then
    test.eq(victim:result().status, 200) -- it was handed over before
  end
  return reached
end

test("a request that is cancelled wherever it waits leaves nothing open", function()
  local before = raw.open_files()
  local base, server = raw.start {
    handler = function(req)
      if req.path == "/slow" then async.sleep(0.002) end
      return "ok"
    end,
  }
  for _, path in ipairs { "/", "/slow" } do
    for _, url in ipairs { base .. path, "http://localhost:" .. server.port .. path } do
      for turns = 0, 4 do
        local n = 1
        local options = turns % 2 == 1 and { timeout = false } or nil
        while cancel_at(url, n, turns, options) do n = n + 1 end
        assert(n > 2)
      end
    end
  end
  test.eq(http.get(base):text(), "ok")
  server:close()
  raw.open_files(before)
end)

test("a cancelled request is gone for its server at once", function()
  local gone = async.Event()
  local arrived = async.Event()
  local port = raw.serve(function(peer)
    peer:read_until "\r\n\r\n"
    arrived:set()
    test.eq(peer:read_all(), "")
    gone:set()
  end)
  local request = async.spawn(http.get, "http://127.0.0.1:" .. port .. "/")
  arrived:wait()
  request:cancel()
  gone:wait()
  async.wait { request }
  test.eq(request:cancelled(), true)
end)

test("a handler that is cancelled wherever it waits leaves nothing", function()
  local before = raw.open_files()
  for n = 1, 12 do
    for turns = 0, 3 do
      local waits = 0
      local base, server = raw.start {
        handler = function(req)
          async.sleep(0)
          return req:body() .. ("x"):rep(3000000)
        end,
      }
      probe.on_wait(function(task)
        if task:name() ~= "HTTP connection" then return end
        waits = waits + 1
        if waits ~= n then return end
        local function cancel(left)
          if left > 0 then return async.call_soon(cancel, left - 1) end
          task:cancel()
        end
        cancel(turns)
      end)
      local ok, e = pcall(http.post, base, { body = ("y"):rep(200000) })
      if not ok then test.matches(e.kind, "^[HO][TS]") end
      probe.on_wait(nil)
      server:close(0)
    end
  end
  test.turns()
  test.eq(#test.reports(), 0)
  test.eq(raw.open_files(), before)
end)

-- ---- what the contract says besides -------------------------------------------------------------

test("errors of TLS name the URL without its credentials, and who was not trusted", function()
  local server = http.serve { tls = tls.server_options(), handler = function() return "ok" end }
  test.defer(function() server:close(0) end)
  local url = ("https://localhost:%d/p"):format(server.port)
  local asked = url:gsub("//", "//user:secret@")
  local e = test.raises("TLSError", http.get, asked)
  test.eq({ e.code, e.url }, { "UNABLE_TO_GET_ISSUER_CERT_LOCALLY", url })
  local other = { ca = tls.ca.path, server_name = "other" }
  e = test.raises("TLSError", http.get, asked, { tls = other })
  test.eq({ e.code, e.url }, { "HOSTNAME_MISMATCH", url })
  local plain = "https" .. start(function() return "plain" end):sub(5)
  test.eq(test.raises("TLSError", http.get, plain).url, plain .. "/")
  test.eq(http.get(url, { tls = { verify = false } }):text(), "ok")
  local context = require("rille.tls").context { ca = tls.ca.path }
  test.eq(http.get(url, { tls = context }):text(), "ok")
end)

-- What a program of its own prints that has these variables.
local function with_environment(env, code)
  local result = process.run { os.getenv "RILLE", "-e", code, env = env, timeout = 10 }
  test.eq(result.stderr, "")
  return result.stdout
end

test("a proxy of the environment is taken where the script says so", function()
  local base = start(function(req) return "by the proxy: " .. req.target end)
  local direct = start(function() return "direct" end)
  local function get(url, env, proxy)
    return with_environment(env, ([[
      local s = require("rille.http").Session { proxy = %s, http2 = false }
      local ok, r = pcall(s.get, s, %q)
      io.write(ok and r:text() or r.kind)
    ]]):format(proxy or '"env"', url))
  end
  test.eq(get("http://far.test/x", { http_proxy = base }), "by the proxy: http://far.test/x")
  test.eq(get("http://far.test/x", { HTTP_PROXY = base:sub(8) }),
    "by the proxy: http://far.test/x")
  test.eq(get("http://far.test/x", { all_proxy = base }), "by the proxy: http://far.test/x")
  -- A CGI program is given what its client says.
  test.eq(get(direct, { HTTP_PROXY = base, REQUEST_METHOD = "GET" }), "direct")
  test.eq(get(direct, { http_proxy = base, no_proxy = "a.test,127.0.0.1" }), "direct")
  test.eq(get(direct, { http_proxy = base, NO_PROXY = "*" }), "direct")
  test.eq(get(direct, { http_proxy = base }, "nil"), "direct")
  test.eq(get(direct, { http_proxy = base }, "false"), "direct")
  -- The tunnel that https asks for is refused here.
  test.eq(get("https://far.test/", { https_proxy = base }), "HTTPError")
end)

test("redirects may be left alone", function()
  local base = start(function() return http.redirect "/there" end)
  for _, redirects in ipairs { 0, false } do
    local response = http.get(base, { redirects = redirects })
    test.eq({ response.status, response.headers.Location, #response.history }, { 302, "/there", 0 })
  end
end)
