--- A fresh folder for the time of a block: async.with(tempdir(), function(dir) ... end).
-- It goes with all that is in it, also after an error or a cancellation.
local async = require "rille.async"
local fs = require "rille.fs"

return async.context(function(yield)
  local path = fs.mkdtemp "rille-script-"
  async.finally(function()
    yield(path)
  end, function()
    fs.remove(path, { recursive = true })
  end)
end)
