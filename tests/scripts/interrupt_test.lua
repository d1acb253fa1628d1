--- Interrupts each of scripts/*.lua, as Ctrl-C does, when it has printed some of its lines:
-- whatever it does then, it cleans up and ends, without a complaint and with nothing left behind.
local async = require "rille.async"
local fs = require "rille.fs"
local process = require "rille.process"
local test = require "support.test"

-- Lines after which the signal comes.
local AFTER = { 1, 4 }

-- Those that report something by their nature, where a request that fails just then is reported as
-- lost, or where a cancellation is not the result that an assertion wants.
local MAY_COMPLAIN = {
  deadlock_report = true, debug_mode = true, gather_errors = true, rate_limited_client = true,
  task_error = true, testing = true,
}

local function collect(stream)
  local parts = {}
  while true do
    local data = stream:read()
    if not data then return table.concat(parts) end
    parts[#parts + 1] = data
  end
end

-- The script as the executable would run it, but what it prints is seen at once.
local RUNNER = [[
io.stdout:setvbuf "no"
package.path = "scripts/?.lua;" .. package.path
local name = ...
arg = { [-1] = arg[-1], [0] = name }
assert(loadfile(name))()
]]

local function interrupt(name, lines)
  local dir = test.tmpdir()
  local env = process.environ()
  env.TMPDIR, env.RILLE_DEBUG = dir, nil
  local runner = test.write(test.tmpdir() .. "/runner.lua", RUNNER)
  local child = process.spawn {
    test.executable(), runner, "scripts/" .. name .. ".lua",
    env = env, stdin = "null", stdout = "pipe", stderr = "pipe", group = true,
  }
  local errors = async.spawn(collect, child.stderr)
  local printed = {}
  for i = 1, lines do printed[i] = child.stdout:read_line() end
  child:kill "SIGINT"
  printed[#printed + 1] = collect(child.stdout)
  return child:wait(), table.concat(printed, "\n"), errors:await(), dir
end

local ENDS = { SIGINT = true, SIGTERM = true } -- some send themselves a SIGTERM

-- A server whose client was interrupted in the middle may say that it has lost the connection.
local function without_lost_connections(stderr)
  local kept, is_lost = {}, false
  for line in stderr:gmatch "[^\n]*\n" do
    if not line:find "^stack traceback:" and not line:find "^\t" then
      is_lost = line:find "^rille: error in a connection of the server" ~= nil
        and (line:find "broken pipe" or line:find "connection reset") ~= nil
    end
    if not is_lost then kept[#kept + 1] = line end
  end
  return table.concat(kept)
end

local function check(name, lines)
  local status, stdout, stderr, dir = interrupt(name, lines)
  stderr = without_lost_connections(stderr)
  local what = ("after %d lines:\n%s%s"):format(lines, stdout, stderr)
  if not MAY_COMPLAIN[name] then
    test.eq(stderr, "", what)
    assert(status.code == 0 or ENDS[status.signal], what)
  end
  assert(not status.signal or ENDS[status.signal], tostring(status.signal) .. " " .. what)
  test.eq(fs.list(dir), {}, what)
end

for _, file in ipairs(fs.list "scripts") do
  local name = file:match "^(.+)%.lua$"
  if name then
    test("scripts/" .. name .. ".lua can be interrupted", { limit = 3 }, function()
      async.map(AFTER, function(lines) check(name, lines) end)
    end)
  end
end
