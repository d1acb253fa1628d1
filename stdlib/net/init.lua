--- rille.net: TCP and Unix sockets, listeners, UDP.
local tcp = require "rille.core.tcp"
local timeout = require "rille.async.timeout"
local errors = require "rille.errors"
local check = require "rille.core.check"
local connect = require "rille.net.connect"
local make_listener = require "rille.net.listener"
local resolve = require "rille.net.resolve"
local address = require "rille.net.address"

local net = {}

local BACKLOG = 511

-- Either `path`, or `host` and `port` are given.
local function check_either(options, name)
  if options.path == nil then return end
  for _, other in ipairs { "host", "port" } do
    if options[other] ~= nil then
      check.bad("path", name, ("either 'path' or '%s' expected, got both"):format(other))
    end
  end
  resolve.path(options.path, "path", name)
end

-- ---- connect ------------------------------------------------------------------------------------

local CONNECT = { host = true, port = true, path = true, tls = true, timeout = true }

local function establish(_, path, host, port, tls)
  local stream
  if path then
    stream = connect.unix(path)
  else
    stream = connect.tcp(host, port)
    connect.origins[stream] = { host = host, port = port }
  end
  if tls then return require("rille.tls.stream").client(stream, tls, host, port) end
  return stream
end

---@class rille.net.ConnectOptions
---@field host? string  a name or an IP address
---@field port? integer
---@field path? string  of a Unix socket, in place of host and port; "@name" for an abstract name
---@field tls? boolean|rille.tls.Options|TLSContext  true: verified by the system's certificates
---@field timeout? number  seconds for name, addresses and handshake; no limit by default

--- Connects to a host or a Unix socket. Several addresses of a name are tried one after another, a
-- quarter of a second apart; the first that answers wins.
---@async
---@param options rille.net.ConnectOptions
---@return Stream
-- Errors: OSError (ECONNREFUSED, EHOSTUNREACH, ENOENT ...; EAI_NONAME ... of getaddrinfo; if all
-- addresses fail its message lists each, and `errors` has them); TLSError; TimeoutError.
-- Source: asyncio.open_connection; RFC 8305.
function net.connect(options)
  options = check.options(check.table(options, 1, "connect"), CONNECT, 1, "connect")
  check_either(options, "connect")
  local path, host, port = options.path, nil, nil
  if path == nil then
    host = resolve.host(options.host, "host", "connect")
    port = resolve.port(options.port, 1, "port", "connect")
  end
  local seconds = options.timeout
  if seconds then seconds = check.seconds(seconds, "timeout", "connect") end
  local tls = options.tls and require("rille.tls.stream").context(options.tls, "client", "connect")
  if not seconds then return establish(nil, path, host, port, tls) end
  local in_time, stream = timeout.move_on_after(seconds, establish, path, host, port, tls)
  if in_time then return stream end
  local target = path or address.text(host, port)
  errors._raise("TimeoutError", ("timed out after %g s: connect %s"):format(seconds, target),
    { syscall = "connect", address = target })
end

-- ---- listen -------------------------------------------------------------------------------------

local LISTEN = { host = true, port = true, path = true, tls = true, backlog = true,
  reuse_port = true }

local function bind(host, port, backlog, reuse_port)
  if host == "*" then
    return (resolve.any(function(ip) return tcp.listen(ip, port, backlog, false, reuse_port) end))
  end
  return tcp.listen(resolve.address(host), port, backlog, true, reuse_port)
end

---@class rille.net.ListenOptions
---@field host? string  name or IP address; "127.0.0.1" by default, "*" for all of both families
---@field port? integer  any if 0 or nil
---@field path? string  of a Unix socket, in place of host and port; "@name" for an abstract name
---@field tls? rille.tls.Options|TLSContext  with `cert` and `key`
---@field backlog? integer  connections that wait to be accepted; 511 by default
---@field reuse_port? boolean  several processes may share the port

--- Listens for connections. The file of a Unix socket is removed by `close`; one that is there
-- already is an error, unless it is a socket on which nobody listens any more.
---@async
---@param options rille.net.ListenOptions
---@return Listener
-- Errors: OSError (EADDRINUSE, EADDRNOTAVAIL, EACCES, ENAMETOOLONG); TLSError; of the lookup.
-- Source: asyncio.start_server, Go's net.Listen.
function net.listen(options)
  options = check.options(check.table(options, 1, "listen"), LISTEN, 1, "listen")
  check_either(options, "listen")
  local host, port = options.host, options.port
  host = host == nil and "127.0.0.1" or resolve.host(host, "host", "listen")
  port = port == nil and 0 or resolve.port(port, 0, "port", "listen")
  local backlog = options.backlog == nil and BACKLOG
    or math.min(check.count(options.backlog, 1, "backlog", "listen"), 0x7fffffff)
  local tls = options.tls and require("rille.tls.stream").context(options.tls, "server", "listen")
  local path = options.path
  local binding = path and tcp.listen_unix(path, backlog)
    or bind(host, port, backlog, options.reuse_port)
  return make_listener(binding, tls)
end

--- Makes a UDP socket.
---@async
---@param options? rille.net.UdpOptions
---@return UDP
-- Errors: OSError (EADDRINUSE, EADDRNOTAVAIL, EACCES), also of the lookup of a name.
function net.udp(options) return require "rille.net.udp"(options) end


return net
