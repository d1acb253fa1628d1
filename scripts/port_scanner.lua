-- Scans ports, twenty at once, and says which are open and what greets there. A closed port refuses
-- at once; for one that does not answer there is the timeout.
local async = require "rille.async"
local errors = require "rille.errors"
local net = require "rille.net"

local HOST = "127.0.0.1"
local AT_ONCE = 20
local TIMEOUT = 1
local GREETINGS = { "220 mail.example ESMTP", "+OK POP3 ready", "SSH-2.0-Example" }
local AROUND = 5 -- ports to look at on either side of each service

-- True and what is said there, if the port is open.
local function probe(port)
  local ok, stream = pcall(net.connect, { host = HOST, port = port, timeout = TIMEOUT })
  if not ok then
    if stream.code == "ECONNREFUSED" or errors.is(stream, "TimeoutError") then return false end
    error(stream, 0)
  end
  return async.with(stream, function()
    local _, line = async.move_on_after(TIMEOUT, function() return stream:read_line() end)
    return true, line and line:gsub("%c", "") -- whoever it is that talks
  end)
end

local function scan(ports)
  local open = {}
  async.map(ports, function(port)
    local is_open, line = probe(port)
    if is_open then open[#open + 1] = { port = port, line = line or "(it says nothing)" } end
  end, { limit = AT_ONCE })
  table.sort(open, function(a, b) return a.port < b.port end)
  return open
end

async.group(function(group)
  local listeners, ports, listed = {}, {}, {}
  for _, greeting in ipairs(GREETINGS) do
    local listener = net.listen { host = HOST }
    group:spawn(listener.serve, listener, function(stream) stream:write(greeting, "\r\n") end)
    listeners[#listeners + 1] = listener
    local service = listener:address().port
    for port = service - AROUND, math.min(service + AROUND, 65535) do
      if not listed[port] then ports[#ports + 1] = port end
      listed[port] = true
    end
  end

  print "Scanning..."
  for _, found in ipairs(scan(ports)) do
    print(("  port %5d is open: %s"):format(found.port, found.line))
  end

  for _, listener in ipairs(listeners) do listener:close() end
end)
