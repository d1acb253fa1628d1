--- What makes a waiting C function, which gives its error first, one that raises it in its caller.
local task = require "rille.core.task"

local raise = task.raise

local function finish(err, ...)
  if err ~= nil then raise(err) end
  return ...
end

return function(f)
  return function(...) return finish(f(...)) end
end
