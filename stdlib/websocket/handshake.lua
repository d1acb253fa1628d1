--- The handshake of WebSocket: keys, protocols and extensions.
local errors = require "rille.errors"
local check = require "rille.core.check"
local base64 = require "rille.http.base64"
local trim = require("rille.http.fields").trim

local has_binding, binding = pcall(require, "rille.core.websocket")
if not has_binding then
  errors._raise("Error",
    "rille.websocket is not in this build of Rille: it needs wslay (Debian: libwslay-dev)")
end

local M = {}

-- RFC 6455, section 1.3.
local GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

--- A key for a client's request.
function M.key() return base64(binding.random(16)) end

--- What a server answers to a key.
function M.accept(key)
  local digest, problem = binding.sha1(key .. GUID)
  if not digest then
    errors._raise("Error", "rille.websocket needs OpenSSL's libcrypto: " .. problem)
  end
  return base64(digest)
end

--- True if a field with a list of tokens has this one.
function M.has_token(field, token)
  if field and field:lower() == token then return true end
  for part in (field or ""):gmatch "[^,]+" do
    if trim(part):lower() == token then return true end
  end
  return false
end

local DEFLATE = "permessage-deflate"
-- Without a history over messages on either side: it would cost memory for every connection.
M.offer = DEFLATE .. "; client_no_context_takeover; server_no_context_takeover"
  .. "; client_max_window_bits"

-- The extensions of a field, with their parameters.
local function parse_extensions(field)
  local list = {}
  for part in (field or ""):gmatch "[^,]+" do
    local name, rest = part:match "^%s*([^;%s]*)%s*;?(.*)$"
    local parameters = {}
    for parameter in rest:gmatch "[^;]+" do
      local key, value = parameter:match "^%s*([^=%s]*)%s*=?(.*)$"
      parameters[key:lower()] = trim(value):gsub('^"(.*)"$', "%1")
    end
    list[#list + 1] = { name = name:lower(), parameters = parameters }
  end
  return list
end

-- Windows are from 9 to 15 bits; ours for sending has 12.
local function window_fits(value)
  local bits = tonumber(value)
  return bits ~= nil and bits >= 12 and bits <= 15 and bits % 1 == 0
end

local PARAMETERS = { client_no_context_takeover = true, server_no_context_takeover = true,
  client_max_window_bits = true, server_max_window_bits = true }

--- What a server answers to a client's offers of extensions; nil for none.
-- Source: RFC 7692, section 7.
function M.accept_extensions(field)
  for _, extension in ipairs(parse_extensions(field)) do
    local fits = extension.name == DEFLATE
    for key in pairs(extension.parameters) do fits = fits and PARAMETERS[key] end
    local bits = extension.parameters.server_max_window_bits
    if fits and (bits == nil or window_fits(bits)) then
      local answer = DEFLATE .. "; server_no_context_takeover; client_no_context_takeover"
      if bits then answer = answer .. "; server_max_window_bits=" .. bits end
      return answer
    end
  end
end

--- Whether the server has accepted compression, and whether with a history over messages; nil and
-- what is wrong if its answer was not asked for.
function M.read_extensions(field)
  local deflates, keeps_history = false, false
  for _, extension in ipairs(parse_extensions(field)) do
    if extension.name ~= DEFLATE or deflates then
      return nil, ("an extension that was not asked for: '%s'"):format(extension.name)
    end
    for key in pairs(extension.parameters) do
      if not PARAMETERS[key] then return nil, ("an unknown parameter '%s'"):format(key) end
    end
    local bits = extension.parameters.client_max_window_bits
    if bits and not window_fits(bits) then return nil, "a window that is too small" end
    deflates = true
    keeps_history = extension.parameters.server_no_context_takeover == nil
  end
  return deflates, keeps_history
end

--- Reads the option `subprotocols`.
function M.subprotocols(list, name)
  if list == nil then return {} end
  check.table(list, "subprotocols", name)
  for i, protocol in ipairs(list) do
    if type(protocol) ~= "string" or not protocol:find "^[%w!#$%%&'*+.^_`|~-]+$" then
      check.bad("subprotocols", name, ("entry %d is no token: '%s'"):format(i, tostring(protocol)))
    end
  end
  return list
end

return M
