--- What the patterns have in common: checks of their options, which errors count, and clean-up.
local task = require "rille.core.task"
local errors = require "rille.errors"
local check = require "rille.core.check"
local protect = require "rille.core.protect"

local type, getmetatable, ipairs, tostring = type, getmetatable, ipairs, tostring
local Cancelled, Unwind, is_live = errors._Cancelled, protect.Unwind, task.is_live

local M = {}

-- ---- options ------------------------------------------------------------------------------------

--- A number of at least `least`, the default for nil. `option` is its name or, of an argument, its
-- position.
function M.at_least(least, option, value, default, name)
  if value == nil then return default end
  local n = check.number(value, option, name)
  if n < least then check.bad(option, name, ("at least %g expected, got %g"):format(least, n)) end
  return n
end

--- A time in seconds, not negative; infinite means no limit.
function M.seconds(option, value, default, name)
  if value == nil then return default end
  local n = check.number(value, option, name)
  if n < 0 then check.bad(option, name, ("a time of at least 0 s expected, got %g"):format(n)) end
  return n
end

--- A whole number of at least 1; math.huge means no limit.
function M.count(option, value, default, name)
  if value == nil then return default end
  return check.count(value, 1, option, name)
end

--- A function, or something that can be called like one; nil for nil unless it is needed.
function M.callable(option, value, needed, name)
  if value == nil and not needed then return nil end
  return check.callable(value, option, name)
end

--- Which errors are meant: a kind, a list of kinds or a predicate becomes a predicate; nil is all.
function M.errors(option, value, name)
  if value == nil then return nil end
  if check.is_callable(value) then return value end
  if type(value) == "string" then value = { value } end
  if type(value) ~= "table" then
    check.bad(option, name, "a kind of error, a list of them or a function expected, got "
      .. type(value))
  end
  if #value == 0 then check.bad(option, name, "the list of kinds is empty") end
  local kinds = {}
  for i, kind in ipairs(value) do
    if type(kind) ~= "string" then
      check.bad(option, name, ("entry %d: a kind of error expected, got %s"):format(i, type(kind)))
    end
    kinds[kind] = true
  end
  return function(e) return errors.is_error(e) and kinds[e.kind] == true end
end

-- ---- errors -------------------------------------------------------------------------------------

--- True for what only passes through: the running task's own cancellation, also that of a timeout
-- or group around it, and the end of a generator that is closed. It says nothing about the work.
function M.passes(e)
  local meta = getmetatable(e)
  return meta == Unwind or meta == Cancelled and is_live(e)
end

--- Raises the error of a clean-up, with the error that came before as its cause.
function M.replace(e, former)
  if former ~= nil and errors.is_error(e) and e.cause == nil and e ~= former then
    e.cause = former
  end
  task.rethrow(e)
end

--- Text for any value, also for one whose __tostring fails.
function M.text_of(e)
  local ok, text = task.protected(tostring, e)
  return ok and text or "(what cannot be shown)"
end

--- Reports an error that has no caller to go to.
function M.report(message, e)
  task.report { message = message, error = e, task = task.current(),
    traceback = errors.is_error(e) and e.traceback or nil }
end

return M
