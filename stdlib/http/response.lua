--- Responses as handlers make them. They are tables that middleware may change until they are sent.
local http1 = require "rille.core.http1"
local errors = require "rille.errors"
local check = require "rille.core.check"
local date = require "rille.http.date"

local type, pairs, getmetatable, setmetatable, rawget, tostring = type, pairs, getmetatable,
  setmetatable, rawget, tostring
local format, find = string.format, string.find

local M = {}

---@class Response
---@field status integer
---@field headers table  name to string, number or list, or a list of pairs
---@field body string?  or one of `json`, `html`, `file`, `stream`, `sse` in its place
local Response = { __name = "HTTPResponse" }
Response.__index = Response

Response.__tostring = function(self)
  return format("HTTPResponse: %s", tostring(rawget(self, "status")))
end

-- What can be sent, of which there is one.
local BODIES = { "body", "json", "html", "file", "stream", "sse" }
M.BODIES = BODIES

local KNOWN = { status = true, headers = true, trailers = true }
for _, name in ipairs(BODIES) do KNOWN[name] = true end

function M.is_response(value)
  return type(value) == "table" and getmetatable(value) == Response
end

-- Fields that are added later must not show in a table that somebody else still uses.
local function copied(headers)
  if type(headers) ~= "table" then return headers end
  local copy = {}
  for key, value in pairs(headers) do copy[key] = value end
  return copy
end

--- One of these, with the fields given. Not checked.
function M.new(fields)
  local headers = fields.headers
  if headers == nil then
    fields.headers = {}
  else
    fields.headers = copied(headers)
  end
  return setmetatable(fields, Response)
end

---@class rille.http.ResponseOptions
---@field status? integer  200 by default
---@field headers? table  name to text, number or list, or a list of pairs
---@field trailers? table|fun(): table  sent behind the body; a function is called at its end
---@field body? string  of this and what follows there may be one
---@field json? any
---@field html? string
---@field file? string|File  a path or a file; with type, ETag and ranges
---@field stream? function|table  a function called until it gives nil, or what has chunks()
---@field sse? function|table  the same for server-sent events

--- Makes a response. Its fields may be changed until it is sent. Server-sent events are texts, or
-- `{ data =, event =, id =, retry =, comment = }`.
---@param options rille.http.ResponseOptions
---@return Response
function M.response(options)
  options = check.options(options, KNOWN, 1, "response")
  local given
  for _, name in ipairs(BODIES) do
    if options[name] ~= nil then
      if given then
        check.bad(1, "response", format("both '%s' and '%s'", given, name))
      end
      given = name
    end
  end
  local response = {}
  for key, value in pairs(options) do response[key] = value end
  return M.new(response)
end

--- Sends the client to another place.
---@param location string
---@param status? integer  302 by default
---@return Response
function M.redirect(location, status)
  location = check.string(location, 1, "redirect")
  if find(location, "[%z\r\n]") then check.bad(1, "redirect", "CR, LF or NUL in the location") end
  status = status == nil and 302 or check.count(status, 300, 2, "redirect")
  if status > 399 or status == 304 then
    check.bad(2, "redirect", format("a status between 300 and 399 expected, got %d", status))
  end
  -- What is not allowed in a URL is encoded; what is encoded stays.
  local escaped = location:gsub("[^%w%-._~:/?#%[%]@!$&'()*+,;=%%]", function(c)
    return format("%%%02X", c:byte())
  end)
  return M.new { status = status, body = "", headers = { Location = escaped } }
end

--- Ends the handler with an answer, from any depth.
---@param status integer
---@param message? string|table  the body, or `{ body =, headers = }`
-- Errors: always raises an HTTPError, which the server answers.
function M.abort(status, message)
  status = check.count(status, 200, 1, "abort")
  if status > 599 then
    check.bad(1, "abort", format("a status between 200 and 599 expected, got %d", status))
  end
  local answer = message
  if type(message) ~= "table" then
    if message ~= nil then message = check.string(message, 2, "abort") end
    answer = { body = message }
  end
  local text = format("%d %s", status, http1.reason(status))
  error(errors.new("HTTPError", text, { status = status, _answer = answer }), 0)
end

-- ---- cookies ------------------------------------------------------------------------------------

local COOKIE = { path = true, domain = true, max_age = true, expires = true, secure = true,
  http_only = true, same_site = true }
