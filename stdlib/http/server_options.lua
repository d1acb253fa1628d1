--- The options of a server: what scripts write, checked, with what holds when nothing is said.
local check = require "rille.core.check"
local report = require "rille.core.report"
local resolve = require "rille.net.resolve"
local compression = require "rille.http.compression"
local proxies = require "rille.http.proxies"

local type, pairs, tostring = type, pairs, tostring
local format = string.format

local M = {}

-- 0 or false switches a limit off.
local LIMITS = {
  max_header_bytes = 32768, max_headers = 100, max_target_bytes = 8192,
  max_body_bytes = 16 * 1048576, max_collect_bytes = 1048576, max_connections = 10000,
  max_requests = 0, header_timeout = 10, body_timeout = 30, idle_timeout = 60, write_timeout = 30,
  handler_timeout = 0,
}
local KNOWN = {
  handler = true, host = true, port = true, path = true, tls = true, access_log = true,
  http2 = true, cancel_on_disconnect = true, reuse_port = true, trusted_proxies = true,
  compress = true, workers = true,
}
for name in pairs(LIMITS) do KNOWN[name] = true end
M.KNOWN = KNOWN

--- A limit: a number, or nil for the default, or false.
function M.limit(value, default, name, fn)
  if value == nil then value = default end
  if value == false or value == math.huge then value = 0 end
  if type(value) ~= "number" or value ~= value or value < 0 then
    check.bad(name, fn, "number of at least 0, or false, expected, got "
      .. (type(value) == "number" and tostring(value) or type(value)))
  end
  return value
end

local function flag(options, name, fn)
  local value = options[name]
  if value ~= nil and type(value) ~= "boolean" then
    check.bad(name, fn, "boolean expected, got " .. type(value))
  end
  return value
end

local function printable(text)
  return (text:gsub('[%c"\\\127-\255]', function(c) return format("\\x%02x", c:byte()) end))
end

-- A line on stderr, as most servers write it.
local function log_line(record)
  local line = record.line
    or format("%s %s HTTP/%s", record.method, record.target, record.version)
  report.write(format('%s [%s] "%s" %s %d %.6f %s', record.remote or "-",
    os.date("!%Y-%m-%dT%H:%M:%SZ", record.time), printable(line), record.status or "-",
    record.bytes, record.duration, record.id or "-"))
end

local function access_log(value, fn)
  if value == true then return log_line end
  if not value then return false end
  if not check.is_callable(value) then
    check.bad("access_log", fn, "boolean or function expected, got " .. type(value))
  end
  return value
end

-- Protocols are offered if the script has not named its own.
local function tls_options(tls, http2)
  if tls == true then return {} end -- the check of its contents comes later
  if type(tls) ~= "table" or getmetatable(tls) or tls.alpn ~= nil then return tls end
  local copy = { alpn = http2 and { "h2", "http/1.1" } or { "http/1.1" } }
  for key, value in pairs(tls) do copy[key] = value end
  return copy
end

-- Whether HTTP/2 is spoken. Its library is loaded when a client asks for it or it is offered.
local function speaks_http2(options, fn)
  if flag(options, "http2", fn) == false then return false end
  local ok, http2 = pcall(require, "rille.core.http2")
  local fault = ok and (options.tls or options.http2) and http2.load()
  if not ok then fault = http2 end
  if fault and options.http2 then check.bad("http2", fn, tostring(fault)) end
  return not fault
end

--- Checks the options of `serve`.
---@param options table
---@param fn string  the name of the function, for errors
---@return table  limits and settings by their names; `host`, `port`, `path`, `tls`
function M.read(options, fn)
  local own = {}
  local path = options.path
  if path ~= nil then
    for _, other in ipairs { "host", "port" } do
      if options[other] ~= nil then
        check.bad("path", fn, format("either 'path' or '%s' expected, got both", other))
      end
    end
    own.path = resolve.path(path, "path", fn)
  else
    own.host = options.host == nil and "127.0.0.1" or resolve.host(options.host, "host", fn)
    own.port = options.port == nil and 0 or resolve.port(options.port, 0, "port", fn)
  end
  for name, default in pairs(LIMITS) do own[name] = M.limit(options[name], default, name, fn) end
  if own.max_collect_bytes == 0 then own.max_collect_bytes = math.huge end
  if own.max_connections == 0 then own.max_connections = math.huge end
  if own.handler_timeout == 0 then own.handler_timeout = nil end
  own.cancel_on_disconnect = flag(options, "cancel_on_disconnect", fn)
  own.reuse_port = flag(options, "reuse_port", fn)
  own.http2 = speaks_http2(options, fn)
  own.prior_knowledge = own.http2 and not options.tls
  if options.workers and options.workers ~= 0 then
    own.workers = check.count(options.workers, 1, "workers", fn)
  end
  own.access_log = access_log(options.access_log, fn)
  own.compress = compression.read(options.compress, fn)
  own.trusted = proxies.trust(options.trusted_proxies, fn)
  own.tls = options.tls and tls_options(options.tls, own.http2) or nil
  own.scheme = own.tls and "https" or "http"
  own.is_unix = path ~= nil
  own.is_simple = not (own.access_log or own.handler_timeout or own.cancel_on_disconnect
    or own.compress)
  return own
end

return M
