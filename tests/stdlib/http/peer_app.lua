--- What other programs ask the server for: bodies of all kinds, in both directions.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"

local M = { TEXT = ("0123456789abcdef"):rep(20000) }

--- The application itself; `dir` is a folder for what is uploaded and served.
function M.new(dir)
  local app = http.App()
  app:get("/hello", function(req) return "hello " .. req.version end)
  app:get("/hello/{name}", function(req) return "hello " .. req.params.name end)
  app:post("/echo", function(req)
    return 200, req:body(), { ["Content-Type"] = req.headers["content-type"] or "text/plain" }
  end)
  app:post("/count", function(req)
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return tostring(size)
  end)
  app:post("/upload", function(req)
    local log = {}
    for part in req:multipart() do
      log[#log + 1] = part.filename and part.filename .. "=" .. part:save(dir .. "/uploaded")
        or part.name .. ":" .. part:text()
    end
    return table.concat(log, " ")
  end)
  app:get("/stream", function()
    local n = 0
    return http.response { trailers = { ["X-Sum"] = "1" }, stream = function()
      n = n + 1
      async.sleep(0)
      return n <= 100 and M.TEXT:sub(1, 3200) or nil
    end }
  end)
  app:get("/events", function()
    local n = 0
    return http.response { sse = function()
      n = n + 1
      return n <= 3 and { data = n, id = n } or nil
    end }
  end)
  app:get("/who", function(req)
    return ("%s %s %s"):format(req.remote, req.scheme, req.host)
  end)
  app:get("/set", function() return http.response { body = "" }:set_cookie("a", "1") end)
  app:get("/cookies", function(req) return req.cookies.a end)
  app:static("/files", dir)
  return app
end

--- Serves it for this test alone, with a file of TEXT that is called f.txt.
---@return string base, string dir, Server
function M.start(options)
  local dir = test.tmpdir()
  test.write(dir .. "/f.txt", M.TEXT)
  local server = M.new(dir):serve(options or {})
  test.defer(function() server:close(0) end)
  local scheme = server._tls and "https" or "http"
  return scheme .. "://127.0.0.1:" .. (server.port or 0), dir, server
end

return M
