--- Addresses as scripts see them.

---@class Address
---@field family string  "inet", "inet6" or "unix"
---@field host string?  an IP address
---@field port integer?
---@field path string?  of a Unix socket; "@name" if it is abstract, "" if it has none
local Address = { __name = "Address" }

--- "127.0.0.1:80", "[::1]:80", or the path.
local function text(host, port)
  return (host:find(":", 1, true) and "[%s]:%d" or "%s:%d"):format(host, port)
end

function Address:__tostring()
  return self.path or text(self.host, self.port)
end

local M = { text = text }

--- Makes one of what the bindings give: a family, and a host and a port or a path. Nil without a
-- family.
function M.new(family, host, port)
  if family == "unix" then return setmetatable({ family = family, path = host }, Address) end
  if not family then return nil end
  -- A socket of IPv6 may speak IPv4.
  family = host:find(":", 1, true) and "inet6" or "inet"
  return setmetatable({ family = family, host = host, port = port }, Address)
end

--- Makes one of "127.0.0.1:80" or "[::1]:80"; nil if it is neither.
function M.parse(name)
  local host, port = name:match "^%[?(.-)%]?:(%d+)$"
  return host and M.new("inet", host, tonumber(port))
end

return M
