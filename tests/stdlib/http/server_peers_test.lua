-- The server opposite other programs: curl, nginx in front of it, Python's http.client.
local async, test = require "rille.async", require "support.test"
local http, net = require "rille.http", require "rille.net"
local peer_app, peers = require "stdlib.http.peer_app", require "stdlib.http.peers"
local raw = require "stdlib.http.raw"

local peer_test, start, TEXT = peers.test, peer_app.start, peer_app.TEXT

peer_test("curl", "curl: uploads, ranges, conditions, HEAD, expectations", function()
  local base, dir = start { max_body_bytes = 0 }
  local function curl(arguments)
    local output, status = raw.run("cd " .. dir .. " && curl -sS " .. arguments:gsub("@@", base))
    test.eq(status, 0, output)
    return output
  end
  test.eq(curl "-F a=b -F 'file=@f.txt;filename=\"x y.txt\"' @@/upload", "a:b x y.txt=320000")
  test.eq(test.read(dir .. "/uploaded") == TEXT, true)
  test.eq(curl "-T f.txt -X POST @@/count", "320000")
  test.eq(curl "-T - -X POST @@/count < f.txt", "320000")
  test.eq(curl "-H 'Expect: 100-continue' --data-binary @f.txt @@/count", "320000")
  test.eq(curl "-d x=1 @@/echo @@/echo", "x=1x=1")
  curl "-o got -r 0-9999 @@/files/f.txt"
  test.eq(curl "-o got -C 10000 -w '%{http_code}' @@/files/f.txt", "206")
  test.eq(test.read(dir .. "/got") == TEXT, true)
  test.eq(curl "-o got -w '%{http_code}' --etag-save tag @@/files/f.txt", "200")
  test.eq(curl "-o got -w '%{http_code}' --etag-compare tag @@/files/f.txt", "304")
  test.eq(curl "-o got -w '%{http_code}' -z f.txt @@/files/f.txt", "304")
  test.matches(curl "-I @@/files/f.txt", "^HTTP/1.1 200 .*Content%-Length: 320000")
  test.eq(#curl "@@/stream", 320000)
  test.eq(#curl "-0 @@/stream", 320000)
  test.eq(curl "-N @@/events", "id: 1\ndata: 1\n\nid: 2\ndata: 2\n\nid: 3\ndata: 3\n\n")
  test.eq(curl "-w ' %{num_connects}' @@/hello/a @@/hello/b", "hello a 1hello b 0")
  test.eq(curl "--path-as-is -o got -w '%{http_code}' @@/files/../../etc/passwd", "404")
end)

peer_test("nginx", "nginx in front: everything passes through, by TCP and Unix", function()
  local dir = test.tmpdir()
  local backend = peer_app.new(dir)
  test.write(dir .. "/f.txt", TEXT)
  local tcp = backend:serve { trusted_proxies = { "127.0.0.1", "unix" } }
  local unix = backend:serve { path = dir .. "/socket", trusted_proxies = { "unix" } }
  local probe = net.listen {}
  local port = probe:address().port
  probe:close()
  test.write(dir .. "/nginx.conf", ([[
    user root; daemon off; worker_processes 1; pid DIR/pid; error_log DIR/error.log;
    events { worker_connections 64; }
    http {
      access_log off; client_body_temp_path DIR/b; proxy_temp_path DIR/p;
      fastcgi_temp_path DIR/f; uwsgi_temp_path DIR/u; scgi_temp_path DIR/s;
      upstream tcp { server 127.0.0.1:TCP; keepalive 4; }
      upstream unix { server unix:DIR/socket; keepalive 4; }
      proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto https; proxy_set_header Host $http_host;
      server {
        listen 127.0.0.1:PORT;
        location /tcp/ { proxy_pass http://tcp/; proxy_request_buffering off; }
        location /unix/ { proxy_pass http://unix/; proxy_buffering off; }
      }
    }
  ]]):gsub("DIR", dir):gsub("TCP", tcp.port):gsub("PORT", port))
  local process = require "rille.process"
  local nginx = process.spawn { "nginx", "-p", dir, "-e", dir .. "/error.log", "-c",
    dir .. "/nginx.conf", stderr = "null" }
  test.defer(function()
    nginx:kill "SIGTERM"
    nginx:wait()
    tcp:close(0)
    unix:close(0)
  end)
  for _ = 1, 500 do
    local ok, stream = pcall(net.connect, { host = "127.0.0.1", port = port })
    if ok then
      stream:close()
      break
    end
    async.sleep(0.01)
  end
  async.with(http.Session(), function(session)
    for _, way in ipairs { "/tcp", "/unix" } do
      local base = "http://127.0.0.1:" .. port .. way
      for i = 1, 20 do test.eq(session:get(base .. "/hello/" .. i):text(), "hello " .. i) end
      test.eq(#session:get(base .. "/stream"):bytes(), 320000)
      test.eq(session:post(base .. "/count", { body = TEXT }):text(), "320000")
      test.eq(session:get(base .. "/events"):text():match "id: 3\ndata: 3\n\n$" ~= nil, true)
      local part = session:get(base .. "/files/f.txt", { headers = { Range = "bytes=16-31" } })
      test.eq({ part.status, part:text() }, { 206, "0123456789abcdef" })
      test.eq(session:get(base .. "/who"):text(), "127.0.0.1 https 127.0.0.1:" .. port)
      test.eq(session:get(base .. "/nowhere").status, 404)
      test.eq(session:request("OPTIONS", base .. "/echo").headers.allow, "OPTIONS, POST")
    end
  end)
end)

peer_test("python3", "Python's http.client keeps a connection for many requests", function()
  local _, dir, server = start {}
  test.write(dir .. "/client.py", [[
import http.client, sys
c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
for i in range(20):
    c.request("GET", "/hello/%d" % i)
    r = c.getresponse()
    assert (r.status, r.read()) == (200, b"hello %d" % i)
c.request("POST", "/echo", body=(b"chunk%d" % i for i in range(5)), encode_chunked=True,
          headers={"Transfer-Encoding": "chunked"})
assert c.getresponse().read() == b"chunk0chunk1chunk2chunk3chunk4"
c.request("GET", "/stream")
assert len(c.getresponse().read()) == 320000
c.request("HEAD", "/files/f.txt")
r = c.getresponse()
assert r.getheader("Content-Length") == "320000" and r.read() == b""
print("done")
]])
  test.eq({ raw.run("python3 " .. dir .. "/client.py " .. server.port) }, { "done\n", 0 })
end)
