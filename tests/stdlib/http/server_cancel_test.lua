-- Handlers, streams and servers that are cancelled wherever they wait.
local async, test = require "rille.async", require "support.test"
local http, net, fs = require "rille.http", require "rille.net", require "rille.fs"
local raw = require "stdlib.http.raw"

-- The tasks of connections.
local function cancel_everywhere(most, scenario)
  raw.cancel_everywhere(most, function(task) return task:name() == "HTTP connection" end, scenario)
end

-- Sends a request and reads what comes, whatever that is.
local function exchange(server, ...)
  local stream = net.connect { host = "127.0.0.1", port = server.port }
  for i = 1, select("#", ...) do
    if not pcall(stream.write, stream, (select(i, ...))) then break end
    async.sleep(0)
  end
  while true do
    local ok, data = pcall(stream.read, stream)
    if not ok or not data then break end
  end
  stream:close()
end

local CLOSING = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

test("a stream that is cancelled is closed", function()
  cancel_everywhere(8, function()
    local server, counts = raw.serve_streams()
    exchange(server, CLOSING)
    server:close(0)
    test.eq(counts.closed, counts.opened)
  end)
end)

test("a file that is being sent is closed", function()
  local path = test.write(test.tmpdir() .. "/f", ("x"):rep(3000000))
  cancel_everywhere(10, function()
    local server = http.serve { compress = true,
      handler = function() return http.response { file = fs.open(path) } end }
    exchange(server, CLOSING)
    server:close(0)
  end)
end)

test("an upload that is cancelled leaves no file", function()
  local dir = test.tmpdir()
  local body = '--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n'
    .. ("x"):rep(300000) .. "\r\n--b--\r\n"
  cancel_everywhere(10, function()
    local saved = false
    local server = http.serve { handler = function(req)
      for part in req:multipart() do part:save(dir .. "/" .. part.name) end
      saved = true
      return 204
    end }
    exchange(server, ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n"
      .. "Content-Type: multipart/form-data; boundary=b\r\n\r\n"):format(#body),
      body:sub(1, 200000), body:sub(200001))
    server:close(0)
    test.eq(fs.exists(dir .. "/a"), saved)
    pcall(fs.remove, dir .. "/a")
  end)
end)

test("events, limits and another protocol", function()
  cancel_everywhere(8, function()
    local server = http.serve {
      handler_timeout = 5, cancel_on_disconnect = true, access_log = function() end,
      handler = function(req)
        if req.headers.upgrade then
          local stream = req:upgrade { Upgrade = "x" }
          stream:write(stream:read())
          return
        end
        local n = 0
        return http.response { sse = function()
          async.sleep(0)
          n = n + 1
          return n < 3 and "event" or nil
        end }
      end,
    }
    exchange(server, CLOSING)
    exchange(server, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n", "hello")
    server:close(0)
  end)
end)

test("a server that is cancelled at any moment leaves nothing", function()
  local before = raw.open_files()
  for turns = 0, 12 do
    local app, entered, left = http.App(), 0, 0
    app:cleanup_ctx(async.context(function(yield)
      async.sleep(0)
      entered = entered + 1
      async.finally(yield, function()
        async.sleep(0)
        left = left + 1
      end)
    end))
    app:get("/", function()
      async.sleep(0)
      return "x"
    end)
    local main = async.spawn(async.run, function()
      local server = app:serve {}
      exchange(server, CLOSING)
      server:close()
    end)
    for _ = 1, turns do async.sleep(0) end
    main:cancel()
    async.wait { main }
    test.eq(left, entered)
  end
  collectgarbage() -- streams of clients that were cancelled
  raw.open_files(before)
end)
