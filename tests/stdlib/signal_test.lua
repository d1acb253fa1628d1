local async, signal, test = require "rille.async", require "rille.signal", require "support.test"
local process = require "rille.process"

local function send(name) assert(os.execute(("kill -%s %d"):format(name, process.pid())) == 0) end

-- Lets the loop see the signals that have come.
local function a_moment() async.sleep(0.02) end

test("on runs its function at each delivery with the signal's name", function()
  local log = test.log()
  local handle = signal.on("SIGUSR1", log)
  send "USR1"
  a_moment()
  send "USR1"
  a_moment()
  handle:close()
  test.eq(log, { "SIGUSR1", "SIGUSR1" })
end)

test("each delivery runs in a task of its own, which may wait", function()
  local log, tasks = test.log(), {}
  local handle = signal.on("SIGUSR1", function()
    tasks[#tasks + 1] = async.current_task()
    async.sleep(0)
    log "waited"
  end)
  send "USR1"
  a_moment()
  send "USR1"
  a_moment()
  handle:close()
  test.eq(#tasks, 2)
  assert(tasks[1] ~= tasks[2])
  test.eq(log, { "waited", "waited" })
end)

test("all handlers of a signal run, in the order in which they were made", function()
  local log = test.log()
  local first = signal.on("SIGUSR1", function() log "first" end)
  local second = signal.on("SIGUSR1", function() log "second" end)
  local other = signal.on("SIGUSR2", function(name) log(name) end)
  send "USR1"
  a_moment()
  first:close()
  send "USR1"
  a_moment()
  send "USR2"
  a_moment()
  second:close()
  other:close()
  test.eq(log, { "first", "second", "second", "SIGUSR2" })
end)

test("a signal may be given as a number; the function gets the name", function()
  local log = test.log()
  local handles = { signal.on(10, log), signal.on("SIGRTMIN+2", log), signal.on(37, log) }
  for _, name in ipairs { "10", "36", "37" } do
    send(name)
    a_moment()
  end
  for _, handle in ipairs(handles) do handle:close() end
  test.eq(log, { "SIGUSR1", "SIGRTMIN+2", "SIGRTMIN+3" })
end)

test("close twice is nothing", function()
  local keep, handle = signal.on("SIGUSR1", print), signal.on("SIGUSR1", print)
  handle:close()
  handle:close()
  keep:close()
  keep:close()
end)

test("a handler that closes its own handle and makes another works", function()
  local log, handle, other = test.log(), nil, nil
  handle = signal.on("SIGUSR1", function()
    log "first"
    handle:close()
    other = signal.on("SIGUSR1", function() log "other" end)
  end)
  send "USR1"
  a_moment()
  send "USR1"
  a_moment()
  other:close()
  test.eq(log, { "first", "other" })
end)

test("an error in a handler is an error that nobody took", function()
  local handle = signal.on("SIGUSR1", function() error "oops" end)
  send "USR1"
  a_moment()
  handle:close()
  local errors = {}
  for _, report in ipairs(test.reports()) do -- debug mode reports os.execute as well
    if report.error then errors[#errors + 1] = tostring(report.error) end
  end
  test.eq(#errors, 1)
  test.contains(errors[1], "oops")
end)

test("a handler runs in the context of who made it", function()
  local var, log = async.ContextVar "var", test.log()
  var:set "mine"
  local handle = signal.on("SIGUSR1", function() log(var:get()) end)
  var:set "later"
  send "USR1"
  a_moment()
  handle:close()
  test.eq(log, { "mine" })
end)

test("a handler that was made under async.run ends with it", function()
  local log, handle = test.log(), nil
  async.run(function()
    handle = signal.on("SIGUSR1", function()
      async.finally(function() async.sleep(1000) end, function() log "cancelled" end)
    end)
    send "USR1"
    a_moment()
  end)
  handle:close()
  test.eq(log, { "cancelled" })
end)

test("wait gives the name of the first signal that comes", function()
  local waiter = async.spawn(signal.wait, "SIGUSR1", "SIGUSR2", 1)
  async.sleep(0)
  send "USR2"
  test.eq(waiter:await(), "SIGUSR2")
  waiter = async.spawn(signal.wait, "SIGUSR1", "SIGUSR1")
  async.sleep(0)
  send "USR1"
  test.eq(waiter:await(), "SIGUSR1")
end)

test("all tasks that wait for a signal get it", function()
  local waiters = {}
  for i = 1, 3 do waiters[i] = async.spawn(signal.wait, "SIGUSR1") end
  async.sleep(0)
  send "USR1"
  for i = 1, 3 do test.eq(waiters[i]:await(), "SIGUSR1") end
end)

test("a wait for a signal can be cancelled and leaves nothing behind", function()
  test.raises("TimeoutError", async.wait_for, signal.wait, 0.01, "SIGUSR1", "SIGUSR2")
  local waiter = async.spawn(function()
    async.current_task():cancel()
    signal.wait "SIGUSR1"
  end)
  async.wait { waiter }
  assert(waiter:cancelled())
end)

test("a signal that has come is not lost to a cancellation", function()
  local waiter = async.spawn(signal.wait, "SIGUSR1")
  async.sleep(0)
  send "USR1"
  async.call_later(0, function() end)
  a_moment()
  assert(waiter:done())
  test.eq(waiter:result(), "SIGUSR1")
  test.eq(waiter:cancel(), false)
end)

test("what is no signal, or cannot be caught, is an error that names it", function()
  test.blames_caller("bad argument #1 to 'on' (there is no signal 'SIGFOO')",
    function() signal.on("SIGFOO", print) end)
  test.blames_caller("bad argument #2 to 'wait' (SIGKILL cannot be caught)",
    function() signal.wait("SIGUSR1", "SIGKILL") end)
  test.raises("SIGSTOP cannot be caught", signal.on, "SIGSTOP", print)
  test.raises("SIGKILL cannot be caught", signal.on, 9, print)
  for _, wrong in ipairs {
    "TERM", "sigterm", "", "SIG", "SIGRTMIN+", "SIGRTMIN+99", "SIGRTMIN+x",
  } do
    local text = ("there is no signal '%s'"):format(wrong:gsub("%p", "%%%0"))
    test.raises(text, signal.on, wrong, print)
  end
  for _, wrong in ipairs { 0, -1, 33, 1.5, 1000, 0 / 0, 1 / 0 } do
    test.raises("there is no signal '", signal.on, wrong, print)
  end
  test.raises("bad argument #1 to 'on' %(name of a signal expected, got nil%)", signal.on)
  test.raises("got table", signal.wait, {})
  test.raises("bad argument #1 to 'wait' %(name of a signal expected, got no value%)", signal.wait)
  test.raises("bad argument #2 to 'on' %(function expected, got nil%)", signal.on, "SIGUSR1")
end)

test("waiting for a signal in a callback is an error that says to spawn a task", function()
  local done = async.Future()
  async.call_soon(function() done:set_result(select(2, pcall(signal.wait, "SIGUSR1"))) end)
  test.contains(tostring(done:await()), "spawn")
end)

-- Processes of their own: what a signal does there is seen from outside.

test("after the last handle the signal's default is back", function()
  local result = test.script [[
    local async, signal = require "rille.async", require "rille.signal"
    io.stdout:setvbuf "no"
    local a, b = signal.on("SIGUSR1", print), signal.on("SIGUSR1", print)
    a:close()
    os.execute "kill -USR1 $PPID"
    async.sleep(0.02)
    b:close()
    os.execute "kill -USR1 $PPID"
    async.sleep(1)
    print "not reached"
  ]]
  test.eq(result.stdout, "SIGUSR1\n")
  test.eq(result.signal, 10)
end)

test("after the last handle for SIGTERM it cancels the main task again", function()
  local result = test.script [[
    local async, signal = require "rille.async", require "rille.signal"
    local handle = signal.on("SIGTERM", function(name) print("handled", name) end)
    os.execute "kill -TERM $PPID"
    async.sleep(0.02)
    handle:close()
    async.finally(function()
      os.execute "kill -TERM $PPID"
      async.sleep(5)
      print "not reached"
    end, function()
      async.sleep(0.01)
      print "cleaned up"
    end)
  ]]
  test.eq(result.stdout, "handled\tSIGTERM\ncleaned up\n", result.stderr)
  test.eq(result.signal, 15)
end)

test("while a handler is there SIGINT and SIGTERM do nothing else", function()
  local result = test.script [[
    local async, signal = require "rille.async", require "rille.signal"
    for _, name in ipairs { "SIGINT", "SIGTERM" } do signal.on(name, print) end
    for _ = 1, 2 do
      io.popen("kill -INT $PPID; kill -TERM $PPID"):close() -- os.execute ignores SIGINT meanwhile
      async.sleep(0.02)
    end
  ]]
  test.eq(result.code, 0, result.stderr)
  local _, count = result.stdout:gsub("SIG", "")
  test.eq(count, 4)
end)

test("after wait the signal's default is back", function()
  local result = test.script [[
    local async, signal = require "rille.async", require "rille.signal"
    async.call_later(0.02, os.execute, "kill -TERM $PPID")
    print(signal.wait("SIGTERM", "SIGINT"))
    os.execute "kill -TERM $PPID"
    async.sleep(5)
  ]]
  test.eq(result.stdout, "SIGTERM\n", result.stderr)
  test.eq(result.signal, 15)
end)

test("a handler does not delay the end of the program", function()
  local result = test.script [[
    require("rille.signal").on("SIGUSR1", print)
    print "end"
  ]]
  test.eq(result.stdout, "end\n")
  test.eq(result.code, 0)
end)

test("without a handler a wait for nothing is still a deadlock", function()
  local result = test.script [[
    local async, signal = require "rille.async", require "rille.signal"
    signal.on("SIGUSR1", print):close()
    async.Event():wait()
  ]]
  test.contains(result.stderr, "DeadlockError")
  test.eq(result.code, 1)
end)

test("an error in a handler makes the exit status 1", function()
  local result = test.script [[
    local async, signal = require "rille.async", require "rille.signal"
    signal.on("SIGUSR1", function() error "oops" end)
    os.execute "kill -USR1 $PPID"
    async.sleep(0.02)
  ]]
  test.contains(result.stderr, "oops")
  test.eq(result.code, 1)
end)
