--- What makes a waiting C function, which gives its error first, one that raises it in its caller.
local task = require "rille.core.task"

local raise = task.raise

local function finish(err, ...)
  if err ~= nil then raise(err) end
  return ...
end

-- Lua's `bad argument #1 to 'connect'` takes the name from the call: so there has to be one.
local TEMPLATE = "local lib, finish = ... return function(...) return finish(lib.%s(...)) end"

return function(f, name)
  if name:find "^[%a_][%w_]*$" then
    local make = loadstring(TEMPLATE:format(name), "=rille/core/wrap.lua")
    if make then return make({ [name] = f }, finish) end
  end
  return function(...) return finish(f(...)) end
end
