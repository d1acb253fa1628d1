--- Says whether a value has the shape that a handler wants, and where it has not.
local errors = require "rille.errors"
local marks = require "rille.core.marks"
local shapes = require "rille.http.shape"

local type, pairs, ipairs, tostring, rawget, rawset, tonumber, select = type, pairs, ipairs,
  tostring, rawget, rawset, tonumber, select
local setmetatable, getmetatable = setmetatable, getmetatable
local format, find, gsub = string.format, string.find, string.gsub

local M = {}

local MOST = 20 -- faults that are listed

local null = nil

local function is_null(value)
  if value == nil then return true end
  null = null or require("rille.json").null
  return value == null
end

-- What was decoded from an array has a mark.
local function is_list(value)
  return type(value) == "table" and (rawget(value, 1) ~= nil or marks.get(value) == marks.ARRAY)
end

local function kind_of(value)
  if is_null(value) then return "nothing" end
  local t = type(value)
  if t == "cdata" then return "integer" end
  if t ~= "table" then return t end
  return is_list(value) and "list" or "object"
end

-- ---- faults -------------------------------------------------------------------------------------

-- What is being looked at: `path` leads there, as `depth` keys and indices.

local function path_of(state)
  local text = ""
  for i = 1, state.depth do
    local key = state.path[i]
    if type(key) == "number" then
      text = format("%s[%d]", text, key)
    elseif find(key, "^[%a_][%w_%-]*$") then
      text = text == "" and key or text .. "." .. key
    else
      text = format("%s[%q]", text, key):gsub("\\\n", "\\n")
    end
  end
  return text
end

