--- Debug mode: reports locks that are taken in an order that can deadlock, and calls that hold the
-- whole loop up.
local task = require "rille.core.task"
local report = require "rille.core.report"
local errors = require "rille.errors"
local state = require "rille.core.debug_state"

local M = {}

-- ---- the order of locks -------------------------------------------------------------------------

local held = setmetatable({}, { __mode = "k" })  -- task -> list of locks
local after = setmetatable({}, { __mode = "k" }) -- lock -> { lock taken while it was held = where }
local told = {}

-- A way from `from` to `to` over locks that were taken one inside the other.
local function reaches(from, to, seen)
  if from == to then return true end
  seen[from] = true
  for nxt in pairs(after[from] or {}) do
    if not seen[nxt] and reaches(nxt, to, seen) then return true end
  end
  return false
end

local function on_acquire(lock)
  local me = task.current()
  local mine, kept = held[me] or {}, {}
  for _, other in ipairs(mine) do
    if other._owner == me and other ~= lock then kept[#kept + 1] = other end
  end
  for _, other in ipairs(kept) do
    local where = task.place(3)
    if reaches(lock, other, {}) and not told[where] then
      told[where] = true
      report.report {
        message = ("locks are taken in an order that can deadlock: %s takes, while it holds one, a "
          .. "second lock that has been held while the first was taken, at %s"):format(me:name(),
          where),
        task = me, traceback = errors._render(errors._trace()),
      }
    end
    after[other] = after[other] or setmetatable({}, { __mode = "k" })
    after[other][lock] = where
  end
  kept[#kept + 1] = lock
  held[me] = kept
end

-- ---- blocking calls -----------------------------------------------------------------------------

local BLOCKING = {
  { os, "execute", "os.execute" }, { io, "popen", "io.popen" }, { io, "read", "io.read" },
  { io, "lines", "io.lines" }, { io, "open", "io.open" },
}
local originals = {}

local function guard(entry)
  local library, name, full = entry[1], entry[2], entry[3]
  local original = library[name]
  if not original then return end
  originals[entry] = original
  library[name] = function(...)
    if task.current() ~= task.outside then
      report.report {
        message = ("%s blocks every task: called by %s at %s"):format(full, task.current():name(),
          task.place(2)),
        task = task.current(), traceback = errors._render(errors._trace()),
      }
    end
    return original(...)
  end
end

--- Switches the checks.
function M.set(on)
  require("rille.async.lock").set_debug(on and on_acquire or nil)
  for _, entry in ipairs(BLOCKING) do
    if on and not originals[entry] then
      guard(entry)
    elseif not on and originals[entry] then
      entry[1][entry[2]] = originals[entry]
      originals[entry] = nil
    end
  end
  state.on = on and true or false
  task.exact_sites = state.on
end

return M
