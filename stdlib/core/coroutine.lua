--- Coroutines of the script's own inside tasks: a wait in one parks the whole task. It yields a
-- mark to whoever resumed it, and the functions here pass that on outwards until it reaches the
-- scheduler, then the wake-up inwards again.
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local errors = require "rille.errors"
local protect = require "rille.core.protect"

local create, resume, status, yield = coroutine.create, coroutine.resume, coroutine.status,
  coroutine.yield
local isyieldable = coroutine.isyieldable
local relay, is_root, PARKED = core.relay, core.is_root, core.PARKED
local state, is_task = core.state_table, core.is_task
local type, getmetatable, error, unpack = type, getmetatable, error, unpack
local traceback, rawequal = debug.traceback, rawequal
local Cancelled, Unwind = errors._Cancelled, protect.Unwind

local M = { resume = resume, yield = yield, create = create }

-- Coroutines that stand in a wait: for everybody else they are not suspended.
local parked = setmetatable({}, { __mode = "k" })

-- Timeouts and groups that were opened in a coroutine which has yielded to its consumer.
local scopes_of = setmetatable({}, { __mode = "k" })

-- Coroutines whose consumer is inside their scopes: the body of a context stands at its `yield`.
local transparent = setmetatable({}, { __mode = "k" })

--- Makes the timeouts and groups that `co` opens hold for whoever resumes it, too.
function M.share_scopes(co) transparent[co] = true end

local function drop_scopes(ids)
  for _, id in ipairs(ids) do task.scope_cancels[id] = nil end
  core.drop_scopes(unpack(ids))
end

local function keep_scopes(co)
  local phase = status(co)
  if phase ~= "dead" and (phase ~= "suspended" or transparent[co]) then return end
  local ids = { core.suspend_scopes(co) }
  if #ids == 0 then return end
  if phase == "dead" then
    drop_scopes(ids)
    return
  end
  ids.guard = newproxy(true)
  getmetatable(ids.guard).__gc = function() drop_scopes(ids) end
  scopes_of[co] = ids
end

local function bring_scopes(co)
  local ids = scopes_of[co]
  if ids then
    scopes_of[co] = nil
    getmetatable(ids.guard).__gc = nil
    core.resume_scopes(unpack(ids))
  end
end

-- Coroutines that are known to be no task's.
local scripts_own = setmetatable({}, { __mode = "k" })

local function belongs_to_task(co)
  if is_task(co) then return true end
  -- One that has ended may be a task's, and be another one's soon.
  if status(co) ~= "dead" then scripts_own[co] = true end
  return false
end

local pass

local function go_on(co, ...)
  parked[co] = nil
  return pass(co, resume(co, ...))
end

-- Gets what a resume of `co` gave. Not a tail call where the stack is looked at for who waits.
function pass(co, ok, ...)
  if ok and rawequal((...), PARKED) then
    parked[co] = true
    return go_on(co, relay())
  end
  if state[2] then keep_scopes(co) end
  return ok, ...
end

local check_stack

--- From now on `check()` raises an error where a coroutine in a coroutine is one too many.
function M.bound(check) check_stack = check end

local function start(co, ...)
  if check_stack then check_stack() end
  if parked[co] or not scripts_own[co] and belongs_to_task(co) then
    return false, "cannot resume non-suspended coroutine"
  end
  if state[2] then bring_scopes(co) end
  return pass(co, resume(co, ...))
end
M.start = start

local function settle(ok, ...)
  if not ok then
    local e = (...)
    if type(e) == "table" and (getmetatable(e) == Cancelled or getmetatable(e) == Unwind) then
      return protect.caught(e, 1)
    end
  end
  return ok, ...
end

function coroutine.resume(co, ...)
  if type(co) ~= "thread" then return resume(co, ...) end
  return settle(start(co, ...))
end

-- An error leaves the coroutine with the place where it was raised.
local function unwrap(co, ok, ...)
  if ok then return ... end
  local e = (...)
  if type(e) ~= "table" then
    local x = task.extra(task.current())
    if not (x.rethrown and rawequal(x.rethrown.value, e)) then
      x.rethrown = { value = e, trace = { stack = traceback(co, "") .. traceback("", 2) } }
    end
  end
  task.rethrow(e)
end

function coroutine.wrap(fn)
  if type(fn) ~= "function" then
    error("bad argument #1 to 'wrap' (function expected, got " .. type(fn) .. ")", 2)
  end
  local co = create(fn)
  return function(...) return unwrap(co, start(co, ...)) end
end

function coroutine.status(co)
  if parked[co] then return "normal" end
  return status(co)
end

function coroutine.yield(...)
  if is_root() then error("attempt to yield from outside a coroutine", 2) end
  return yield(...)
end

if isyieldable then
  function coroutine.isyieldable() return isyieldable() and not is_root() end
end

for _, fn in ipairs { resume, yield, create, relay } do core.transparent[fn] = true end

-- The coroutine a wrapped or resumed call of `co` stands in, innermost last.
local function inner_of(co)
  for level = 0, 200 do
    local info = debug.getinfo(co, level, "f")
    if not info then return nil end
    if info.func == go_on or info.func == pass then
      local _, inner = debug.getlocal(co, level, 1)
      return inner
    end
  end
end

--- Calls `fn(co)` for a suspended task's coroutine and those nested in it, innermost first.
function M.each_nested(co, fn)
  local chain = {}
  while co do
    chain[#chain + 1] = co
    co = inner_of(co)
  end
  for i = #chain, 1, -1 do
    local r = fn(chain[i])
    if r ~= nil then return r end
  end
end

task.stack_of = function(co)
  local parts = {}
  M.each_nested(co, function(c)
    parts[#parts + 1] = traceback(c, ""):gsub("^%s*stack traceback:", "")
  end)
  return table.concat(parts)
end

return M
