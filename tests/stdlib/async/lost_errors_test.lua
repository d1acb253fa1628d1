local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

test("an error that nobody took is on stderr with its traceback, and the status is 1", function()
  local result = test.script [[
    local async = require "rille.async"
    local function culprit() error "oops" end
    lost = async.spawn(function()
      culprit()
      return nil
    end)
    async.sleep(0)
    print "end"
  ]]
  test.eq(result.code, 1)
  test.eq(result.stdout, "end\n")
  test.contains(result.stderr, "script.lua:2: oops")
  test.contains(result.stderr, "culprit")
end)

test("an error that nobody took is reported when its task is collected", function()
  local result = test.script [[
    local async = require "rille.async"
    async.spawn(error, "oops", 0)
    async.sleep(0)
    collectgarbage()
    collectgarbage()
    async.sleep(0)
    io.stderr:write "after the collection\n"
  ]]
  test.eq(result.code, 1)
  test.matches(result.stderr, "oops.*after the collection")
end)

test("the report of a lost error tells where its task was spawned", function()
  local result = test.script(table.concat({
    'local async = require "rille.async"',
    "local function body()",
    '  error "oops"',
    "end",
    "task = async.spawn(body)",
    "async.sleep(0)",
  }, "\n"))
  test.contains(result.stderr, "script.lua:3: oops")
  test.contains(result.stderr, "script.lua:5")
end)

test("each of several lost errors tells where its own task was spawned", function()
  local result = test.script(table.concat({
    'local async = require "rille.async"',
    'local function body() error("oops", 0) end',
    'local function other() error("oops", 0) end',
    "a = async.spawn(body)",
    "b = async.spawn(body)",
    "c = async.spawn(other)",
    "async.sleep(0)",
  }, "\n"))
  for line = 4, 6 do test.matches(result.stderr, "script%.lua:" .. line .. "\n") end
end)

test("a lost error is reported once", function()
  async.spawn(error, "oops", 0)
  async.sleep(0)
  test.eq(#test.reports(), 1)
  test.eq(#test.reports(), 0)
end)

test("the report of a lost error has message, error, task and traceback", function()
  local function body() error "oops" end
  async.spawn(body):set_name "the lost one"
  async.sleep(0)
  local reports = test.reports()
  test.eq(type(reports[1].message), "string")
  test.contains(reports[1].error, "oops")
  test.eq(reports[1].task:name(), "the lost one")
  test.contains(reports[1].traceback, "lost_errors_test.lua:")
end)

for name, take in pairs {
  await = function(task) pcall(task.await, task) end,
  result = function(task)
    async.wait { task }
    pcall(task.result, task)
  end,
  error = function(task)
    async.wait { task }
    task:error()
  end,
  gather = function(task) pcall(async.gather, { task }) end,
  wait_for = function(task) pcall(async.wait_for, task, 1000) end,
  shield = function(task) pcall(async.shield, task) end,
} do
  test("an error that " .. name .. " took is not lost", function()
    take(async.spawn(error, "oops", 0))
    test.eq(test.reports(), {})
  end)
end

test("an error that was only waited for with wait is lost", function()
  async.wait { async.spawn(error, "oops", 0) }
  test.eq(#test.reports(), 1)
end)

test("an error of the task waited for is reported when its waiter ends cancelled", function()
  local inner = async.spawn(async.finally, function() async.sleep(1000) end, function()
    error("in the clean-up", 0)
  end)
  local outer = async.spawn(inner.await, inner)
  test.turns(2)
  outer:cancel()
  async.wait { outer }
  assert(outer:cancelled())
  inner, outer = nil, nil -- luacheck: ignore 311
  local reports = test.reports()
  test.eq(#reports, 1)
  test.eq(reports[1].error, "in the clean-up")
end)

test("a cancelled task is not reported", function()
  local task = async.spawn(async.sleep, 1000)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  task = nil -- luacheck: ignore 311
  test.eq(test.reports(), {})
end)

test("a lost error does not end the program before its end", function()
  local result = test.script [[
    local async = require "rille.async"
    async.spawn(error, "oops", 0)
    for i = 1, 3 do async.sleep(0) end
    print "end"
  ]]
  test.eq(result.stdout, "end\n")
  test.eq(result.code, 1)
end)

test("an exception handler that takes a lost error over keeps stderr empty", function()
  local result = test.script [[
    local async = require "rille.async"
    async.set_exception_handler(function(report) print(report.error) end)
    async.spawn(error, "oops", 0)
    async.sleep(0)
  ]]
  test.eq(result.stdout, "oops\n")
  test.eq(result.stderr, "")
end)

test("a traceback tells where the error was raised, and where each task waited", function()
  local function raiser()
    async.sleep(0)
    error(errors.new("OSError", "oops"))
  end
  local raised_at = debug.getinfo(raiser, "S").linedefined + 2
  local function middle()
    local task = async.spawn(raiser)
    task:await()
    return nil
  end
  local waited_at = debug.getinfo(middle, "S").linedefined + 2
  local task = async.spawn(middle)
  local place = test.here(1)
  local _, err = pcall(function() task:await() end)
  test.contains(err.traceback, "lost_errors_test.lua:" .. raised_at .. ":")
  test.contains(err.traceback, "lost_errors_test.lua:" .. waited_at .. ":")
  test.contains(err.traceback, place .. ":")
end)

test("a failing script's report goes across tasks, too, for plain errors", function()
  local result = test.script(table.concat({
    'local async = require "rille.async"',
    "local function raiser()",
    "  async.sleep(0)",
    '  error "oops"',
    "end",
    "local function middle()",
    "  async.spawn(raiser):await()",
    "  return nil",
    "end",
    "async.spawn(middle):await()",
    "print 'not reached'",
  }, "\n"))
  test.eq(result.code, 1)
  test.eq(result.stdout, "")
  test.contains(result.stderr, "script.lua:4: oops")
  test.contains(result.stderr, "script.lua:7:")
  test.contains(result.stderr, "script.lua:10:")
end)
