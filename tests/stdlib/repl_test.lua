-- The REPL, as somebody at a terminal has it: real keys, and what is shown.
local async, test = require "rille.async", require "support.test"
local fs = require "rille.fs"
local terminal = require "support.terminal"
local process = require "rille.process"
local has_editor = pcall(require, "rille.core.line_editor")

-- Starts a REPL and waits for its prompt. `spec`: `term`, `state` (where its history is),
-- `command`.
local function start(spec)
  spec = spec or {}
  local env = process.environ()
  env.TERM = spec.term or "xterm"
  env.HOME = spec.home or test.tmpdir()
  env.XDG_STATE_HOME = spec.state
  env.RILLE_DEBUG, env.LC_ALL = nil, "C.UTF-8"
  local repl = terminal(spec.command or { test.executable() }, env)
  test.defer(function() repl:close() end)
  repl:expect "> "
  return repl
end

-- Types a line and gives what is shown up to the next prompt, without the line itself.
local function enter(repl, line)
  repl:type(line .. "\r")
  repl:expect "\n" -- the echo has ended
  local shown = repl:expect "> "
  return (shown:gsub("\r", ""):gsub(">? $", ""))
end

local function finish(repl)
  repl:type "\4"
  local _, status = repl:rest()
  test.eq(status, { code = 0, ok = true })
end

-- Every test runs with and without line editing.
local function both(name, fn)
  test(name .. " (plain)", { limit = 2 }, function() fn "dumb" end)
  if has_editor then test(name .. " (edited)", { limit = 2 }, function() fn "xterm" end) end
end

both("the values of an expression are printed", function(term)
  local repl = start { term = term }
  test.eq(enter(repl, "1 + 1"), "2\n")
  test.eq(enter(repl, "nil, false, 'text', 0.5"), "nil\tfalse\ttext\t0.5\n")
  test.eq(enter(repl, "=3"), "3\n")
  test.eq(enter(repl, "print 'x'"), "x\n")
  test.eq(enter(repl, "(function() end)()"), "")
  test.eq(enter(repl, "nil"), "nil\n")
  finish(repl)
end)

both("tables are shown by what they hold", function(term)
  local repl = start { term = term }
  test.eq(enter(repl, "{}"), "{}\n")
  test.eq(enter(repl, "{ 1, 'a\\n', { true }, x = 1, ['two words'] = 2, [10] = 3 }"),
    '{ 1, "a\\n", { true }, [10] = 3, ["two words"] = 2, x = 1 }\n')
  test.eq(enter(repl, "t = { n = 1 } t.t = t"), "")
  test.eq(enter(repl, "t"), "{ n = 1, t = (above) }\n")
  test.eq(enter(repl, "setmetatable({}, { __tostring = function() return 'mine' end })"), "mine\n")
  test.eq(enter(repl, "{ ('x'):rep(50), ('y'):rep(50) }"),
    '{\n  "' .. ("x"):rep(50) .. '",\n  "' .. ("y"):rep(50) .. '"\n}\n')
  finish(repl)
end)

both("globals stay, and what is not complete goes on in the next line", function(term)
  local repl = start { term = term }
  test.eq(enter(repl, "x = 5"), "")
  test.eq(enter(repl, "x * 2"), "10\n")
  enter(repl, "for i = 1, 2 do")
  enter(repl, "print(i)")
  test.eq(enter(repl, "end"), "1\n2\n")
  enter(repl, "{ 1,")
  test.eq(enter(repl, "2 }"), "{ 1, 2 }\n")
  enter(repl, "x = [[a")
  test.eq(enter(repl, "b]]"), "")
  test.eq(enter(repl, "#x"), "3\n")
  finish(repl)
end)

