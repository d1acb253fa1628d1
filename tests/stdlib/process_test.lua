local process, test = require "rille.process", require "support.test"

test("getenv gives a variable of the environment or nil", function()
  test.eq(process.getenv "PATH", os.getenv "PATH")
  test.eq(process.getenv "RILLE_NO_SUCH_VARIABLE", nil)
end)

test("setenv sets a variable for os.getenv and for children, and nil removes it", function()
  process.setenv("RILLE_TEST_VARIABLE", "a value=with \255")
  test.eq(process.getenv "RILLE_TEST_VARIABLE", "a value=with \255")
  test.eq(os.getenv "RILLE_TEST_VARIABLE", "a value=with \255")
  local pipe = io.popen "printf %s \"$RILLE_TEST_VARIABLE\""
  test.eq(pipe:read "*a", "a value=with \255")
  pipe:close()
  test.eq(process.environ().RILLE_TEST_VARIABLE, "a value=with \255")
  process.setenv("RILLE_TEST_VARIABLE", 12)
  test.eq(os.getenv "RILLE_TEST_VARIABLE", "12")
  process.setenv("RILLE_TEST_VARIABLE", "")
  test.eq(os.getenv "RILLE_TEST_VARIABLE", "")
  process.setenv("RILLE_TEST_VARIABLE", nil)
  test.eq(os.getenv "RILLE_TEST_VARIABLE", nil)
  process.setenv("RILLE_TEST_VARIABLE", nil)
  test.eq(process.environ().RILLE_TEST_VARIABLE, nil)
end)

test("environ is a copy of the whole environment", function()
  local environment = process.environ()
  local count = 0
  for name, value in pairs(environment) do
    count = count + 1
    test.eq(value, os.getenv(name), name)
  end
  assert(count > 1)
  environment.RILLE_TEST_VARIABLE = "mine"
  test.eq(os.getenv "RILLE_TEST_VARIABLE", nil)
end)

test("wrong names and values of variables are bad arguments", function()
  test.blames_caller("bad argument #1 to 'getenv' (string expected, got nil)",
    function() process.getenv() end)
  test.blames_caller("bad argument #1 to 'setenv' ('A=B' is no name of a variable)",
    function() process.setenv("A=B", "") end)
  test.raises("bad argument #1 to 'setenv' %('' is no name", process.setenv, "", "x")
  test.raises("bad argument #1 to 'getenv' %(it contains a NUL byte%)", process.getenv, "A\0B")
  test.raises("bad argument #1 to 'setenv' %(it contains a NUL byte%)", process.setenv, "A\0B", "")
  test.raises("bad argument #2 to 'setenv' %(it contains a NUL byte%)", process.setenv, "A", "\0")
  test.raises("bad argument #2 to 'setenv' %(string expected, got table%)", process.setenv, "A", {})
  test.raises("bad argument #1 to 'setenv' %(string expected, got bool", process.setenv, true, "")
end)

test("pid is the number of this process", function()
  local pipe = io.popen "echo $PPID"
  test.eq(process.pid(), tonumber(pipe:read "*l"))
  pipe:close()
end)

-- exit --------------------------------------------------------------------------------------------

test("exit ends the program with the code, and what follows does not run", function()
  for argument, code in pairs { [""] = 0, ["0"] = 0, ["1"] = 1, ["255"] = 255 } do
    local call = ("require('rille.process').exit(%s) "):format(argument)
    local result = test.script(call .. "print 'not reached'")
    test.eq(result.stdout, "")
    test.eq(result.stderr, "")
    test.eq(result.code, code)
  end
end)

test("exit cancels every task and lets clean-up run", function()
  local result = test.script [[
    local async, process = require "rille.async", require "rille.process"
    local function work(name)
      async.finally(function() async.sleep(1000) end, function()
        async.sleep(0.01)
        print(name .. " cleaned up")
      end)
    end
    async.spawn(work, "first")
    async.spawn(work, "second")
    async.sleep(0)
    async.finally(function() process.exit(3) end, function() print "main cleaned up" end)
  ]]
  test.eq(result.stdout, "main cleaned up\nfirst cleaned up\nsecond cleaned up\n", result.stderr)
  test.eq(result.stderr, "")
  test.eq(result.code, 3)
end)

