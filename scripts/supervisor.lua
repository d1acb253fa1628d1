-- Keeps a process going that crashes: starts it again after a pause that grows, and gives up when
-- it crashes too often. An end with 0 is no crash.
local async = require "rille.async"
local process = require "rille.process"
local tempdir = require "lib.tempdir"

local MOST_STARTS = 5
local FIRST_PAUSE = 0.01

local function describe(status)
  return status.signal and "was ended by " .. status.signal or "ended with " .. status.code
end

local function supervise(name, command)
  local pause = FIRST_PAUSE
  for start = 1, MOST_STARTS do
    local status = async.with(process.spawn(command), function(child) return child:wait() end)
    print(("%s, start %d: %s"):format(name, start, describe(status)))
    if status.ok then return end
    if start < MOST_STARTS then async.sleep(pause) end
    pause = pause * 2
  end
  print(name .. " is given up")
end

-- Gets a line further each time, and crashes at the first two.
local FLAKY = [[
  echo x >> progress
  case $(wc -l < progress) in
    1) exit 7 ;;
    2) kill -SEGV $$ ;;
  esac]]

async.with(tempdir(), function(dir)
  supervise("flaky", { "sh", "-c", FLAKY, cwd = dir })
  supervise("broken", { "false" })
end)
