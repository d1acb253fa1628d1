--- Names with values, some names more than once: header fields, query parameters, forms. Those that
-- were received are objects to look things up in; those to be sent come as a script writes them.
local http1 = require "rille.core.http1"

local type, rawget, rawset, setmetatable, tostring = type, rawget, rawset, setmetatable, tostring
local lower, find, byte, sub = string.lower, string.find, string.byte, string.sub

local M = {}

--- A text without the spaces and tabs around it. A pattern that ends in `%s*$` would look at what
-- is between two words again and again: seconds for a field of some kilobytes.
---@param text string
---@return string
function M.trim(text)
  local first, last = find(text, "[^ \t]"), #text
  if not first then return "" end
  while byte(text, last) == 32 or byte(text, last) == 9 do last = last - 1 end
  return sub(text, first, last)
end

-- ---- received -----------------------------------------------------------------------------------

-- An object is an array, so that no name can be in the way: [1] the list { name, value, ... } or
-- what it is read from, [2] false or the map that is made of it when somebody asks.
local LIST, MAP = 1, 2

-- Fields that are not joined by a comma when they stand more than once.
local SEPARATORS = { cookie = "; ", ["set-cookie"] = false }

local function list_of(self)
  local list = self[LIST]
  if type(list) == "string" then
    list = http1.fields(list)
    rawset(self, LIST, list)
  end
  return list
end

local function fold_headers(list)
  local map = {}
  for i = 1, #list, 2 do
    local name, value = lower(list[i]), list[i + 1]
    local before = map[name]
    if before == nil then
      map[name] = value
    else
      local separator = SEPARATORS[name]
      if separator == nil then separator = ", " end
      if separator then map[name] = before .. separator .. value end
    end
  end
  return map
end

local function first_values(list)
  local map = {}
  for i = 1, #list, 2 do
    if map[list[i]] == nil then map[list[i]] = list[i + 1] end
  end
  return map
end

--- Names with values that were received, and cannot be changed. `fields.name` or `fields["Name"]`
-- is the value, or nil. Names of headers count in any case; lines of one name are joined by ", "
-- (Cookie by "; "; of Set-Cookie it is the first). Names of parameters are case-sensitive, and of
-- several values it is the first.
---@class Fields
---@field [string] string?
---@field get_all fun(self: Fields, name: string): string[]  All values of a name, in their order.
---@field iter fun(self: Fields): fun(): string?, string?  Iterates over names and values.

