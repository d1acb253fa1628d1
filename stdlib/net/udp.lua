--- UDP sockets.
local binding = require "rille.core.udp"
local tcp = require "rille.core.tcp"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local report = require "rille.core.report"
local address = require "rille.net.address"
local resolve = require "rille.net.resolve"
local give_turn = require "rille.core.turn"

local raise = task.raise
local raw_send, raw_recv = binding.send, binding.recv
local type, getmetatable, setmetatable, tostring = type, getmetatable, setmetatable, tostring

core.transparent[raw_send], core.transparent[raw_recv] = true, true

-- Datagrams that are sent in a row, at most, before other tasks have their turn: the system hardly
-- ever makes a sender wait, it drops what is too much.
local MOST_IN_A_ROW = 64

---@class UDP
local Udp = { __name = "UDP socket" }
Udp.__index = Udp

local function check_self(self, name)
  if type(self) ~= "table" or getmetatable(self) ~= Udp then
    check.bad(1, name, "UDP socket expected, got " .. (self == nil and "nil" or type(self)))
  end
end

local function check_open(self, name)
  check_self(self, name)
  if self._closed then
    errors._raise("InvalidStateError", ("%s: the socket %s is closed"):format(name, self._name))
  end
end

--- Sends a datagram. Waits while the system has no room for it.
---@async
---@param data string
---@param host? string  a name or an IP address; not with a connected socket
---@param port? integer
---@return UDP  itself
-- Errors: OSError (EMSGSIZE; ECONNREFUSED if the peer of a connected socket was not there when
-- something was sent before); of the lookup of a name; InvalidStateError if it is closed.
function Udp:send(data, host, port)
  check_open(self, "send")
  if type(data) ~= "string" then data = check.string(data, 1, "send") end
  local err
  if self._connected then
    if host ~= nil then
      check.bad(2, "send", "the socket is connected, nil expected, got " .. type(host))
    end
    err = raw_send(self._binding, data)
  else
    host, port = resolve.host(host, 2, "send"), resolve.port(port, 1, 3, "send")
    err = raw_send(self._binding, data, resolve.address(host, self._family), port)
  end
  if err == nil then
    self._in_a_row = self._in_a_row + 1
    if self._in_a_row >= MOST_IN_A_ROW then
      self._in_a_row = 0
      err = give_turn()
    end
  end
  if err ~= nil then raise(err) end
  return self
end

--- Receives a datagram. What nobody receives stays with the system, which drops what is too much.
---@async
---@return string data
---@return Address from
-- Errors: OSError (ECONNREFUSED if the peer of a connected socket is not there);
-- InvalidStateError once it is closed; Cancelled: no datagram is lost then.
function Udp:recv()
  check_open(self, "recv")
  local err, data, host, port, family = raw_recv(self._binding)
  if err ~= nil then raise(err) end
  return data, address.new(family, host, port)
end

--- This end's address.
---@return Address
-- Errors: InvalidStateError if it is closed.
function Udp:address()
  check_open(self, "address")
  return address.new(self._binding:address())
end

local function interface_number(name, position, method)
  if name == nil then return 0 end
  name = check.string(name, position, method)
  local number = not name:find "%z" and binding.interface(name)
  if not number then
    check.bad(position, method, ("there is no interface '%s'"):format((name:gsub("%z", "\\0"))))
  end
  return number
end

local function change_membership(self, join, name, group, interface)
  check_open(self, name)
  group = check.string(group, 1, name)
  if group:find "%z" or not tcp.is_ip(group) then
    check.bad(1, name, ("IP address expected, got '%s'"):format((group:gsub("%z", "\\0"))))
  end
  self._binding:membership(join, group, interface_number(interface, 2, name))
  return self
end