both("an error is shown with its traceback, and the REPL goes on", function(term)
  local repl = start { term = term }
  local shown = enter(repl, "error 'oops'")
  test.contains(shown, "stdin:1: oops\nstack traceback:\n")
  test.eq(shown:find("rille/repl", 1, true), nil, shown)
  test.contains(enter(repl, "local t = nil; t.x = 1"), "attempt to index local 't'")
  test.contains(enter(repl, "x = = 1"), "unexpected symbol near '='")
  test.contains(enter(repl, "error(require('rille.errors').new('MyError', 'text'))"),
    "MyError: text")
  test.contains(enter(repl, "require('rille.fs').read_file '/no/such'"), "OSError: no such file")
  test.contains(enter(repl, "error()"), "nil")
  test.eq(enter(repl, "1"), "1\n")
  finish(repl)
end)

both("waiting works, and the modules are there", function(term)
  local repl = start { term = term }
  test.eq(enter(repl, "async.sleep(0.01, 'slept')"), "slept\n")
  test.eq(enter(repl, "process.run({ 'echo', 'out' }).stdout"), "out\n\n")
  test.eq(enter(repl, "rawget(_G, 'async')"), "nil\n")
  finish(repl)
end)

both("tasks go on while a line is typed", function(term)
  local repl = start { term = term }
  enter(repl, "t = async.spawn(function() async.sleep(0.05) print 'from the task' end)")
  repl:type "1 +"
  repl:expect "from the task\r\n"
  if term == "xterm" then repl:expect "> 1 +" end
  test.eq(enter(repl, " 1"), "2\n")
  finish(repl)
end)

both("Ctrl-C cancels the running line, and the next one runs", function(term)
  local repl = start { term = term }
  repl:type(
    "async.finally(function() print 'runs' async.sleep(1000) end, function() print 'clean' end)\r"
  )
  repl:expect "\n"
  repl:expect "runs"
  repl:type "\3"
  repl:expect "clean"
  repl:expect "cancelled"
  repl:expect "> "
  test.eq(enter(repl, "1"), "1\n")
  finish(repl)
end)

both("Ctrl-C clears the input, also of several lines", function(term)
  local repl = start { term = term }
  repl:type "x = 1 garbage"
  repl:expect "garbage"
  repl:type "\3"
  repl:expect "> "
  test.eq(enter(repl, "x"), "nil\n")
  enter(repl, "if true then")
  repl:type "\3"
  repl:expect "\n> "
  test.eq(enter(repl, "1"), "1\n")
  finish(repl)
end)

both("Ctrl-C stops a line that never waits", function(term)
  local repl = start { term = term }
  for _, code in ipairs {
    "print 'go' while true do end",
    "print 'go' local x = 0 while true do x = x + 1 % 3 end",
    "print 'go' while true do pcall(error) end",
  } do
    repl:type(code .. "\r")
    repl:expect "\n"
    repl:expect "go"
    repl:type "\3"
    repl:expect "interrupted"
    repl:expect "> "
    test.eq(enter(repl, "1"), "1\n")
  end
  finish(repl)
end)

both("Ctrl-D ends it, and process.exit too", function(term)
  finish(start { term = term })
  local repl = start { term = term }
  repl:type "process.exit(3)\r"
  local _, status = repl:rest()
  test.eq(status.code, 3)
end)

both("SIGTERM ends it in order", function(term)
  local repl = start { term = term }
  local pid = tonumber(enter(repl, "process.pid()"))
  repl:type "half a line"
  repl:expect "line"
  process.kill(pid, "SIGTERM")
  local _, status = repl:rest()
  test.eq(status.code, 128 + 15)
end)

both("the terminal is left as it was", function(term)
  for _, ending in ipairs { "\4", "process.exit(1)\r", "os.exit(1)\r" } do
    local repl = start { term = term, command = { "sh", "-c", test.executable() .. "; stty -a" } }
    repl:type(ending)
    local shown = repl:rest()
    test.matches(shown, "[^-]icanon")
    test.matches(shown, "[^-]echo ")
  end
  local repl = start { term = term, command = { "sh", "-c", test.executable() .. "; stty -a" } }
  repl:type "async.call_later(0.01, os.exit, 1)\r"
  local shown = repl:rest()
  test.matches(shown, "[^-]icanon")
  test.matches(shown, "[^-]echo ")
end)

