--- What the functions of rille.fs check: paths and permissions.
local binding = require "rille.core.fs"
local check = require "rille.core.check"

local type, tostring, tonumber = type, tostring, tonumber
local find = string.find

local M = {}

--- A path that the system can be given.
function M.path_argument(value, position, name)
  if type(value) ~= "string" then
    if type(value) ~= "number" then
      local got = value == nil and "nil" or type(value)
      check.bad(position, name, "string expected, got " .. got, 1)
    end
    value = tostring(value)
  end
  if find(value, "\0", 1, true) then
    check.bad(position, name, "the path contains a NUL byte", 1)
  end
  return value
end

--- Permissions: a number, or the octal digits that chmod takes.
function M.permissions(value, default, position, name)
  if value == nil then return default end
  local n = value
  if type(value) == "string" then n = value:find "^[0-7]+$" and tonumber(value, 8) end
  if type(n) ~= "number" then
    check.bad(position, name, ("permissions expected, got %s"):format(
      type(value) == "string" and ("'%s'"):format(value) or type(value)), 1)
  end
  if not (n >= 0 and n <= 4095 and n % 1 == 0) then
    check.bad(position, name, ("permissions from 0 to 7777 (octal) expected, got %s"):format(
      tostring(value)), 1)
  end
  return n
end

--- A user's or a group's number; nil stands for the one that is there.
function M.id(value, position, name)
  if value == nil then return nil end
  local n = check.count(value, 0, position, name)
  if n > 4294967294 then
    check.bad(position, name, ("at most 4294967294 expected, got %s"):format(tostring(n)), 1)
  end
  return n
end

--- A time in seconds since 1970 that files can have; nil stands for now.
function M.time(value, position, name)
  if value == nil then return nil end
  local n = check.seconds(value, position, name)
  if not (n > -2 ^ 40 and n < 2 ^ 40) then
    check.bad(position, name, ("a time in seconds expected, got %s"):format(tostring(n)), 1)
  end
  return n
end

--- The template of a temporary name.
function M.temp_template(prefix, name)
  prefix = prefix == nil and "rille-" or M.path_argument(prefix, 1, name)
  if not find(prefix, "/", 1, true) then prefix = binding.tempdir() .. "/" .. prefix end
  return prefix .. "XXXXXX"
end

return M
