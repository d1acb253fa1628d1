local test = require "support.test"

test("a main task that nothing can wake gets a DeadlockError, with status 1", function()
  local result = test.script(table.concat({
    'local async = require "rille.async"',
    "async.Future():await()",
    "print 'not reached'",
  }, "\n"))
  test.eq(result.code, 1)
  test.eq(result.stdout, "")
  test.contains(result.stderr, "DeadlockError: ")
  test.contains(result.stderr, "script.lua:2:")
end)

test("a DeadlockError lists every waiting task with its name and traceback", function()
  local result = test.script(table.concat({
    'local async = require "rille.async"',
    "local queue, event = async.Queue(), async.Event()",
    "local reader = async.spawn(function()",
    "  queue:get()",
    "end)",
    'reader:set_name "the reader"',
    "local waiter = async.spawn(function()",
    "  event:wait()",
    "end)",
    'waiter:set_name "the waiter"',
    "async.wait { reader, waiter }",
  }, "\n"))
  test.eq(result.code, 1)
  test.contains(result.stderr, "DeadlockError: ")
  for _, part in ipairs { "the reader", "the waiter", "lua:4:", "lua:8:", "lua:11:" } do
    test.contains(result.stderr, part)
  end
end)

test("a DeadlockError tells what each task waits for, and who holds it", function()
  local result = test.script [[
    local async = require "rille.async"
    local a, b = async.Lock(), async.Lock()
    local function take(first, second)
      return function()
        first:acquire()
        async.sleep(0)
        second:acquire()
      end
    end
    local one, two = async.spawn(take(a, b)), async.spawn(take(b, a))
    one:set_name "task one"
    two:set_name "task two"
    async.gather { one, two }
  ]]
  test.eq(result.code, 1)
  local text = result.stderr
  test.contains(text, "DeadlockError")
  test.matches(text:lower(), "task one[^\n]*lock[^\n]*task two")
  test.matches(text:lower(), "task two[^\n]*lock[^\n]*task one")
end)

test("a DeadlockError tells whom a task waits for", function()
  local result = test.script [[
    local async = require "rille.async"
    local stuck = async.spawn(function() async.Event():wait() end)
    stuck:set_name "the stuck one"
    local function waiter(name, fn)
      local task = async.spawn(fn)
      task:set_name(name)
      return task
    end
    async.wait {
      waiter("by await", function() stuck:await() end),
      waiter("by gather", function() async.gather { stuck } end),
      waiter("by wait", function() async.wait { stuck } end),
      waiter("by shield", function() async.shield(stuck) end),
    }
  ]]
  for _, name in ipairs { "by await", "by gather", "by wait", "by shield" } do
    test.matches(result.stderr, name .. " waits[^\n]*the stuck one")
  end
end)

test("a DeadlockError names the task that is awaited, whatever else is loaded", function()
  local result = test.script [[
    local async = require "rille.async"
    local consumer = async.spawn(function() return async.Queue():get() end)
    consumer:set_name "consumer"
    consumer:await()
  ]]
  test.contains(result.stderr, "main waits for the end of consumer")
end)

test("a DeadlockError can be caught, and the program goes on", function()
  local result = test.script [[
    local async, errors = require "rille.async", require "rille.errors"
    local future = async.Future()
    local ok, err = pcall(future.await, future)
    print(ok, errors.is(err, "DeadlockError"), err.kind)
    print(async.sleep(0.001, "goes on"))
  ]]
  test.eq(result.stdout, "false\ttrue\tDeadlockError\ngoes on\n")
  test.eq(result.code, 0)
end)

test("a task that can be woken by a timer is not in a deadlock", function()
  local result = test.script [[
    local async = require "rille.async"
    local event = async.Event()
    async.call_later(0.02, event.set, event)
    event:wait()
    print "woken"
  ]]
  test.eq(result.stdout, "woken\n")
  test.eq(result.code, 0)
end)

test("a handler of a signal counts as something that may wake a task", function()
  local result = test.script [[
    local async, signal = require "rille.async", require "rille.signal"
    local event = async.Event()
    local handle = signal.on("SIGUSR1", function() event:set() end)
    io.popen "sleep 0.1; kill -USR1 $PPID"
    event:wait()
    handle:close()
    print "woken"
  ]]
  test.eq(result.stdout, "woken\n", result.stderr)
  test.eq(result.code, 0)
end)

test("other tasks of a deadlock are cancelled at the end and clean up", function()
  local result = test.script [[
    local async = require "rille.async"
    task = async.spawn(async.finally, function() async.Event():wait() end, function()
      async.sleep(0)
      print "cleaned up"
    end)
    task:await()
  ]]
  test.eq(result.stdout, "cleaned up\n")
  test.eq(result.code, 1)
end)
