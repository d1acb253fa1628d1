-- A process that runs along: its output comes line by line while it is still at work, and it is
-- spoken to in between. Here the shell does sums, one for each line it reads.
local async = require "rille.async"
local process = require "rille.process"

local CALCULATOR = [[
  while read -r a b; do
    if [ "$b" = 0 ]; then echo "cannot divide $a by nothing" >&2; else echo $((a / b)); fi
  done
  echo "goodbye"]]

local calculator = process.spawn {
  "sh", "-c", CALCULATOR,
  stdin = "pipe", stdout = "pipe", stderr = "stdout",
}

async.with(calculator, function()
  local input, output = calculator.stdin, calculator.stdout
  for _, sum in ipairs { "84 2", "1 0", "1000 8" } do
    input:write(sum, "\n")
    print(("%-6s -> %s"):format(sum, output:read_line()))
  end

  input:close()
  for line in output:lines() do print("It says: " .. line) end
  print("It ended with " .. calculator:wait().code)
end)
