--- What names and ports in arguments stand for.
local tcp = require "rille.core.tcp"
local lookup = require("rille.core.names").lookup
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local xpcall = require("rille.core.protect").xpcall

local M = {}

local function show(value)
  return type(value) == "string" and "'" .. value:gsub("%z", "\\0") .. "'" or type(value)
end

--- The name or address of a host.
---@return string
function M.host(value, position, name)
  if type(value) ~= "string" or value == "" or value:find "%z" then
    check.bad(position, name, "name or address of a host expected, got " .. show(value))
  end
  return value
end

--- A port, of at least `least`.
---@return integer
function M.port(value, least, position, name)
  local n = type(value) == "string" and tonumber(value) or value
  if type(n) ~= "number" or n % 1 ~= 0 or n < least or n > 65535 then
    check.bad(position, name, ("integer between %d and 65535 expected, got %s"):format(least,
      type(value) == "number" and tostring(value) or show(value)))
  end
  return n
end

--- The path of a Unix socket; its first byte may be NUL.
---@return string
function M.path(value, position, name)
  if type(value) ~= "string" or #value < 1 or value:find("%z", 2) or #value == 1
    and value:find "[%z@]" then
    check.bad(position, name, "path expected, got " .. show(value))
  end
  return value
end

--- One IP address of a host, and its family: of IPv4 if there is one, or of a family that a socket
-- for `family` can speak to.
---@async
---@param host string
---@param family? string
---@return string ip, string family
-- Errors: OSError of the lookup.
function M.address(host, family)
  local own = tcp.family(host)
  if own then return host, own end
  local addresses = lookup(host)
  for _, ip in ipairs(addresses) do
    if tcp.family(ip) == (family == "inet6" and family or "inet") then return ip, tcp.family(ip) end
  end
  return addresses[1], tcp.family(addresses[1])
end

--- Calls `open(ip)` for all addresses of both families, or of IPv4 where there is no IPv6.
---@return any, string family
function M.any(open)
  local ok, result = xpcall(open, task.keep_trace, "::")
  if ok then return result, "inet6" end
  if not errors.is(result, "OSError")
    or result.code ~= "EAFNOSUPPORT" and result.code ~= "EADDRNOTAVAIL" then
    task.rethrow(result)
  end
  return open "0.0.0.0", "inet"
end

function M.protected(fn) return xpcall(fn, task.keep_trace) end

return M
