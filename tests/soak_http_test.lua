-- A server and its clients for a while, or for RILLE_SOAK_SECONDS: uploads, streams, events,
-- WebSocket, timeouts, and clients that die half-way in all of it. At the end there are as many
-- tasks, handles and files as at the beginning, and the memory has stayed where it was.
local async, test = require "rille.async", require "support.test"
local errors, fs, net = require "rille.errors", require "rille.fs", require "rille.net"
local http, websocket = require "rille.http", require "rille.websocket"
local tls = require "support.tls"

local SECONDS = tonumber(os.getenv "RILLE_SOAK_SECONDS") or 4
local IS_LONG = SECONDS > 60
local AT_ONCE = 64
local LINE_EVERY = 10 -- seconds, of a long run
local WARM_UP = 0.25
-- What the memory may have grown since the first part, after which a short run is not warm: that
-- one finds large leaks.
local MOST_GROWTH = (IS_LONG and 16 or 64) * 1048576
local TEXT = ("0123456789abcdef"):rep(4096)

local random = math.random

-- ---- the server ---------------------------------------------------------------------------------

local function make_app(dir)
  local app = http.App()
  app:get("/hello/{name}", function(req) return "hello " .. req.params.name end)
  app:post("/count", function(req)
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end)
  app:post("/save", function(req)
    local size = 0
    for part in req:multipart() do
      local path = fs.mkdtemp(dir .. "/") .. "/part"
      size = size + part:save(path)
      fs.remove(require("rille.path").dirname(path), { recursive = true })
    end
    return tostring(size)
  end)
  app:post("/ignore", function() return "ignored" end)
  app:get("/large", function() return TEXT end)
  app:get("/stream", function()
    local left = 40
    return http.response { stream = function()
      left = left - 1
      if left % 8 == 0 then async.sleep(0) end
      return left >= 0 and TEXT or nil
    end }
  end)
  app:get("/events", function()
    local n = 0
    return http.response { sse = function()
      n = n + 1
      async.sleep(0.001)
      return n <= 50 and { data = n, id = n } or nil
    end }
  end)
  app:get("/slow", function()
    async.sleep(2)
    return "late"
  end)
  app:get("/fails", function() error "expected" end)
  app:get("/old", function() return http.redirect "/hello/new" end)
  app:websocket("/ws", function(ws)
    for message in ws:messages() do ws:send(message) end
  end)
  app:static("/files", dir)
  return app
end

-- ---- clients ------------------------------------------------------------------------------------

-- Whatever a client that dies, or a server that has lost its patience, may lead to.
local EXPECTED = { "OSError", "HTTPError", "TimeoutError", "WebSocketError", "TLSError",
  "InvalidStateError", "IncompleteReadError", "CancelledError" }

local function tolerant(fn, ...)
  local ok, e = async.pcall(fn, ...)
  if ok then return end
  for _, kind in ipairs(EXPECTED) do
    if errors.is(e, kind) then return end
  end
  error(e, 0)
end

