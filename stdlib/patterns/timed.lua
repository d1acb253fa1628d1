--- How long calls take.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local check = require "rille.core.check"
local support = require "rille.patterns.support"

local time, protected, rethrow = core.time, task.protected, task.rethrow
local type = type

local function finish(sink, start, ok, ...)
  local e = nil
  if not ok then e = (...) end
  local done, worse = protected(sink, time() - start, e)
  if not done then support.replace(worse, e) end
  if ok then return ... end
  rethrow(e)
end

-- Functions have no names, but a place.
local function printer(fn)
  local what = "a call"
  if type(fn) == "function" then
    local info = debug.getinfo(fn, "S")
    if info.what ~= "C" then what = ("%s:%d"):format(info.short_src, info.linedefined) end
  end
  return function(seconds, e)
    print(("%s %s %.3f s"):format(what, e == nil and "took" or "failed after", seconds))
  end
end

--- Makes a function that does what `fn` does and tells how long each call took.
---@param fn function
---@param sink? fun(seconds: number, err: any)  called when `fn` has ended, with its error if it
-- raised one; by default prints a line
---@return function
-- Errors: those of `fn`, as they were; one of `sink` replaces them, with the former as its `cause`.
return function(fn, sink)
  check.callable(fn, 1, "timed")
  if sink == nil then
    sink = printer(fn)
  else
    check.callable(sink, 2, "timed")
  end
  return function(...) return finish(sink, time(), protected(fn, ...)) end
end
