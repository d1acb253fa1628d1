-- Many processes, but only so many at once; the results come in the order of the list.
local async = require "rille.async"
local process = require "rille.process"

local AT_ONCE = 4
local NUMBERS = { 91, 97, 1001, 7919, 65536, 123456, 9999991, 600851475143 }

local function factors_of(number)
  local result = process.run { "factor", number, check = true }
  return result.stdout:match ": (.*)\n"
end

for i, factors in ipairs(async.map(NUMBERS, factors_of, { limit = AT_ONCE })) do
  print(("%.0f = %s"):format(NUMBERS[i], factors:gsub(" ", " * ")))
end