local function fault(state, message, ...)
  local faults = state.faults
  if #faults == MOST then
    state.has_more = true
    return
  end
  if ... ~= nil then message = format(message, ...) end
  faults[#faults + 1] = { path = path_of(state), message = message }
end

local function expected(state, wanted, value)
  return fault(state, "%s expected, got %s", wanted, kind_of(value))
end

-- ---- each kind ----------------------------------------------------------------------------------

local visit
local kinds = {}

-- What is at a key of the value in hand; gives what shall stand there.
local function visit_at(state, shape, value, key)
  state.depth = state.depth + 1
  state.path[state.depth] = key
  local result = visit(state, shape, value)
  state.depth = state.depth - 1
  return result
end

-- Characters, not bytes.
local function length(text)
  return #text - select(2, gsub(text, "[\128-\191]", ""))
end

local PLURALS = { character = "characters", entry = "entries" }

local function plural(n, what) return format("%d %s", n, n == 1 and what or PLURALS[what]) end

local function check_size(state, shape, n, what)
  if shape.min and n < shape.min then
    fault(state, "at least %s expected, got %d", plural(shape.min, what), n)
  elseif shape.max and n > shape.max then
    fault(state, "at most %s expected, got %d", plural(shape.max, what), n)
  end
end

function kinds.string(state, shape, value)
  if type(value) ~= "string" then return expected(state, "string", value) end
  if shape.min or shape.max then check_size(state, shape, length(value), "character") end
  if shape.pattern and not find(value, shape.pattern) then
    fault(state, "it does not match '%s'", shape.pattern)
  end
end

local function check_number(state, shape, value)
  local n = tonumber(value)
  if shape.min and n < shape.min then
    fault(state, "at least %.14g expected, got %.14g", shape.min, n)
  elseif shape.max and n > shape.max then
    fault(state, "at most %.14g expected, got %.14g", shape.max, n)
  elseif shape.above and n <= shape.above then
    fault(state, "more than %.14g expected, got %.14g", shape.above, n)
  elseif shape.below and n >= shape.below then
    fault(state, "less than %.14g expected, got %.14g", shape.below, n)
  elseif shape.multiple_of then
    local times = n / shape.multiple_of
    if math.abs(times - math.floor(times + 0.5)) > 1e-9 then
      fault(state, "a multiple of %.14g expected, got %.14g", shape.multiple_of, n)
    end
  end
end

function kinds.number(state, shape, value)
  if type(value) ~= "number" and type(value) ~= "cdata" then
    return expected(state, "number", value)
  end
  check_number(state, shape, value)
end

function kinds.integer(state, shape, value)
  if type(value) ~= "cdata"
    and not (type(value) == "number" and value % 1 == 0 and value > -math.huge
      and value < math.huge) then
    return expected(state, "integer", value)
  end
  check_number(state, shape, value)
end

function kinds.boolean(state, _, value)
  if type(value) ~= "boolean" then expected(state, "boolean", value) end
end

function kinds.any(state, _, value)
  if is_null(value) then expected(state, "any", value) end
end

local function shown(value)
  return type(value) == "string" and format("'%s'", value) or tostring(value)
end

function kinds.enum(state, shape, value)
  if value ~= nil and shape.is_allowed[value] then return end
  local list = {}
  for i, allowed in ipairs(shape.values) do list[i] = shown(allowed) end
  local got = type(value) == "string" and #value <= 40 and shown(value)
    or type(value) == "number" and shown(value) or kind_of(value)
  fault(state, "%s expected, got %s", table.concat(list, " or "), got)
end

function kinds.custom(state, shape, value)
  local ok, message = shape.fn(value)
  if not ok then
    fault(state, "%s", message ~= nil and tostring(message) or "it is not allowed")
  end
end

function kinds.any_of(state, shape, value)
  local names = {}
  for i, one in ipairs(shape.shapes) do
    local attempt = { faults = {}, path = {}, depth = 0 }
    local result = visit(attempt, one, value)
    if #attempt.faults == 0 then return result end
    names[i] = one.kind
  end
  fault(state, "it has none of the shapes allowed (%s)", table.concat(names, ", "))
end

local function check_unique(state, value)
  local seen = {}
  for i, item in ipairs(value) do
    if type(item) ~= "table" and type(item) ~= "cdata" then
      if seen[item] then return fault(state, "entries %d and %d are the same", seen[item], i) end
      seen[item] = i
    end
  end
end

function kinds.list(state, shape, value)
  if not is_list(value) then return expected(state, "list", value) end
  local n = #value
  check_size(state, shape, n, "entry")
  if shape.unique then check_unique(state, value) end
  local item = shape.item
  if not item then return end
  for i = 1, n do
    if state.has_more then return end
    local result = visit_at(state, item, value[i], i)
    if result ~= nil then rawset(value, i, result) end
  end
end

local function is_object(value) return type(value) == "table" and not is_list(value) end

-- Keys of which the shape knows nothing, in order; not many more than can be listed.
local function others(shape, value)
  local list = {}
  for key in pairs(value) do
    if not shape.fields[key] then
      list[#list + 1] = tostring(key)
      if #list > 10 * MOST then break end
    end
  end
  table.sort(list)
  return list
end

function kinds.object(state, shape, value)
  if not is_object(value) then return expected(state, "object", value) end
  local fields = shape.fields
  if not fields then return end
  for _, name in ipairs(shape.names) do
    if state.has_more then return end
    local result = visit_at(state, fields[name], rawget(value, name), name)
    if result ~= nil then rawset(value, name, result) end
  end
  local extra = shape.extra
  if extra == true then return end
  if extra == false then
    for _, name in ipairs(others(shape, value)) do
      visit_at(state, { kind = "unknown" }, true, name)
    end
  else
    for key, item in pairs(value) do
      if not fields[key] then
        if state.has_more then return end
        local result = visit_at(state, extra, item, tostring(key))
        if result ~= nil then rawset(value, key, result) end
      end
    end
  end
end

function kinds.unknown(state) fault(state, "unknown key") end

function kinds.map(state, shape, value)
  if not is_object(value) then return expected(state, "object", value) end
  local n = 0
  for key, item in pairs(value) do
    if state.has_more then return end
    n = n + 1
    if shape.keys and not find(tostring(key), shape.keys) then
      visit_at(state, { kind = "unknown" }, true, tostring(key))
    end
    local result = visit_at(state, shape.value, item, tostring(key))
    if result ~= nil then rawset(value, key, result) end
  end
  check_size(state, shape, n, "entry")
end

-- ---- all of it ----------------------------------------------------------------------------------

-- A default that is a table must not be shared by those that get it.
local function copied(value)
  if type(value) ~= "table" then return value end
  local copy = {}
  for key, item in pairs(value) do copy[key] = copied(item) end
  return setmetatable(copy, getmetatable(value))
end

-- Notes what is wrong with a value; gives what shall stand in its place, nil if it may stay.
function visit(state, shape, value)
  if shape.optional and is_null(value) then return copied(shape.default) end
  return kinds[shape.kind](state, shape, value)
end

--- Looks at a value. Where it has nothing, defaults are put in.
---@param shape Shape  made ready by shape.compile
---@return table[]? faults  `{ path =, message = }`, or nil
---@return any value  the same, or the default of it
function M.faults(shape, value)
  local state = { faults = {}, path = {}, depth = 0, has_more = false }
  local result = visit(state, shape, value)
  if result ~= nil then value = result end
  if #state.faults == 0 then return nil, value end
  state.faults.has_more = state.has_more
  return state.faults, value
end

--- Raises the HTTPError (422) that lists faults.
function M.refuse(faults)
  local first = faults[1]
  local message = format("422 Unprocessable Content: %s%s", first.path ~= "" and first.path .. ": "
    or "", first.message)
  if #faults > 1 then
    message = format("%s (and %s%d more)", message, faults.has_more and "at least " or "",
      #faults - 1 + (faults.has_more and 1 or 0))
  end
  local body = { errors = faults, truncated = faults.has_more or nil }
  faults.has_more = nil
  errors._raise("HTTPError", message, { status = 422, errors = faults, _answer = { body = body } })
end

--- Raises an HTTPError (422) that lists what is wrong, if the value has not the shape.
---@param shape any  see http.shape
---@return any value  with the defaults of the shape
function M.check(shape, value)
  local ok, ready = pcall(shapes.compile, shape)
  if not ok then
    require("rille.core.check").bad(1, "json", ready)
  end
  local faults, result = M.faults(ready, value)
  if faults then M.refuse(faults) end
  return result
end

return M
