-- A program that is one stage of a pipeline: it reads lines from its standard input as they come,
-- puts them out with their numbers, and ends quietly when nobody reads any more. Started without
-- an argument it shows itself at work, between two other programs.
local errors = require "rille.errors"
local process = require "rille.process"
local stdio = require "rille.stdio"

local function filter()
  local number = 0
  for line in stdio.stdin:lines() do
    number = number + 1
    stdio.stdout:write(("%3d: %s\n"):format(number, line))
  end
end

local function show()
  local first = 0
  while arg[first - 1] do first = first - 1 end
  local executable, script = arg[first], arg[0]

  local pipeline = 'seq 100 100 1000000 | "$@" filter | head -n 3'
  io.write(process.run({ "sh", "-c", pipeline, "sh", executable, script, check = true }).stdout)

  local result = process.run { executable, script, "filter", input = "one\ntwo, without an end" }
  print(result.stdout .. "It ended with " .. result.code)
end

if arg[1] == "filter" then
  local ok, err = pcall(filter)
  if not ok and not (errors.is(err, "OSError") and err.code == "EPIPE") then error(err, 0) end
else
  show()
end
