--- Runs a scenario again and again, each time with one task cancelled at one of the points at
-- which tasks wait in it, and looks afterwards for what was lost.
local async = require "rille.async"
local errors = require "rille.errors"
local probe = require "rille.core.probe"
local test = require "support.test"

-- Turns of the ready queue after which a scenario that has not ended is taken to be at rest.
-- Scenarios order themselves by sleep(0) and events alone, so no real time passes in them.
local TURNS = 100

-- When the cancellation comes, counted in callbacks from the moment before the task is parked: 0
-- is there and then, so that the wait raises at once; 1 just after it was parked; later ones meet
-- tasks that have been given something meanwhile. `again`: a second one at the task's next wait.
local VARIANTS = {
  { hops = 0 },
  { hops = 1 },
  { hops = 2 },
  { hops = 3 },
  { hops = 0, again = true },
  { hops = 1, again = true },
}

local function after_hops(hops, fn)
  if hops == 0 then return fn() end
  async.call_soon(after_hops, hops - 1, fn)
end

-- What a cancellation may make of a task: nothing, a cancellation, or an error that only says so.
local function is_expected(err)
  if async.is_cancelled(err) then return true end
  if not errors.is(err, "ErrorGroup") then return false end
  for _, inner in ipairs(err.errors) do
    if not is_expected(inner) then return false end
  end
  return true
end

local function describe(err)
  return tostring(err) .. "\n" .. tostring(type(err) == "table" and err.traceback or "")
end

-- Moments that others (processes, mostly) have to answer within, where a scenario waits for them.
local patience = 2

-- True as soon as fn() is; false if it is not even when nothing moves any more. The loop is polled
-- only now and then while tasks are ready, so what is due on it gets a moment of its own.
local function turn_until(fn)
  for _ = 1, patience do
    for _ = 1, TURNS do
      if fn() then return true end
      async.sleep(0)
    end
    async.sleep(0.001)
  end
  return fn()
end

local function is_at_rest(before)
  local now = probe.stats()
  return now.tasks <= before.tasks and now.handles <= before.handles and now.timers <= before.timers
end

-- Runs fn in a task and gives its error if it fails, or says that it hangs.
local function failure_of(fn, ...)
  local task = async.spawn(fn, ...)
  turn_until(function() return task:done() end)
  if not task:done() then
    local stands = task:traceback()
    task:cancel "it hangs"
    async.wait { task }
    return "it hangs:\n" .. stands
  end
  if task:cancelled() then return "it was cancelled" end
  return task:error()
end

-- Runs the scenario with a cancellation at the wait number `point`, or with none. Returns the
-- number of waits, the task that was cancelled with the place where it waited, and what went
-- wrong.
local function run(scenario, point, variant)
  local before = probe.stats()
  local state = scenario.setup and scenario.setup() or {}
  local harness, waits, victim, where, cancels = async.current_task(), 0, nil, "", 0
  local function cancel()
    cancels = cancels + 1
    after_hops(variant.hops, function() victim:cancel "cancelled everywhere" end)
  end

  probe.on_wait(function(task)
    if task == harness then return end
    waits = waits + 1
    if waits == point then
      victim, where = task, task:traceback()
      cancel()
    elseif task == victim and variant.again and cancels < 2 then
      cancel()
    end
  end)
  local root = async.spawn(async.run, scenario.body, state)
  turn_until(function() return root:done() end)
  local problem
  if not root:done() then
    -- Tasks may be stuck because their partner was cancelled, but only if there is nothing for
    -- them.
    if not point then problem = "without a cancellation it does not end:\n" .. root:traceback() end
    if scenario.at_rest then
      local ok, err = pcall(scenario.at_rest, state)
      if not ok then problem = problem or "at rest: " .. describe(err) end
    end
    root:cancel "wound down"
    turn_until(function() return root:done() end)
  end
  probe.on_wait(nil)

  if not root:done() then
    return waits, victim, where, "it cannot be cancelled:\n" .. root:traceback()
  end
  local err = not root:cancelled() and root:error() or nil
  if err ~= nil and not (point and is_expected(err)) then
    problem = problem or "it fails: " .. describe(err)
  end
  root = nil -- luacheck: ignore 311 (it would count among the tasks that are left)
  local failure = failure_of(scenario.check, state, victim)
  if failure ~= nil then problem = problem or "its check fails: " .. describe(failure) end
  if not turn_until(function() return is_at_rest(before) end) then
    problem = problem
      or ("it leaves something behind: %s became %s"):format(
        test.show(before),
        test.show(probe.stats())
      )
  end
  return waits, victim, where, problem
end

local function check_reports()
  for _, report in ipairs(test.reports()) do
    if not is_expected(report.error) then
      error("reported: " .. tostring(report.message) .. ": " .. describe(report.error), 0)
    end
  end
end

--- Fails, naming the point, if cancelling a task of the scenario at any of its waits loses
-- something.
---@param scenario table  `setup()` -> state; `body(state)`, run by async.run, so that what it
-- spawns ends with it; `at_rest(state)`, called when tasks still wait and nothing moves any more,
-- before they are cancelled; `check(state, victim)`, called when all have ended. Either of the
-- last two raises if something is wrong; a check that waits for what was lost is caught as well.
-- `patience`: for how many milliseconds to wait for what is not of this process, 2 by default.
---@return integer  the number of points
return function(scenario)
  patience = scenario.patience or 2
  local points, _, _, problem = run(scenario)
  if problem then error(problem, 0) end
  assert(points > 0, "no task waits in this scenario")
  local reached = 0
  for _, variant in ipairs(VARIANTS) do
    for point = 1, points do
      local _, victim, where, what = run(scenario, point, variant)
      -- A timer that came sooner than in the first run may have left a wait out.
      if victim then reached = reached + 1 end
      if what then
        error(
          ("wait %d of %d, cancelled after %d callbacks%s: %s\nthe task waited here:\n%s"):format(
            point, points, variant.hops, variant.again and ", and again" or "", what, where
          ),
          0
        )
      end
    end
  end
  assert(reached > points * #VARIANTS / 2, "most waits were not reached again")
  check_reports()
  return points
end
