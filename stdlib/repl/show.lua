--- Values as the REPL shows them.
local pcall = require("rille.core.protect").pcall
local type, tostring, getmetatable, next, ipairs = type, tostring, getmetatable, next, ipairs

local WIDTH = 76 -- what fits into so many columns stands in one line
local DEPTH = 6
local MOST = 100 -- entries of a table

local ESCAPES = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\0"] = "\\0", ["\\"] = "\\\\",
  ["\""] = "\\\"" }

local function quote(text)
  text = text:gsub("[%z\n\r\t\\\"]", ESCAPES):gsub("%c", function(c)
    return ("\\%03d"):format(c:byte())
  end)
  return "\"" .. text .. "\""
end

local function plain(value)
  local ok, text = pcall(tostring, value)
  return ok and text or "(a value that cannot be shown)"
end

local KEYWORDS = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat
  return then true until while]]):gmatch "%a+" do KEYWORDS[word] = true end

local function rank(key)
  local kind = type(key)
  return kind == "number" and 1 or kind == "string" and 2 or 3
end

local function before(a, b)
  local x, y = rank(a), rank(b)
  if x ~= y then return x < y end
  if x == 3 then return plain(a) < plain(b) end
  return a < b
end

local show

local function entry_of(key, value, indent, seen)
  local text = show(value, indent, seen)
  if type(key) == "string" then
    local is_name = key:find "^[%a_][%w_]*$" and not KEYWORDS[key]
    return (is_name and key or "[" .. quote(key) .. "]") .. " = " .. text
  end
  return "[" .. (type(key) == "number" and tostring(key) or plain(key)) .. "] = " .. text
end

local function entries_of(t, indent, seen)
  local entries, listed = {}, 0
  for i, value in ipairs(t) do
    listed = i
    if i <= MOST then entries[i] = show(value, indent, seen) end
  end
  local keys = {}
  for key in next, t do
    if not (type(key) == "number" and key >= 1 and key <= listed and key % 1 == 0) then
      keys[#keys + 1] = key
    end
  end
  table.sort(keys, before)
  local left = listed - #entries
  for _, key in ipairs(keys) do
    if #entries < MOST then
      entries[#entries + 1] = entry_of(key, t[key], indent, seen)
    else
      left = left + 1
    end
  end
  if left > 0 then entries[#entries + 1] = ("... %d more"):format(left) end
  return entries
end

function show(value, indent, seen)
  if type(value) == "string" then return quote(value) end
  if type(value) ~= "table" then return plain(value) end
  local meta = getmetatable(value)
  if type(meta) == "table" and meta.__tostring or meta ~= nil and type(meta) ~= "table" then
    return plain(value)
  end
  if seen[value] then return "(above)" end
  if #indent / 2 >= DEPTH then return "{ ... }" end
  seen[value] = true
  local entries = entries_of(value, indent .. "  ", seen)
  seen[value] = nil
  if not entries[1] then return "{}" end
  local line = "{ " .. table.concat(entries, ", ") .. " }"
  if #line + #indent <= WIDTH and not line:find "\n" then return line end
  return "{\n" .. indent .. "  " .. table.concat(entries, ",\n" .. indent .. "  ") .. "\n" .. indent
    .. "}"
end

--- A value as text: tables by what they hold, everything else as print has it.
---@return string
return function(value)
  if type(value) ~= "table" then return plain(value) end
  return show(value, "", {})
end
