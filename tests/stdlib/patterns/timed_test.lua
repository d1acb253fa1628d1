local async, test = require "rille.async", require "support.test"
local timed = require("rille.patterns").timed

test("the function does what it did, and its sink is told the seconds", function()
  local seconds, count
  local fn = timed(function(...) return ... end, function(...)
    seconds, count = ..., select("#", ...)
  end)
  test.eq({ fn("a", nil, "c") }, { "a", nil, "c" })
  test.eq(select("#", fn(nil, nil)), 2)
  assert(type(seconds) == "number" and seconds >= 0)
  test.eq(count, 2)
end)

test("waiting counts", function()
  local seconds
  timed(function() async.sleep(0.002) end, function(s) seconds = s end)()
  assert(seconds >= 0.002, seconds)
end)

test("a failure is told to the sink and raised as it was", function()
  local log = test.log()
  local fn = timed(function() error("broken", 0) end, function(_, e) log(e) end)
  test.raises("^broken$", fn)
  test.eq(log, { "broken" })
end)

test("a cancellation is told to the sink and goes on", function()
  local told
  local task = async.spawn(timed(function() async.sleep(1000) end, function(_, e) told = e end))
  async.sleep(0)
  task:cancel()
  async.wait { task }
  test.eq({ task:cancelled(), async.is_cancelled(told) }, { true, true })
end)

test("an error of the sink has the function's as its cause", function()
  local errors = require "rille.errors"
  local fn = timed(function() error("inner", 0) end, function()
    error(errors.new("Sink", "s"), 0)
  end)
  local err = test.raises("Sink", fn)
  test.eq(err.cause, "inner")
end)

test("without a sink a line names the function's place", function()
  local result = test.script [[
    local patterns = require "rille.patterns"
    local work = patterns.timed(function(...) return ... end)
    assert(work(7) == 7)
    pcall(patterns.timed(function() error "no" end))
    patterns.timed(tostring)(1)
  ]]
  test.eq(result.code, 0, result.stderr)
  test.matches(result.stdout, "^[^\n]*script%.lua:2 took 0%.%d%d%d s\n"
    .. "[^\n]*script%.lua:4 failed after 0%.%d%d%d s\na call took 0%.%d%d%d s\n$")
end)

test("a wrong argument is an error at the caller's line", function()
  test.blames_caller("bad argument #1 to 'timed' (function expected, got nil)",
    function() timed() end)
  test.blames_caller("bad argument #2 to 'timed' (function expected, got string)",
    function() timed(print, "name") end)
end)
