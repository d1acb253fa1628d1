-- nginx, as the server that our client asks, and in front of a server of ours.
local async, test = require "rille.async", require "support.test"
local http, websocket = require "rille.http", require "rille.websocket"
local compress = require "rille.core.compress"
local peers = require "stdlib.http.peers"

local TEXT = ("0123456789abcdef"):rep(20000)

-- ---- the client's server ------------------------------------------------------------------------

local function origin(inner, outer)
  local base, path, dir = peers.nginx(outer or "", "root DIR/www;" .. inner)
  os.execute("mkdir " .. dir .. "/www")
  test.write(dir .. "/www/f.txt", TEXT)
  return base, path, dir
end

peers.test("nginx", "nginx as the server: files, ranges, conditions, codings, by TCP and Unix",
  function()
    local base, path = origin [[
      gzip on; gzip_types application/octet-stream; gzip_min_length 1; gzip_http_version 1.0;
      location = /204 { return 204; }
      location = /302 { return 302 /f.txt; }
      location = /308 { return 308 /f.txt; }
      location = /loop { return 302 /loop; }
      location = /close { keepalive_timeout 0; return 200 "closed"; }
      location = /plain { gzip off; try_files /f.txt =404; }
      location = /page { default_type text/html; return 200 "<p>"; }
    ]]
    for _, options in ipairs { { base_url = base }, { base_url = "http://test", path = path } } do
      local s = peers.session(options)
      local response = s:get "/f.txt"
      test.eq(response.headers["content-encoding"], "gzip")
      test.eq(response:text() == TEXT, true)
      response = s:get("/plain", { headers = { ["Accept-Encoding"] = "identity" } })
      test.eq({ response.headers["content-length"], response:text() == TEXT }, { "320000", true })
      local tag = response.headers.etag
      local range = { Range = "bytes=16-31", ["If-Range"] = tag }
      test.eq(s:get("/plain", { headers = range }):text(), "0123456789abcdef")
      test.eq(s:get("/plain", { headers = { ["If-None-Match"] = tag } }).status, 304)
      test.eq(s:head("/plain"):bytes(), "")
      test.eq(s:get("/204"):bytes(), "")
      test.eq(#s:get("/302").history, 1)
      test.eq(s:get("/308"):text() == TEXT, true)
      test.raises("HTTPError", s.get, s, "/loop")
      test.eq(s:get("/close"):text(), "closed")
      test.eq(s:get("/page").headers["content-type"], "text/html")
      test.eq(s:get("/nowhere").status, 404)
      test.eq(s:post("/f.txt", { body = "x" }).status, 405)
      test.eq(s:get("/" .. ("x"):rep(40000)).status, 414)
      test.eq(s:get("/f.txt", { headers = { A = ("x"):rep(40000) } }).status, 400)
      local size = 0
      for chunk in s:get("/f.txt", { stream = true }):chunks() do size = size + #chunk end
      test.eq(size, 320000)
    end
  end)

peers.test("nginx", "nginx closes connections after some requests and some time: nobody notices",
  function()
    local base = origin [[ keepalive_requests 3; keepalive_timeout 50ms; ]]
    local s = peers.session { base_url = base, limit = 4 }
    local all = {}
    for i = 1, 60 do all[i] = i end
    local results = async.map(all, function(i)
      if i % 10 == 0 then async.sleep(0.06) end
      return s:get("/f.txt"):text() == TEXT
    end, { limit = 8 })
    for i = 1, 60 do test.eq(results[i], true) end
  end)

peers.test("nginx", "nginx refuses an upload at once: its answer is seen, not the broken pipe",
  function()
    local base = origin [[
      client_max_body_size 1k; location = /put { proxy_pass http://127.0.0.1:1; }
    ]]
    local s = peers.session { base_url = base }
    for _, body in ipairs { ("x"):rep(3000000), false } do
      local left = 300
      local response = s:post("/put", { body = body or function()
        left = left - 1
        return left >= 0 and TEXT:sub(1, 10000) or nil
      end })
      test.eq({ response.status, response:text():match "413" }, { 413, "413" })
    end
  end)

-- ---- in front of our server ---------------------------------------------------------------------

local PROXY = [[
  location / {
    proxy_pass http://ours; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_request_buffering off; proxy_buffering off; proxy_set_header Host $http_host;
  }
  location /buffered/ {
    proxy_pass http://ours/; proxy_http_version 1.1; proxy_set_header Connection "";
  }
  location /old/ { proxy_pass http://ours/; proxy_set_header Connection close; }
  location /ws {
    proxy_pass http://ours; proxy_http_version 1.1; proxy_read_timeout 10s;
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";
  }
]]

local function through_nginx(app, options, keepalive)
  local base, server = peers.serve(app, options)
  local front = peers.nginx(("upstream ours { server %s; %s }"):format(base:match "//(.*)",
    keepalive or "keepalive 8;"), PROXY)
  return front, server
end

peers.test("nginx", "behind nginx: connections are kept, bodies are large, chunked, unfinished",
  function()
    local app = http.App()
    local connections = {}
    app:post("/count", function(req)
      connections[tostring(req.peer)] = true
      local size = 0
      for chunk in req:chunks() do size = size + #chunk end
      return tostring(size)
    end)
    app:get("/stream/{n}", function(req)
      local left = tonumber(req.params.n)
      return http.response { stream = function()
        left = left - 1
        return left >= 0 and TEXT or nil
      end }
    end)
    local front = through_nginx(app, { max_body_bytes = 0 })
    local s = peers.session { base_url = front }
    for _, way in ipairs { "", "/buffered", "/old" } do
      for _ = 1, 10 do test.eq(s:post(way .. "/count", { body = "x" }):text(), "1") end
      test.eq(s:post(way .. "/count", { body = TEXT:rep(20) }):text(), "6400000")
      local left = 50
      test.eq(s:post(way .. "/count", { body = function()
        left = left - 1
        return left >= 0 and TEXT or nil
      end }):text(), "16000000")
      test.eq(#s:get(way .. "/stream/20"):bytes(), 6400000)
      test.eq(s:get(way .. "/nowhere").status, 404)
    end
    local n = 0
    for _ in pairs(connections) do n = n + 1 end
    -- Those by the old way are closed each time, the others are used again and again.
    assert(n >= 12 and n < 20, n .. " connections")
  end)

peers.test("nginx", "an answer that breaks off behind nginx is seen to", function()
  local front = through_nginx(function(req)
    local left = tonumber(req.path:match "%d+")
    return http.response { stream = function()
      left = left - 1
      -- What follows is shorter than announced.
      return left >= 0 and TEXT or nil
    end, headers = { ["Content-Length"] = 10 * #TEXT } }
  end)
  local s = peers.session { base_url = front }
  test.eq(#s:get("/10"):bytes(), 10 * #TEXT)
  local e = test.raises("HTTPError", s.get, s, "/3")
  test.contains(e.message, "closed in the middle")
  test.contains(test.reports()[1].message, "the response of GET /3")
end)

peers.test("nginx", "WebSocket through nginx, with messages of all sizes", function()
  local app = http.App()
  app:websocket("/ws", function(ws)
    for message, kind in ws:messages() do
      if kind == "text" then ws:send(message) else ws:send_binary(message) end
    end
  end)
  local front = through_nginx(app)
  local function talk()
    local ws = websocket.connect("ws" .. front:sub(5) .. "/ws")
    for _, message in ipairs { "hello", "", ("ä"):rep(100000), TEXT } do
      ws:send(message)
      test.eq(ws:recv() == message, true)
    end
    assert(ws:ping() >= 0)
    ws:send_binary "\0\255"
    test.eq({ ws:recv() }, { "\0\255", "binary" })
    ws:close(4000, "enough")
    test.eq({ ws.close_code, ws.close_reason }, { 4000, "enough" })
  end
  async.gather { talk, talk, talk, talk, talk }
end)

peers.test("nginx", "our server closes idle and used-up connections: nginx asks again", function()
  local front = through_nginx(function(req) return req.path end,
    { idle_timeout = 0.05, max_requests = 5 })
  local s = peers.session { base_url = front }
  for i = 1, 60 do
    if i % 20 == 0 then async.sleep(0.08) end
    test.eq(s:get("/" .. i):text(), "/" .. i)
  end
end)

peers.test("nginx", "our server ends behind nginx: what runs is finished, then it is a 502",
  function()
  local begun, go_on = async.Event(), async.Event()
  local front, server = through_nginx(function()
    begun:set()
    go_on:wait()
    return "finished"
  end)
  local s = peers.session { base_url = front }
  local asked = async.spawn(s.get, s, "/")
  begun:wait()
  local closed = async.spawn(server.close, server, 5)
  async.sleep(0)
  go_on:set()
  test.eq(asked:await():text(), "finished")
  closed:await()
  test.eq(s:get("/").status, 502)
end)

peers.test("nginx", "a client that nginx sees go ends the request behind it", function()
  local begun, ended = async.Event(), async.Event()
  local front = through_nginx(function()
    begun:set()
    async.finally(function() async.sleep(100) end, function() ended:set() end)
  end, { cancel_on_disconnect = true })
  local s = peers.session { base_url = front }
  local asked = async.spawn(s.get, s, "/")
  begun:wait()
  asked:cancel()
  async.wait { asked }
  ended:wait()
end)

peers.test("nginx", "what our server has compressed passes through nginx", function()
  local front = through_nginx(function() return TEXT end, { compress = true })
  local s = peers.session { base_url = front }
  for _, coding in ipairs { "gzip", "br", "zstd" } do
    local response = s:get("/", { headers = { ["Accept-Encoding"] = coding } })
    test.eq({ response.headers["content-encoding"], response:text() == TEXT }, { coding, true })
  end
  test.contains(compress.accepted, "gzip")
end)
