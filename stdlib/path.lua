--- rille.path: paths as texts. Nothing here looks at the disk, but `relative` and `resolve` ask for
-- the working directory.
local check = require "rille.core.check"
local task = require "rille.core.task"
local binding = require "rille.core.fs"

local type, select, tostring = type, select, tostring
local byte, find, sub, gmatch = string.byte, string.find, string.sub, string.gmatch
local concat = table.concat

local SLASH, DOT = byte "/", byte "."

local path = {}

local function argument(value, position, name)
  if type(value) ~= "string" then
    if type(value) ~= "number" then
      check.bad(position, name,
        "string expected, got " .. (value == nil and "nil" or type(value)))
    end
    value = tostring(value)
  end
  if find(value, "\0", 1, true) then check.bad(position, name, "the path contains a NUL byte") end
  return value
end

-- Without ".", double slashes and those ".." that have something to take back.
local function normalized(text)
  local absolute = byte(text) == SLASH
  local parts, n = {}, 0
  for part in gmatch(text, "[^/]+") do
    if part == ".." then
      if n > 0 and parts[n] ~= ".." then
        parts[n] = nil
        n = n - 1
      elseif not absolute then
        n = n + 1
        parts[n] = part
      end
    elseif part ~= "." then
      n = n + 1
      parts[n] = part
    end
  end
  local result = concat(parts, "/")
  if absolute then return "/" .. result end
  return result == "" and "." or result
end

-- Where the last component begins and ends; slashes behind it do not count.
local function last_component(text)
  local stop = #text
  while stop > 0 and byte(text, stop) == SLASH do stop = stop - 1 end
  local start = stop
  while start > 0 and byte(text, start) ~= SLASH do start = start - 1 end
  return start + 1, stop
end

--- The path without `.`, `..` where something stands before it, and doubled or trailing slashes.
---@param p string
---@return string  "." for an empty one
-- Source: Node's path.normalize.
function path.normalize(p) return normalized(argument(p, 1, "normalize")) end

--- Puts paths together with slashes between them, and normalizes the result.
---@param ... string  empty ones do not count
---@return string  "." for nothing
-- Source: Node's path.join.
function path.join(...)
  local parts = {}
  for i = 1, select("#", ...) do
    local part = argument(select(i, ...), i, "join")
    if part ~= "" then parts[#parts + 1] = part end
  end
  return normalized(concat(parts, "/"))
end

--- True if the path begins at the root.
---@param p string
---@return boolean
function path.is_absolute(p) return byte(argument(p, 1, "is_absolute")) == SLASH end

--- The path without its last component.
---@param p string
---@return string  "." if there was no other
-- Source: Node's path.dirname.
function path.dirname(p)
  p = argument(p, 1, "dirname")
  local start = last_component(p)
  if start == 1 then return byte(p) == SLASH and "/" or "." end
  if start == 2 then return "/" end
  -- One slash goes; further ones stay, but for the root, of which "//" is another spelling.
  return start == 3 and byte(p) == SLASH and "//" or sub(p, 1, start - 2)
end

--- The last component of the path.
---@param p string
---@param ext? string  taken off its end, unless it is all of it
---@return string
-- Source: Node's path.basename.
function path.basename(p, ext)
  p = argument(p, 1, "basename")
  local start, stop = last_component(p)
  local name = sub(p, start, stop)
  if ext == nil then return name end
  ext = argument(ext, 2, "basename")
  if #ext > 0 and #ext < #name and sub(name, -#ext) == ext then return sub(name, 1, -#ext - 1) end
  return name
end

--- The end of the last component, from its last dot on.
---@param p string
---@return string  "" if it has no dot, or only at its beginning
-- Source: Node's path.extname.
function path.extname(p)
  p = argument(p, 1, "extname")
  local start, stop = last_component(p)
  if sub(p, start, stop) == ".." then return "" end
  for i = stop, start + 1, -1 do
    if byte(p, i) == DOT then return sub(p, i, stop) end
  end
  return ""
end

local function absolute(p)
  if byte(p) == SLASH then return normalized(p) end
  local cwd, err = binding.cwd()
  if err ~= nil then task.raise(err) end
  return normalized(cwd .. "/" .. p)
end

--- The absolute path, seen from the working directory; each absolute argument begins afresh.
---@param ... string
---@return string
-- Source: Node's path.resolve.
function path.resolve(...)
  local result = ""
  for i = 1, select("#", ...) do
    local part = argument(select(i, ...), i, "resolve")
    if byte(part) == SLASH then
      result = part
    elseif part ~= "" then
      result = result == "" and part or result .. "/" .. part
    end
  end
  return absolute(result)
end

--- The way from one path to another; relative ones begin at the working directory.
---@param from string  a folder
---@param to string
---@return string  "" if both are the same
-- Source: Node's path.relative.
function path.relative(from, to)
  from, to = argument(from, 1, "relative"), argument(to, 2, "relative")
  from, to = absolute(from), absolute(to)
  local steps, there = {}, {}
  for part in gmatch(from, "[^/]+") do steps[#steps + 1] = part end
  for part in gmatch(to, "[^/]+") do there[#there + 1] = part end
  local same = 0
  while same < #steps and steps[same + 1] == there[same + 1] do same = same + 1 end
  local way = {}
  for _ = same + 1, #steps do way[#way + 1] = ".." end
  for i = same + 1, #there do way[#way + 1] = there[i] end
  return concat(way, "/")
end

return path
