--- Messages of a worker's process: refused, or values that are the same after another journey.
-- Without functions, whose bytecode LuaJIT believes.
local errors = require "rille.errors"
local core = require "rille.core.worker"
require "rille.worker"

return function(bytes)
  if bytes:find("\27LJ", 1, true) then return end
  local ok, e = pcall(function()
    local values = { n = 0 }
    local function take(...) values = { n = select("#", ...), ... } end
    take(core.decode(bytes, {}))
    return values
  end)
  if not ok then
    if not errors.is(e, "WorkerError") and not errors.is(e, "CopyError") then error(e, 0) end
    return
  end
  local values = e
  local encoded = core.encode("value", {}, unpack(values, 1, values.n))
  local again = select("#", core.decode(encoded, {}))
  assert(again == values.n, "another number of values")
  core.modules_of(bytes)
end
