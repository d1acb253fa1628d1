--- Checks arguments and options; every error is Lua's own `bad argument` at the line of the script
-- that made the call.
local check = {}

local type, error, tostring, getinfo = type, error, tostring, debug.getinfo

--- "file:line: " of the innermost function that is not the runtime's own.
function check.position()
  for level = 2, 100 do
    local info = getinfo(level, "Sl")
    if not info then break end
    if info.what ~= "C" and info.source:sub(1, 7) ~= "=rille/" then
      return ("%s:%d: "):format(info.short_src, info.currentline)
    end
  end
  return ""
end

--- Raises a plain error at the script's line.
function check.fail(message) error(check.position() .. message, 0) end

--- Raises the error for a wrong argument: its position or the option's name, the function's name.
function check.bad(position, name, what)
  local where = type(position) == "number" and "#" .. position or "'" .. position .. "'"
  check.fail(("bad argument %s to '%s' (%s)"):format(where, name, what))
end
local bad = check.bad

local function expected(position, name, wanted, value)
  bad(position, name, wanted .. " expected, got " .. (value == nil and "nil" or type(value)))
end

local function callable(value)
  if type(value) == "function" then return true end
  local meta = getmetatable(value)
  return type(meta) == "table" and type(meta.__call) == "function"
end
check.is_callable = callable

--- A function, or something that can be called like one.
function check.callable(value, position, name)
  if not callable(value) then expected(position, name, "function", value) end
  return value
end

function check.table(value, position, name)
  if type(value) ~= "table" then expected(position, name, "table", value) end
  return value
end

function check.string(value, position, name)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then expected(position, name, "string", value) end
  return value
end

--- A number that is one; strings that look like numbers are taken as Lua does.
function check.number(value, position, name)
  local n = type(value) == "number" and value or type(value) == "string" and tonumber(value)
  if not n then expected(position, name, "number", value) end
  if n ~= n then bad(position, name, "number expected, got NaN") end
  return n
end

--- A time in seconds: any number but NaN.
function check.seconds(value, position, name)
  local n = type(value) == "number" and value or type(value) == "string" and tonumber(value)
  if not n then expected(position, name, "number", value) end
  if n ~= n then bad(position, name, "a time in seconds expected, got NaN") end
  return n
end

--- A whole number of at least `least`.
function check.count(value, least, position, name)
  local n = type(value) == "number" and value or type(value) == "string" and tonumber(value)
  if not n then expected(position, name, "number", value) end
  if n ~= n or n % 1 ~= 0 and n ~= math.huge then
    bad(position, name, "whole number expected, got " .. tostring(n))
  end
  if n < least then
    bad(position, name, ("at least %d expected, got %s"):format(least, tostring(n)))
  end
  return n
end

--- The table of options of a function; unknown ones are named.
---@param options? table
---@param known table<string, boolean>  the names that there are
---@return table
function check.options(options, known, position, name)
  if options == nil then return {} end
  if type(options) ~= "table" then expected(position, name, "table", options) end
  for key in pairs(options) do
    if not known[key] then
      local names = {}
      for k in pairs(known) do names[#names + 1] = tostring(k) end
      table.sort(names)
      bad(position, name, ("unknown option '%s'; there are: %s"):format(tostring(key),
        table.concat(names, ", ")))
    end
  end
  return options
end

return check
