--- Which hosts are asked without a proxy: the option `no_proxy`, and the variable of that name.
local check = require "rille.core.check"
local networks = require "rille.http.networks"

local type, ipairs, tonumber = type, ipairs, tonumber

local M = {}

-- An address of IPv4 that is written as one of IPv6 is the same address.
local function plain(bytes)
  if not bytes or #bytes == 4 then return bytes end
  for i = 1, 12 do
    if bytes[i] ~= (i > 10 and 255 or 0) then return bytes end
  end
  return { bytes[13], bytes[14], bytes[15], bytes[16] }
end

-- What an entry says: `all`, `net` or `name`, and `port`.
local function read_entry(text)
  if text == "*" then return { all = true } end
  local inner, rest = text:match "^%[([^%]]*)%](.*)$"
  local name, port = inner, rest and rest:match "^:(%d+)$"
  if inner and rest ~= "" and not port then name = inner .. rest end -- a network
  if not inner then
    name, port = text:match "^([^:]*):(%d+)$"
    name = name or text
  end
  local net = networks.parse(name)
  if net and net.bits == #net.bytes * 8 then
    net.bytes = plain(net.bytes)
    net.bits = #net.bytes * 8
  end
  return {
    net = net, port = tonumber(port), name = name:lower():gsub("^%*?%.", ""):gsub("%.$", ""),
  }
end

local function is_named(entry, host, bytes, port)
  if entry.all then return true end
  if entry.port and entry.port ~= port then return false end
  -- The end of an address is not the name of a domain that it is in.
  if bytes or entry.net then
    return bytes ~= nil and entry.net ~= nil and networks.is_within(bytes, entry.net)
  end
  return host == entry.name or host:sub(-#entry.name - 1) == "." .. entry.name
end

-- Texts that were read: they are the same for each request.
local MOST_KNOWN = 100
local known, known_count = {}, 0

local function entries_of(text)
  local entries = known[text]
  if entries then return entries end
  entries = {}
  for entry in text:gmatch "[^,%s]+" do entries[#entries + 1] = read_entry(entry) end
  if known_count >= MOST_KNOWN then known, known_count = {}, 0 end
  known[text], known_count = entries, known_count + 1
  return entries
end

--- Whether a list of hosts names the one of a URL: a domain stands for all below it too, whether
-- with a dot in front or not; an address for itself, a network ("10.0.0.0/8") for all in it; `*`
-- for everything. A port at the end makes it hold for that alone.
---@param text string?  separated by commas or spaces
---@param url table  a parsed URL
-- Source: curl(1), and Go's golang.org/x/net/http/httpproxy for ports.
function M.names(text, url)
  if not text or text == "" then return false end
  local host = url.host:gsub("%.$", "")
  local bytes = plain(networks.bytes(host))
  for _, entry in ipairs(entries_of(text)) do
    if is_named(entry, host, bytes, url.port) then return true end
  end
  return false
end

--- Reads the option; false names nobody.
---@param value string|string[]|false|nil
---@param name string  of the function, for its errors
---@return string?
function M.read(value, name)
  if value == nil or type(value) == "string" then return value end
  if value == false then return "" end
  check.table(value, "no_proxy", name)
  for i, entry in ipairs(value) do check.string(entry, ("no_proxy[%d]"):format(i), name) end
  return table.concat(value, ",")
end

return M
