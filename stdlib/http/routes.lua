--- What a route of an application is told besides its handler: limits of its own, what it takes and
-- gives, and what the OpenAPI document says about it.
local check = require "rille.core.check"
local options_of = require "rille.http.server_options"

local type, pairs, ipairs, tostring, tonumber, next = type, pairs, ipairs, tostring, tonumber, next
local format = string.format

local M = {}

--- The options of all routes.
M.KNOWN = {
  max_body_bytes = true, max_collect_bytes = true, request = true, response = true,
  responses = true, params = true, query = true, summary = true, description = true, tags = true,
  operation_id = true, deprecated = true, hidden = true,
}
--- Those of App:route.
M.KNOWN_WITH_METHODS = { methods = true }
for name in pairs(M.KNOWN) do M.KNOWN_WITH_METHODS[name] = true end

-- Those that the server takes; others it answers with 501 before anybody looks for a route.
local METHODS = {}
for name in ([[GET HEAD POST PUT PATCH DELETE OPTIONS TRACE COPY LOCK MKCOL MOVE PROPFIND PROPPATCH
  SEARCH UNLOCK BIND REBIND UNBIND ACL REPORT MKACTIVITY CHECKOUT MERGE M-SEARCH NOTIFY SUBSCRIBE
  UNSUBSCRIBE PURGE MKCALENDAR LINK UNLINK]]):gmatch "%S+" do METHODS[name] = true end

--- Reads the option `methods`.
---@return string[]  "*" stands for all
function M.methods(list, name)
  if list == nil then return { "*" } end
  local methods = {}
  for i, method in ipairs(check.table(list, "methods", name)) do
    methods[i] = check.string(method, "methods", name):upper()
    if not METHODS[methods[i]] then
      check.bad("methods", name, format("'%s' is no method that the server takes", method))
    end
  end
  if #methods == 0 then check.bad("methods", name, "an empty list") end
  return methods
end

local function shape_of(value, option, name)
  local ok, shape = pcall(require("rille.http.shape").compile, value)
  if not ok then check.bad(option, name, shape) end
  return shape
end

-- Shapes of parameters, by name; or of an object with them.
local function fields_of(value, option, name)
  local shape = shape_of(value, option, name)
  if shape.kind ~= "object" or not shape.fields then
    check.bad(option, name, "a table of names and shapes expected")
  end
  return shape
end

-- Status to what is answered with it: a text that describes it, or a shape.
local function responses_of(options, name)
  local list = {}
  if options.response ~= nil then
    list[200] = { shape = shape_of(options.response, "response", name) }
  end
  for status, value in pairs(options.responses and check.table(options.responses, "responses", name)
    or {}) do
    if type(status) ~= "number" or status % 1 ~= 0 or status < 100 or status > 599 then
      check.bad("responses", name, format("'%s' is no status", tostring(status)))
    end
    -- A text that is no name of a type describes the answer.
    if type(value) == "string" and not pcall(require("rille.http.shape").compile, value) then
      list[status] = { description = value }
    else
      list[status] = { shape = shape_of(value, "responses", name) }
    end
  end
  return list
end

local function document_of(options, name)
  local doc = {
    deprecated = options.deprecated and true or nil, hidden = options.hidden and true or nil,
    responses = responses_of(options, name),
  }
  for _, key in ipairs { "summary", "description", "operation_id" } do
    if options[key] ~= nil then doc[key] = check.string(options[key], key, name) end
  end
  if options.tags ~= nil then
    doc.tags = {}
    for i, tag in ipairs(check.table(options.tags, "tags", name)) do
      doc.tags[i] = check.string(tag, "tags", name)
    end
  end
  return doc
end

--- Makes a route of a handler and its options.
---@param options table  checked by name
---@param name string  of the function that adds it
function M.new(handler, options, name)
  local route = { handler = handler }
  if options.max_body_bytes ~= nil then
    route.max_body = options_of.limit(options.max_body_bytes, nil, "max_body_bytes", name)
  end
  if options.max_collect_bytes ~= nil then
    route.max_collect = options_of.limit(options.max_collect_bytes, nil, "max_collect_bytes", name)
    if route.max_collect == 0 then route.max_collect = math.huge end
  end
  if options.request ~= nil then route.request = shape_of(options.request, "request", name) end
  if options.params ~= nil then route.params = fields_of(options.params, "params", name) end
  if options.query ~= nil then route.query = fields_of(options.query, "query", name) end
  if next(options) ~= nil then route.doc = document_of(options, name) end
  route.is_plain = not route.max_body and not route.max_collect and not route.request
    and not route.params and not route.query
  return route
end

-- ---- parameters ---------------------------------------------------------------------------------

local BOOLEANS = { ["true"] = true, ["1"] = true, ["false"] = false, ["0"] = false }

-- Not what Lua reads besides: hexadecimal numbers, spaces, "inf". One pattern for all of it would
-- try every way to share the digits out among its parts.
local function is_number(text)
  local at = text:match "^[+-]?%d+()"
  if not at then return false end
  at = text:match("^%.%d*()", at) or at
  at = text:match("^[eE][+-]?%d+()", at) or at
  return at > #text
end

-- The value that a text stands for, where the shape wants something else than text.
local function converted(shape, text)
  local kind = shape.kind
  if kind == "number" or kind == "integer" then
    if is_number(text) then return tonumber(text) end
  elseif kind == "boolean" then
    local value = BOOLEANS[text:lower()]
    if value ~= nil then return value end
  elseif kind == "enum" and not shape.is_allowed[text] then
    local number = tonumber(text)
    if number and shape.is_allowed[number] then return number end
  elseif kind == "any_of" then
    for _, one in ipairs(shape.shapes) do
      local value = converted(one, text)
      if value ~= text then return value end
    end
  end
  return text
end

--- Reads parameters by the shapes of their names; raises the HTTPError (422) that lists what is
-- wrong.
---@param shape Shape  an object's
---@param get fun(name: string): string[]  all values of a name
---@return table  name to value
function M.parameters(shape, get)
  local values = {}
  for _, name in ipairs(shape.names) do
    local field, given = shape.fields[name], get(name)
    if field.kind == "list" then
      local list = {}
      for i, text in ipairs(given) do
        list[i] = field.item and converted(field.item, text) or text
      end
      if list[1] ~= nil or not field.optional then
        values[name] = require("rille.json").array(list)
      end
    elseif given[1] ~= nil then
      values[name] = converted(field, given[1])
    end
  end
  local schema = require "rille.http.schema"
  local faults, result = schema.faults(shape, values)
  if faults then schema.refuse(faults) end
  return result
end

return M
