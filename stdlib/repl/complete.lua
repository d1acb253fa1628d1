--- What can follow the text before the cursor: names, fields, modules.
local type, getmetatable, next, pairs, rawget = type, getmetatable, next, pairs, rawget

local M = {}

--- The modules that scripts require.
M.MODULES = { "async", "dns", "errors", "fs", "http", "json", "net", "path", "patterns", "process",
  "signal", "stdio", "tls", "websocket", "worker" }

local KEYWORDS = { "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if",
  "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while" }

-- A field without running anybody's code: metatables are looked through as far as they are tables.
local function field(value, key)
  for _ = 1, 10 do
    if type(value) == "table" then
      local found = rawget(value, key)
      if found ~= nil then return found end
    end
    local meta = getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index") or nil
    if type(value) ~= "table" then return nil end
  end
end

local function add_fields(found, value, only_functions)
  for _ = 1, 10 do
    if type(value) == "table" then
      for key, v in next, value do
        if type(key) == "string" and (not only_functions or type(v) == "function") then
          found[key] = true
        end
      end
    end
    local meta = getmetatable(value)
    value = type(meta) == "table" and rawget(meta, "__index") or nil
    if type(value) ~= "table" then return end
  end
end

local function matching(found, start, pattern)
  local list = {}
  for name in pairs(found) do
    if name:sub(1, #start) == start and name:find(pattern) then list[#list + 1] = name end
  end
  table.sort(list)
  return list
end

local function common_start(list)
  local start = list[1] or ""
  for _, name in ipairs(list) do
    while name:sub(1, #start) ~= start do start = start:sub(1, -2) end
  end
  return start
end

local function candidates(text)
  local start = text:match "require%s*%(?%s*[\"']([%w_.]*)$"
  local found = {}
  if start then
    for _, name in ipairs(M.MODULES) do found["rille." .. name] = true end
    for name in pairs(package.preload) do found[name] = true end
    return start, matching(found, start, "")
  end
  local path, separator, name = text:match "([%a_][%w_.]*)([.:])([%w_]*)$"
  if not path then
    name = text:match "[%w_]*$"
    add_fields(found, _G)
    for _, word in ipairs(KEYWORDS) do found[word] = true end
    for _, module in ipairs(M.MODULES) do found[module] = true end
    return name, name == "" and {} or matching(found, name, "^[%a_][%w_]*$")
  end
  local value = _G
  for key in path:gmatch "[^.]+" do
    local inner = field(value, key)
    if inner == nil and value == _G then inner = package.loaded["rille." .. key] end
    value = inner
    if value == nil then return name, {} end
  end
  add_fields(found, value, separator == ":")
  return name, matching(found, name, name == "" and "^[%a][%w_]*$" or "^[%a_][%w_]*$")
end

--- Gives what is to be inserted, or a list to show, for the text before the cursor.
---@param text string
---@return string insertion, string list
function M.complete(text)
  local start, list = candidates(text)
  local insertion = common_start(list):sub(#start + 1)
  if insertion ~= "" or #list < 2 then return insertion, "" end
  return "", table.concat(list, "  ")
end

return M