--- Receives what is sent to a multicast group.
---@param group string  its IP address
---@param interface? string  "eth0"; the system's choice by default
---@return UDP  itself
-- Errors: OSError (EINVAL: no group's address; EADDRINUSE: joined already; ENODEV).
function Udp:join(group, interface)
  return change_membership(self, true, "join", group, interface)
end

--- Leaves a multicast group.
---@param group string
---@param interface? string
---@return UDP  itself
-- Errors: OSError (EADDRNOTAVAIL: not joined).
function Udp:leave(group, interface)
  return change_membership(self, false, "leave", group, interface)
end

--- Closes it; who waits in it is woken with InvalidStateError. A second time does nothing.
function Udp:close()
  check_self(self, "close")
  self._closed = true
  self._binding:close()
end

Udp.__tostring = function(self)
  return ("UDP socket: %s%s"):format(self._name, self._closed and " (closed)" or "")
end

report.describe(Udp.recv, function(self) return "a datagram on " .. self._name end)
report.describe(Udp.send, function(self) return "a datagram to be sent from " .. self._name end)

local KNOWN = { host = true, port = true, connect = true, reuse_port = true, broadcast = true,
  ttl = true, multicast_ttl = true, multicast_loop = true, multicast_interface = true }
local PEER = { host = true, port = true }

local SYSTEM = { "broadcast", "ttl", "multicast_ttl", "multicast_loop", "multicast_interface" }

local function option_value(options, name)
  local value = options[name]
  if name == "multicast_interface" then return interface_number(value, name, "udp") end
  if name == "broadcast" or name == "multicast_loop" then
    if type(value) ~= "boolean" then
      check.bad(name, "udp", "boolean expected, got " .. type(value))
    end
    return value and 1 or 0
  end
  value = check.count(value, name == "ttl" and 1 or 0, name, "udp")
  if value > 255 then check.bad(name, "udp", "at most 255 expected, got " .. tostring(value)) end
  return value
end

---@class rille.net.UdpOptions
---@field host? string  the address to bind to, "*" for all; 127.0.0.1 if there is a port, else all
---@field port? integer  any by default
---@field connect? table  `{ host =, port = }`: the only peer
---@field reuse_port? boolean  several sockets may share the port
---@field broadcast? boolean  whether it may send to broadcast addresses
---@field ttl? integer  1 to 255
---@field multicast_ttl? integer  0 to 255
---@field multicast_loop? boolean  whether this host gets what is sent to a group
---@field multicast_interface? string  a name, "eth0"

--- Makes a UDP socket.
---@async
---@param options? rille.net.UdpOptions
---@return UDP
-- Errors: OSError (EADDRINUSE, EADDRNOTAVAIL, EACCES), also of the lookup of a name.
return function(options)
  options = check.options(options, KNOWN, 1, "udp")
  local host, port, peer = options.host, options.port, options.connect
  port = port == nil and 0 or resolve.port(port, 0, "port", "udp")
  -- Whoever names neither sends, and may send anywhere.
  if host == nil then host = port == 0 and "*" or "127.0.0.1" end
  resolve.host(host, "host", "udp")
  local values = {}
  for _, name in ipairs(SYSTEM) do
    if options[name] ~= nil then values[name] = option_value(options, name) end
  end
  local peer_ip
  if peer ~= nil then
    check.options(check.table(peer, "connect", "udp"), PEER, "connect", "udp")
    resolve.host(peer.host, "connect.host", "udp")
    resolve.port(peer.port, 1, "connect.port", "udp")
  end

  local socket, family
  if host == "*" then
    socket, family = resolve.any(function(ip)
      return binding.open(ip, port, false, options.reuse_port)
    end)
  else
    local ip
    ip, family = resolve.address(host)
    socket = binding.open(ip, port, true, options.reuse_port)
  end
  local self = setmetatable({ _binding = socket, _closed = false, _connected = false,
    _in_a_row = 0, _family = family, _name = tostring(address.new(socket:address())) }, Udp)
  local ok, e = resolve.protected(function()
    for name, value in pairs(values) do socket:set_option(name, value) end
    if peer then
      peer_ip = resolve.address(peer.host, family)
      socket:connect(peer_ip, peer.port)
      self._connected = true
    end
  end)
  if not ok then
    socket:close()
    task.rethrow(e)
  end
  return self
end
