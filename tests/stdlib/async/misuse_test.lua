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
