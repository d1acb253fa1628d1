-- The executable as a shell sees it: options, arguments, statuses, signals, tracebacks.
local test = require "support.test"

local SIGINT, SIGKILL, SIGTERM = 2, 9, 15

local function lines(list) return table.concat(list, "\n") .. "\n" end

-- Where a script comes from ---------------------------------------------------------------------

test("a script file is run and the status is 0 when it ends", function()
  local result = test.script 'print "hello"'
  test.eq({ result.code, result.stdout, result.stderr }, { 0, "hello\n", "" })
end)

test("-e runs its code", function()
  local result = test.rille { "-e", "print(1 + 1, ...)" }
  test.eq({ result.code, result.stdout, result.stderr }, { 0, "2\n", "" })
end)

test("-e may wait", function()
  local result = test.rille { "-e", 'print(require("rille.async").sleep(0.001, "slept"))' }
  test.eq(result.stdout, "slept\n")
end)

test("- runs what comes from stdin", function()
  local result = test.rille({ "-" }, { stdin = 'print("from stdin", ...)' })
  test.eq({ result.code, result.stdout }, { 0, "from stdin\n" })
end)

test("without a script and not in a terminal, stdin is the script", function()
  local result = test.rille({}, { stdin = 'print "from stdin"' })
  test.eq({ result.code, result.stdout }, { 0, "from stdin\n" })
end)

test("an empty script is a script", function()
  test.eq(test.script("").code, 0)
  test.eq(test.rille({ "-" }).code, 0)
end)

test("the first line of a script may name its interpreter", function()
  local code = 'print(debug.getinfo(1, "l").currentline)'
  local result = test.script(lines { "#!/usr/bin/env rille", code })
  test.eq({ result.code, result.stdout }, { 0, "2\n" })
end)

-- Arguments -------------------------------------------------------------------------------------

test("arg and ... are as in the stock lua", function()
  local code = "print(#arg, arg[1], arg[2], arg[0], select('#', ...), ...)"
  local result = test.script(code, { args = { "a", "b c" } })
  test.eq(result.stdout, ("2\ta\tb c\t%s\t2\ta\tb c\n"):format(result.path))
end)

test("negative indexes of arg hold the executable and its options", function()
  local result = test.script("print(arg[-2], arg[-1])", { options = { "--debug" } })
  test.eq(result.stdout, test.executable() .. "\t--debug\n")
end)

test("options after the script's name are the script's", function()
  local args = { "--version", "-e", "x", "--nonsense", "--", "-" }
  local result = test.script("print(...)", { args = args })
  test.eq({ result.code, result.stdout }, { 0, "--version\t-e\tx\t--nonsense\t--\t-\n" })
end)

test("arguments of a script from stdin follow the -", function()
  local result = test.rille({ "-", "a", "--version" }, { stdin = "print(arg[0], ...)" })
  test.eq(result.stdout, "-\ta\t--version\n")
end)

test("an option's value may stand behind it, and is not the script", function()
  local path = test.tmpdir() .. "/script.lua"
  require("rille.fs").write_file(path, "print('ran', ...)")
  local result = test.rille { "--memory-limit", "100000000", "--slice-limit", "9", path, "x" }
  test.eq({ result.code, result.stdout, result.stderr }, { 0, "ran\tx\n", "" })
  test.eq(test.rille({ "--execute", "print(1)" }).stdout, "1\n")
end)

test("empty arguments and odd bytes arrive as they were given", function()
  local code = "print(#arg, (...) == '', select(2, ...))"
  local result = test.script(code, { args = { "", "\255\n'\"" } })
  test.eq(result.stdout, "2\ttrue\t\255\n'\"\n")
end)

test("the script's own folder is on package.path", function()
  local dir = test.tmpdir()
  test.write(dir .. "/neighbour.lua", 'return "the neighbour"')
  test.write(dir .. "/main.lua", 'print(require "neighbour")')
  test.eq(test.rille({ dir .. "/main.lua" }).stdout, "the neighbour\n")
  test.eq(test.rille({ "main.lua" }, { cwd = dir }).stdout, "the neighbour\n")
  os.execute("mkdir '" .. dir .. "/sub'")
  test.eq(test.rille({ "../main.lua" }, { cwd = dir .. "/sub" }).stdout, "the neighbour\n")
end)

-- Options ---------------------------------------------------------------------------------------

test("--version prints the version", function()
  local result = test.rille { "--version" }
  local version = test.rille({ "-e", "io.write(rille.version)" }).stdout
  test.eq({ result.code, result.stderr }, { 0, "" })
  test.contains(result.stdout, version)
  test.matches(result.stdout:lower(), "^rille")
end)