local function well_behaved(sessions)
  local function any() return sessions[random(#sessions)] end
  return {
    function() test.eq(any():get("/hello/a"):text(), "hello a") end,
    function()
      local left = random(20)
      local size = left * 10000
      local text = any():post("/count", { body = function()
        left = left - 1
        return left >= 0 and TEXT:sub(1, 10000) or nil
      end }):text()
      test.eq(text, tostring(size))
    end,
    function() test.eq(any():post("/count", { body = TEXT }):text(), "65536") end,
    function()
      local size = random(100000)
      local text = any():post("/save", { multipart = { { name = "f", filename = "x",
        data = ("x"):rep(size) } } }):text()
      test.eq(text, tostring(size))
    end,
    function() test.eq(#any():get("/stream"):bytes(), 40 * 65536) end,
    function() test.eq(any():get("/old"):text(), "hello new") end,
    function() test.eq(any():get("/fails").status, 500) end,
    function() test.eq(any():get("/files/f.txt"):text(), "file") end,
    function() test.eq(any():get("/nowhere").status, 404) end,
    function() test.eq(any():post("/ignore", { body = TEXT }):text(), "ignored") end,
  }
end

local function impatient(sessions)
  local function any() return sessions[random(#sessions)] end
  local function cancelled(fn)
    return function()
      local task = async.spawn(fn)
      async.sleep(random() * 0.01)
      task:cancel()
      async.wait { task }
      if not task:cancelled() and task:error() ~= nil then error(task:error(), 0) end
    end
  end
  return {
    function() any():get("/slow", { timeout = random() * 0.02 }) end,
    cancelled(function() any():get "/slow" end),
    cancelled(function() any():get "/stream" end),
    cancelled(function() any():post("/count", { body = TEXT:rep(30) }) end),
    cancelled(function()
      any():post("/save", { multipart = { { name = "f", filename = "x", data = TEXT:rep(10) } } })
    end),
    function() -- half of an answer
      local response = any():get("/stream", { stream = true })
      response:chunks()()
      response:close()
    end,
    function() -- left to its scope
      async.spawn(function() any():get("/stream", { stream = true }) end):await()
    end,
    function()
      local n = 0
      for _ in any():get("/events", { stream = true }):events() do
        n = n + 1
        if n == 5 then break end
      end
    end,
    function() -- a body that fails
      any():post("/count", { body = function() error(errors.new("OSError", "expected"), 0) end })
    end,
  }
end

local function raw(connect)
  local function with(fn)
    return function()
      local stream = connect()
      async.finally(function() fn(stream) end, function()
        if random(2) == 1 then stream:abort() else stream:close() end
      end)
    end
  end
  return {
    with(function() end),
    with(function(s) s:write "GET /hello/a HT" end),
    with(function(s) s:write "\22\3\1\2\0garbage\r\n\r\n" end),
    with(function(s)
      s:write "POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nabc"
    end),
    with(function(s)
      s:write "POST /save HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n"
      s:write "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n\r\nabc"
      async.sleep(random() * 0.01)
    end),
    with(function(s)
      s:write "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n"
      s:read()
    end),
    with(function(s)
      s:write(("GET /large HTTP/1.1\r\nHost: a\r\n\r\n"):rep(10))
      async.sleep(random() * 0.01)
    end),
    with(function(s)
      s:write "GET /events HTTP/1.1\r\nHost: a\r\n\r\n"
      s:read()
    end),
    with(function(s)
      s:write("GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        .. "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .. "\129\255\0\0\0\0\0\1\0\0abcdhalf of a message")
      s:read()
    end),
  }
end

local function websockets(urls)
  local function open()
    local at = urls[random(#urls)]
    return websocket.connect(at.url, { tls = at.tls })
  end
  return {
    function()
      local ws = open()
      for i = 1, 5 do
        ws:send(TEXT:sub(1, i * 100))
        test.eq(#ws:recv(), i * 100)
      end
      ws:close()
    end,
    function() -- left to the collector
      local ws = open()
      ws:send "x"
    end,
    function()
      local ws = open()
      for _ = 1, 20 do ws:send(TEXT) end -- and nobody reads what comes back
      ws:close(1001)
    end,
  }
end

-- ---- measuring ----------------------------------------------------------------------------------

local function measure()
  -- Objects that hold others, and those of connections that are being closed.
  for _ = 1, 3 do
    collectgarbage()
    async.sleep(0.01)
  end
  local status = test.read "/proc/self/status"
  local stats = async.stats()
  return {
    resident = tonumber(status:match "VmRSS:%s*(%d+)") * 1024,
    lua = collectgarbage "count" * 1024,
    files = #fs.list "/proc/self/fd", tasks = stats.tasks, handles = stats.handles,
  }
end

local function show(label, m, done)
  print(("# %s: %d done, resident %.1f MiB, Lua %.1f MiB, %d files, %d tasks, %d handles"):format(
    label, done, m.resident / 1048576, m.lua / 1048576, m.files, m.tasks, m.handles))
  io.stdout:flush()
end

test("nothing is left of clients that come, die, wait and go", { limit = SECONDS / 5 + 6 },
  function()
    -- Errors of handlers are reported; those that are meant are not looked at.
    local unexpected
    async.set_exception_handler(function(report)
      local text = tostring(report.message) .. ": " .. tostring(report.error)
      if not text:find "expected" then unexpected = unexpected or text end
    end)
    local dir = test.tmpdir()
    test.write(dir .. "/f.txt", "file")
    local app = make_app(dir)
    local function options(more)
      return tls.merged({ header_timeout = 0.5, body_timeout = 0.5, idle_timeout = 1,
        write_timeout = 0.5 }, more)
    end
    local servers = {
      app:serve(options {}), app:serve(options { path = dir .. "/socket" }),
      app:serve(options { tls = tls.server_options(), compress = true }),
    }
    local plain, secure = "127.0.0.1:" .. servers[1].port, "localhost:" .. servers[3].port
    local trust = tls.client_options()
    local sessions = {
      http.Session { base_url = "http://" .. plain },
      http.Session { base_url = "http://test", path = dir .. "/socket", limit = 8 },
      http.Session { base_url = "https://" .. secure, tls = trust },
      http.Session { base_url = "https://" .. secure, tls = trust, http2 = false },
      http.Session { base_url = "http://" .. plain, http2 = "prior" },
    }
    local kinds = {
      well_behaved(sessions), well_behaved(sessions), impatient(sessions),
      raw(function() return net.connect { host = "127.0.0.1", port = servers[1].port } end),
      raw(function() return net.connect { path = dir .. "/socket" } end),
      raw(function()
        return net.connect { host = "localhost", port = servers[3].port, tls = trust }
      end),
      raw(function() return net.connect { host = "127.0.0.1", port = servers[3].port } end),
      websockets { { url = "ws://" .. plain .. "/ws" },
        { url = "wss://" .. secure .. "/ws", tls = trust } },
    }

    local done = 0
    local function work(deadline)
      while async.time() < deadline do
        local kind = kinds[random(#kinds)]
        tolerant(kind[random(#kind)])
        done = done + 1
      end
    end
    local function work_for(seconds)
      local deadline = async.time() + seconds
      async.group(function(g)
        for _ = 1, AT_ONCE do g:spawn(work, deadline) end
      end)
      -- What the server waits for is over by its limits then.
      async.sleep(1.5)
    end

    work_for(SECONDS * WARM_UP)
    local first = measure()
    show("after the first part", first, done)
    local left = SECONDS * (1 - WARM_UP)
    while left > 0 do
      local part = IS_LONG and math.min(left, LINE_EVERY) or left
      work_for(part)
      left = left - part
      if IS_LONG and left > 0 then show(("%d s to go"):format(left), measure(), done) end
    end
    local last = measure()
    show("at the end", last, done)
    for _, session in ipairs(sessions) do session:close() end
    for _, server in ipairs(servers) do server:close(0) end

    test.eq(unexpected, nil)
    -- Idle connections of the pools come and go.
    local idle = 2 * 20
    assert(last.files <= first.files + idle, "files")
    assert(last.tasks <= first.tasks + idle, "tasks")
    assert(last.handles <= first.handles + 3 * idle, "handles")
    assert(last.resident <= first.resident + MOST_GROWTH,
      ("resident memory grew from %d to %d bytes"):format(first.resident, last.resident))
  end)
