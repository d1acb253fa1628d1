-- The client opposite httpbin, which knows how to be any server: closing after each answer, as
-- Python's wsgiref does, and keeping connections, as Werkzeug can.
local async, test = require "rille.async", require "support.test"
local peers = require "stdlib.http.peers"

local WSGIREF = [[
import socketserver
from wsgiref import simple_server
from httpbin import app
class Server(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
class Handler(simple_server.WSGIRequestHandler):
    def log_message(self, *args): pass
server = simple_server.make_server("127.0.0.1", 0, app, Server, Handler)
print(server.server_port, flush=True)
server.serve_forever()
]]

local WERKZEUG = [[
import logging
from werkzeug import serving
from httpbin import app
logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
class Handler(serving.WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
server = serving.make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
print(server.server_port, flush=True)
server.serve_forever()
]]

local function everything(s)
  -- What we ask is what arrives.
  local got = s:get("/get", { query = { { "a", "1" }, { "a", "ä&=" }, { "b", "" } },
    headers = { ["X-Own"] = "x", Accept = "text/x" } }):json()
  test.eq(got.args, { a = { "1", "ä&=" }, b = "" })
  test.eq({ got.headers["X-Own"], got.headers.Accept }, { "x", "text/x" })
  test.contains(got.url, "/get?a=1&a=ä%26%3D&b=")
  test.matches(s:get("/user-agent"):json()["user-agent"], "^rille/")
  for _, method in ipairs { "post", "put", "patch", "delete" } do
    test.eq(s[method](s, "/" .. method, { json = { list = { 1, 2 } } }):json().json,
      { list = { 1, 2 } })
  end
  test.eq(s:post("/post", { form = { a = "x y", b = { "1", "2" } } }):json().form,
    { a = "x y", b = { "1", "2" } })
  test.eq(s:post("/post", { body = ("x"):rep(300000), headers = { ["Content-Type"] = "text/plain" },
    }):json().data, ("x"):rep(300000))
  got = s:post("/post", { multipart = { { name = "ä\"b", data = "1" },
    { name = "file", data = "content", filename = "f.txt" } } }):json()
  test.eq(got.files, { file = "content" })
  test.eq(s:request("UNKNOWN", "/get").status, 405)

  -- What is answered is what we see.
  for _, status in ipairs { 200, 201, 204, 304, 400, 404, 418, 500, 503 } do
    local response = s:get("/status/" .. status)
    test.eq({ response.status, response.ok }, { status, status < 400 })
  end
  local e = test.raises("HTTPError", function() s:get("/status/404"):raise_for_status() end)
  test.eq(e.status, 404)
  test.eq(s:head("/get"):bytes(), "")
  test.eq(s:options("/get").headers.allow:find "GET" ~= nil, true)
  got = s:get("/response-headers?A=b&A=c")
  test.eq(got.headers:get_all "A", { "b", "c" })
  test.eq(s:get("/html").headers["content-type"], "text/html; charset=utf-8")
  test.matches(s:get("/encoding/utf8").headers["content-type"], "utf%-8")
  test.eq(s:get("/base64/aGVsbG8="):text(), "hello")
  test.eq(s:get("/image/png"):bytes():sub(1, 4), "\137PNG")
  test.eq(s:get("/etag/x", { headers = { ["If-None-Match"] = '"x"' } }).status, 304)
  test.eq(s:get("/xml").status, 200)

  -- Codings, pieces.
  test.eq(s:get("/gzip"):json().gzipped, true)
  test.eq(s:get("/deflate"):json().deflated, true)
  test.eq(s:get("/brotli"):json().brotli, true)
  test.eq(#s:get("/bytes/100000"):bytes(), 100000)
  test.eq(#s:get("/stream-bytes/100000?chunk_size=100"):bytes(), 100000)
  local lines = 0
  for line in s:get("/stream/20", { stream = true }):lines() do
    test.contains(line, ('"id": %d'):format(lines))
    lines = lines + 1
  end
  test.eq(lines, 20)
  local size = 0
  for chunk in s:get("/drip?numbytes=5&duration=0.2&delay=0", { stream = true }):chunks() do
    size = size + #chunk
  end
  test.eq(size, 5)
  got = s:get("/range/1000", { headers = { Range = "bytes=26-51" } })
  test.eq({ got.status, got.headers["content-range"], got:text() },
    { 206, "bytes 26-51/1000", "abcdefghijklmnopqrstuvwxyz" })

  -- Ways round.
  got = s:get "/redirect/3"
  test.eq({ got.status, #got.history, got.url:match "/get$" }, { 200, 3, "/get" })
  test.eq(#s:get("/absolute-redirect/2").history, 2)
  test.eq(#s:get("/relative-redirect/2").history, 2)
  test.eq(s:get("/redirect/3", { redirects = 0 }).status, 302)
  test.raises("HTTPError", s.get, s, "/redirect/3", { redirects = 2 })
  got = s:post("/redirect-to?status_code=307&url=/anything", { body = "kept" }):json()
  test.eq({ got.method, got.data }, { "POST", "kept" })
  test.eq(s:post("/redirect-to?status_code=303&url=/anything", { body = "x" }):json().method, "GET")
end

local function who_we_are(s)
  test.eq(s:get("/cookies/set?a=1&b=%22x%22"):json().cookies.a, "1")
  test.eq(s:get("/cookies/set/c/2"):json().cookies.c, "2")
  test.eq(s:get("/cookies/delete?a"):json().cookies.a, nil)
  test.eq(s.cookies:get "c", "2")
  for _, way in ipairs { "/basic-auth/", "/hidden-basic-auth/" } do
    local auth = { user = "me", password = "p:w" }
    test.eq(s:get(way .. "me/p:w", { auth = auth }):json().authenticated, true)
    test.eq(s:get(way .. "me/other", { auth = auth }).ok, false)
  end
  test.eq(s:get("/basic-auth/me/pw").headers["www-authenticate"], 'Basic realm="Fake Realm"')
  test.eq(s:get("/bearer", { auth = { bearer = "token" } }):json().token, "token")
  test.eq(s:get("/bearer").status, 401)
end

local function limits(s)
  local e = test.raises("TimeoutError", s.get, s, "/delay/5", { timeout = 0.1 })
  test.eq(e.phase, "total")
  e = test.raises("TimeoutError", s.get, s, "/delay/5", { timeout = { read = 0.1 } })
  test.eq(e.phase, "read")
  test.raises("HTTPError", s.get, s, "/bytes/2000", { max_body = 1000 })
  local asked = async.spawn(s.get, s, "/delay/5")
  async.sleep(0.05)
  asked:cancel()
  async.wait { asked }
  test.eq(s:get("/get").status, 200)
end

for name, program in pairs { wsgiref = WSGIREF, Werkzeug = WERKZEUG } do
  peers.test("python:httpbin", "httpbin under " .. name .. " understands us, and we it", function()
    local port = peers.python_server(program)
    local s = peers.session { base_url = "http://127.0.0.1:" .. port }
    everything(s)
    who_we_are(s)
    limits(s)
    -- Many at once, each with its own answer.
    local answers = async.map({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, function(i)
      return s:get("/anything/" .. i):json().url
    end, { limit = 6 })
    for i = 1, 12 do test.matches(answers[i], "/anything/" .. i .. "$") end
  end)
end
