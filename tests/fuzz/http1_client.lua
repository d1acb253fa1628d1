--- A session and whatever a server may answer: an answer or an error that says so, the same
-- however the bytes are cut.
local async = require "rille.async"
local errors = require "rille.errors"
local http = require "rille.http"
local connect = require "rille.net.connect"
local fuzz, drive = require "fuzz.wire", require "drive"

local open
function connect.tcp() return open() end

local methods = { [0] = "GET", "HEAD", "POST", "OPTIONS" }

local function shown(response)
  local lines = { response.status, response.reason, response.version }
  for name, value in response.headers:iter() do lines[#lines + 1] = name .. "=" .. value end
  local cookies = {}
  for name, value in pairs(response.cookies) do cookies[#cookies + 1] = name .. "=" .. value end
  table.sort(cookies)
  lines[#lines + 1] = table.concat(cookies, "; ")
  return lines
end

local readers = {
  [0] = function(response, lines) lines[#lines + 1] = response:bytes() end,
  function(response, lines)
    local pieces = {}
    for piece in response:chunks() do pieces[#pieces + 1] = piece end
    lines[#lines + 1] = table.concat(pieces)
  end,
  function(response, lines)
    for line in response:lines() do lines[#lines + 1] = line end
  end,
  function(response, lines)
    for event in response:events() do
      lines[#lines + 1] = ("%s %s %s"):format(event.event, event.id, event.data)
    end
  end,
}

local function ask(session, mode)
  local way = math.floor(mode / 4) % 4
  local response = session:request(methods[mode % 4], "http://test/a", {
    stream = way ~= 0, body = mode % 4 == 2 and "body" or nil, redirects = 2,
  })
  local lines = shown(response)
  readers[way](response, lines)
  response:close()
  return table.concat(lines, "\n")
end

-- What comes of a request. A second one may use the connection again.
local function exchange(bytes, mode, seed)
  local wire
  local connections = 0
  open = function()
    connections = connections + 1
    local stream
    -- Only the first one gets an answer.
    stream, wire = fuzz.wire(drive.has(mode, 16))
    if connections > 1 then wire:finish() end
    return stream
  end
  local task = async.spawn(function()
    local session = http.Session { timeout = false, max_body = 5000 }
    local results = {}
    for i = 1, 2 do
      local ok, result = async.pcall(ask, session, mode)
      if not ok and not errors.is(result, "HTTPError") and not errors.is(result, "OSError") then
        error(result, 0)
      end
      results[i] = tostring(result)
    end
    session:close()
    return results[1]
  end)
  async.sleep(0)
  local first = wire
  drive.feed(first, bytes, seed)
  while not task:done() and (first:move() or wire:move()) do async.sleep(0) end
  local result = task:await()
  assert(first:is_closed())
  return result
end

-- A redirect goes over the same connection if all of the answer has come. And a coded body may be
-- found to be damaged or to be cut off, whatever is seen first.
local function depends_on_time(bytes) return bytes:find " 30%d" or bytes:find "[Ee]ncoding" end

return function(input)
  if #input < 2 then return end
  local mode, seed, bytes = drive.split(input)
  local cut = exchange(bytes, mode, seed)
  if not depends_on_time(bytes) then drive.same(exchange(bytes, mode, 0), cut) end
end
