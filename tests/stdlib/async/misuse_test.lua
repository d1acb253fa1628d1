--- What beginners get wrong: the message says what, and where in their own script.
local test = require "support.test"

-- Each script's last line is wrong.
local function says(script, ...)
  local result = test.script(script)
  local _, lines = script:gsub("\n", "")
  for _, text in ipairs { ... } do test.contains(result.stderr, text) end
  test.contains(result.stderr:match "^[^\n]*", (":%d: "):format(lines))
  test.eq(result.code, 1)
end

test("a method called with a dot says so at the script's line", function()
  for call, name in pairs {
    ["async.Lock().acquire()"] = "acquire", ["async.Queue().put(5)"] = "put",
    ["async.Event().wait()"] = "wait", ["async.spawn(print).await()"] = "await",
    ["async.Future().set_result(1)"] = "set_result", ["async.Condition().notify()"] = "notify",
    ["async.ContextVar('v').get()"] = "get", ["async.Barrier(2).wait()"] = "wait",
    ["async.Semaphore().release()"] = "release",
    ["require('rille.http').Session().get('http://127.0.0.1/')"] = "get",
  } do
    says('local async = require "rille.async"\n' .. call .. "\n",
      ("calling '%s' on bad self"):format(name), "is there a dot for a colon?")
  end
end)

test("so does one that is caught, or in a task, a group, a callback or a worker", function()
  local result = test.script [[
    local async, worker = require "rille.async", require "rille.worker"
    local function wrong() local lock = async.Lock() lock.acquire() return 1 end
    print((select(2, pcall(wrong))))
    print((select(2, async.pcall(wrong))))
    print((select(2, pcall(async.finally, wrong, print))))
    print((select(2, pcall(async.group, wrong))).errors[1])
    local task = async.spawn(wrong)
    print((select(2, pcall(task.await, task))))
    print((select(2, xpcall(wrong, function(e) return e end))))
    async.set_exception_handler(function(report) print(report.error) end)
    async.call_soon(wrong)
    async.sleep(0)
    print((select(2, pcall(worker.run, function()
      local lock = require("rille.async").Lock()
      lock.acquire()
    end))))
  ]]
  test.eq(result.stderr, "")
  local n = 0
  for line in result.stdout:gmatch "[^\n]+" do
    if line ~= "" then
      test.matches(line, "^[^\n]*script%.lua:%d+: calling '[%w ]+' on bad self")
      n = n + 1
    end
  end
  test.eq(n, 8)
end)

test("a wrong argument of a native function that waits names the script's line", function()
  local text = "bad argument #1 to 'nap' (number expected, got string)"
  local function native() error("rille/core/wrap.lua:1: " .. text, 0) end
  local ok, e = pcall(native)
  test.eq(ok, false)
  test.matches(e, "^[^\n]*misuse_test%.lua:%d+: ")
  test.contains(e, text)
end)

test("an error of the script's own passes as it is", function()
  local function own() error("rille/x.lua:1: attempt to index global 'self' (a nil value)", 0) end
  local ok, e, more = pcall(own)
  test.eq(ok, false)
  test.eq(e, "rille/x.lua:1: attempt to index global 'self' (a nil value)")
  test.eq(more, nil)
end)

test("a Task in the place of a list of them is told from a number in a list", function()
  for _, name in ipairs { "wait", "gather", "as_completed" } do
    says(('local async = require "rille.async"\nasync.%s(async.spawn(print))\n'):format(name),
      ("bad argument #1 to '%s' (list of Tasks expected, got Task)"):format(name))
  end
end)

-- One process says what is wrong with each of these; all are calls in a script's line.
local WRONG = {
  { 'async.spawn(print "x")', "bad argument #1 to 'spawn' (function expected, got nil)" },
  { "async.sleep()", "bad argument #1 to 'sleep' (number expected, got nil)" },
  { "async.gather(print, print)", "bad argument #1 to 'gather' (table expected, got function)" },
  { "async.gather({}, { return_error = true })", "'return_error'; there are: return_errors" },
  { "async.timeout(print)", "bad argument #1 to 'timeout' (number expected, got function)" },
  { "async.wait_for(5, print)", "bad argument #2 to 'wait_for' (number expected, got function)" },
  { "async.with({}, print)", "a resource with 'exit' or 'close' expected, got table" },
  { "async.call_later(print, 1)", "bad argument #1 to 'call_later' (number expected" },
  { "async.run(async.sleep(0))", "bad argument #1 to 'run' (function expected, got nil)" },
  { "table.sort({ 2, 1 }, function() async.sleep(0) end)", "cannot wait inside table.sort" },
  { '("x"):gsub("x", function() async.sleep(0) end)', "cannot wait inside string.gsub" },
  { "coroutine.yield(1)", "attempt to yield from outside a coroutine" },
  { 'require("rille.fs").open("x", "q")', "bad argument #2 to 'open' (invalid mode 'q')" },
  { 'require("rille.fs").mkdir("x", { recursive = true })', "there are: mode, parents" },
  { 'require("rille.net").connect("localhost", 80)', "argument #1 to 'connect' (table expected" },
  { 'require("rille.net").connect { host = "h" }', "argument 'port' to 'connect' (integer" },
  { "require('rille.net').listen(8080)", "bad argument #1 to 'listen' (table expected" },
  { 'require("rille.http").get("http://h/", { header = {} })', "option 'header'; there are: " },
  { 'require("rille.http").post("http://h/", "body")', "argument #2 to 'post' (table" },
  { "require('rille.http').serve(print)", "bad argument #1 to 'serve' (table expected" },
  { 'require("rille.http").App():get("hello", print)', "does not begin with '/'" },
  { 'require("rille.process").run "ls -l"', "bad argument #1 to 'run' (table expected" },
  { 'require("rille.signal").on("INT", print)', "there is no signal 'INT'" },
  { "require('rille.json').decode(nil)", "bad argument #1 to 'decode' (string expected" },
  { "require('rille.worker').run(5)", "bad argument #1 to 'run' (function expected, got number)" },
  { "require('rille.patterns').Pool {}", "bad argument 'create' to 'Pool' (function expected" },
  { 'require "rille.asnyc"', "module 'rille.asnyc' not found" },
}

test("a wrong call says what is wrong with which argument, at the script's line", function()
  local script = { 'local async = require "rille.async"' }
  for _, case in ipairs(WRONG) do
    script[#script + 1] = ("print((select(2, pcall(function()\n%s\nend))))"):format(case[1])
  end
  local result = test.script(table.concat(script, "\n"))
  test.eq(result.code, 0)
  local at = 1
  for i, case in ipairs(WRONG) do
    local line = ("script.lua:%d: "):format(3 * i)
    local first = result.stdout:find(line, at, true)
    assert(first, ("no message of line %d in:\n%s"):format(3 * i, result.stdout:sub(at)))
    local text = result.stdout:sub(first, (result.stdout:find("\n", first, true)))
    test.contains(text, case[2])
    at = first + #line
  end
end)
