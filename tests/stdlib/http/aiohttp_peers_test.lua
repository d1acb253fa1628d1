-- Python's aiohttp and httpx, as clients of our server, and aiohttp as the server of our client.
local async, test = require "rille.async", require "support.test"
local http, websocket = require "rille.http", require "rille.websocket"
local peers = require "stdlib.http.peers"

local TEXT = ("0123456789abcdef"):rep(20000)

local function our_app(dir)
  local app = http.App()
  app:get("/hello/{name}", function(req) return "hello " .. req.params.name end)
  app:post("/echo", function(req)
    return 200, req:body(), { ["Content-Type"] = req.headers["content-type"] or "text/plain" }
  end)
  app:post("/form", function(req)
    local form = req:form()
    return { a = form.a, all = form:get_all "b" }
  end)
  app:post("/parts", function(req)
    local parts = {}
    for part in req:multipart() do
      parts[#parts + 1] = { part.name, part.filename or "", #part:bytes() }
    end
    return parts
  end)
  app:get("/stream", function()
    local left = 100
    return http.response { stream = function()
      left = left - 1
      return left >= 0 and TEXT:sub(1, 3200) or nil
    end }
  end)
  app:get("/slow", function() async.sleep(100) end)
  app:get("/cookie", function(req)
    local response = http.response { json = req.cookies }
    response:set_cookie("seen", (tonumber(req.cookies.seen) or 0) + 1)
    return response
  end)
  app:get("/old", function() return http.redirect "/hello/new" end)
  app:websocket("/ws", function(ws)
    for message, kind in ws:messages() do
      if kind == "text" then ws:send(message) else ws:send_binary(message) end
      if message == "bye" then ws:close(4001, "as you wish") end
    end
  end, { subprotocols = { "echo" } })
  app:static("/files", dir)
  return app
end

local function serve_ours()
  local dir = test.tmpdir()
  test.write(dir .. "/f.txt", TEXT)
  return peers.serve(our_app(dir), { compress = true })
end

peers.test("python:aiohttp", "aiohttp is a client of ours", function()
  peers.python([==[
import asyncio, aiohttp, sys
async def main():
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(sys.argv[1], cookie_jar=jar) as s:
        async def hello(i):
            async with s.get("/hello/%d" % i) as r:
                assert (r.status, await r.text()) == (200, "hello %d" % i)
        await asyncio.gather(*(hello(i) for i in range(200)))
        async with s.post("/echo", json={"a": [1, "ä"]}) as r:
            assert await r.json() == {"a": [1, "ä"]}
        async def pieces():
            for i in range(50):
                yield b"x" * 10000
                await asyncio.sleep(0)
        async with s.post("/echo", data=pieces()) as r:
            assert await r.read() == b"x" * 500000
        async with s.post("/form", data={"a": "x y&", "b": "1"}) as r:
            assert await r.json() == {"a": "x y&", "all": ["1"]}, await r.text()
        form = aiohttp.FormData()
        form.add_field("a", "1")
        form.add_field("f", b"y" * 100000, filename="f.bin", content_type="x/y")
        async with s.post("/parts", data=form) as r:
            assert await r.json() == [["a", "", 1], ["f", "f.bin", 100000]], await r.text()
        async with s.get("/stream") as r:
            assert len(await r.read()) == 320000
        async with s.get("/stream") as r:
            n = 0
            async for chunk in r.content.iter_chunked(1000):
                n += len(chunk)
            assert n == 320000
        async with s.get("/files/f.txt", headers={"Range": "bytes=16-31"}) as r:
            assert (r.status, await r.text()) == (206, "0123456789abcdef")
        for n in range(3):
            async with s.get("/cookie") as r:
                assert (await r.json()).get("seen", "0") == str(n), await r.text()
        async with s.get("/old") as r:
            assert await r.text() == "hello new" and len(r.history) == 1
        async with s.post("/echo", data=b"z" * 100000, expect100=True) as r:
            assert len(await r.read()) == 100000
        try:
            async with s.get("/slow", timeout=aiohttp.ClientTimeout(total=0.1)) as r:
                assert False
        except asyncio.TimeoutError:
            pass
        async with s.get("/nowhere") as r:
            assert r.status == 404
asyncio.run(main())
print("well")
]==], (serve_ours()))
end)

peers.test("python:aiohttp", "aiohttp talks WebSocket to ours", function()
  peers.python([==[
import asyncio, aiohttp, sys
from aiohttp import WSMsgType
async def talk(s, compress):
    async with s.ws_connect("/ws", protocols=["other", "echo"], compress=compress) as ws:
        assert ws.protocol == "echo"
        for text in ["hello", "", "ä" * 100000]:
            await ws.send_str(text)
            assert await ws.receive_str() == text
        await ws.send_bytes(bytes(range(256)) * 1000)
        assert await ws.receive_bytes() == bytes(range(256)) * 1000
        await ws.ping(b"x")
        await ws.send_json({"a": None})
        assert await ws.receive_json() == {"a": None}
        await ws.send_str("bye")
        assert await ws.receive_str() == "bye"
        end = await ws.receive()
        assert (end.type, end.data, end.extra) == (WSMsgType.CLOSE, 4001, "as you wish"), end
async def main():
    async with aiohttp.ClientSession(sys.argv[1]) as s:
        await asyncio.gather(*(talk(s, i % 2 * 15) for i in range(6)))
        async with s.ws_connect("/ws") as ws:
            await ws.send_str("x" * 2000000)
            end = await ws.receive()
            assert (end.type, end.data) == (WSMsgType.CLOSE, 1009), end
asyncio.run(main())
print("well")
]==], (serve_ours()))
end)

peers.test("python:httpx", "httpx is a client of ours", function()
  peers.python([==[
import httpx, sys
with httpx.Client(base_url=sys.argv[1], follow_redirects=True) as c:
    for i in range(20):
        assert c.get("/hello/%d" % i).text == "hello %d" % i
    assert c.post("/echo", json={"a": "ä"}).json() == {"a": "ä"}
    assert c.post("/form", data={"a": "1", "b": ["2", "3"]}).json() == {"a": "1", "all": ["2", "3"]}
    assert c.post("/parts", files={"f": ("n.txt", b"abc", "x/y")}).json() == [["f", "n.txt", 3]]
    assert c.post("/echo", content=(b"x" * 1000 for _ in range(50))).content == b"x" * 50000
    assert c.get("/old").text == "hello new"
    with c.stream("GET", "/stream") as r:
        assert sum(len(b) for b in r.iter_raw()) == 320000
    assert len(c.get("/files/f.txt").text) == 320000
    assert c.head("/files/f.txt").content == b""
    r = c.get("/files/f.txt", headers={"accept-encoding": "identity", "range": "bytes=-5"})
    assert (r.status_code, r.text) == (206, "bcdef")
    assert [c.get("/cookie").json().get("seen") for _ in range(3)] == [None, "1", "2"]
    assert c.request("FOO", "/hello/a").status_code == 501
print("well")
]==], (serve_ours()))
end)

local AIOHTTP_SERVER = [==[
import asyncio, sys
from aiohttp import web, WSMsgType
routes = web.RouteTableDef()
@routes.get("/hello/{name}")
async def hello(request):
    return web.Response(text="hello " + request.match_info["name"])
@routes.post("/echo")
async def echo(request):
    return web.Response(body=await request.read(), content_type=request.content_type)
@routes.post("/form")
async def form(request):
    data = await request.post()
    return web.json_response({k: v if isinstance(v, str) else [v.filename, v.content_type,
        len(v.file.read())] for k, v in data.items()})
@routes.get("/stream")
async def stream(request):
    r = web.StreamResponse()
    r.enable_compression()
    await r.prepare(request)
    for i in range(100):
        await r.write(b"line %d\n" % i)
        await asyncio.sleep(0)
    await r.write_eof()
    return r
@routes.get("/cut")
async def cut(request):
    r = web.StreamResponse(headers={"Content-Length": "1000"})
    await r.prepare(request)
    await r.write(b"x" * 500)
    request.transport.close()
    return r
@routes.get("/slow")
async def slow(request):
    await asyncio.sleep(100)
@routes.get("/events")
async def events(request):
    r = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await r.prepare(request)
    for i in range(3):
        await r.write(b"id: %d\r\nevent: tick\r\ndata: a\r\ndata: %d\r\n\r\n" % (i, i))
    return r
@routes.get("/old")
async def old(request):
    raise web.HTTPFound("/hello/new")
@routes.get("/ws")
async def ws(request):
    ws = web.WebSocketResponse(protocols=["echo"])
    await ws.prepare(request)
    async for m in ws:
        if m.type == WSMsgType.TEXT:
            if m.data == "bye":
                await ws.close(code=4002, message=b"so long")
            else:
                await ws.send_str(m.data)
        elif m.type == WSMsgType.BINARY:
            await ws.send_bytes(m.data)
    return ws
async def main():
    app = web.Application(client_max_size=0)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Future()
asyncio.run(main())
]==]

peers.test("python:aiohttp", "aiohttp is the server of our client", function()
  local port = peers.python_server(AIOHTTP_SERVER)
  local s = peers.session { base_url = "http://127.0.0.1:" .. port, limit = 10 }
  local all = {}
  for i = 1, 200 do all[i] = i end
  local texts = async.map(all, function(i) return s:get("/hello/" .. i):text() end, { limit = 50 })
  for i = 1, 200 do test.eq(texts[i], "hello " .. i) end
  test.eq(s:post("/echo", { body = TEXT }):text() == TEXT, true)
  test.eq(s:post("/echo", { json = { a = "ä" } }):json(), { a = "ä" })
  local left = 30
  test.eq(#s:post("/echo", { body = function()
    left = left - 1
    async.sleep(0)
    return left >= 0 and TEXT or nil
  end }):bytes(), 30 * #TEXT)
  test.eq(s:post("/form", { form = { a = "x y&", b = "ü" } }):json(), { a = "x y&", b = "ü" })
  local dir = test.tmpdir()
  test.write(dir .. "/f.txt", TEXT)
  test.eq(s:post("/form", { multipart = { { name = "a", data = "1" },
    { name = "f", file = dir .. "/f.txt", content_type = "x/y" } } }):json(),
    { a = "1", f = { "f.txt", "x/y", #TEXT } })
  local lines = 0
  for line in s:get("/stream", { stream = true }):lines() do
    test.eq(line, "line " .. lines)
    lines = lines + 1
  end
  test.eq(lines, 100)
  local events = {}
  for event in s:get("/events", { stream = true }):events() do
    events[#events + 1] = event.event .. " " .. event.id .. " " .. event.data
  end
  test.eq(events, { "tick 0 a\n0", "tick 1 a\n1", "tick 2 a\n2" })
  test.eq(s:get("/old"):text(), "hello new")
  test.raises("HTTPError", s.get, s, "/cut")
  test.raises("TimeoutError", s.get, s, "/slow", { timeout = 0.05 })
  test.eq(s:get("/hello/again"):text(), "hello again")
end)

peers.test("python:aiohttp", "our WebSocket talks to aiohttp's", function()
  local port = peers.python_server(AIOHTTP_SERVER)
  local url = "ws://127.0.0.1:" .. port .. "/ws"
  for _, compress in ipairs { true, false } do
    local ws = websocket.connect(url, { subprotocols = { "x", "echo" }, compress = compress })
    test.eq(ws.subprotocol, "echo")
    for _, message in ipairs { "hello", "", ("ä"):rep(100000) } do
      ws:send(message)
      test.eq(ws:recv() == message, true)
    end
    ws:send_binary(TEXT)
    test.eq(ws:recv() == TEXT, true)
    assert(ws:ping() >= 0)
    ws:send "bye"
    test.eq(ws:recv(), nil)
    test.eq({ ws.close_code, ws.close_reason }, { 4002, "so long" })
  end
  local e = test.raises("HTTPError", websocket.connect, "ws://127.0.0.1:" .. port .. "/hello/x")
  test.eq(e.status, 200)
end)
