--- The options of TLS: what scripts write, checked and brought into the shape the binding takes.
-- Files are read here, so that the loop goes on meanwhile.
local fs = require "rille.fs"
local check = require "rille.core.check"

local find, type, tostring = string.find, type, tostring

local KNOWN = {
  ca = true, cert = true, key = true, verify = true, alpn = true, server_name = true,
  min_version = true, max_version = true, ciphers = true, password = true,
}

-- OpenSSL's numbers.
local VERSIONS = { ["1.0"] = 0x301, ["1.1"] = 0x302, ["1.2"] = 0x303, ["1.3"] = 0x304 }

local function text(options, option, name)
  local value = options[option]
  if value == nil then return nil end
  if type(value) ~= "string" then
    check.bad(option, name, "string expected, got " .. type(value))
  end
  if value == "" then check.bad(option, name, "it is empty") end
  if find(value, "\0", 1, true) then check.bad(option, name, "it contains a NUL byte") end
  return value
end

local function version(options, option, name)
  local value = options[option]
  if value == nil then return nil end
  local number = VERSIONS[type(value) == "number" and ("%.1f"):format(value) or value]
  if not number or type(value) == "number" and value * 10 % 1 ~= 0 then
    check.bad(option, name,
      ("\"1.2\" or \"1.3\" expected, got %s"):format(tostring(value)))
  end
  return number
end

-- As it goes over the wire: each name with its length before it.
local function protocols(options, name)
  local list = options.alpn
  if list == nil then return nil end
  if type(list) ~= "table" then
    check.bad("alpn", name, "list of protocols expected, got " .. type(list))
  end
  local parts = {}
  for i, protocol in ipairs(list) do
    if type(protocol) ~= "string" or protocol == "" or #protocol > 255 then
      check.bad("alpn", name, ("entry %d: a name of 1 to 255 bytes expected"):format(i))
    end
    parts[i] = string.char(#protocol) .. protocol
  end
  local size = 0
  for _ in pairs(list) do size = size + 1 end
  if size ~= #parts then check.bad("alpn", name, "list of protocols expected, got other keys") end
  local wire = table.concat(parts)
  if #wire > 65535 then check.bad("alpn", name, "the list is too long") end
  return wire ~= "" and wire or nil
end

local M = {}

--- Checks options and reads the files that they name.
---@async
---@param options table
---@param side? string  "client", "server"; both by default
---@param position integer|string  of the argument, for errors
---@param name string  of the function, for errors
---@return table  what rille.core.tls's context() takes
-- Errors: OSError (ENOENT …) with `path`.
function M.read(options, side, position, name)
  check.options(options, KNOWN, position, name)
  local cert, key, ca = text(options, "cert", name), text(options, "key", name),
    text(options, "ca", name)
  local verify = options.verify
  if verify ~= nil and type(verify) ~= "boolean" then
    check.bad("verify", name, "boolean expected, got " .. type(verify))
  end
  if key and not cert then check.bad("key", name, "there is no 'cert' to which it belongs") end
  if side == "server" and not cert then
    check.bad(position, name, "a server needs the options 'cert' and 'key'")
  end
  local password = options.password
  if password ~= nil and type(password) ~= "string" then
    check.bad("password", name, "string expected, got " .. type(password))
  end
  local min, max = version(options, "min_version", name), version(options, "max_version", name)
  if max and max < (min or VERSIONS["1.2"]) then
    check.bad("max_version", name, ("%s is below min_version, which is %s"):format(
      tostring(options.max_version), tostring(options.min_version or "1.2")))
  end
  text(options, "server_name", name)
  local spec = {
    verify = verify == nil and -1 or verify and 1 or 0,
    alpn = protocols(options, name), ciphers = text(options, "ciphers", name), password = password,
    min_version = min, max_version = max, client = side ~= "server", server = side ~= "client",
  }
  for option, value in pairs { ca = ca, cert = cert, key = key } do
    if find(value, "-----BEGIN", 1, true) then
      spec[option], spec[option .. "_label"] = value, ("the option '%s'"):format(option)
    else
      spec[option], spec[option .. "_label"] = fs.read_file(value), value
      spec[option .. "_file"] = true
    end
  end
  return spec
end

return M
