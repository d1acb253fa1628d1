-- The server of HTTP/2 opposite other programs: curl, nghttp, h2load, Python's h2.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local peer_app, peers = require "stdlib.http.peer_app", require "stdlib.http.peers"
local raw = require "stdlib.http.raw"
local frames = require "stdlib.http.frames"
local tls = require "support.tls"

if not frames.are_spoken() then return end

local peer_test, start, TEXT = peers.test, peer_app.start, peer_app.TEXT

local function run(command, base, dir)
  local output, status = raw.run("cd " .. dir .. " && " .. command:gsub("@@", base))
  test.eq(status, 0, output)
  return output
end

peer_test("curl", "curl by prior knowledge: uploads, ranges, HEAD, expectations", function()
  local base, dir = start { max_body_bytes = 0, compress = true, max_collect_bytes = 10 ^ 7 }
  local function curl(arguments)
    return run("curl -sS --http2-prior-knowledge " .. arguments, base, dir)
  end
  test.eq(curl "-w ' %{http_version} %{http_code}' @@/hello", "hello 2.0 2 200")
  test.eq(curl "-F a=b -F 'file=@f.txt;filename=\"x y.txt\"' @@/upload", "a:b x y.txt=320000")
  test.eq(test.read(dir .. "/uploaded") == TEXT, true)
  test.eq(curl "-T f.txt -X POST @@/count", "320000")
  test.eq(curl "-T - -X POST @@/count < f.txt", "320000")
  test.eq(curl "-H 'Expect: 100-continue' --data-binary @f.txt @@/count", "320000")
  test.eq(curl "--data-binary @f.txt @@/echo" == TEXT, true)
  test.eq(curl "@@/files/f.txt" == TEXT, true)
  test.eq(curl "-r 5-9 @@/files/f.txt", "56789")
  test.eq(curl "-z 'Tue, 01 Jan 2036 00:00:00 GMT' -w '%{http_code}' @@/files/f.txt", "304")
  test.contains(curl "-I @@/files/f.txt", "content-length: 320000")
  for _, coding in ipairs { "gzip", "br", "zstd", "deflate" } do
    local features = curl "-V"
    if coding == "gzip" or coding == "deflate" or features:find(coding, 1, true) then
      test.eq(curl("-H 'Accept-Encoding: " .. coding .. "' --compressed @@/files/f.txt") == TEXT,
        true, coding)
    end
  end
  test.eq(curl "@@/stream" == TEXT, true)
  test.contains(curl "-i @@/stream", "x-sum: 1")
  test.contains(curl "@@/events", "id: 2\ndata: 2\n\n")
  test.eq(curl "-c jar @@/set && curl -sS --http2-prior-knowledge -b jar @@/cookies", "1")
end)

peer_test("curl", "curl over TLS: ALPN chooses what the client and the server like",
  function()
    local base, dir = start { tls = tls.server_options() }
    local function version(arguments)
      return run("curl -sSk -o body -w '%{http_version}' " .. arguments .. " @@/hello && cat body",
        base, dir)
    end
    test.eq(version "", "2hello 2.0")
    test.eq(version "--http2", "2hello 2.0")
    test.eq(version "--http1.1", "1.1hello 1.1")
    test.eq(version "--no-alpn", "1.1hello 1.1")
    base, dir = start { tls = tls.server_options(), http2 = false }
    test.eq(version "--http2", "1.1hello 1.1")
    base, dir = start { tls = tls.server_options { alpn = { "http/1.1" } } }
    test.eq(version "--http2", "1.1hello 1.1")
    base, dir = start { tls = tls.server_options { alpn = { "h2" } } }
    test.eq(version "--http2", "2hello 2.0")
    base, dir = start { tls = tls.server_options() }
    test.eq(run("curl -sSk --http2 --data-binary @f.txt @@/count", base, dir), "320000")
    test.eq(run("curl -sSk --http2 @@/stream", base, dir) == TEXT, true)
  end)

peer_test("curl", "curl that asks for an upgrade to HTTP/2 is answered in HTTP/1.1", function()
  local base, dir = start()
  test.eq(run("curl -sS --http2 @@/hello", base, dir), "hello 1.1")
  test.eq(run("curl -sS --http2 --data-binary @f.txt @@/count", base, dir), "320000")
end)

peer_test("curl", "curl over a Unix socket", function()
  local dir = test.tmpdir()
  local server = http.serve { path = dir .. "/s", handler = function(req) return req.version end }
  test.defer(function() server:close(0) end)
  test.eq(run("curl -sS --http2-prior-knowledge --unix-socket s http://a/", "", dir), "2.0")
end)

peer_test("nghttp", "nghttp: many requests, an upload, trailers, padding", function()
  local base, dir = start { max_body_bytes = 0 }
  test.eq(run("nghttp -m 20 @@/hello", base, dir), ("hello 2.0"):rep(20))
  test.eq(run("nghttp -b 100 -d f.txt @@/count", base, dir), "320000")
  test.contains(run("nghttp -nv @@/stream", base, dir), "x-sum: 1")
  test.eq(#run("nghttp -w 10 -W 10 @@/files/f.txt", base, dir), #TEXT)
end)

peer_test("h2load", "h2load: a thousand streams at once, none fails, nothing stays open", function()
  local base, dir, server = start()
  local before = raw.open_files()
  local out = run("h2load -n 5000 -c 10 -m 100 @@/hello", base, dir)
  test.contains(out, "5000 succeeded, 0 failed, 0 errored, 0 timeout")
  out = run("h2load -n 200 -c 4 -m 10 @@/files/f.txt", base, dir)
  test.contains(out, "200 succeeded, 0 failed, 0 errored, 0 timeout")
  out = run("h2load -n 200 -c 4 -m 10 -d f.txt @@/count", base, dir)
  test.contains(out, "200 succeeded, 0 failed, 0 errored, 0 timeout")
  raw.open_files(before)
  server:close()
end)

peer_test("python:h2", "Python's h2: a thousand streams at once on ten connections", function()
  local go, waiting = async.Event(), 0
  local server = http.serve { handler = function(req)
    waiting = waiting + 1
    if waiting == 1000 then go:set() end
    go:wait()
    return req:body()
  end }
  test.defer(function() server:close(0) end)
  local dir = test.tmpdir()
  test.write(dir .. "/client.py", [[
import socket, sys
import h2.connection, h2.events

socks = []
for c in range(10):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    h = h2.connection.H2Connection()
    h.initiate_connection()
    s.sendall(h.data_to_send())
    socks.append((s, h))
for s, h in socks:
    for i in range(100):
        sid = h.get_next_available_stream_id()
        h.send_headers(sid, [(":method", "POST"), (":path", "/"), (":scheme", "http"),
                             (":authority", "a")])
        h.send_data(sid, b"body %d" % sid, end_stream=True)
    s.sendall(h.data_to_send())
good = 0
for s, h in socks:
    bodies, ended = {}, 0
    while ended < 100:
        data = s.recv(65536)
        assert data, "closed"
        for e in h.receive_data(data):
            if isinstance(e, h2.events.DataReceived):
                bodies[e.stream_id] = bodies.get(e.stream_id, b"") + e.data
            elif isinstance(e, h2.events.StreamEnded):
                ended += 1
                good += bodies[e.stream_id] == b"body %d" % e.stream_id
        s.sendall(h.data_to_send())
    s.close()
print(good)
]])
  test.eq(run(peers.PYTHON .. " client.py " .. server.port, "", dir), "1000\n")
end)
