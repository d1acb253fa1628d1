-- The test of the tests: what must fail does fail, and the process tells.
local test = require "support.test"

local function run(body)
  return test.script('local async, test = require "rille.async", require "support.test"\n' .. body)
end

-- Runs one test that must fail, and gives what was printed.
local function failing(body)
  local result = run('test("it", function()\n' .. body .. "\nend)")
  test.contains(result.stdout, "not ok 1 - it")
  test.contains(result.stdout, "0 passed, 1 failed")
  test.eq(result.code, 1)
  return result.stdout
end

test("a file whose tests pass says so and ends with 0", function()
  local result = run 'test("a", function() end) test("b", function() async.sleep(0) end)'
  test.eq(result.stdout, "ok 1 - a\nok 2 - b\n2 passed, 0 failed\n")
  test.eq({ result.code, result.stderr }, { 0, "" })
end)

test("the tests after one that failed are still run", function()
  local result = run 'test("a", function() error "oops" end) test("b", function() end)'
  test.contains(result.stdout, "not ok 1 - a")
  test.contains(result.stdout, "script.lua:2: oops")
  test.contains(result.stdout, "ok 2 - b")
  test.contains(result.stdout, "1 passed, 1 failed")
  test.eq(result.code, 1)
end)

test("an error outside of the tests fails the file", function()
  local result = run 'test("a", function() end) error "oops"'
  test.contains(result.stdout, "1 passed, 0 failed")
  test.eq(result.code, 1)
end)

test("a wrong value fails with the difference", function()
  local deep = failing "test.eq({ a = { 1, 2 } }, { a = { 1, 3 } })"
  test.contains(deep, "first difference at .a[2]: expected 3, got 2")
  test.contains(failing "test.eq(1, '1')", 'expected "1", got 1')
  local missing = failing "test.eq({ 1 }, { 1, n = 1 })"
  test.contains(missing, "first difference at .n: expected 1, got nil")
end)

test("an error that does not come fails, and so does another one", function()
  test.contains(failing 'test.raises("OSError", function() end)', "nothing was raised")
  test.contains(failing 'test.raises("OSError", error, "oops", 0)', "got: oops")
  test.contains(failing 'test.raises("other", error, "oops", 0)', "got: oops")
end)

test("a task left asleep fails the test that left it", function()
  test.contains(failing "async.spawn(async.sleep, 1000)", "1 tasks left behind")
end)

test("a handle left open fails the test that left it", function()
  local out = failing 'handle = require("rille.signal").on("SIGUSR1", function() end)'
  test.contains(out, "1 handles left open")
end)

test("a lost error fails the test", function()
  test.contains(failing 'async.spawn(error, "lost", 0) async.sleep(0)', "lost")
end)

test("an error in a callback fails the test", function()
  test.contains(failing 'async.call_soon(error, "lost", 0) async.sleep(0)', "lost")
end)

test("a test that hangs fails at its limit, with the place", function()
  local result = test.script([[
    local async, test = require "rille.async", require "support.test"
    test("it", { limit = 0.005 }, function()
      async.Future():await()
    end)
  ]])
  test.eq(result.code, 1)
  test.contains(result.stdout, "script.lua:3")
end)

test("a test whose task is cancelled fails", function()
  test.contains(failing "async.current_task():cancel() async.sleep(0)", "cancelled")
end)

test("folders of a test are removed after it", function()
  local result = run 'test("it", function() print(test.tmpdir()) end)'
  local dir = result.stdout:match "^(/%S+)\n"
  test.eq(os.execute("test -e " .. dir) == 0, false)
end)

test("a child tells its status, its signal and what it wrote", function()
  local code = 'io.write(io.read "*a", os.getenv "A") io.stderr:write "e" os.exit(3)'
  local result = test.rille({ "-e", code }, { stdin = "in ", env = { A = "env" } })
  test.eq(result, { code = 3, stdout = "in env", stderr = "e" })
  result = test.rille { "-e", 'io.popen("kill -KILL $PPID"):close()' }
  test.eq({ result.code, result.signal }, { nil, 9 })
end)

local function everywhere(scenario)
  return run(([[
    local cancel_everywhere = require "support.cancel_everywhere"
    test("it", function() cancel_everywhere { %s } end)
  ]]):format(scenario))
end

test("cancel_everywhere finds a lock that a cancelled task keeps", function()
  local result = everywhere [[
    setup = function() return { lock = async.Lock() } end,
    body = function(s)
      s.lock:acquire()
      async.sleep(0)
      s.lock:release()
    end,
    check = function(s) test.eq(s.lock:locked(), false) end,
  ]]
  test.eq(result.code, 1)
  test.contains(result.stdout, "cancelled after 0 callbacks")
  test.contains(result.stdout, "expected false, got true")
end)

test("cancel_everywhere finds a check that hangs and an error that does not belong", function()
  test.contains(everywhere([[
    body = function() async.sleep(0) end,
    check = function() async.Future():await() end,
  ]]).stdout, "its check fails: it hangs")
  test.contains(everywhere([[
    body = function() if not pcall(async.sleep, 0) then error "oops" end end,
    check = function() end,
  ]]).stdout, "it fails: ")
end)
