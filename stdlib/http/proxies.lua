--- Who asks: the peer, or, if that is a proxy which is trusted, whom it names.
local check = require "rille.core.check"

local networks = require "rille.http.networks"

local trim = require("rille.http.fields").trim
local bytes_of, is_within = networks.bytes, networks.is_within

local M = {}

local type, ipairs, tostring = type, ipairs, tostring
local format = string.format

--- Reads the option `trusted_proxies`: true for all, or a list of addresses, networks in the form
-- "10.0.0.0/8", and "unix". Gives a function that says whether an address is trusted (nil: a Unix
-- socket), or false.
function M.trust(value, name)
  if value == nil or value == false then return false end
  if value == true then return function() return true end end
  if type(value) == "string" then value = { value } end
  check.table(value, "trusted_proxies", name)
  local nets, unix = {}, false
  for _, text in ipairs(value) do
    if text == "unix" then
      unix = true
    else
      local net = networks.parse(tostring(text))
      if not net then
        check.bad("trusted_proxies", name, format("'%s' is no address or network",
          tostring(text)))
      end
      nets[#nets + 1] = net
    end
  end
  return function(ip)
    if ip == nil then return unix end
    local bytes = bytes_of(ip)
    if not bytes then return false end
    for _, net in ipairs(nets) do
      if is_within(bytes, net) then return true end
    end
    return false
  end
end

-- ---- what they say ------------------------------------------------------------------------------

local prefix, number = nil, 0

-- Begins with what no other process has: the time, and where something lies in its memory.
local function new_id()
  prefix = prefix or format("%x%s", os.time(), tostring({}):sub(-6))
  number = number + 1
  return format("%s-%06x", prefix, number)
end

-- The one furthest away among those who were passed on by proxies that are trusted.
local function client_of(trusted, remote, chain)
  local list = {}
  for ip in chain:gmatch "[^,]+" do
    ip = trim(ip)
    list[#list + 1] = ip:match "^%[([%x:.]+)%]:?%d*$" or ip:match "^([%d.]+):%d+$" or ip
  end
  for i = #list, 1, -1 do
    if not bytes_of(list[i]) then break end
    remote = list[i]
    if not trusted(remote) then break end
  end
  return remote
end

local function last_of(text)
  return text and trim(text:match "^.*,(.*)$" or text)
end

--- Who asks for what: `remote`, `scheme`, `host`, `id`.
function M.read(settings, req)
  local headers = req.headers
  local own = { remote = req.peer and req.peer.host, scheme = settings.scheme }
  own.host = headers.host
  local authority = req.target:match "^%a+://([^/?]*)"
  if authority then own.host = authority end
  local trusted = settings.trusted
  if trusted and trusted(own.remote) then
    local chain = headers["x-forwarded-for"]
    if chain then own.remote = client_of(trusted, own.remote, chain) end
    local scheme = last_of(headers["x-forwarded-proto"])
    if scheme == "http" or scheme == "https" then own.scheme = scheme end
    local host = last_of(headers["x-forwarded-host"])
    if host and host ~= "" then own.host = host end
    local id = headers["x-request-id"]
    if id and #id <= 128 and not id:find "[^%w%-._:/+=]" then own.id = id end
  end
  own.id = own.id or new_id()
  return own
end

return M
