--- URLs of HTTP: taken apart, and made fit to be sent.
local errors = require "rille.errors"

local M = {}

local function bad(url, what)
  error(errors.new("HTTPError", ("%s: '%s'"):format(what, url), { url = url }), 0)
end

--- Takes a URL apart. What may not stand in one as it is (spaces, letters beyond ASCII) is encoded.
---@param url string
---@return table  `host` (an IPv6 address without brackets), `port`, `authority` (for the Host
-- field), `target`, `url` (as it is sent, without a fragment)
-- Errors: HTTPError.
-- Source: RFC 3986; WHATWG for what is encoded.
function M.parse(url)
  if url:find "[%z\1-\31\127]" then bad(url:gsub("%c", "?"), "control character in the URL") end
  local scheme, rest = url:match "^(%a[%w+.-]*)://(.*)$"
  if not scheme then bad(url, "not a URL with a scheme and a host") end
  scheme = scheme:lower()
  if scheme ~= "http" then bad(url, ("scheme '%s' is not supported"):format(scheme)) end

  local authority, tail = rest:match "^([^/?#]*)(.*)$"
  if authority:find("@", 1, true) then
    bad(url:gsub("//.*@", "//"), "credentials in a URL are not supported")
  end
  local host, port = authority:match "^%[([%x:.]+)%](.*)$"
  if not host then host, port = authority:match "^([%w._~-]+)(.*)$" end
  if not host then bad(url, "no host, or one that is not allowed, in the URL") end
  if port ~= "" and port ~= ":" then
    port = tonumber(port:match "^:(%d+)$")
    if not port or port < 1 or port > 65535 then bad(url, "wrong port in the URL") end
  else
    port = 80
  end

  local target = tail:match "^[^#]*"
  if target:sub(1, 1) ~= "/" then target = "/" .. target end
  target = target:gsub("[^%w%-._~:/?%[%]@!$&'()*+,;=%%]", function(c)
    return ("%%%02X"):format(c:byte())
  end)
  if authority:sub(-1) == ":" then authority = authority:sub(1, -2) end
  return {
    host = host, port = port, authority = authority, target = target,
    url = scheme .. "://" .. authority .. target,
  }
end

return M
