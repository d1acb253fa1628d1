-- HTTP/2 opposite other programs: curl, nghttp, h2load and httpx ask our server; our client asks
-- nginx.
local async, test = require "rille.async", require "support.test"
local http, process = require "rille.http", require "rille.process"
local certificates = require "support.certificates"
local peers = require "stdlib.http.peers"

local TEXT = ("0123456789abcdef"):rep(20000)

local function make_app(dir)
  local app = http.App()
  app:get("/hello/{name}", function(req) return "hello " .. req.params.name end)
  app:get("/version", function(req) return req.version .. " " .. req.scheme .. " " .. req.host end)
  app:post("/count", function(req)
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end)
  app:post("/echo", function(req) return req:body() end)
  app:get("/stream", function()
    local left = 100
    return http.response { trailers = { ["X-Sum"] = "100" }, stream = function()
      left = left - 1
      async.sleep(0)
      return left >= 0 and TEXT:sub(1, 3200) or nil
    end }
  end)
  app:get("/large", function() return TEXT end)
  app:get("/events", function()
    local n = 0
    return http.response { sse = function()
      n = n + 1
      return n <= 3 and { data = n } or nil
    end }
  end)
  app:static("/files", dir)
  return app
end

local function certificate()
  local authority = certificates.authority(test.tmpdir())
  local server = authority:issue("localhost", { names = "DNS:localhost,IP:127.0.0.1" })
  return { cert = server.cert, key = server.key }, authority.path
end

-- Base URLs, each with what curl needs for it: over TLS, and by prior knowledge.
local function start(options)
  local dir = test.tmpdir()
  test.write(dir .. "/f.txt", TEXT)
  local tls, ca = certificate()
  options = options or {}
  local plain = peers.serve(make_app(dir), options)
  options.tls = tls
  local _, server = peers.serve(make_app(dir), options)
  return { { plain, "--http2-prior-knowledge" },
    { "https://localhost:" .. server.port, "--http2 --cacert " .. ca } }, dir, ca
end

local function sh(command)
  local result = process.run { "sh", "-c", command, timeout = 60 }
  test.eq({ result.code, result.stderr }, { 0, "" }, command)
  return result.stdout
end

