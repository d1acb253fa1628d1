--- What is to be done once something is garbage. A finalizer runs in the midst of anything, and
-- nothing stops it: code of a script that is not trusted must not run there, nor what that may have
-- tampered with. So it has a turn of its own then.
local task = require "rille.core.task"

local loaded, newproxy, getmetatable, protected = package.loaded, newproxy, getmetatable,
  task.protected

--- Has `fn()` called when nobody holds the guard any more.
---@param fn function
---@return userdata guard
return function(fn)
  local guard = newproxy(true)
  getmetatable(guard).__gc = function()
    -- An error would come up in whoever has made the collector run.
    if loaded["rille.core.sandbox"] then
      protected(task.schedule, nil, fn) -- which may lack the memory
    else
      protected(fn)
    end
  end
  return guard
end
