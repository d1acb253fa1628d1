--- What json.array and json.object have marked: kept apart from rille.json, so that others can see
-- and pass on a mark. A table without a metatable is marked by one of the two metatables here. A
-- script's own metatables stay where they are: a table that has one is marked in `own`.
local setmetatable, getmetatable = setmetatable, debug.getmetatable

local marks = {}

local ARRAY = { __name = "json.array" }
local OBJECT = { __name = "json.object" }
local own = setmetatable({}, { __mode = "k" })

marks.ARRAY, marks.OBJECT, marks.own = ARRAY, OBJECT, own

--- Marks a table as one of both and returns it; a former mark goes.
---@param t table
---@param as table  marks.ARRAY or marks.OBJECT
---@return table t
function marks.set(t, as)
  local meta = getmetatable(t)
  if meta == nil or meta == ARRAY or meta == OBJECT then
    setmetatable(t, as)
  else
    own[t] = as
  end
  return t
end

--- The mark of a table: marks.ARRAY, marks.OBJECT or nil.
---@param t table
---@return table?
function marks.get(t)
  local meta = getmetatable(t)
  if meta == nil or meta == ARRAY or meta == OBJECT then return meta end
  return own[t]
end

return marks