local function class(name, make_map, normal)
  local methods = {}

  --- All values of a name, in their order.
  ---@param key string
  ---@return string[]
  function methods:get_all(key)
    local list, values = list_of(self), {}
    key = normal(tostring(key))
    for i = 1, #list, 2 do
      if normal(list[i]) == key then values[#values + 1] = list[i + 1] end
    end
    return values
  end

  --- Iterates over names and values as they came.
  ---@return fun(): string?, string?
  function methods:iter()
    local list, i = list_of(self), -1
    return function()
      i = i + 2
      return list[i], list[i + 1]
    end
  end

  local function index(self, key)
    if methods[key] then return methods[key] end
    if type(key) ~= "string" then return nil end
    local map = rawget(self, MAP)
    if not map then
      map = make_map(list_of(self))
      rawset(self, MAP, map)
    end
    return map[normal(key)]
  end

  local function refuse(_, key)
    error(("%s that were received cannot be changed: '%s'"):format(name, tostring(key)), 2)
  end

  local meta = { __index = index, __newindex = refuse, __name = name }
  return function(list) return setmetatable({ list, false }, meta) end
end

--- The fields of a message's head; names in any case.
---@param head string
M.headers = class("header fields", fold_headers, lower)

--- Of a list { name, value, ... }; case-sensitive.
---@param list string[]
M.parameters = class("parameters", first_values, function(key) return key end)

--- Reads what a form or the query of a URL holds.
---@param text string
function M.parse_parameters(text)
  local list = {}
  for pair in text:gmatch "[^&]+" do
    local name, value = pair:match "^([^=]*)=?(.*)$"
    list[#list + 1] = http1.unescape(name, true)
    list[#list + 1] = http1.unescape(value, true)
  end
  return M.parameters(list)
end

--- Reads what a Cookie field holds. Of several with one name the first counts: it has the longest
-- path.
---@param text string
---@return table<string, string>
-- Source: RFC 6265, section 5.4.
function M.parse_cookies(text)
  local cookies = {}
  for pair in text:gmatch "[^;]+" do
    local name, value = pair:match "^%s*([^=%s]+)%s*=(.*)$"
    if name and cookies[name] == nil then
      value = M.trim(value)
      cookies[name] = value:match '^"(.*)"$' or value
    end
  end
  return cookies
end

-- Browsers write what would end a quoted text in their own way.
local ESCAPES = { ["%22"] = '"', ["%0D"] = "\r", ["%0A"] = "\n" }

--- A parameter of a field's value, as in `form-data; name="x"`.
---@param text string
---@param wanted string  its name, in lower case
---@return string?
-- Source: RFC 9110, section 5.6.6.
function M.parameter(text, wanted)
  local at = find(text, ";", 1, true)
  while at do
    local name, first = text:match("^;%s*([^=;%s]+)%s*=%s*()", at)
    if not name then
      at = find(text, ";", at + 1, true)
    else
      local value
      if text:byte(first) == 34 then
        local last = first + 1
        while last <= #text and text:byte(last) ~= 34 do
          last = last + (text:byte(last) == 92 and 2 or 1)
        end
        value = text:sub(first + 1, last - 1):gsub('\\([\\"])', "%1"):gsub("%%%x%x", ESCAPES)
        at = find(text, ";", last, true)
      else
        value = text:match("^[^;%s]*", first)
        at = find(text, ";", first, true)
      end
      if lower(name) == wanted then return value end
    end
  end
  return nil
end

-- ---- to be sent ---------------------------------------------------------------------------------

local function describe(value)
  return type(value) == "string" and "'" .. value .. "'" or "of type " .. type(value)
end

-- Calls visit(name, value) for a name whose value may be a list.
local function visit_values(name, value, visit)
  if type(value) ~= "table" then return visit(name, value) end
  for i = 1, #value do visit(name, value[i]) end
end

-- Calls visit(name, value) for all of a map, sorted by name, or a list of pairs; of a list to which
-- somebody has added names, for both.
local function each(given, what, visit)
  if type(given) ~= "table" then
    error(("%s: table expected, got %s"):format(what, type(given)), 0)
  end
  local listed = #given
  for i = 1, listed do
    local pair = given[i]
    if type(pair) ~= "table" then
      error(("%s: entry %d is no pair { name, value }"):format(what, i), 0)
    end
    visit_values(pair[1], pair[2], visit)
  end
  local names = {}
  for name in pairs(given) do
    local is_listed = type(name) == "number" and name >= 1 and name <= listed
    if not is_listed then
      if type(name) ~= "string" then
        error(("%s: a name is %s"):format(what, describe(name)), 0)
      end
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for _, name in ipairs(names) do visit_values(name, given[name], visit) end
end

--- Goes through header fields as a script gives them: `visit(name, value, lower_name)`; `value` is
-- false where a default is taken away. Raises a string for what cannot be sent.
function M.each_header(headers, visit)
  each(headers, "headers", function(name, value)
    if type(name) ~= "string" or not http1.is_token(name) then
      error(("header name %s is not allowed"):format(describe(name)), 0)
    end
    if type(value) == "number" then value = tostring(value) end
    if type(value) == "string" then
      if find(value, "[%z\r\n]") then
        error(("header '%s' has a value with CR, LF or NUL"):format(name), 0)
      end
    elseif value ~= false then
      error(("header '%s' has a value %s"):format(name, describe(value)), 0)
    end
    visit(name, value, lower(name))
  end)
end

local function escape(text, kept, space)
  return (text:gsub(kept, function(c)
    if c == " " then return space end
    return ("%%%02X"):format(c:byte())
  end))
end

local function scalar(value, what, name)
  local t = type(value)
  if t == "string" then return value end
  if t == "number" or t == "boolean" then return tostring(value) end
  error(("%s: '%s' has a value %s"):format(what, tostring(name), describe(value)), 0)
end

--- Writes parameters as a query or a form: a map, sorted by name, or a list of pairs; a list as a
-- value repeats the name. Raises a string for what cannot be written.
---@param given table
---@param what "query"|"form"
---@return string
function M.format_parameters(given, what)
  local parts = {}
  local space = what == "form" and "+" or "%20"
  each(given, what, function(name, value)
    parts[#parts + 1] = escape(scalar(name, what, name), "[^%w%-._~]", space) .. "="
      .. escape(scalar(value, what, name), "[^%w%-._~]", space)
  end)
  return table.concat(parts, "&")
end

return M
