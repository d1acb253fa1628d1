--- A server's connection of HTTP/2: whatever frames come, in whatever pieces, it ends with the
-- stream, no handler fails, and what it has sent are whole frames.
local async = require "rille.async"
local http = require "rille.http"
local http2 = require "rille.http.http2_server"
local fuzz, drive = require "fuzz.wire", require "drive"

require "rille.net" -- makes the class of streams

local PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
local TURNS = 3000 -- of the loop, at most, until a connection has ended

local ways = {
  skip = function() return "skipped" end,
  chunks = function(req)
    local size = 0
    for chunk in req:chunks() do size = size + #chunk end
    return size .. ""
  end,
  stream = function()
    local left = 5
    return http.response { trailers = { X = "y" }, stream = function()
      left = left - 1
      return left >= 0 and ("x"):rep(20000) or nil
    end }
  end,
  late = function(req)
    async.sleep(0)
    return req:body()
  end,
}

local function handler(req)
  assert(req.cookies and req.remote and req.scheme and req.id and req.headers:iter())
  local way = ways[req.path:match "^/(%a+)$"]
  if way then return way(req) end
  return { req.method, req.target, tostring(req.host), #req:body(), req.headers:get_all "a",
    req.trailers:get_all "a" }
end

local function settings(mode)
  return drive.server_settings(mode, handler, { compress = drive.has(mode, 4) })
end

-- A frame's head is its length, type, flags and stream: nine bytes.
local function check_frames(out)
  local at = 1
  while at <= #out do
    local a, b, c = out:byte(at, at + 2)
    assert(c, "a frame without a head")
    at = at + 9 + a * 65536 + b * 256 + c
  end
  assert(at == #out + 1, "a frame that is cut off")
end

return function(input)
  if #input < 2 then return end
  local mode, seed, bytes = drive.split(input)
  if not drive.has(mode, 8) then bytes = PREFACE .. bytes end
  local own = settings(mode)
  local stream, wire = fuzz.wire(drive.has(mode, 32))
  local conn = http2.server(own):open(stream)
  local task = async.spawn(http2.serve, own, {}, conn)
  drive.feed(wire, bytes, seed)
  for _ = 1, TURNS do
    if task:done() then break end
    wire:move()
    async.sleep(0)
  end
  -- An answer for which a client that says nothing more has made no room is over by a time limit.
  conn:close()
  task:await()
  for _ = 1, TURNS do
    if wire:is_closed() then break end
    wire:move()
    async.sleep(0)
  end
  assert(wire:is_closed())
  if not drive.has(mode, 32) then check_frames(wire:written()) end
end
