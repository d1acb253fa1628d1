--- pcall and xpcall for a world with cancellation: they catch it, but the same place catches the
-- same cancellation only once, so that neither a retry loop nor log-and-go-on can swallow it.
-- async.pcall and async.xpcall catch it for good.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local explain = require "rille.core.misuse"

local pcall, xpcall = pcall, xpcall
local getmetatable, error, type, rawget, select = getmetatable, error, type, rawget, select
local status = coroutine.status
local running = coroutine.running
local Cancelled = errors._Cancelled
local is_live, revive, acknowledge = task.is_live, task.revive, task.acknowledge
local forget_rethrow = task.forget_rethrow

local M = { pcall = pcall, xpcall = xpcall }

-- Unwinds the body of a generator that is closed; nothing but the generator catches it.
local Unwind = { __name = "Unwind", __tostring = function() return "the generator is closed" end }
M.Unwind = Unwind

local MOST_CATCHES = 64

-- Notes that a place catches `c`; false if it did so before. A place is a function, a line in it
-- and a depth of the stack: LuaJIT gives no more.
local function may_catch(c, fn, line, depth)
  revive(c)
  local n = (c._count or 0) + 1
  c._count = n
  if n > MOST_CATCHES then return false end
  local co = running()
  local places, kept = c._places or {}, {}
  depth = depth or 0 -- a coroutine may have nothing but the protected call in it
  for _, p in ipairs(places) do
    if p.fn == fn and p.line == line and p.depth == depth and p.co == co then return false end
    -- A catch further out lets all deeper places start afresh. Another coroutine is further out if
    -- it has resumed this one, which then is its normal state.
    local outer
    if p.co == co then
      outer = p.depth < depth
    else
      outer = p.co == nil or status(p.co) == "normal"
    end
    if outer then kept[#kept + 1] = p end
  end
  kept[#kept + 1] = { fn = fn, line = line, depth = depth, co = co }
  c._places = kept
  return true
end

-- A protected call at `level` above has caught a cancellation or an unwinding.
local function caught(e, level)
  if getmetatable(e) == Unwind then error(e, 0) end
  if is_live(e) and not may_catch(e, core.site(level + 1)) then error(e, 0) end
  return false, e
end
M.caught = caught

local function after(ok, ...)
  if not ok then
    forget_rethrow()
    local e = (...)
    if type(e) == "table" then
      local meta = getmetatable(e)
      if meta == Cancelled or meta == Unwind then return caught(e, 1) end
    else
      return false, explain(e), select(2, ...)
    end
  end
  return ok, ...
end

--- Lua's own, but the same place catches a cancellation only once: see docs/guide.md.
function _G.pcall(...) return after(pcall(...)) end

-- An interruption is raised in a hook of LuaJIT's, and while its handler runs there no other comes:
-- one that does not end could not be stopped. So it has its turn when the stack has unwound.
local function is_raised_in_hook(e) return rawget(e, "_in_hook") end

local wrapped_xpcall

local function after_xpcall(handler, ok, ...)
  if not ok then
    forget_rethrow()
    local e = (...)
    if type(e) == "table" and is_raised_in_hook(e) then
      e._in_hook = nil
      return false, handler(e)
    end
    if type(e) == "table" and (getmetatable(e) == Unwind
        or getmetatable(e) == Cancelled and e._through) then
      e._through = nil
      error(e, 0)
    end
  end
  return ok, ...
end

--- Lua's own with further arguments for `fn`; of a cancellation it catches what pcall does.
function wrapped_xpcall(fn, handler, ...)
  return after_xpcall(handler, xpcall(fn, function(e)
    if type(e) == "table" then
      if is_raised_in_hook(e) then return e end
      local meta = getmetatable(e)
      if meta == Unwind then return e end
      -- The handler runs before the stack unwinds, so this is decided here.
      if meta == Cancelled and is_live(e) and not may_catch(e, core.site(0, wrapped_xpcall)) then
        e._through = true
        return e
      end
    end
    return handler(explain(e))
  end, ...))
end
_G.xpcall = wrapped_xpcall

-- ---- async.pcall --------------------------------------------------------------------------------

local function after_acknowledging(ok, ...)
  if not ok then
    forget_rethrow()
    local e = (...)
    if type(e) == "table" then
      local meta = getmetatable(e)
      if meta == Unwind then error(e, 0) end
      if meta == Cancelled and is_live(e) then acknowledge(e) end
    else
      return false, explain(e), select(2, ...)
    end
  end
  return ok, ...
end

--- Lua's pcall that also catches a cancellation, and acknowledges it: waiting works again.
---@param fn function
---@param ... any  for `fn`
---@return boolean ok
---@return ...  the results, or the error
-- Source: asyncio's `except CancelledError`.
function M.acknowledging_pcall(fn, ...) return after_acknowledging(pcall(fn, ...)) end

local function after_acknowledging_xpcall(handler, ok, ...)
  local e = (...)
  if not ok and type(e) == "table" and is_raised_in_hook(e) then
    e._in_hook = nil
    return false, handler(e)
  end
  return after_acknowledging(ok, ...)
end

--- Like async.pcall, with a handler, which sees the error where it was raised.
---@param fn function
---@param handler fun(err: any): any  what it returns is given in place of the error
---@param ... any  for `fn`
---@return boolean ok
---@return ...  the results, or what the handler returned
-- Source: Lua's xpcall.
function M.acknowledging_xpcall(fn, handler, ...)
  return after_acknowledging_xpcall(handler, xpcall(fn, function(e)
    if type(e) == "table" then
      if is_raised_in_hook(e) then return e end
      local meta = getmetatable(e)
      if meta == Unwind then return e end
      if meta == Cancelled and is_live(e) then acknowledge(e) end
    end
    return handler(explain(e))
  end, ...))
end

for _, fn in ipairs { pcall, xpcall, error } do core.transparent[fn] = true end

return M
