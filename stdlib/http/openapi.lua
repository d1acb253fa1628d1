--- The OpenAPI document of an application, made of its routes.
-- Source: OpenAPI 3.1, whose schemas are those of JSON Schema 2020-12.
local check = require "rille.core.check"

local type, pairs, ipairs, tostring = type, pairs, ipairs, tostring

local M = {}

-- ---- patterns -----------------------------------------------------------------------------------

local CLASSES = { a = "A-Za-z", d = "0-9", l = "a-z", u = "A-Z", w = "A-Za-z0-9", x = "A-Fa-f0-9",
  s = "\\s" }
local QUANTIFIERS = { ["*"] = "*", ["+"] = "+", ["-"] = "*?", ["?"] = "?" }

-- One of Lua's classes, inside brackets or not; nil if there is nothing like it.
local function class_of(c, is_inside)
  local own = CLASSES[c:lower()]
  if own and c:lower() == c then return is_inside and own or "[" .. own .. "]" end
  if own then return not is_inside and "[^" .. own .. "]" or nil end
  if c:find "%w" then return nil end
  return "\\" .. c
end

local function set_of(pattern, i)
  local out = { "[" }
  i = i + 1
  if pattern:sub(i, i) == "^" then
    out[2] = "^"
    i = i + 1
  end
  local first = i
  while i <= #pattern do
    local c = pattern:sub(i, i)
    if c == "]" and i > first then return table.concat(out) .. "]", i end
    if c == "%" then
      i = i + 1
      c = class_of(pattern:sub(i, i), true)
      if not c then return nil end
    elseif c == "[" or c == "]" or c == "\\" then
      c = "\\" .. c
    end
    out[#out + 1] = c
    i = i + 1
  end
end

--- One of Lua's patterns as a regular expression; nil where there is none that says the same.
function M.regex(pattern)
  local out, i, item = {}, 1, false
  while i <= #pattern do
    local c = pattern:sub(i, i)
    local text = c
    if QUANTIFIERS[c] and item then
      text, item = QUANTIFIERS[c], false
    elseif c == "^" and i == 1 or c == "$" and i == #pattern then
      item = false
    elseif c == "(" or c == ")" then
      -- A quantifier behind a group is a character in Lua; so is an empty group a position.
      local after = pattern:sub(i + 1, i + 1)
      if c == "(" and after == ")" or c == ")" and QUANTIFIERS[after] then return nil end
      item = false
    elseif c == "%" then
      i = i + 1
      text = class_of(pattern:sub(i, i), false)
      item = true
    elseif c == "[" then
      text, i = set_of(pattern, i)
      item = true
    else
      if c ~= "." and c:find "%p" then text = "\\" .. c end
      if c == "-" or c == "_" or c == "'" or c == '"' or c == "@" then text = c end
      item = true
    end
    if not text then return nil end
    out[#out + 1] = text
    i = i + 1
  end
  return table.concat(out)
end

-- ---- shapes -------------------------------------------------------------------------------------

local json

local schema_of
local kinds = {}

function kinds.string(shape, out)
  out.type, out.minLength, out.maxLength, out.format = "string", shape.min, shape.max, shape.format
  out.pattern = shape.pattern and M.regex(shape.pattern) or nil
end

function kinds.number(shape, out)
  out.type = shape.kind
  out.minimum, out.maximum, out.multipleOf = shape.min, shape.max, shape.multiple_of
  out.exclusiveMinimum, out.exclusiveMaximum = shape.above, shape.below
end
kinds.integer = kinds.number

function kinds.boolean(_, out) out.type = "boolean" end

function kinds.any() end
function kinds.custom() end

function kinds.enum(shape, out)
  local values = {}
  for i, value in ipairs(shape.values) do values[i] = value end
  out.enum = json.array(values)
end

function kinds.any_of(shape, out)
  out.anyOf = {}
  for i, one in ipairs(shape.shapes) do out.anyOf[i] = schema_of(one) end
end

function kinds.list(shape, out)
  out.type, out.minItems, out.maxItems = "array", shape.min, shape.max
  out.uniqueItems = shape.unique and true or nil
  if shape.item then out.items = schema_of(shape.item) end
end

function kinds.object(shape, out)
  out.type = "object"
  if not shape.fields then return end
  local required = {}
  out.properties = json.object {}
  for _, name in ipairs(shape.names) do
    local field = shape.fields[name]
    out.properties[name] = schema_of(field)
    -- A function of the script's decides about its field by itself.
    if not field.optional and field.kind ~= "custom" then required[#required + 1] = name end
  end
  if required[1] then out.required = required end
  if shape.extra == false then
    out.additionalProperties = false
  elseif shape.extra ~= true then
    out.additionalProperties = schema_of(shape.extra)
  end
end

function kinds.map(shape, out)
  out.type, out.minProperties, out.maxProperties = "object", shape.min, shape.max
  out.additionalProperties = schema_of(shape.value)
  local names = shape.keys and M.regex(shape.keys)
  if names then out.propertyNames = { pattern = names } end
end

-- A shape as a schema.
function schema_of(shape)
  local out = json.object {}
  kinds[shape.kind](shape, out)
  out.description = shape.description
  out.default = shape.default
  if shape.example ~= nil then out.examples = { shape.example } end
  if not shape.optional then return out end
  -- Where there may be nothing, null is as good.
  if out.type then
    out.type = { out.type, "null" }
  elseif out.enum then
    out.enum[#out.enum + 1] = json.null
  elseif out.anyOf then
    out.anyOf[#out.anyOf + 1] = { type = "null" }
  end
  return out
end

--- The JSON Schema of a shape.
function M.schema(shape)
  json = json or require "rille.json"
  return schema_of(require("rille.http.shape").compile(shape))
end

-- ---- routes -------------------------------------------------------------------------------------

local METHODS = { GET = "get", POST = "post", PUT = "put", PATCH = "patch", DELETE = "delete",
  HEAD = "head", OPTIONS = "options", TRACE = "trace" }
local ALL = { "GET", "POST", "PUT", "PATCH", "DELETE" }

local ERRORS = {
  type = "object", required = { "errors" }, properties = {
    errors = { type = "array", items = {
      type = "object", required = { "path", "message" },
      properties = { path = { type = "string" }, message = { type = "string" } },
    } },
    truncated = { type = "boolean" },
  },
}

local function parameters_of(route, path_names)
  local list = {}
  for _, name in ipairs(path_names) do
    local shape = route.params and route.params.fields[name]
    list[#list + 1] = {
      name = name, ["in"] = "path", required = true,
      schema = shape and schema_of(shape) or { type = "string" },
      description = shape and shape.description or nil,
    }
  end
  for _, name in ipairs(route.query and route.query.names or {}) do
    local shape = route.query.fields[name]
    list[#list + 1] = {
      name = name, ["in"] = "query", required = not shape.optional, schema = schema_of(shape),
      description = shape.description,
    }
  end
  return list[1] and list or nil
end

local function content(schema)
  return { ["application/json"] = { schema = schema } }
end

local function responses_of(route)
  local http1 = require "rille.core.http1"
  local doc = json.object {}
  for status, response in pairs(route.doc and route.doc.responses or {}) do
    doc[tostring(status)] = {
      description = response.description or response.shape.description or http1.reason(status),
      content = response.shape and content(schema_of(response.shape)) or nil,
    }
  end
  if next(doc) == nil then doc["200"] = { description = "OK" } end
  if (route.request or route.query or route.params) and not doc["422"] then
    doc["422"] = {
      description = http1.reason(422),
      content = content { ["$ref"] = "#/components/schemas/Errors" },
    }
  end
  return doc
end

local function operation_of(route, method, path, names)
  local doc = route.doc or {}
  return {
    operationId = doc.operation_id or method .. path:gsub("[{}]", ""):gsub("[^%w]+", "_"):gsub("_$",
      ""),
    summary = doc.summary, description = doc.description, tags = doc.tags,
    deprecated = doc.deprecated, parameters = parameters_of(route, names),
    requestBody = route.request and {
      required = not route.request.optional, content = content(schema_of(route.request)),
    } or nil,
    responses = responses_of(route),
  }
end

local function add_route(paths, prefix, prefix_names, route)
  local path = prefix .. route.pattern:gsub("%.%.%.}", "}")
  local names = {}
  for _, name in ipairs(prefix_names) do names[#names + 1] = name end
  for _, name in ipairs(route.names) do names[#names + 1] = name end
  for _, name in ipairs(route.methods[1] == "*" and ALL or route.methods) do
    local method = METHODS[name]
    if method then
      paths[path] = paths[path] or {}
      -- What the outer application has of its own comes first there, too.
      paths[path][method] = paths[path][method] or operation_of(route, method, path, names)
    end
  end
end

--- The document.
---@param routes fun(visit)  calls visit(prefix, names of its parameters, route) for all routes
---@param info table  `title`, `version`, `description`, `servers`
function M.document(routes, info)
  json = json or require "rille.json"
  local paths = json.object {}
  routes(function(prefix, names, route)
    if not (route.doc and route.doc.hidden) then add_route(paths, prefix, names, route) end
  end)
  local servers
  for i, server in ipairs(info.servers or {}) do
    servers = servers or {}
    servers[i] = type(server) == "string" and { url = server } or server
  end
  return {
    openapi = "3.1.0",
    info = { title = info.title, version = info.version, description = info.description },
    servers = servers, paths = paths, components = { schemas = { Errors = ERRORS } },
  }
end

local OPTIONS = { title = true, version = true, description = true, servers = true, path = true }

--- Checks the options of App:openapi.
function M.options(options, name)
  options = check.options(options, OPTIONS, 1, name)
  local info = {}
  for _, key in ipairs { "title", "version", "description" } do
    if options[key] ~= nil then info[key] = check.string(options[key], key, name) end
  end
  info.title, info.version = info.title or "API", info.version or "1.0.0"
  if options.servers ~= nil then info.servers = check.table(options.servers, "servers", name) end
  local path = options.path
  if path == true then path = "/openapi.json" end
  if path then path = check.string(path, "path", name) end
  return info, path or nil
end

return M