both("an error that nobody took is reported while others are typed", function(term)
  local repl = start { term = term }
  enter(repl, "t = async.call_later(0.02, error, 'lost')")
  repl:expect "error in a callback: lost"
  repl:type "print 'on'\r"
  repl:expect "on\r\n"
  repl:expect "> "
  finish(repl)
end)

test("elsewhere than in a terminal it is the standard input that runs", function()
  local result = test.rille({}, { stdin = "print(...) print(1 + 1)" })
  test.eq(result, { code = 0, stdout = "\n2\n", stderr = "" })
end)

if not has_editor then return end

test("the keys of line editing work", function()
  local repl = start()
  repl:type "print 'bc'\27[D\27[D\27[Da\5\r"
  repl:expect "abc\r\n"
  repl:expect "> "
  test.eq(enter(repl, "xyz\b\b\b1 + 2"), "3\n")
  test.eq(enter(repl, "garbage\0211"), "1\n")
  test.eq(enter(repl, "'äö'\27[D\127ü"), "äü\n")
  repl:type "\18pri"
  test.contains(repl:expect "abc", "print 'abc")
  repl:type "\r"
  repl:expect "abc\r\n"
  repl:expect "> "
  finish(repl)
end)

test("a lone escape key holds nobody up", function()
  local repl = start()
  enter(repl, "t = async.spawn(function() async.sleep(0.05) print 'from the task' end)")
  repl:type "\27"
  repl:expect "from the task\r\n> "
  repl:type "\3"
  repl:expect "\n> "
  finish(repl)
end)

test("the lines of former times are in the history, in a file that is ours alone", function()
  local state = test.tmpdir() .. "/new/state"
  local repl = start { state = state }
  enter(repl, "first = 1")
  enter(repl, "second = 2")
  enter(repl, "second = 2")
  finish(repl)
  test.eq(test.read(state .. "/rille_history"), "first = 1\nsecond = 2\n")
  test.eq(fs.stat(state .. "/rille_history").mode, tonumber("600", 8))
  repl = start { state = state }
  repl:type "\27[A"
  repl:expect "second = 2"
  repl:type "\27[A"
  repl:expect "first = 1"
  repl:type "0\r"
  repl:expect "> "
  test.eq(enter(repl, "first"), "10\n")
  finish(repl)
  local home = test.tmpdir()
  repl = start { home = home, state = "" }
  enter(repl, "third = 3")
  finish(repl)
  test.eq(test.read(home .. "/.local/state/rille_history"), "third = 3\n")
end)

test("a history that cannot be written is done without", function()
  local repl = start { state = "/proc/no/such" }
  test.eq(enter(repl, "1"), "1\n")
  repl:type "\27[A"
  repl:expect "1"
  repl:type "\3"
  repl:expect "> "
  finish(repl)
end)

test("Tab completes names, fields, methods and modules", function()
  local repl = start()
  test.eq(enter(repl, "async.slee\t == async.sleep"), "true\n")
  test.eq(enter(repl, "strin\t == string"), "true\n")
  test.eq(enter(repl, "string.fo\t == string.format"), "true\n")
  test.eq(enter(repl, "require 'rille.sig\t' == signal"), "true\n")
  enter(repl, "lock = async.Lock()")
  enter(repl, "lock:acq\t()")
  test.eq(enter(repl, "lock:locke\t()"), "true\n")
  repl:type "string.re\t"
  repl:expect "rep  reverse\r\n"
  repl:expect "> string.re"
  repl:type "\3"
  repl:expect "> "
  test.eq(enter(repl, "1 -- nothing_of_this.na\t"), "1\n")
  finish(repl)
end)

test("a long line and a terminal that changes its size are no trouble", function()
  local repl = start()
  local text = ("x"):rep(200)
  repl:type("#'" .. text .. "'\r")
  repl:expect "200\r\n"
  repl:expect "> "
  process.kill(tonumber(enter(repl, "process.pid()")), "SIGWINCH")
  async.sleep(0.02)
  test.eq(enter(repl, "1"), "1\n")
  finish(repl)
end)
