local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

test("new makes an error of a kind with a message", function()
  local err = errors.new("OSError", "no such file")
  test.eq(err.kind, "OSError")
  test.eq(err.message, "no such file")
  test.eq(tostring(err), "OSError: no such file")
end)

test("new takes further fields", function()
  local cause = errors.new("TimeoutError", "late")
  local err = errors.new("OSError", "no such file", { code = "ENOENT", path = "/x", cause = cause })
  test.eq({ err.code, err.path, err.syscall }, { "ENOENT", "/x", nil })
  assert(rawequal(err.cause, cause))
  test.eq(tostring(err), "OSError: no such file")
end)

test("the table of fields stays its owner's", function()
  local fields = { code = "ENOENT" }
  errors.new("OSError", "x", fields)
  test.eq(fields, { code = "ENOENT" })
end)

test("is answers for any value", function()
  local err = errors.new("TimeoutError", "late")
  test.eq(errors.is(err, "TimeoutError"), true)
  test.eq(errors.is(err, "OSError"), false)
  local thread = coroutine.create(print)
  for _, value in ipairs { "TimeoutError", 1, true, {}, print, thread, io.stdout } do
    test.eq(errors.is(value, "TimeoutError"), false)
  end
  test.eq(errors.is(nil, "TimeoutError"), false)
end)

test("is is true only of error objects, not of tables that look like one", function()
  -- A table of the user's own that merely has a field `kind` is the user's.
  test.eq(errors.is(setmetatable({}, { __index = function() error "asked" end }), "OSError"), false)
end)

test("an error object passes through error, pcall and coroutines unchanged", function()
  local mine = errors.new("MyError", "mine")
  local ok, err = pcall(error, mine)
  assert(not ok and rawequal(err, mine))
  ok, err = coroutine.resume(coroutine.create(error), mine)
  assert(not ok and rawequal(err, mine))
  ok, err = pcall(function() async.spawn(error, mine):await() end)
  assert(not ok and rawequal(err, mine))
  test.eq(err.message, "mine")
end)

test("an error that a task died of tells where it was raised", function()
  local function culprit()
    error(errors.new("MyError", "mine"))
  end
  local line = debug.getinfo(culprit, "S").linedefined + 1
  local ok, err = pcall(function() async.spawn(culprit):await() end)
  assert(not ok)
  test.eq(type(err.traceback), "string")
  test.contains(err.traceback, "errors_test.lua:" .. line .. ":")
end)

test("an error raised by the library tells where", function()
  local lock = async.Lock()
  local line = debug.getinfo(1, "l").currentline + 1
  local ok, err = pcall(function() lock:release() end)
  assert(not ok)
  test.contains(err.traceback, "errors_test.lua:" .. line .. ":")
end)

test("error texts and other values are no error objects and stay what they are", function()
  for _, value in ipairs { "text", 42, true, { 1 } } do
    local ok, err = pcall(function() async.spawn(error, value, 0):await() end)
    assert(not ok and rawequal(err, value))
  end
end)

test("the kinds that the library raises have their names", function()
  local queue = async.Queue(1)
  test.eq(test.raises("QueueEmpty", queue.get_nowait, queue).kind, "QueueEmpty")
  queue:put(1)
  test.eq(test.raises("QueueFull", queue.put_nowait, queue, 2).kind, "QueueFull")
  queue:shutdown()
  test.eq(test.raises("QueueShutDown", queue.put, queue, 2).kind, "QueueShutDown")
  local barrier = async.Barrier(2)
  barrier:abort()
  test.eq(test.raises("BrokenBarrierError", barrier.wait, barrier).kind, "BrokenBarrierError")
  local err = test.raises("TimeoutError", async.wait_for, async.sleep, 0.001, 1000)
  test.eq(err.kind, "TimeoutError")
  local future = async.Future()
  test.eq(test.raises("InvalidStateError", future.result, future).kind, "InvalidStateError")
  future:cancel()
  test.eq(test.raises("CancelledError", future.result, future).kind, "CancelledError")
end)

test("the library's errors have a message that says something", function()
  local queue = async.Queue(1)
  for _, err in ipairs {
    test.raises("QueueEmpty", queue.get_nowait, queue),
    test.raises("InvalidStateError", queue.task_done, queue),
    test.raises("TimeoutError", async.wait_for, async.sleep, 0.001, 1000),
    test.raises("ErrorGroup", async.group, function() error "oops" end),
  } do
    assert(type(err.message) == "string" and #err.message > 3, tostring(err))
    test.eq(tostring(err), err.kind .. ": " .. err.message)
  end
end)

test("new and is name their wrong argument, themselves and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'new' (string expected, got nil)",
    function() errors.new(nil, "x") end
  )
  test.blames_caller(
    "bad argument #2 to 'new' (string expected, got nil)",
    function() errors.new("MyError") end
  )
  test.blames_caller(
    "bad argument #3 to 'new' (table expected, got number)",
    function() errors.new("MyError", "x", 1) end
  )
  test.blames_caller(
    "bad argument #2 to 'is' (string expected, got nil)",
    function() errors.is({}, nil) end
  )
end)
