local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local sleep_for_ever = test.sleep_for_ever

-- A resource that logs what is done with it, and whose exit answers `answer`.
local function resource(log, answer)
  return {
    enter = function()
      log "enter"
      return "value"
    end,
    exit = function(_, err)
      log("exit", type(err) == "table" and err.kind or err)
      return answer
    end,
    close = function() log "close" end,
  }
end

test("with enters, runs its function with what enter gave, exits, and gives the results", function()
  local log = test.log()
  local n = select("#", async.with(resource(log), function(value, ...)
    log(value, ...)
    return 1, nil, nil
  end, "a", "b"))
  test.eq(n, 3)
  test.eq(log, { "enter", "value a b", "exit nil" })
end)

test("without enter the resource itself is handed on", function()
  local thing = { exit = function() end }
  async.with(thing, function(value) test.eq(value, thing) end)
end)

test("without exit the resource is closed", function()
  local log = test.log()
  local thing = { close = function(self) log("close", self.name) end, name = "thing" }
  async.with(thing, function() log "body" end)
  test.raises("oops", async.with, thing, function() error "oops" end)
  test.eq(log, { "body", "close thing", "close thing" })
end)

test("enter and exit may come from a metatable", function()
  local log = test.log()
  local Class = { enter = function() log "enter" end, exit = function() log "exit" end }
  Class.__index = Class
  async.with(setmetatable({}, Class), function() end)
  test.eq(log, { "enter", "exit" })
end)

test("exit gets the error, which is raised unchanged", function()
  local log, mine = test.log(), errors.new("OSError", "mine")
  local ok, err = pcall(async.with, resource(log), function() error(mine) end)
  assert(not ok and rawequal(err, mine))
  test.eq(log, { "enter", "exit OSError" })
end)

test("an error that is nil is an error to exit, too", function()
  local seen
  local thing = { exit = function(_, err) seen = err end }
  test.raises("Error", async.with, thing, function() error(nil) end)
  assert(errors.is(seen, "Error"))
end)

test("exit that returns true suppresses the error, and there are no results", function()
  local log = test.log()
  local n = select("#", async.with(resource(log, true), function() error("oops", 0) end))
  test.eq(n, 0)
  test.eq(log, { "enter", "exit oops" })
end)

test("exit that returns anything else but true suppresses nothing", function()
  for _, answer in ipairs { 1, "yes", {} } do
    test.raises("oops", async.with, resource(test.log(), answer), function() error "oops" end)
  end
end)

test("close suppresses nothing, whatever it returns", function()
  local thing = { close = function() return true end }
  test.raises("oops", async.with, thing, function() error "oops" end)
end)

test("exit that returns true for a function that ended well leaves its results", function()
  test.eq(async.with(resource(test.log(), true), function() return "result" end), "result")
end)

test("exit cannot suppress a cancellation", function()
  local log = test.log()
  local task = async.spawn(async.with, resource(log, true), sleep_for_ever)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "enter", "exit Cancelled" })
end)

test("exit may wait while its task is being cancelled", function()
  local log = test.log()
  local task = async.spawn(async.with, {
    exit = function()
      test.turns(3)
      log "exit"
    end,
  }, sleep_for_ever)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "exit" })
end)

test("close may wait while its task is being cancelled", function()
  local log = test.log()
  local task = async.spawn(async.with, {
    close = function()
      test.turns(3)
      log "close"
    end,
  }, sleep_for_ever)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "close" })
end)

test("an error in exit replaces the former one, which becomes its cause", function()
  local former = errors.new("OSError", "former")
  local err = test.raises("TimeoutError", async.with, {
    exit = function() error(errors.new("TimeoutError", "from exit")) end,
  }, function() error(former) end)
  assert(rawequal(err.cause, former))
end)

test("an error in enter is raised, and exit is not called", function()
  local log = test.log()
  test.raises("oops", async.with, {
    enter = function() error "oops" end,
    exit = function() log "exit" end,
  }, function() log "body" end)
  test.eq(log, {})
end)

test("a task cancelled in enter does not exit", function()
  local log = test.log()
  local task = async.spawn(async.with, {
    enter = sleep_for_ever,
    exit = function() log "exit" end,
  }, function() log "body" end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, {})
end)

test("enter may wait", function()
  test.eq(async.with({
    enter = function() return async.sleep(0, "value") end,
    close = function() end,
  }, function(value) return value end), "value")
end)

test("what can be neither exited nor closed is refused at the caller's line", function()
  test.blames_caller("bad argument #1 to 'with'", function() async.with({}, print) end)
  test.blames_caller("bad argument #1 to 'with'", function() async.with(nil, print) end)
  test.blames_caller("bad argument #1 to 'with'", function() async.with(1, print) end)
  test.blames_caller(
    "bad argument #2 to 'with' (function expected, got nil)",
    function() async.with({ close = print }) end
  )
end)
