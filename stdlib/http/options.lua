--- Options of requests and sessions.
local check = require "rille.core.check"
local fields = require "rille.http.fields"
local base64 = require "rille.http.base64"

local type, pairs, tostring = type, pairs, tostring

local M = {}

local TIMEOUTS = { connect = true, total = true, read = true }

local function limit_of(value, default, what, name)
  if value == nil then return default end
  if value == false or value == math.huge then return nil end
  if type(value) ~= "number" or value ~= value then
    check.bad(what, name, "a time in seconds, or false, expected, got "
      .. (value ~= value and "NaN" or type(value)))
  end
  return value
end

-- A request's timeouts replace those of the session key by key.
function M.timeouts(timeout, defaults, name)
  if timeout == nil then return defaults end
  if type(timeout) ~= "table" then
    return {
      total = limit_of(timeout, nil, "timeout", name),
      connect = timeout ~= false and defaults.connect or nil,
      read = timeout ~= false and defaults.read or nil,
    }
  end
  for key in pairs(timeout) do
    if not TIMEOUTS[key] then
      check.bad("timeout", name, ("unknown option '%s'; there are: connect, read, total"):format(
        tostring(key)))
    end
  end
  return {
    connect = limit_of(timeout.connect, defaults.connect, "timeout.connect", name),
    total = limit_of(timeout.total, defaults.total, "timeout.total", name),
    read = limit_of(timeout.read, defaults.read, "timeout.read", name),
  }
end

--- A number from 0, 0 for false.
function M.count(value, default, what, name)
  if value == nil then return default end
  if value == false then return 0 end
  if value == math.huge then return value end
  if type(value) ~= "number" or value ~= value or value < 0 then
    check.bad(what, name, "a number from 0, or false, expected, got " .. tostring(value))
  end
  return value
end

--- The Authorization field that `auth` asks for.
function M.auth(auth, name)
  if auth == nil or auth == false then return nil end
  check.table(auth, "auth", name)
  local text
  if auth.bearer ~= nil then
    text = "Bearer " .. check.string(auth.bearer, "auth.bearer", name)
  else
    local user = check.string(auth.user, "auth.user", name)
    local password = auth.password and check.string(auth.password, "auth.password", name) or ""
    if user:find(":", 1, true) then check.bad("auth.user", name, "a user name has no colon") end
    text = "Basic " .. base64(user .. ":" .. password)
  end
  if text:find "[%c]" then check.bad("auth", name, "it has a character that cannot be sent") end
  return text
end

--- The URL with the option `query`.
function M.add_query(url, query, name)
  if query == nil then return url end
  local ok, text = pcall(fields.format_parameters, query, "query")
  if not ok then check.bad("query", name, text) end
  if text == "" then return url end
  local base, fragment = url:match "^([^#]*)(.*)$"
  local glue = not base:find("?", 1, true) and "?" or base:find "[?&]$" and "" or "&"
  return base .. glue .. text .. fragment
end

-- What a script gives as headers, as a list of { name, value, lower }.
function M.headers(headers, list, name)
  if headers == nil then return list end
  local ok, e = pcall(fields.each_header, headers, function(key, value, lower)
    if lower == "transfer-encoding" then error(("header '%s' cannot be set"):format(key), 0) end
    list[#list + 1] = { key, value, lower }
  end)
  if not ok then check.bad("headers", name, e) end
  return list
end

return M
