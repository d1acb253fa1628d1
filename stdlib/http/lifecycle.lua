--- The beginning and the end of applications: contexts, what is called at start-up and shut-down.
local task = require "rille.core.task"
local errors = require "rille.errors"
local xpcall = require("rille.core.protect").xpcall

local keep_trace, rethrow = task.keep_trace, task.rethrow
local ipairs, type = ipairs, type

local M = {}

-- Runs one step after another, whatever becomes of those before; then raises what went wrong: an
-- error as it is, several as an ErrorGroup.
local function run_all(steps)
  local failed = {}
  for i = 1, #steps do
    local ok, e = xpcall(steps[i][1], keep_trace, steps[i][2])
    if not ok then failed[#failed + 1] = e end
  end
  if #failed == 1 then rethrow(failed[1]) end
  if #failed > 1 then error(errors._group(failed), 0) end
end

local function check_context(context)
  local t = type(context)
  if (t == "table" or t == "userdata") and (context.exit or context.close) then return end
  errors._raise("InvalidStateError", "cleanup_ctx: what can be entered and left expected, as "
    .. "async.context makes it, got " .. (context == nil and "nil" or t))
end

--- Begins an application and what is mounted in it.
---@param state_of fun(app): table
---@param entered table  gets the contexts that were entered
-- Source: aiohttp's Application: contexts in their order, then on_startup.
function M.start(state_of, app, entered)
  local state = state_of(app)
  for _, factory in ipairs(state.contexts) do
    local context = factory(app)
    check_context(context)
    if context.enter then context:enter() end
    entered[#entered + 1] = context
  end
  for _, fn in ipairs(state.on_startup) do fn(app) end
  for _, mount in ipairs(state.mounted) do M.start(state_of, mount.app, entered) end
end

--- Calls what is to be called when the server begins to close.
function M.shut_down(state_of, app)
  local steps = {}
  local function collect(one)
    local state = state_of(one)
    for _, fn in ipairs(state.on_shutdown) do steps[#steps + 1] = { fn, one } end
    for _, mount in ipairs(state.mounted) do collect(mount.app) end
  end
  collect(app)
  run_all(steps)
end

local function leave(context)
  if context.exit then
    context:exit()
  else
    context:close()
  end
end

--- Leaves contexts, the last one first.
function M.leave(entered)
  local steps = {}
  for i = #entered, 1, -1 do steps[#steps + 1] = { leave, entered[i] } end
  run_all(steps)
end

return M
