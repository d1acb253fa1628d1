--- For calls that need not wait, and yet must not keep all other tasks waiting if somebody makes
-- very many of them in a row.
local core = require "rille.core.scheduler"

local check_wait, give_way = core.check_wait, core.give_way

--- Gives the other tasks their turn. Where waiting is impossible, in a callback say, it does
-- nothing: the call has done its work, and must not fail for that.
---@async
---@return any  nil, or what the wait gave as its error
return function()
  local err = check_wait() -- nothing at all, as a rule
  if type(err) == "string" then return nil end
  return give_way()
end