local SAME_SITE = { strict = "Strict", lax = "Lax", none = "None" }

-- The list of Set-Cookie fields, made if there is none.
local function cookie_list(headers)
  for key, value in pairs(headers) do
    if type(key) == "string" and key:lower() == "set-cookie" then
      if type(value) == "table" then return value end
      headers[key] = { value }
      return headers[key]
    end
  end
  headers["Set-Cookie"] = {}
  return headers["Set-Cookie"]
end

local function attribute(options, name, default, fn)
  local value = options[name]
  if value == nil then value = default end
  if value == nil or value == false then return nil end
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" or find(value, "[%c;]") then
    check.bad(name, fn, "text without ';' and control characters expected")
  end
  return value
end

local function add_cookie(self, name, value, options, fn)
  options = check.options(options, COOKIE, 3, fn)
  local parts = { name .. "=" .. value }
  local function add(text) parts[#parts + 1] = text end
  local path = attribute(options, "path", "/", fn)
  if path then add("Path=" .. path) end
  local domain = attribute(options, "domain", nil, fn)
  if domain then add("Domain=" .. domain) end
  if options.max_age ~= nil then
    add(format("Max-Age=%.0f", check.count(options.max_age, -math.huge, "max_age", fn)))
  end
  local expires = options.expires
  if type(expires) == "number" then expires = date.format(expires) end
  if expires ~= nil then add("Expires=" .. attribute({ expires = expires }, "expires", nil, fn)) end
  local same_site = options.same_site
  if same_site == nil then same_site = "Lax" end
  local secure = options.secure
  if same_site then
    local known = SAME_SITE[tostring(same_site):lower()]
    if not known then
      check.bad("same_site", fn, format("'Strict', 'Lax' or 'None' expected, got '%s'",
        tostring(same_site)))
    end
    -- Browsers refuse the one without the other.
    if known == "None" and secure == nil then secure = true end
    add("SameSite=" .. known)
  end
  if secure then add "Secure" end
  if options.http_only ~= false then add "HttpOnly" end
  if type(self.headers) ~= "table" then self.headers = {} end
  local text = table.concat(parts, "; ")
  if self.headers[1] ~= nil then
    self.headers[#self.headers + 1] = { "Set-Cookie", text }
  else
    local list = cookie_list(self.headers)
    list[#list + 1] = text
  end
  return self
end

local function cookie_name(name, fn)
  name = check.string(name, 1, fn)
  if not http1.is_token(name) then
    check.bad(1, fn, format("'%s' is no name for a cookie", (name:gsub("%c", "?"))))
  end
  return name
end

---@class rille.http.CookieOptions
---@field path? string  "/" by default
---@field domain? string
---@field max_age? number  seconds
---@field expires? number|string  seconds since 1970, or text
---@field secure? boolean
---@field http_only? boolean  true by default
---@field same_site? "Lax"|"Strict"|"None"|false  "Lax" by default

--- Sets a cookie.
---@param name string
---@param value string  without control characters, spaces, quotes, `,`, `;` and `\`: encode others
---@param options? rille.http.CookieOptions
---@return Response  itself
-- Source: RFC 6265.
function Response:set_cookie(name, value, options)
  name = cookie_name(name, "set_cookie")
  value = check.string(value, 2, "set_cookie")
  if find(value, '[%c%s",;\\\127-\255]') then
    check.bad(2, "set_cookie", "a character that a cookie's value cannot have")
  end
  return add_cookie(self, name, value, options, "set_cookie")
end

local DELETE = { path = true, domain = true, secure = true, same_site = true }

---@class rille.http.DeleteCookieOptions
---@field path? string  what the cookie was set with, like the others
---@field domain? string
---@field secure? boolean
---@field same_site? "Lax"|"Strict"|"None"|false

--- Tells the client to forget a cookie.
---@param name string
---@param options? rille.http.DeleteCookieOptions
---@return Response  itself
function Response:delete_cookie(name, options)
  name = cookie_name(name, "delete_cookie")
  options = check.options(options, DELETE, 2, "delete_cookie")
  return add_cookie(self, name, "", {
    path = options.path, domain = options.domain, secure = options.secure,
    same_site = options.same_site, max_age = 0, expires = 0,
  }, "delete_cookie")
end

return M
