--- The parts of a file that a request asks for.
local trim = require("rille.http.fields").trim

local tonumber = tonumber
local max, min = math.max, math.min

local M = {}

-- Who asks for more parts than that gets the whole.
local MOST = 32

-- One part, as first and last byte; false if the file has none of it; nil if it is malformed.
local function read_one(text, size)
  local first, last = trim(text):match "^(%d*)%s*%-%s*(%d*)$"
  if not first or first == "" and last == "" then return nil end
  if first == "" then
    local count = tonumber(last)
    if count == 0 or size == 0 then return false end
    return { max(size - count, 0), size - 1 }
  end
  first, last = tonumber(first), last ~= "" and tonumber(last) or size - 1
  if first >= size then return false end
  if last < first then return nil end
  return { first, min(last, size - 1) }
end

local function has_overlaps(sorted)
  for i = 2, #sorted do
    if sorted[i][1] <= sorted[i - 1][2] + 1 then return true end
  end
  return false
end

-- Parts that overlap, or have nothing between them, become one: nobody gets a byte twice.
local function coalesce(list)
  local sorted = {}
  for i, range in ipairs(list) do sorted[i] = range end
  table.sort(sorted, function(a, b) return a[1] < b[1] end)
  if not has_overlaps(sorted) then return list end
  local merged = { sorted[1] }
  for i = 2, #sorted do
    local last, range = merged[#merged], sorted[i]
    if range[1] <= last[2] + 1 then
      last[2] = max(last[2], range[2])
    else
      merged[#merged + 1] = range
    end
  end
  return merged
end

--- Reads a Range field: a list of first and last bytes, false if the file has none of what is asked
-- for, nil if all of it is to be sent.
---@param text string
---@param size integer  of the file
-- Source: RFC 9110, section 14.
function M.read(text, size)
  local set = text:match "^%s*[bB][yY][tT][eE][sS]%s*=(.*)$"
  if not set then return nil end
  local list, count = {}, 0
  for part in (set .. ","):gmatch "([^,]*)," do
    -- Lists may have empty elements.
    if part:find "%S" then
      count = count + 1
      local range = read_one(part, size)
      if range == nil or count > MOST then return nil end
      if range then list[#list + 1] = range end
    end
  end
  if count == 0 then return nil end
  if #list == 0 then return false end
  return coalesce(list)
end

return M
