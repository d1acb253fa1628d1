-- examples/modules/countdown, in whatever host runs this.
local async, errors = require "rille.async", require "rille.errors"
local countdown = require "countdown"

assert(countdown.after(0.001) == 0.001)

-- Both leave other tasks their turn.
local turns = 0
local ticker = async.spawn(function()
  while true do
    turns = turns + 1
    async.sleep(0.001)
  end
end)
assert(countdown.primes(200000) == 17984)
countdown.after(0.01)
assert(turns > 1)
ticker:cancel()

-- A wait that is given up ends at once; its timer is closed.
local ok, e = pcall(async.wait_for, countdown.after, 0.001, 1000)
assert(not ok and errors.is(e, "TimeoutError"))

local function raised(fn, ...)
  local fine, problem = pcall(fn, ...)
  assert(not fine)
  return problem
end
e = raised(countdown.primes, -1)
assert(e.kind == "CountError" and e.code == "ERANGE" and e.message == "no primes below -1")
assert(raised(countdown.after, "x"):find("number expected", 1, true))
assert(tostring(raised(table.sort, { 1, 2 }, function() countdown.after(0) end))
  :find("cannot wait inside table.sort", 1, true))

-- What is under way when the program ends is given up.
async.spawn(countdown.after, 1000)
async.spawn(countdown.primes, 1000)
async.sleep(0)
print "all is well"
