--- Pools of processes.
local errors = require "rille.errors"

return function()
  errors._raise("WorkerError", "Pool: pools of processes are not there yet")
end
