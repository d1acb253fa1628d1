--- Pools of threads, each with an interpreter and a loop of its own.
local core = require "rille.core.worker"
local scheduler = require "rille.core.scheduler"
local codec = require "rille.core.worker_codec"
local task = require "rille.core.task"
local report = require "rille.core.report"
local main = require "rille.core.main"

local check_wait = scheduler.check_wait
local modules = codec.package

local Threads = {}
Threads.__index = Threads

-- What the wait for a job gave: see bindings/worker_pool.cpp.
local function settle(state, ...)
  if state == true then return ... end
  if state == false then codec.rethrow(...) end
  if (...) then codec.rethrow(codec.unpack(state)) end
  return codec.unpack(state)
end

function Threads:run(fn, ...)
  -- Not to start a job for nobody.
  local err = check_wait()
  if err ~= nil then task.raise(err) end
  local path, cpath = modules.path, modules.cpath
  if path ~= self._path or cpath ~= self._cpath then
    self._path, self._cpath = path, cpath
    self._core:set_paths(path, cpath)
  end
  return settle(self._core:run(fn, ...))
end

function Threads:close() self._core:close() end

report.describe(Threads.run, function(self)
  return ("a worker of a pool of %d threads"):format(self._size)
end)
report.describe(Threads.close, function() return "the end of a pool's threads" end)

-- Errors that tasks of workers have lost count as this program's.
main.at_end(function() report.lost = report.lost + core.lost() end)

return function(size, max_jobs, initializer)
  return setmetatable({ _core = core.pool(size, max_jobs or 0, initializer), _size = size },
    Threads)
end
