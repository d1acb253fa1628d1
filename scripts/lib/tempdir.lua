--- A fresh folder for the time of a block: async.with(tempdir(), function(dir) ... end).
-- It goes with all that is in it, also after an error or a cancellation.
local async = require "rille.async"
local fs = require "rille.fs"

local function remove_all(path)
  if fs.stat(path).type == "directory" then
    for _, name in ipairs(fs.list(path)) do remove_all(path .. "/" .. name) end
  end
  fs.remove(path)
end

return async.context(function(yield)
  local path = os.tmpname() -- makes a file, whose name is then free for a folder
  os.remove(path)
  fs.mkdir(path)
  async.finally(function() yield(path) end, function() remove_all(path) end)
end)