peers.test("curl openssl", "curl over HTTP/2: bodies, streams, ranges, many at once", function()
  local ways, dir = start { max_body_bytes = 0 }
  for _, way in ipairs(ways) do
    local function curl(arguments)
      return sh(("cd %s && curl -sS %s %s"):format(dir, way[2], arguments:gsub("@@", way[1])))
    end
    local scheme, host = way[1]:match "^(%a+)://(.*)$"
    test.eq(curl "@@/version", "2.0 " .. scheme .. " " .. host)
    test.eq(curl "-d abc @@/echo", "abc")
    test.eq(curl "-T f.txt -X POST @@/count", "320000")
    test.eq(curl "-T - -X POST @@/count < f.txt", "320000")
    test.eq(#curl "@@/stream", 320000)
    test.eq(curl "@@/events", "data: 1\n\ndata: 2\n\ndata: 3\n\n")
    test.eq(curl "-r 16-31 @@/files/f.txt", "0123456789abcdef")
    test.matches(curl "-I @@/files/f.txt", "^HTTP/2 200 .*content%-length: 320000")
    test.eq(curl "-o got -w '%{http_code}' @@/nowhere", "404")
    -- curl 7.88 cannot use a connection again that it has begun by prior knowledge.
    if scheme == "https" then
      test.eq(curl "-w ' %{http_version} %{num_connects}' @@/hello/a @@/hello/b",
        "hello a 2 1hello b 2 0")
      test.eq(#curl "-Z --parallel-max 50 '@@/hello/[1-200]' 2> /dev/null", 200 * 6 + 492)
    end
  end
end)

peers.test("curl openssl", "curl is refused HTTP/2 where it is switched off", function()
  local ways = start { http2 = false }
  test.eq(sh(("curl -sS %s %s/version"):format(ways[2][2], ways[2][1])):match "^%S+", "1.1")
end)

peers.test("nghttp", "nghttp: priorities, paddings, continuations, uploads", function()
  local ways, dir = start { max_header_bytes = 200000, max_body_bytes = 0 }
  local base = ways[1][1]
  test.eq(sh("nghttp --no-dep -b 100 " .. base .. "/hello/a"), "hello a")
  test.eq(#sh("nghttp -w 8 -W 10 " .. base .. "/large"), 320000) -- small windows
  test.eq(sh("nghttp -d " .. dir .. "/f.txt -H ':method: POST' " .. base .. "/count"), "320000")
  test.eq(sh("nghttp --continuation -H 'x: " .. ("y"):rep(20000) .. "' " .. base .. "/hello/a"),
    "hello a")
  test.eq(sh("nghttp -m 20 " .. base .. "/hello/a"), ("hello a"):rep(20))
  test.eq(#sh("nghttp " .. base .. "/stream"), 320000)
  local trace = sh("nghttp -nv " .. base .. "/stream")
  test.contains(trace:lower(), "x-sum: 100")
end)

peers.test("h2load openssl", "h2load: all of thousands of requests are answered", function()
  local ways = start {}
  local n = math.max(400, math.floor(4000 * test.SCALE))
  for _, way in ipairs(ways) do
    local out = sh(("h2load -n %d -c 20 -m 20 %s/hello/a 2>&1"):format(n, way[1]))
    test.contains(out, ("%d succeeded, 0 failed, 0 errored, 0 timeout"):format(n))
    out = sh(("h2load -n %d -c 10 -m 10 %s/large 2>&1"):format(n / 10, way[1]))
    test.contains(out, ("%d succeeded, 0 failed, 0 errored, 0 timeout"):format(n / 10))
  end
end)

peers.test("python:httpx python:h2 openssl", "httpx over HTTP/2", function()
  local ways, _, ca = start()
  peers.python([[
import asyncio, httpx, sys
async def main():
    async with httpx.AsyncClient(base_url=sys.argv[1], http2=True, verify=sys.argv[2]) as c:
        async def hello(i):
            r = await c.get("/hello/%d" % i)
            assert (r.http_version, r.text) == ("HTTP/2", "hello %d" % i)
        await asyncio.gather(*(hello(i) for i in range(200)))
        r = await c.post("/count", content=b"x" * 1000000)
        assert r.text == "1000000"
        async with c.stream("GET", "/stream") as r:
            assert sum([len(b) async for b in r.aiter_raw()]) == 320000
        # Half of an answer, and then no more of it.
        async with c.stream("GET", "/large") as r:
            async for b in r.aiter_raw():
                break
        await hello(1)
asyncio.run(main())
print("well")
]], ways[2][1], ca)
end)

peers.test("nginx openssl", "our client asks nginx over HTTP/2", function()
  local tls, ca = certificate()
  local base, _, dir = peers.nginx("", ([[
    listen unix:DIR/tls.sock ssl http2; listen unix:DIR/plain.sock http2;
    ssl_certificate %s; ssl_certificate_key %s; root DIR; http2_max_requests 50;
    gzip on; gzip_types text/plain;
    location = /302 { return 302 /f.txt; }
    location = /version { return 200 $server_protocol; }
  ]]):format(tls.cert, tls.key))
  test.write(dir .. "/f.txt", TEXT)
  test.matches(base, "^http://127")
  for _, options in ipairs {
    { base_url = "https://localhost", path = dir .. "/tls.sock",
      tls = { ca = ca, server_name = "localhost" } },
    { base_url = "http://localhost", path = dir .. "/plain.sock", http2 = "prior" },
  } do
    local s = peers.session(options)
    test.eq({ s:get("/version"):text(), s:get("/version").version }, { "HTTP/2.0", "2.0" })
    local all = {}
    for i = 1, 120 do all[i] = i end
    -- More than nginx takes on a connection.
    local results = async.map(all, function() return s:get("/f.txt"):text() == TEXT end,
      { limit = 20 })
    for i = 1, 120 do test.eq(results[i], true) end
    test.eq(s:get("/302"):text() == TEXT, true)
    test.eq(s:head("/f.txt"):bytes(), "")
    local asked = async.spawn(s.get, s, "/f.txt")
    async.sleep(0)
    asked:cancel()
    async.wait { asked }
    test.eq(s:get("/nowhere").status, 404)
    test.eq(s:post("/f.txt", { body = TEXT }).status, 405)
  end
end)