test("--help prints how to use it, with every option", function()
  local result = test.rille { "--help" }
  test.eq({ result.code, result.stderr }, { 0, "" })
  for _, option in ipairs { "-e", "--debug", "--version", "--help", "script" } do
    test.contains(result.stdout, option)
  end
end)

test("an unknown option is named, with status 2", function()
  local result = test.rille { "--nonsense" }
  test.eq({ result.code, result.stdout }, { 2, "" })
  test.contains(result.stderr, "nonsense")
  result = test.rille { "-x" }
  test.eq(result.code, 2)
  test.contains(result.stderr, "x")
end)

test("an unknown option before a script is named, and the script does not run", function()
  local result = test.script('print "ran"', { options = { "--debgu" } })
  test.eq({ result.code, result.stdout }, { 2, "" })
  test.contains(result.stderr, "debgu")
end)

test("-e without code is wrong usage", function()
  local result = test.rille { "-e" }
  test.eq({ result.code, result.stdout }, { 2, "" })
  test.matches(result.stderr, "%f[%w]e%f[%W]")
end)

-- Statuses --------------------------------------------------------------------------------------

test("a script that cannot be read is status 1, and is named", function()
  local result = test.rille { "/no/such/script.lua" }
  test.eq({ result.code, result.stdout }, { 1, "" })
  test.contains(result.stderr, "/no/such/script.lua")
  test.contains(result.stderr:lower(), "no such file")
end)

test("a folder is no script", function()
  local dir = test.tmpdir()
  local result = test.rille { dir }
  test.eq(result.code, 1)
  test.contains(result.stderr, dir)
end)

test("a script that does not parse is status 1, with file, line and what was near", function()
  local result = test.script(lines { "local x = 1", "local y = = 2" })
  test.eq({ result.code, result.stdout }, { 1, "" })
  test.contains(result.stderr, "script.lua:2:")
  test.contains(result.stderr, "near '='")
end)

test("code of -e that does not parse says where", function()
  local result = test.rille { "-e", "x = = 2" }
  test.eq(result.code, 1)
  test.contains(result.stderr, ":1:")
  test.contains(result.stderr, "near '='")
end)

test("a script that raises is status 1, with message and traceback on stderr", function()
  local result = test.script(lines {
    "local function culprit()",
    '  error "oops"',
    "end",
    "print 'begins'",
    "culprit()",
    "print 'not reached'",
  })
  test.eq({ result.code, result.stdout }, { 1, "begins\n" })
  test.contains(result.stderr, "script.lua:2: oops")
  test.contains(result.stderr, "culprit")
  test.contains(result.stderr, "script.lua:5:")
end)

test("a script that raises an error object shows its kind, message and traceback", function()
  local result = test.script(lines {
    'local errors = require "rille.errors"',
    'error(errors.new("MyError", "mine"))',
  })
  test.eq(result.code, 1)
  test.contains(result.stderr, "MyError: mine")
  test.contains(result.stderr, "script.lua:2:")
end)

test("a script that raises an error with a cause shows the cause", function()
  local result = test.script [[
    local errors = require "rille.errors"
    error(errors.new("MyError", "mine", { cause = errors.new("OSError", "deeper") }))
  ]]
  test.contains(result.stderr, "MyError: mine")
  test.contains(result.stderr, "OSError: deeper")
end)

test("a script that raises an ErrorGroup shows each of its errors", function()
  local result = test.script [[
    require("rille.async").group(function() error "the inner error" end)
  ]]
  test.eq(result.code, 1)
  test.contains(result.stderr, "ErrorGroup: ")
  test.contains(result.stderr, "the inner error")
end)

test("a script that raises an ErrorGroup shows where each of its errors was raised", function()
  local result = test.script(lines {
    'local async, errors = require "rille.async", require "rille.errors"',
    "async.group(function(g)",
    "  g:spawn(function()",
    "    async.sleep(0)",
    '    error(errors.new("OSError", "disk full"))',
    "  end)",
    "  async.sleep(1000)",
    "end)",
  })
  test.contains(result.stderr, "OSError: disk full")
  test.contains(result.stderr, "script.lua:5:")
end)

