--- http.shape: what values have to look like, for `req:json`, for routes, and for the OpenAPI
-- document made of them. Names of types and plain tables are shapes as well; what is here says
-- more: limits, patterns, defaults.
local check = require "rille.core.check"
local marks = require "rille.core.marks"

local type, pairs, ipairs, tostring, getmetatable, setmetatable = type, pairs, ipairs, tostring,
  getmetatable, setmetatable
local format = string.format

-- What all shapes are made into: `kind`, and what that kind has.
---@class Shape
local Shape = { __name = "Shape" }
Shape.__index = Shape

local KINDS = { string = true, number = true, integer = true, boolean = true, object = true,
  list = true, any = true }

local M = {}

--- Whether a value is one of these.
---@package
function M.is_shape(value) return type(value) == "table" and getmetatable(value) == Shape end

local function new(fields) return setmetatable(fields, Shape) end

-- ---- plain values as shapes ---------------------------------------------------------------------

local compile

local function sorted_names(fields)
  local names = {}
  for name in pairs(fields) do names[#names + 1] = name end
  table.sort(names)
  return names
end

-- Raises a string if it is none.
local function compile_fields(fields)
  local compiled = {}
  for name, shape in pairs(fields) do
    if type(name) ~= "string" then
      error(format("the name of a field is a string, not %s", tostring(name)), 0)
    end
    compiled[name] = compile(shape, name)
  end
  return compiled, sorted_names(compiled)
end

-- Shapes are written where they are used; those that stay are made ready once.
local known = setmetatable({}, { __mode = "k" })

local function compile_table(shape)
  if shape[1] ~= nil then
    if shape[2] ~= nil then error("a list has one shape for all that is in it", 0) end
    return new { kind = "list", item = compile(shape[1]) }
  end
  local fields, names = compile_fields(shape)
  return new { kind = "object", fields = fields, names = names, extra = true }
end

--- Makes a shape ready. Raises a string if it is none.
---@package
function compile(shape, name)
  if type(shape) == "string" then
    local kind, optional = shape:match "^(%a+)(%??)$"
    if not KINDS[kind] then
      error(format("'%s' is no type: string, number, integer, boolean, object, list, any, perhaps "
        .. "with '?'", shape), 0)
    end
    return new { kind = kind, optional = optional == "?" }
  elseif M.is_shape(shape) then
    return shape
  elseif check.is_callable(shape) then
    return new { kind = "custom", fn = shape, optional = false }
  elseif type(shape) == "table" then
    local ready = known[shape]
    if not ready then
      ready = compile_table(shape)
      known[shape] = ready
    end
    return ready
  end
  error(format("a shape cannot be of type %s%s", type(shape),
    name and format(", as that of '%s' is", name) or ""), 0)
end
M.compile = compile

-- ---- shapes with limits -------------------------------------------------------------------------

local COMMON = { optional = true, default = true, description = true, example = true }

local function known_options(...)
  local all = {}
  for name in pairs(COMMON) do all[name] = true end
  for _, name in ipairs { ... } do all[name] = true end
  return all
end

local OPTIONS = {
  string = known_options("min", "max", "pattern", "format"),
  number = known_options("min", "max", "above", "below", "multiple_of"),
  integer = known_options("min", "max", "above", "below", "multiple_of"),
  boolean = known_options(), any = known_options(), enum = known_options(),
  any_of = known_options(),
  list = known_options("min", "max", "unique"),
  object = known_options "extra",
  map = known_options("min", "max", "keys"),
}

local TEXTS = { description = true, pattern = true, format = true }
local NUMBERS = { min = true, max = true, above = true, below = true, multiple_of = true }
local SIZES = { string = true, list = true, map = true }

-- A shape of this kind with the options given.
local function with_options(kind, options, position)
  local name = "shape." .. kind
  local shape = { kind = kind, optional = false }
  for key, value in pairs(check.options(options, OPTIONS[kind], position, name)) do
    if TEXTS[key] then
      check.string(value, key, name)
    elseif NUMBERS[key] then
      if SIZES[kind] then check.count(value, 0, key, name) else check.number(value, key, name) end
    end
    shape[key] = value
  end
  if shape.multiple_of and shape.multiple_of <= 0 then
    check.bad("multiple_of", name, "a number above 0 expected")
  end
  if shape.min and shape.max and shape.min > shape.max then
    check.bad("min", name, format("%g is more than max, %g", shape.min, shape.max))
  end
  if shape.default ~= nil then shape.optional = true end
  return new(shape)
end

-- An empty list as a default shall not become an object.
local function marked_default(shape)
  local default = shape.default
  if shape.kind == "list" and type(default) == "table" and getmetatable(default) == nil then
    local copy = {}
    for i, item in ipairs(default) do copy[i] = item end
    shape.default = marks.set(copy, marks.ARRAY)
  end
  return shape
end

-- The shape within another one.
local function inner(value, position, kind)
  local ok, shape = pcall(compile, value)
  if not ok then check.bad(position, "shape." .. kind, shape) end
  return shape
end

---@class rille.http.ShapeOptions
---@field optional? boolean  there may be nothing, or null
---@field default? any  what stands for nothing then
---@field description? string  for the OpenAPI document
---@field example? any  the same

---@class rille.http.StringOptions: rille.http.ShapeOptions
---@field min? integer  characters
---@field max? integer
---@field pattern? string  one of Lua's
---@field format? string  a name for the document

--- Text.
---@param options? rille.http.StringOptions
---@return Shape
function M.string(options)
  local shape = with_options("string", options, 1)
  if shape.pattern then
    local ok, fault = pcall(string.find, "", shape.pattern)
    if not ok then check.bad("pattern", "shape.string", fault) end
  end
  return shape
end

---@class rille.http.NumberOptions: rille.http.ShapeOptions
---@field min? number  allowed itself
---@field max? number
---@field above? number  not allowed itself
---@field below? number
---@field multiple_of? number

--- A number.
---@param options? rille.http.NumberOptions
---@return Shape
function M.number(options) return with_options("number", options, 1) end

--- A whole number.
---@param options? rille.http.NumberOptions
---@return Shape
function M.integer(options) return with_options("integer", options, 1) end

--- True or false.
---@param options? rille.http.ShapeOptions
---@return Shape
function M.boolean(options) return with_options("boolean", options, 1) end

--- Whatever there is.
---@param options? rille.http.ShapeOptions
---@return Shape
function M.any(options) return with_options("any", options, 1) end

--- One of some values.
---@param values table  strings, numbers, booleans
---@param options? rille.http.ShapeOptions
---@return Shape
function M.enum(values, options)
  check.table(values, 1, "shape.enum")
  if #values == 0 then check.bad(1, "shape.enum", "an empty list") end
  local shape = with_options("enum", options, 2)
  shape.values, shape.is_allowed = {}, {}
  for i, value in ipairs(values) do
    local t = type(value)
    if t ~= "string" and t ~= "number" and t ~= "boolean" then
      check.bad(1, "shape.enum", format("entry %d is of type %s", i, t))
    end
    shape.values[i], shape.is_allowed[value] = value, true
  end
  return shape
end

--- What has one of some shapes; the first that fits counts.
---@param shapes table
---@param options? rille.http.ShapeOptions
---@return Shape
function M.any_of(shapes, options)
  check.table(shapes, 1, "shape.any_of")
  if #shapes == 0 then check.bad(1, "shape.any_of", "an empty list") end
  local shape = with_options("any_of", options, 2)
  shape.shapes = {}
  for i, one in ipairs(shapes) do shape.shapes[i] = inner(one, 1, "any_of") end
  return shape
end

---@class rille.http.ListOptions: rille.http.ShapeOptions
---@field min? integer  entries
---@field max? integer
---@field unique? boolean  no text, number or boolean twice

--- A list.
---@param item any  the shape of all that is in it
---@param options? rille.http.ListOptions
---@return Shape
function M.list(item, options)
  local shape = with_options("list", options, 2)
  shape.item = inner(item, 1, "list")
  return marked_default(shape)
end

---@class rille.http.ObjectOptions: rille.http.ShapeOptions
---@field extra? any  whether there may be other fields (true), or the shape of these

--- An object with fields.
---@param fields table  name to shape
---@param options? rille.http.ObjectOptions
---@return Shape
function M.object(fields, options)
  check.table(fields, 1, "shape.object")
  local shape = with_options("object", options, 2)
  local ok, compiled, names = pcall(compile_fields, fields)
  if not ok then check.bad(1, "shape.object", compiled) end
  shape.fields, shape.names = compiled, names
  if shape.extra == nil then shape.extra = true end
  if type(shape.extra) ~= "boolean" then shape.extra = inner(shape.extra, "extra", "object") end
  return shape
end

---@class rille.http.MapOptions: rille.http.ShapeOptions
---@field min? integer  entries
---@field max? integer
---@field keys? string  the pattern that the keys match

--- An object whose keys are not known beforehand.
---@param value any  the shape of all values
---@param options? rille.http.MapOptions
---@return Shape
function M.map(value, options)
  local shape = with_options("map", options, 2)
  if shape.keys ~= nil then
    local ok, fault = pcall(string.find, "", check.string(shape.keys, "keys", "shape.map"))
    if not ok then check.bad("keys", "shape.map", fault) end
  end
  shape.value = inner(value, 1, "map")
  return shape
end

--- A shape like another one, where there may be nothing or null.
---@param shape any
---@param default? any  what stands for nothing
---@return Shape
function M.optional(shape, default)
  local copy = {}
  for key, value in pairs(inner(shape, 1, "optional")) do copy[key] = value end
  copy.optional = true
  if default ~= nil then copy.default = default end
  return new(marked_default(copy))
end

return M
