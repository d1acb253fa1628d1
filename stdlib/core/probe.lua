--- For tests: what happens at every point where a task waits.
local core = require "rille.core.scheduler"

local M = {}

--- Calls `fn(task, n)` each time any task is about to wait; `n` counts from 1. nil ends it.
function M.on_wait(fn)
  core.hooks[7] = fn or function() end
  core.probe(fn ~= nil)
end

--- What the runtime has in hand: { tasks =, timers =, handles =, abandoned = }.
function M.stats()
  local tasks, timers, handles, abandoned = core.stats()
  return { tasks = tasks, timers = timers, handles = handles, abandoned = abandoned }
end

return M
