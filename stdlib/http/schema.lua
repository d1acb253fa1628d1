--- Says whether a value has the shape that a handler wants, and where it has not.
local errors = require "rille.errors"
local marks = require "rille.core.marks"
local is_callable = require("rille.core.check").is_callable

local type, pairs, ipairs, tostring, rawget, getmetatable = type, pairs, ipairs, tostring, rawget,
  getmetatable
local format = string.format

local M = {}

local MOST = 20 -- faults that are listed

local function is_null(value)
  return value == nil or value == require("rille.json").null
end

local function is_integer(value)
  return type(value) == "number" and value % 1 == 0 and value > -math.huge and value < math.huge
    or type(value) == "cdata"
end

-- What was decoded from an array has a mark.
local function is_list(value)
  return type(value) == "table" and (value[1] ~= nil or getmetatable(value) == marks.ARRAY)
end

local function kind_of(value)
  if is_null(value) then return "nothing" end
  local t = type(value)
  if t == "cdata" then return "integer" end
  if t ~= "table" then return t end
  return is_list(value) and "list" or "object"
end

local CHECKS = {
  string = function(v) return type(v) == "string" end,
  number = function(v) return type(v) == "number" or type(v) == "cdata" end,
  integer = is_integer,
  boolean = function(v) return type(v) == "boolean" end,
  object = function(v) return type(v) == "table" and not is_list(v) end,
  list = is_list,
  any = function(v) return not is_null(v) end,
}

local visit

local function visit_name(name, value, path, add)
  local wanted, optional = name:match "^(%a+)(%??)$"
  local check = wanted and CHECKS[wanted]
  if not check then
    error(format("bad argument #1 to 'json' ('%s' is no type: string, number, integer, boolean, "
      .. "object, list, any, perhaps with '?')", name), 0)
  end
  if optional == "?" and is_null(value) or check(value) then return end
  add(path, format("%s expected, got %s", wanted, kind_of(value)))
end

local function visit_table(schema, value, path, add)
  if schema[1] ~= nil then
    if not CHECKS.list(value) then
      return add(path, "list expected, got " .. kind_of(value))
    end
    for i, item in ipairs(value) do visit(schema[1], item, format("%s[%d]", path, i), add) end
    return
  end
  if not CHECKS.object(value) then return add(path, "object expected, got " .. kind_of(value)) end
  local names = {}
  for name in pairs(schema) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    visit(schema[name], rawget(value, name), path == "" and name or path .. "." .. name, add)
  end
end

function visit(schema, value, path, add)
  if type(schema) == "string" then
    visit_name(schema, value, path, add)
  elseif is_callable(schema) then
    local ok, message = schema(value)
    if not ok then add(path, message ~= nil and tostring(message) or "it is not allowed") end
  elseif type(schema) == "table" then
    visit_table(schema, value, path, add)
  else
    error(format("bad argument #1 to 'json' (a shape cannot be of type %s)", type(schema)), 0)
  end
end

--- Raises an HTTPError (422) that lists what is wrong, if the value has not the shape. A shape is
-- the name of a type, with "?" if there may be nothing; `{ shape }` for a list; `{ name = shape }`
-- for an object; or a function that gives true, or false and what is wrong.
function M.check(schema, value)
  local faults = {}
  visit(schema, value, "", function(path, message)
    if #faults < MOST then
      faults[#faults + 1] = { path = path, message = message }
    end
  end)
  if #faults == 0 then return value end
  local first = faults[1]
  local message = format("422 Unprocessable Content: %s%s", first.path ~= "" and first.path .. ": "
    or "", first.message)
  errors._raise("HTTPError", message, { status = 422, _answer = { body = { errors = faults } } })
end

return M
