-- The client's HTTP/2 opposite nginx and node.
local async, test = require "rille.async", require "support.test"
local net = require "rille.net"
local peers = require "stdlib.http.peers"
local tls = require "support.tls"

if not require("stdlib.http.frames").are_spoken() then return end

local TEXT = ("0123456789abcdef"):rep(100000)

local function free_port()
  local listener = net.listen { port = 0 }
  local port = listener:address().port
  listener:close()
  return port
end

local function numbers(n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end

local function session(options)
  options.tls = { ca = tls.ca.path }
  return peers.session(options)
end

peers.test("nginx", "nginx: it ends connections after some requests, and nobody notices", function()
  local port = free_port()
  local _, _, dir = peers.nginx(([[
    server {
      listen 127.0.0.1:%d ssl http2; ssl_certificate %s; ssl_certificate_key %s; root DIR/www;
      keepalive_requests 7; http2_max_concurrent_streams 3; gzip on; gzip_min_length 1;
      gzip_types application/octet-stream;
      location = /302 { return 302 /f; }
      location = /refuse { client_max_body_size 1k; proxy_pass http://127.0.0.1:1; }
    }]]):format(port, tls.server.cert, tls.server.key), "")
  os.execute("mkdir " .. dir .. "/www")
  test.write(dir .. "/www/f", TEXT)
  local s = session { base_url = "https://localhost:" .. port }
  local response = s:get "/302"
  test.eq({ response.version, response.headers["content-encoding"], response:text() == TEXT },
    { "2.0", "gzip", true })
  local got = async.map(numbers(60), function(i)
    local headers = { ["Accept-Encoding"] = "identity", Range = ("bytes=%d-%d"):format(i, i + 9) }
    return s:get("/f", { headers = headers }):text()
  end)
  for i = 1, 60 do test.eq(got[i], TEXT:sub(i + 1, i + 10)) end
  test.eq(s:get("/nowhere").status, 404)
  local plain = { headers = { ["Accept-Encoding"] = "identity" } }
  test.eq(s:head("/f", plain).headers["content-length"], tostring(#TEXT))
  test.eq(s:post("/refuse", { body = TEXT }).status, 413)
  local n = 0
  local refused = s:post("/refuse", { body = function()
    n = n + 1
    async.sleep(0)
    return n <= 200 and TEXT:sub(1, 20000) or nil
  end })
  test.eq(refused.status, 413)
  test.eq(s:get("/f"):text() == TEXT, true)
end)

local NODE = [[
const http2 = require("http2"), fs = require("fs");
const server = http2.createSecureServer({ cert: fs.readFileSync(process.argv[2]),
  key: fs.readFileSync(process.argv[3]), allowHTTP1: true });
server.on("stream", (stream, headers) => {
  stream.on("error", () => {});
  switch (headers[":path"]) {
    case "/echo":
      stream.respond({ ":status": 200, "x-method": headers[":method"],
        "x-type": headers["content-type"] || "" });
      stream.pipe(stream);
      break;
    case "/hints":
      stream.additionalHeaders({ ":status": 103, link: "</a>" });
      stream.respond({ ":status": 200, "set-cookie": ["a=1", "b=2"] }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ sum: "1" }));
      stream.end("hinted");
      break;
    case "/reset":
      stream.respond({ ":status": 200 });
      stream.write("some");
      setTimeout(() => stream.destroy(new Error("no")), 5);
      break;
    case "/goaway":
      stream.session.goaway();
      stream.respond({ ":status": 200 });
      setTimeout(() => stream.end("late"), 10);
      break;
    case "/destroy":
      stream.session.destroy();
      break;
    case "/never":
      break;
    default:
      stream.respond({ ":status": 200 });
      stream.end(String(stream.session.socket.remotePort));
  }
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
]]

peers.test("node", "node: streams both ways, trailers, resets, goodbyes", { limit = 10 }, function()
  local program = test.write(test.tmpdir() .. "/server.js", NODE)
  local child = peers.spawn { "node", program, tls.server.cert, tls.server.key, stdout = "pipe" }
  local s = session { base_url = "https://localhost:" .. tonumber(child.stdout:read_until "\n") }
  local response = s:post("/echo", { body = TEXT, headers = { ["Content-Type"] = "a/b" } })
  test.eq({ response.version, response.headers["X-Method"], response.headers["x-type"],
    response:text() == TEXT }, { "2.0", "POST", "a/b", true })
  local n = 0
  response = s:put("/echo", { body = function()
    n = n + 1
    async.sleep(0)
    return n <= 500 and TEXT:sub(1, 10000) or nil
  end })
  test.eq(#response:bytes(), 5000000)
  response = s:get "/hints"
  test.eq({ response:text(), response.cookies, s.cookies:get "b" },
    { "hinted", { a = "1", b = "2" }, "2" })

  local e = test.raises("HTTPError", s.get, s, "/reset")
  test.contains(e.message, "the server reset the stream: INTERNAL_ERROR")
  response = s:get("/reset", { stream = true })
  e = test.raises("HTTPError", response.bytes, response)
  test.contains(e.message, "the server reset the stream: INTERNAL_ERROR")

  local first = s:get("/port"):text()
  test.raises("TimeoutError", s.get, s, "/never", { timeout = 0.02 })
  local late = async.spawn(s.get, s, "/goaway")
  async.sleep(0.005)
  local got = async.map(numbers(10), function() return s:get("/port"):text() end)
  test.eq(late:await():text(), "late")
  for i = 2, 10 do test.eq(got[i], got[1]) end
  assert(got[1] ~= first)
  test.raises("^%u%w+Error: .*destroy", s.post, s, "/destroy")
  test.eq(s:get("/hints"):text(), "hinted")
  test.eq(#async.map(numbers(200), function() return s:get("/port"):text() end), 200)
end)
