--- A session that speaks HTTP/2, and whatever frames a server may send: an answer or an error that
-- says so, and in the end a connection that is closed.
local async = require "rille.async"
local errors = require "rille.errors"
local http = require "rille.http"
local connect = require "rille.net.connect"
local fuzz, drive = require "fuzz.wire", require "drive"

local SETTINGS = "\0\0\0\4\0\0\0\0\0"
local TURNS = 3000 -- of the loop, at most, until a session has closed its connection

local open
function connect.tcp() return open() end

local methods = { [0] = "GET", "HEAD", "POST", "OPTIONS" }

local function ask(session, mode)
  local streams = drive.has(mode, 4)
  local response = session:request(methods[mode % 4], "http://test/a", {
    stream = streams, body = mode % 4 == 2 and ("x"):rep(70000) or nil, redirects = 2,
  })
  assert(response.status >= 200 and response.cookies and response.headers:iter())
  if streams then
    for _ in response:chunks() do end
  else
    response:bytes()
  end
  response:close()
end

local function try(session, mode)
  local ok, e = async.pcall(ask, session, mode)
  local is_expected = ok or errors.is(e, "HTTPError") or errors.is(e, "OSError")
    or errors.is(e, "InvalidStateError")
  if not is_expected then error(e, 0) end
end

return function(input)
  if #input < 2 then return end
  local mode, seed, bytes = drive.split(input)
  if not drive.has(mode, 8) then bytes = SETTINGS .. bytes end
  local wires = {}
  open = function()
    local stream, wire = fuzz.wire(drive.has(mode, 16))
    wires[#wires + 1] = wire
    -- Only the first one gets an answer.
    if #wires > 1 then wire:finish() end
    return stream
  end
  local session = http.Session { timeout = false, max_body = 5000, http2 = "prior" }
  local task = async.spawn(function()
    async.gather { function() try(session, mode) end, function() try(session, mode) end }
    try(session, mode)
  end)
  while not wires[1] do async.sleep(0) end
  drive.feed(wires[1], bytes, seed)
  local function turn_until(is_done)
    for _ = 1, TURNS do
      if is_done() then return end
      for _, wire in ipairs(wires) do wire:move() end
      async.sleep(0)
    end
  end
  turn_until(function() return task:done() end)
  session:close()
  task:await()
  turn_until(function() return wires[1]:is_closed() end)
  assert(wires[1]:is_closed())
end
