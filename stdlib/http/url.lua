--- URLs of HTTP: taken apart, made fit to be sent, and resolved against one another.
local http1 = require "rille.core.http1"
local errors = require "rille.errors"

local M = {}

local DEFAULT_PORTS = { http = 80, https = 443 }
local SCHEMES = {
  http = { tls = false }, https = { tls = true },
  ["http+unix"] = { tls = false, unix = true }, ["https+unix"] = { tls = true, unix = true },
}

-- What a URL in an error or a log may show.
local function without_credentials(url) return (url:gsub("^(%a[%w+.-]*://)[^/?#]*@", "%1")) end
M.without_credentials = without_credentials

local function bad(url, what)
  url = without_credentials(url)
  error(errors.new("HTTPError", ("%s: '%s'"):format(what, url), { url = url }), 0)
end

local function encode(c) return ("%%%02X"):format(c:byte()) end

-- Takes out what stands before an `@`.
local function split_credentials(url, authority)
  local info, rest = authority:match "^(.*)@([^@]*)$"
  if not info then return nil, nil, authority end
  local user, password = info:match "^([^:]*):?(.*)$"
  user, password = http1.unescape(user, false), http1.unescape(password, false)
  if user:find "[%z:]" or password:find "%z" then bad(url, "credentials that cannot be sent") end
  return user, password, rest
end

local function parse_unix(url, authority)
  local path = http1.unescape(authority, false)
  if path == "" or path:find("\0", 1, true) then bad(url, "no path of a socket in the URL") end
  return path
end

local function parse_host(url, scheme, authority)
  local host, port = authority:match "^%[([%x:.]+)%](.*)$"
  if host and not host:find(":", 1, true) then host = nil end
  if not host then host, port = authority:match "^([%w._~-]+)(.*)$" end
  if not host then bad(url, "no host, or one that is not allowed, in the URL") end
  if port == "" or port == ":" then return host:lower(), DEFAULT_PORTS[scheme] end
  port = tonumber(port:match "^:(%d+)$")
  if not port or port < 1 or port > 65535 then bad(url, "wrong port in the URL") end
  return host:lower(), port
end

-- The Host field: without the port that the scheme has anyway.
local function authority_of(scheme, host, port)
  if host:find(":", 1, true) then host = "[" .. host .. "]" end
  if port == DEFAULT_PORTS[scheme] then return host end
  return host .. ":" .. port
end

--- Takes a URL apart. What may not stand in one as it is (spaces, letters beyond ASCII) is encoded.
---@param url string
---@return table  `scheme`, `tls`, `host` (an IPv6 address without brackets), `port`, or `path` of a
-- Unix socket; `authority` (for the Host field), `target`, `origin`, `user`, `password`, `url` (as
-- it is sent: without credentials and fragment)
-- Errors: HTTPError.
-- Source: RFC 3986, RFC 9110; WHATWG for what is encoded.
function M.parse(url)
  if url:find "[%z\1-\31\127]" then bad(url:gsub("%c", "?"), "control character in the URL") end
  local scheme, rest = url:match "^(%a[%w+.-]*)://(.*)$"
  if not scheme then bad(url, "not a URL with a scheme and a host") end
  scheme = scheme:lower()
  local kind = SCHEMES[scheme]
  if not kind then bad(url, ("scheme '%s' is not supported"):format(scheme)) end

  local authority, tail = rest:match "^([^/?#]*)(.*)$"
  -- Browsers take it for a slash, RFC 3986 for a part of the credentials: two different hosts.
  if authority:find("\\", 1, true) then bad(url, "backslash before the path of the URL") end
  local user, password
  user, password, authority = split_credentials(url, authority)
  local target = tail:match "^[^#]*"
  if target:sub(1, 1) ~= "/" then target = "/" .. target end
  target = target:gsub("[^%w%-._~:/?%[%]@!$&'()*+,;=%%]", encode)
  local parts = {
    scheme = scheme, tls = kind.tls, target = target, user = user, password = password,
  }
  if kind.unix then
    parts.path = parse_unix(url, authority)
    parts.host, parts.authority = "localhost", "localhost"
    parts.origin = scheme .. "://" .. authority
  else
    parts.host, parts.port = parse_host(url, scheme, authority)
    parts.authority = authority_of(scheme, parts.host, parts.port)
    parts.origin = scheme .. "://" .. parts.authority
  end
  parts.url = parts.origin .. target
  return parts
end

-- Takes the segments `.` and `..` out of a path.
local function remove_dots(path)
  local out = {}
  for segment, slash in path:gmatch "([^/]*)(/?)" do
    if segment == ".." then
      if #out > 1 then out[#out] = nil end
    elseif segment ~= "." and (segment ~= "" or slash ~= "") then
      out[#out + 1] = segment .. slash
    end
  end
  return table.concat(out)
end

--- Resolves a reference against an absolute URL.
---@param base string
---@param reference string
---@return string
-- Source: RFC 3986, section 5.2.
function M.resolve(base, reference)
  reference = reference:gsub("#.*$", "")
  if reference:find "^%a[%w+.-]*:" then return reference end
  local scheme, authority, path, query = base:match "^(%a[%w+.-]*:)(//[^/?#]*)([^?#]*)(%??[^#]*)"
  if reference:sub(1, 2) == "//" then return scheme .. reference end
  local new_path, new_query = reference:match "^([^?]*)(.*)$"
  if path == "" then path = "/" end
  if new_path == "" then
    if new_query ~= "" then query = new_query end
    return scheme .. authority .. path .. query
  end
  if new_path:sub(1, 1) ~= "/" then new_path = path:match "^(.*/)" .. new_path end
  return scheme .. authority .. remove_dots(new_path) .. new_query
end

return M
