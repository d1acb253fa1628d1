--- async.catch: `except*` for groups of errors.
local task = require "rille.core.task"
local errors = require "rille.errors"

local Unwind = require("rille.core.protect").Unwind
local unpack, getmetatable = unpack, getmetatable

local function pack(...) return { n = select("#", ...), ... } end

return function(fn, handlers)
  local result = pack(task.protected(fn))
  if result[1] then return unpack(result, 2, result.n) end
  local e = result[2]
  if task.is_live(e) or getmetatable(e) == Unwind then task.rethrow(e) end
  local rest = e
  local group = errors.is(e, "ErrorGroup") and e or errors._group { e }
  local left, raised, results = group, {}, pack()
  local kinds = {}
  for kind in pairs(handlers) do kinds[#kinds + 1] = kind end
  table.sort(kinds)
  local handled = false
  for _, kind in ipairs(kinds) do
    if left then
      local part, others = left:split(kind)
      if part then
        handled = true
        left = others
        local r = pack(task.protected(handlers[kind], part))
        if r[1] then
          results = pack(unpack(r, 2, r.n))
        else
          local he = r[2]
          if task.is_live(he) then task.rethrow(he) end
          raised[#raised + 1] = he
        end
      end
    end
  end
  if not handled then task.rethrow(rest) end
  if #raised > 0 then
    if left then
      for _, x in ipairs(left.errors) do raised[#raised + 1] = x end
    end
    task.rethrow(errors._group(raised))
  end
  if left then task.rethrow(left) end
  return unpack(results, 1, results.n)
end
