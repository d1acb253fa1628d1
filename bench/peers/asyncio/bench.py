"""asyncio (and uvloop with BENCH_UVLOOP=1). usage: bench.py WORKLOAD N [PORT]"""
import asyncio, os, random, sys, time
from asyncio import sleep

W = sys.argv[1] if len(sys.argv) > 1 else ""
N = int(sys.argv[2]) if len(sys.argv) > 2 else 0
DIR = os.environ.get("BENCH_DATA", "")


def report(n, t):
    print(f"{W} {n} {t:.6f} {n / t:.1f}", flush=True)


async def switch(n, tasks):
    async def t(k):
        for _ in range(k):
            await sleep(0)
    await asyncio.gather(*[t(n // tasks) for _ in range(tasks)])


async def spawn_join(n):
    async def t():
        return 1
    for _ in range(n // 1000):
        await asyncio.gather(*[t() for _ in range(1000)])


async def sleepers(n):
    random.seed(1)
    r = random.random
    await asyncio.gather(*[sleep(0.5 + r()) for _ in range(n)])


async def waitfor(n):
    async def op():
        return 1
    for _ in range(n):
        await asyncio.wait_for(op(), 10)


async def waitfor_yield(n):
    for _ in range(n):
        await asyncio.wait_for(sleep(0), 10)


async def waitfor_cm(n):  # 3.11's asyncio.timeout() context manager: no extra task
    async def op():
        return 1
    for _ in range(n):
        async with asyncio.timeout(10):
            await op()


async def waitfor_yield_cm(n):
    for _ in range(n):
        async with asyncio.timeout(10):
            await sleep(0)


async def queue(n, k):
    q = asyncio.Queue(100)

    async def prod(m):
        for i in range(m):
            await q.put(i)

    async def cons(m):
        for _ in range(m):
            await q.get()
    await asyncio.gather(*[prod(n // k) for _ in range(k)], *[cons(n // k) for _ in range(k)])


async def semaphore(n):
    s = asyncio.Semaphore(10)

    async def t(k):
        for _ in range(k):
            async with s:
                await sleep(0)
    await asyncio.gather(*[t(n // 1000) for _ in range(1000)])


async def lock(n):
    s = asyncio.Lock()

    async def t(k):
        for _ in range(k):
            async with s:
                await sleep(0)
    await asyncio.gather(*[t(n // 100) for _ in range(100)])


async def lock_uncontended(n):
    s = asyncio.Lock()
    for _ in range(n):
        await s.acquire()
        s.release()


async def semaphore_uncontended(n):
    s = asyncio.Semaphore(1)
    for _ in range(n):
        await s.acquire()
        s.release()


async def queue_uncontended(n):
    q = asyncio.Queue(100)
    for i in range(n):
        await q.put(i)
        assert await q.get() == i


async def event(n):  # two tasks, two events, n one-way hand-overs
    a, b = asyncio.Event(), asyncio.Event()

    async def ping(k):
        for _ in range(k):
            b.set()
            await a.wait()
            a.clear()

    async def pong(k):
        for _ in range(k):
            await b.wait()
            b.clear()
            a.set()
    await asyncio.gather(ping(n // 2), pong(n // 2))


async def condition(n):  # two tasks take turns under one condition
    c = asyncio.Condition()
    turn = 0

    async def t(me, k):
        nonlocal turn
        for _ in range(k):
            async with c:
                while turn != me:
                    await c.wait()
                turn = 1 - me
                c.notify()
    await asyncio.gather(t(0, n // 2), t(1, n // 2))


async def executor(n):
    loop = asyncio.get_running_loop()
    f = (lambda: 1)
    left = n

    async def t():
        nonlocal left
        while left > 0:
            left -= 1
            await loop.run_in_executor(None, f)
    await asyncio.gather(*[t() for _ in range(100)])


def _compute(s):
    for i in range(1, 1000001):
        s = (s * 31 + i) % 1000003
    return s


async def cpu_map(n):
    from concurrent.futures import ProcessPoolExecutor
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2) as pool:
        await asyncio.gather(*[loop.run_in_executor(pool, _compute, i) for i in range(n)])


def _read(p):
    with open(p, "rb", buffering=0) as f:
        return f.read()


async def file_many(n):
    loop = asyncio.get_running_loop()
    s = asyncio.Semaphore(64)

    async def t(i):
        async with s:
            b = await loop.run_in_executor(None, _read, f"{DIR}/f{i % 10000}")
            assert len(b) == 4096
    await asyncio.gather(*[t(i) for i in range(n)])


async def spawn(n):
    free = asyncio.Semaphore(8)

    async def one():
        async with free:
            child = await asyncio.create_subprocess_exec("true")
            await child.wait()

    await asyncio.gather(*(one() for _ in range(n)))


async def file_seq(n):
    loop = asyncio.get_running_loop()
    global N
    N = 0
    f = open(f"{DIR}/big", "rb", buffering=0)
    while b := await loop.run_in_executor(None, f.read, 65536):
        N += len(b)


async def serve_echo(port):
    class P(asyncio.Protocol):
        def connection_made(self, t):
            self.t = t

        def data_received(self, d):
            self.t.write(d)
    s = await asyncio.get_running_loop().create_server(P, "127.0.0.1", port, backlog=1024)
    await s.serve_forever()


async def serve_echo_streams(port):
    async def h(r, w):
        while d := await r.read(65536):
            w.write(d)
            await w.drain()
        w.close()
    s = await asyncio.start_server(h, "127.0.0.1", port, backlog=1024)
    await s.serve_forever()


async def serve_http_raw(port):  # hand-written protocol: what the loop itself can do
    resp = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"

    class P(asyncio.Protocol):
        def connection_made(self, t):
            self.t = t

        def data_received(self, d):
            k = d.count(b"\r\n\r\n")
            if k:
                self.t.write(resp * k)
    s = await asyncio.get_running_loop().create_server(P, "127.0.0.1", port, backlog=1024)
    await s.serve_forever()


async def serve_aiohttp(port):
    from aiohttp import web

    async def h(req):
        return web.Response(text="Hello, World!")
    app = web.Application()
    app.router.add_get("/", h)
    r = web.AppRunner(app, access_log=None)
    await r.setup()
    await web.TCPSite(r, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


async def serve_ws_aiohttp(port):
    from aiohttp import web

    async def h(req):
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(req)
        async for m in ws:
            await ws.send_bytes(m.data)
        return ws
    app = web.Application()
    app.router.add_get("/", h)
    r = web.AppRunner(app, access_log=None)
    await r.setup()
    await web.TCPSite(r, "127.0.0.1", port).start()
    await asyncio.Event().wait()


async def serve_ws_websockets(port):
    import websockets

    async def h(ws):
        async for m in ws:
            await ws.send(m)
    async with websockets.serve(h, "127.0.0.1", port, compression=None):
        await asyncio.Event().wait()


async def http_client(n, port):
    import aiohttp
    url = f"http://127.0.0.1:{port}/"
    left = n
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64)) as s:
        async def t():
            nonlocal left
            while left > 0:
                left -= 1
                async with s.get(url) as r:
                    assert len(await r.read()) == 13
        await asyncio.gather(*[t() for _ in range(64)])


async def serve_tls(port):
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.environ["BENCH_CERT"], os.environ["BENCH_KEY"])
    chunk = bytes(65536)

    async def serve(reader, writer):
        try:
            if await reader.read(65536):
                for _ in range(2**30 // len(chunk)):
                    writer.write(chunk)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context, backlog=1024)
    await server.serve_forever()


SERVERS = {"tls_server": serve_tls, "tcp_echo": serve_echo, "tcp_echo_streams": serve_echo_streams, "http_server_raw": serve_http_raw,
           "http_server": serve_aiohttp, "ws_echo": serve_ws_aiohttp, "ws_echo_websockets": serve_ws_websockets}
if os.environ.get("BENCH_UVLOOP"):
    import uvloop
    uvloop.install()


async def main():
    if W in SERVERS:
        return await SERVERS[W](N)
    fn = {"switch2": lambda: switch(N, 2), "switch1000": lambda: switch(N, 1000), "queue11": lambda: queue(N, 1),
          "queue44": lambda: queue(N, 4), "http_client": lambda: http_client(N, int(sys.argv[3]))}.get(W) or (lambda: globals()[W](N))
    t0 = time.perf_counter()
    await fn()
    report(N, time.perf_counter() - t0)

if W:
    asyncio.run(main())
