local test = require "support.test"

local modes = {
  ["--debug"] = { options = { "--debug" } },
  ["RILLE_DEBUG=1"] = { env = { RILLE_DEBUG = "1" } },
}

for name, opts in pairs(modes) do
  test(name .. " switches debug mode on", function()
    local result = test.script('print(require("rille.async").debug())', opts)
    test.eq(result.stdout, "true\n")
    test.eq(result.code, 0)
  end)
end

test("debug mode is off by default", function()
  test.eq(test.script('print(require("rille.async").debug())').stdout, "false\n")
end)

local function debug_script(lines, opts)
  return test.script(table.concat(lines, "\n"), opts or modes["--debug"])
end

local SLOW = {
  'local async = require "rille.async"',
  "async.slow_callback_duration = 0.02",
  "local function hog()",
  "  local start = os.clock()",
  "  while os.clock() - start < 0.1 do end",
  "  async.sleep(0)",
  "end",
  "local task = async.spawn(hog)",
  'task:set_name "the hog"',
  "task:await()",
}

test("debug mode reports a task that held the loop too long, with where", function()
  local result = debug_script(SLOW)
  test.eq(result.code, 0)
  test.contains(result.stderr, "the hog")
  test.matches(result.stderr, "script%.lua:[3-7]")
end)

test("without debug mode nothing is said of a task that held the loop", function()
  test.eq(debug_script(SLOW, {}).stderr, "")
end)

local PENDING = {
  'local async = require "rille.async"',
  "local function forget()",
  "  async.spawn(function()",
  "    async.Future():await()",
  '  end):set_name "the forgotten"',
  "end",
  "forget()",
  "async.sleep(0)",
  "collectgarbage()",
  "collectgarbage()",
  "async.sleep(0.001)",
  'print "end"',
}

test("debug mode reports a task that was destroyed while it was pending, with where", function()
  local result = debug_script(PENDING)
  test.eq(result.stdout, "end\n")
  test.contains(result.stderr, "the forgotten")
  test.contains(result.stderr, "script.lua:4")
end)

test("without debug mode nothing is said of a task that was destroyed", function()
  local result = debug_script(PENDING, {})
  test.eq({ result.stdout, result.stderr, result.code }, { "end\n", "", 0 })
end)

test("debug mode reports errors that were never taken", function()
  local result = debug_script {
    'local async = require "rille.async"',
    'task = async.spawn(function() error "oops" end)',
    "async.sleep(0)",
  }
  test.eq(result.code, 1)
  test.contains(result.stderr, "script.lua:2: oops")
end)

local ORDER = {
  'local async = require "rille.async"',
  "local a, b = async.Lock(), async.Lock()",
  "local function take(first, second)",
  "  first:acquire()",
  "  second:acquire()",
  "  second:release()",
  "  first:release()",
  "end",
  "async.spawn(take, a, b):await()",
  "async.spawn(take, b, a):await()",
}

test("debug mode reports locks taken in an order that can deadlock, with where", function()
  local result = debug_script(ORDER)
  test.eq(result.code, 0)
  test.contains(result.stderr:lower(), "lock")
  test.contains(result.stderr, "script.lua:5")
end)

test("debug mode says nothing of locks taken in one order", function()
  local lines = {}
  for i, line in ipairs(ORDER) do lines[i] = line end
  lines[#lines] = "async.spawn(take, a, b):await()"
  test.eq(debug_script(lines).stderr, "")
end)

test("debug mode reports blocking calls made from a task, with where", function()
  local result = debug_script {
    'local async = require "rille.async"',
    "async.sleep(0)",
    'os.execute "true"',
    'io.popen("true"):close()',
  }
  test.eq(result.code, 0)
  test.contains(result.stderr, "execute")
  test.contains(result.stderr, "script.lua:3")
  test.contains(result.stderr, "popen")
  test.contains(result.stderr, "script.lua:4")
end)

test("debug mode can be switched on by the script", function()
  local lines = { 'require("rille.async").set_debug(true)' }
  for _, line in ipairs(SLOW) do lines[#lines + 1] = line end
  test.contains(debug_script(lines, {}).stderr, "the hog")
end)

test("debug mode keeps quiet about a program without fault", function()
  local result = debug_script {
    'local async = require "rille.async"',
    "local queue = async.Queue(2)",
    "local function produce() for i = 1, 5 do queue:put(i) end queue:shutdown() end",
    "async.group(function(g)",
    "  g:spawn(produce)",
    "  for item in queue:iter() do print(item) end",
    "end)",
    "async.wait_for(async.sleep, 1, 0.001)",
    "print(pcall(async.wait_for, async.sleep, 0.001, 1))",
  }
  test.eq(result.stderr, "")
  test.eq(result.code, 0)
end)