test("exit works in another task than main", function()
  local result = test.script [[
    local async, process = require "rille.async", require "rille.process"
    async.spawn(function()
      async.finally(function()
        process.exit(4)
        print "not reached"
      end, function() print "cleaned up" end)
    end)
    async.finally(function() async.sleep(1000) end, function() print "main cleaned up" end)
  ]]
  test.eq(result.stdout, "cleaned up\nmain cleaned up\n", result.stderr)
  test.eq(result.code, 4)
end)

test("exit works in a callback", function()
  local result = test.script [[
    local async, process = require "rille.async", require "rille.process"
    async.call_soon(process.exit, 5)
    async.finally(function() async.sleep(1000) end, function() print "cleaned up" end)
  ]]
  test.eq(result.stdout, "cleaned up\n")
  test.eq(result.stderr, "")
  test.eq(result.code, 5)
end)

test("exit works in clean-up, in scopes, in coroutines and in handlers of signals", function()
  for _, where in ipairs {
    "async.finally(function() end, function() process.exit(6) end)",
    "async.timeout(5, function() process.exit(6) end)",
    "async.group(function(g) g:spawn(process.exit, 6) end)",
    "async.group(function(g) g:spawn(async.sleep, 1000) process.exit(6) end)",
    "coroutine.wrap(function() process.exit(6) end)()",
    "async.gather { function() process.exit(6) end, function() async.sleep(1000) end }",
    "for v in async.generator(function(yield) yield(1) process.exit(6) end)() do end",
    "require('rille.signal').on('SIGUSR1', function() process.exit(6) end) "
      .. "os.execute 'kill -USR1 $PPID' async.sleep(1000)",
  } do
    local result = test.script([[
      local async, process = require "rille.async", require "rille.process"
      ]] .. where .. " print 'not reached'")
    test.eq(result.stdout, "", where)
    test.eq(result.stderr, "", where)
    test.eq(result.code, 6, where)
  end
end)

test("pcall does not keep the program from its end", function()
  local result = test.script [[
    local async, process = require "rille.async", require "rille.process"
    print(pcall(process.exit, 8))
    for i = 1, 3 do
      pcall(async.sleep, 1000)
      print(i)
    end
  ]]
  test.matches(result.stdout, "^false\tCancelled: process.exit%(8%)\n")
  test.eq(result.stdout:find("3", 1, true), nil, result.stdout)
  test.eq(result.code, 8)
end)

test("of several exits the last one's code counts", function()
  local result = test.script [[
    local async, process = require "rille.async", require "rille.process"
    async.finally(function() process.exit(1) end, function() process.exit(2) end)
  ]]
  test.eq(result.code, 2)
  test.eq(result.stderr, "")
end)

test("a code that is none is a bad argument, and the program goes on", function()
  local result = test.script [[
    local exit = require("rille.process").exit
    for _, code in ipairs { -1, 256, 1.5, 0/0, 1/0, "x", {}, true } do
      print((select(2, pcall(exit, code))))
    end
  ]]
  local expected = {
    "at least 0 expected, got -1", "at most 255 expected, got 256",
    "whole number expected, got 1.5", "whole number expected, got nan",
    "at most 255 expected, got inf", "number expected, got string", "number expected, got table",
    "number expected, got boolean",
  }
  local i = 0
  for line in result.stdout:gmatch "[^\n]+" do
    i = i + 1
    test.contains(line:lower(), ("bad argument #1 to 'exit' (%s)"):format(expected[i]):lower())
  end
  test.eq(i, #expected)
  test.eq(result.code, 0)
  test.blames_caller("bad argument #1 to 'exit'", function() process.exit(-1) end)
end)

test("a lost error does not change the code of exit, but is reported", function()
  local result = test.script [[
    local async, process = require "rille.async", require "rille.process"
    async.spawn(error, "oops")
    async.sleep(0)
    process.exit(9)
  ]]
  test.contains(result.stderr, "oops")
  test.eq(result.code, 9)
end)

-- title -------------------------------------------------------------------------------------------

test("title is what lists of processes call it, and can be set", function()
  local result = test.script([[
    local process = require "rille.process"
    local before = process.title()
    print(#before > 0, process.title "my title", process.title())
    local file = io.open "/proc/self/cmdline"
    print(file:read("*a"):match "^%Z*")
  ]], { args = { ("x"):rep(100) } })
  test.eq(result.stdout, "true\tmy title\tmy title\nmy title\n", result.stderr)
  test.blames_caller("bad argument #1 to 'title' (string expected, got table)",
    function() require("rille.process").title {} end)
  test.raises("bad argument #1 to 'title' %(it contains a NUL", process.title, "a\0b")
end)