test("a script that raises nil or a table is status 1, and says something", function()
  for _, value in ipairs { "nil", "{}", "false" } do
    local result = test.script("error(" .. value .. ")")
    test.eq(result.code, 1)
    assert(#result.stderr > 0)
  end
end)

test("a lost error of a task makes the status 1", function()
  local result = test.script [[
    local async = require "rille.async"
    task = async.spawn(error, "oops", 0)
    async.sleep(0)
    print "end"
  ]]
  test.eq({ result.code, result.stdout }, { 1, "end\n" })
  test.contains(result.stderr, "oops")
end)

test("a main task cancelled without a signal is status 1, with that on stderr", function()
  local result = test.script [[
    local async = require "rille.async"
    async.current_task():cancel "enough"
    async.sleep(0)
    print "not reached"
  ]]
  test.eq({ result.code, result.signal, result.stdout }, { 1, nil, "" })
  test.contains(result.stderr, "Cancelled")
  test.contains(result.stderr, "enough")
end)

test("os.exit ends the program at once with its status", function()
  local result = test.script [[
    io.write "written"
    os.exit(7)
  ]]
  test.eq({ result.code, result.stdout }, { 7, "written" })
end)

test("memory that runs out in a script is an error of that script", function()
  local result = test.script [[
    local ok, err = pcall(string.rep, ("x"):rep(2 ^ 20), 2 ^ 20)
    print(ok, err)
    local async = require "rille.async"
    print(async.sleep(0.001, "goes on"))
  ]]
  test.eq({ result.code, result.stdout }, { 0, "false\tnot enough memory\ngoes on\n" })
end)

test("a stack that overflows is an error of the task whose stack it is", function()
  local result = test.script [[
    local async = require "rille.async"
    local function deep() return 1 + deep() end
    local task = async.spawn(deep)
    print(pcall(task.await, task))
    print(async.sleep(0, "goes on"))
  ]]
  test.eq(result.code, 0)
  test.contains(result.stdout, "stack overflow")
  test.contains(result.stdout, "goes on")
end)

-- The end of the script -------------------------------------------------------------------------

test("tasks still running when the script ends are cancelled and may clean up", function()
  local result = test.script [[
    local async = require "rille.async"
    async.spawn(async.finally, function() async.sleep(1000) end, function()
      async.sleep(0.002)
      print "cleaned up"
    end)
    async.sleep(0)
    print "end"
  ]]
  test.eq({ result.code, result.stdout, result.stderr }, { 0, "end\ncleaned up\n", "" })
end)

test("tasks still running when the script raises are cancelled and may clean up", function()
  local result = test.script [[
    local async = require "rille.async"
    async.spawn(async.finally, function() async.sleep(1000) end, function() print "cleaned up" end)
    async.sleep(0)
    error "oops"
  ]]
  test.eq({ result.code, result.stdout }, { 1, "cleaned up\n" })
  test.contains(result.stderr, "oops")
end)

test("timers and callbacks that are left do not hold up the end", function()
  local result = test.script [[
    require("rille.async").call_later(1000, print)
    print "end"
  ]]
  test.eq({ result.code, result.stdout }, { 0, "end\n" })
end)

test("what was written is all there at the end, also into a pipe", function()
  local result = test.script [[
    for i = 1, 20000 do io.write("line ", i, "\n") end
    io.stderr:write "err"
  ]]
  test.eq(select(2, result.stdout:gsub("\n", "")), 20000)
  test.eq(result.stderr, "err")
end)

-- Signals ---------------------------------------------------------------------------------------

-- The script sends itself the signal. io.popen and not os.execute, which ignores SIGINT
-- meanwhile.
local function kill(name) return ('io.popen("kill -%s $PPID"):close()'):format(name) end

for name, number in pairs { INT = SIGINT, TERM = SIGTERM } do
  test("SIG" .. name .. " cancels the main task, cleans up and ends the process", function()
    local result = test.script(lines {
      'local async = require "rille.async"',
      "async.finally(function()",
      "  async.call_soon(function() " .. kill(name) .. " end)",
      "  async.sleep(1000)",
      "end, function()",
      "  async.sleep(0.01)",
      "  print 'cleaned up'",
      "end)",
    })
    test.eq({ result.code, result.signal, result.stdout }, { nil, number, "cleaned up\n" })
  end)

  test("SIG" .. name .. " lets the clean-up of all tasks run", function()
    local result = test.script(lines {
      'local async = require "rille.async"',
      "async.spawn(async.finally, function() async.sleep(1000) end, function()",
      "  async.sleep(0.005)",
      "  print 'child'",
      "end)",
      "async.sleep(0)",
      kill(name),
      "async.sleep(1000)",
    })
    test.eq({ result.code, result.signal, result.stdout }, { nil, number, "child\n" })
  end)

  test("a second SIG" .. name .. " ends the process while Lua runs without waiting", function()
    local result = test.script(lines {
      ('io.popen "kill -%s $PPID; sleep 0.2; kill -%s $PPID"'):format(name, name),
      "while true do end",
    })
    test.eq({ result.code, result.signal }, { nil, number })
  end)

  test("a second SIG" .. name .. " ends the process in a clean-up", function()
    local result = test.script(lines {
      'local async = require "rille.async"',
      "async.finally(function()",
      "  " .. kill(name),
      "  async.sleep(1000)",
      "end, function()",
      "  print 'cleaning up'",
      "  io.stdout:flush()",
      "  " .. kill(name),
      "  async.sleep(1000)",
      "  print 'not reached'",
      "end)",
    })
    test.eq({ result.code, result.signal, result.stdout }, { nil, number, "cleaning up\n" })
  end)

  test("a script that catches its SIG" .. name .. " and ends well exits with 0", function()
    local result = test.script(lines {
      'local async = require "rille.async"',
      "local ok, err = async.pcall(function()",
      "  " .. kill(name),
      "  async.sleep(1000)",
      "end)",
      "print(ok, async.is_cancelled(err), (tostring(err.reason):find 'SIG" .. name .. "') ~= nil)",
      "print(async.sleep(0.001, 'goes on'))",
    })
    test.eq({ result.code, result.signal }, { 0, nil })
    test.eq(result.stdout, "false\ttrue\ttrue\ngoes on\n")
  end)
end

test("a script that a signal cancels in a plain pcall still ends by it", function()
  local result = test.script(lines {
    'local async = require "rille.async"',
    "while true do",
    "  pcall(function()",
    "    " .. kill "INT",
    "    async.sleep(1000)",
    "  end)",
    "end",
  })
  test.eq({ result.code, result.signal }, { nil, SIGINT })
end)

test("a shell sees 128 and the number of the signal", function()
  local dir = test.tmpdir()
  test.write(dir .. "/script.lua", lines { kill "TERM", 'require("rille.async").sleep(1000)' })
  local command = "'%s' '%s/script.lua' 2>/dev/null; echo $?"
  local pipe = io.popen(command:format(test.executable(), dir))
  test.eq(pipe:read "*l", "143")
  pipe:close()
end)

test("a signal that nobody handles ends the process as usual", function()
  local result = test.script(lines { kill "KILL", "while true do end" })
  test.eq({ result.code, result.signal }, { nil, SIGKILL })
end)

-- Tracebacks ------------------------------------------------------------------------------------

test("a traceback names the script's file and lines and goes across tasks", function()
  local result = test.script(lines {
    'local async = require "rille.async"',
    "local function deepest()",
    "  async.sleep(0)",
    '  error "oops"',
    "end",
    "local function middle()",
    "  async.spawn(function() deepest() return nil end):await()",
    "  return nil",
    "end",
    "local task = async.spawn(function() middle() return nil end)",
    "task:await()",
  })
  test.eq(result.code, 1)
  test.contains(result.stderr, "script.lua:4: oops")
  for _, part in ipairs { "deepest", "lua:7:", "middle", "lua:10:", "lua:11:" } do
    test.contains(result.stderr, part)
  end
end)

test("a traceback shows where the body of a context raised, not the way out of it", function()
  local result = test.script([[
    local async = require "rille.async"
    local open = async.context(function(yield)
      async.finally(function() yield(1) end, function() async.sleep(0) end)
    end)
    local function fail()
      local t = {}
      t.x()
    end
    async.with(open(), function()
      fail()
      return 1
    end)
  ]])
  test.eq(result.code, 1)
  test.matches(result.stderr, "script.lua:7: in function 'fail'")
  test.matches(result.stderr, "script.lua:10: in function")
end)

test("a traceback goes through coroutines of the script", function()
  local result = test.script(lines {
    'local async = require "rille.async"',
    "local co = coroutine.wrap(function()",
    "  async.sleep(0)",
    '  error "oops"',
    "end)",
    "co()",
  })
  test.eq(result.code, 1)
  test.contains(result.stderr, "script.lua:4: oops")
  test.contains(result.stderr, "script.lua:6:")
end)

test("a bad argument in a script names the script's line", function()
  local result = test.script(lines { 'local async = require "rille.async"', "async.sleep()" })
  test.eq(result.code, 1)
  test.contains(result.stderr, "script.lua:2: bad argument #1 to 'sleep'")
end)

test("an error in a module names the module's file and line and the script's", function()
  local dir = test.tmpdir()
  test.write(dir .. "/broken.lua", lines { "local t = nil", "return t.x" })
  test.write(dir .. "/main.lua", lines { "", 'require "broken"' })
  local result = test.rille { dir .. "/main.lua" }
  test.eq(result.code, 1)
  test.contains(result.stderr, "broken.lua:2:")
  test.contains(result.stderr, "main.lua:2:")
end)
