-- HTTP/2 opposite other programs, many requests at once: curl, nghttp, h2load and httpx ask our
-- server; our client asks nginx.
local async, test = require "rille.async", require "support.test"
local http, process = require "rille.http", require "rille.process"
local certificates = require "support.certificates"
local peers = require "stdlib.http.peers"

local TEXT = ("0123456789abcdef"):rep(20000)

local function make_app()
  local app = http.App()
  app:get("/hello/{name}", function(req) return "hello " .. req.params.name end)
  app:post("/count", function(req)
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end)
  app:get("/stream", function()
    local left = 100
    return http.response { trailers = { ["X-Sum"] = "100" }, stream = function()
      left = left - 1
      async.sleep(0)
      return left >= 0 and TEXT:sub(1, 3200) or nil
    end }
  end)
  app:get("/large", function() return TEXT end)
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
  local plain = peers.serve(make_app(), options)
  options.tls = tls
  local _, server = peers.serve(make_app(), options)
  return { { plain, "--http2-prior-knowledge" },
    { "https://localhost:" .. server.port, "--http2 --cacert " .. ca } }, dir, ca
end

local function sh(command)
  local result = process.run { "sh", "-c", command, timeout = 60 }
  test.eq({ result.code, result.stderr }, { 0, "" }, command)
  return result.stdout
end

peers.test("curl openssl", "curl asks for many things at once over one connection", function()
  local ways, dir = start()
  local base, options = ways[2][1], "curl -sS " .. ways[2][2]
  test.eq(sh(options .. " -w ' %{http_version} %{num_connects}' " .. base .. "/hello/a " .. base
    .. "/hello/b"), "hello a 2 1hello b 2 0")
  local many = " -Z --parallel-max 50 '" .. base .. "/hello/[1-200]' -o " .. dir .. "/got_#1"
  test.eq(#sh(options .. many .. " -w x 2> /dev/null"), 200)
  for i = 1, 200 do test.eq(test.read(dir .. "/got_" .. i), "hello " .. i) end
end)

peers.test("nghttp", "nghttp: small windows, continuations, trailers", function()
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
