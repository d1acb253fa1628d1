--- A server's connection from the first byte to the last: the same bytes get the same answers,
-- however they are cut, and no request makes a handler fail or the connection hang.
local async = require "rille.async"
local http = require "rille.http"
local http1 = require "rille.core.http1"
local connection = require "rille.http.connection"
local fuzz, drive = require "fuzz.wire", require "drive"

local function list(values)
  local lines = {}
  for name, value in values:iter() do
    lines[#lines + 1] = name .. "=" .. value
    assert(values:get_all(name)[1])
  end
  return table.concat(lines, "&")
end

local ways = {
  skip = function() return "skipped" end,
  chunks = function(req)
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return size .. ""
  end,
  stream = function(req)
    local body, at = req:body(), 0
    return http.response { trailers = { X = "y" }, stream = function()
      at = at + 7
      if at - 7 < #body then return body:sub(at - 6, at) end
    end }
  end,
  form = function(req) return list(req:form()) end,
  json = function(req) return { req:json() } end,
  parts = function(req)
    local lines = {}
    for part in req:multipart() do
      lines[#lines + 1] = ("%s %s %s"):format(part.name, part.filename, part:text())
    end
    return table.concat(lines, "|")
  end,
  cut = function()
    return http.response { headers = { ["Content-Length"] = 9 }, stream = function() end }
  end,
  sse = function(req)
    local events = { req.target, { data = req.path, id = 1 } }
    return http.response { sse = function() return table.remove(events) end }
  end,
}

local function echo(req)
  local body = req:body()
  return 200, table.concat({ req.method, req.target, req.path, req.version, tostring(req.host),
    list(req.query), list(req.headers), body, list(req.trailers) }, "\n"),
    { ["Content-Type"] = "x/y" }
end

local function handler(req)
  assert(req.cookies and req.remote and req.scheme and req.id)
  local way = ways[req.path:match "^/(%a+)$"] or echo
  return way(req)
end

local function settings(mode)
  return drive.server_settings(mode, handler, {
    compress = drive.has(mode, 4) and { min_bytes = 1 } or nil,
    handler_timeout = drive.has(mode, 8) and 10 or nil,
  })
end

local function serve(bytes, mode, seed)
  local own = settings(mode)
  local stream, wire = fuzz.wire(drive.has(mode, 32))
  local conn = http1.server(own):open(stream)
  local task = async.spawn(connection.serve, own, conn)
  drive.feed(wire, bytes, seed)
  drive.await(task, wire)
  conn:close()
  assert(wire:is_closed())
  local out = wire:written():gsub("\r\nDate: [^\r\n]*", "")
  local may_fail = bytes:find "500" or bytes:find "cut"
  if not may_fail and out:find "HTTP/1.1 500" then error(out, 0) end
  out = out:gsub("HTTP/1.1 100 Continue\r\n\r\n", "")
  -- A request may be refused before its handler has begun or after that, for another reason then.
  return (out:gsub("HTTP/1.1 4%d%d .*", ""))
end

-- What shows how much of the body had come when the answer was given.
local function depends_on_time(bytes, mode)
  return drive.has(mode, 16) or bytes:find "skip" or bytes:find "sse" or bytes:find "cut"
    or bytes:find "%%" or bytes:find "[Ee]xpect"
end

return function(input)
  if #input < 2 then return end
  local mode, seed, bytes = drive.split(input)
  local cut = serve(bytes, mode, seed)
  if not depends_on_time(bytes, mode) then drive.same(serve(bytes, mode, 0), cut) end
end
