local async, test = require "rille.async", require "support.test"

test("call_soon calls soon, not at once, in order, with its arguments", function()
  local log = test.log()
  async.call_soon(log, "first", nil, 3)
  async.call_soon(log, "second")
  log "maker"
  test.turns(2)
  test.eq(log, { "maker", "first nil 3", "second" })
end)

test("a callback that is cancelled is not called", function()
  local log = test.log()
  local soon, later = async.call_soon(log, "soon"), async.call_later(0.001, log, "later")
  test.eq(soon:cancelled(), false)
  soon:cancel()
  later:cancel()
  test.eq(soon:cancelled(), true)
  test.eq(later:cancelled(), true)
  async.sleep(0.005)
  test.eq(log, {})
end)

test("call_later calls in the order of the delays, with its arguments", function()
  local log = test.log()
  async.call_later(0.01, log, "late", 1)
  async.call_later(0.005, log, "early", 2)
  async.sleep(0.02)
  test.eq(log, { "early 2", "late 1" })
end)

test("call_at calls in the order of the deadlines", function()
  local log, now = test.log(), async.time()
  async.call_at(now + 0.01, log, "late")
  async.call_at(now + 0.005, log, "early")
  async.sleep(0.02)
  test.eq(log, { "early", "late" })
end)

test("callbacks with one deadline are called in the order in which they were made", function()
  local log, deadline = test.log(), async.time() + 0.005
  for i = 1, 5 do async.call_at(deadline, log, i) end
  async.sleep(0.01)
  test.eq(log, { "1", "2", "3", "4", "5" })
end)

test("when tells the deadline of a callback", function()
  local deadline = async.time() + 1000
  local handle = async.call_at(deadline, print)
  test.eq(handle:when(), deadline)
  handle:cancel()
  local before = async.time()
  handle = async.call_later(1000, print)
  assert(handle:when() >= before + 1000 and handle:when() <= async.time() + 1000)
  handle:cancel()
end)

test("a delay that is past is soon", function()
  local log = test.log()
  async.call_later(-1, log, "later")
  async.call_at(async.time() - 1, log, "at")
  async.call_later(0, log, "zero")
  log "maker"
  async.sleep(0.001)
  table.sort(log)
  test.eq(log, { "at", "later", "maker", "zero" })
end)

test("in a callback there is no current task", function()
  local seen = "nothing"
  async.call_soon(function() seen = async.current_task() end)
  async.sleep(0)
  test.eq(seen, nil)
end)

test("waiting in a callback is an error that says to spawn a task", function()
  local ok, err
  async.call_soon(function() ok, err = pcall(async.sleep, 0) end)
  test.turns(2)
  test.eq(ok, false)
  test.contains(tostring(err), "spawn")
end)

test("every wait in a callback is refused", function()
  local lock, queue, future = async.Lock(), async.Queue(), async.Future()
  lock:acquire()
  local refused, starts = 0, 0
  local function started() starts = starts + 1 end
  async.call_soon(function()
    for _, wait in ipairs {
      function() lock:acquire() end,
      function() queue:get() end,
      function() future:await() end,
      function() async.Event():wait() end,
      function() async.gather { started } end,
      function() async.map({ 1 }, started) end,
      function() async.wait_for(started, 1000) end,
      function() async.timeout(1000, started) end,
      function() async.group(started) end,
      function() async.run(started) end,
    } do
      if not pcall(wait) then refused = refused + 1 end
    end
  end)
  test.turns(5)
  test.eq({ refused, starts }, { 10, 0 })
  queue:put "item" -- which the refused get has not taken
  test.eq(queue:qsize(), 1)
  lock:release()
  test.eq(lock:locked(), false)
  test.turns(5)
end)

test("a callback may spawn tasks and make callbacks", function()
  local log = test.log()
  async.call_soon(function()
    async.spawn(function()
      async.sleep(0)
      log "task"
    end)
    async.call_soon(log, "callback")
  end)
  test.turns(5)
  table.sort(log)
  test.eq(log, { "callback", "task" })
end)

test("a callback may use what need not wait", function()
  local queue, sem, got = async.Queue(), async.Semaphore(1), nil
  async.call_soon(function()
    queue:put_nowait "item"
    sem:acquire()
    got = queue:get_nowait()
    sem:release()
  end)
  async.sleep(0)
  test.eq(got, "item")
end)

test("an error in a callback is reported, and the loop goes on", function()
  local log = test.log()
  async.call_soon(error, "oops", 0)
  async.call_soon(log, "next")
  test.turns(2)
  test.eq(log, { "next" })
  local reports = test.reports()
  test.eq(#reports, 1)
  test.eq(reports[1].error, "oops")
end)

test("the exception handler gets message, error, handle and traceback", function()
  local report
  async.set_exception_handler(function(r) report = r end)
  local handle = async.call_soon(function() error("oops", 0) end)
  test.turns(2)
  test.eq(type(report.message), "string")
  test.eq(report.error, "oops")
  test.eq(report.handle, handle)
  test.contains(report.traceback, "callbacks_test.lua:")
end)

test("an error in a timer's callback is reported like that of another", function()
  async.call_later(0, error, "oops", 0)
  async.sleep(0.002)
  test.eq(test.reports()[1].error, "oops")
end)

test("an error in the exception handler does not stop the loop", function()
  local result = test.script [[
    local async = require "rille.async"
    async.set_exception_handler(function() error("in the handler", 0) end)
    async.call_soon(error, "in the callback", 0)
    async.sleep(0.002)
    print "went on"
  ]]
  test.eq(result.stdout, "went on\n")
  test.contains(result.stderr, "in the handler")
  test.contains(result.stderr, "in the callback")
end)

test("without an exception handler a callback's error is on stderr with its traceback", function()
  local result = test.script [[
    local async = require "rille.async"
    async.set_exception_handler(function() end)
    async.set_exception_handler(nil)
    local function culprit() error "oops" end
    async.call_soon(function()
      culprit()
      return nil
    end)
    async.sleep(0)
    print "went on"
  ]]
  test.eq(result.stdout, "went on\n")
  test.contains(result.stderr, "script.lua:4: oops")
  test.contains(result.stderr, "culprit")
end)

test("async.time goes on and never back", function()
  local before = async.time()
  async.sleep(0.002)
  assert(async.time() > before)
end)

test("set_debug switches debug mode, and debug tells it", function()
  local was = async.debug()
  async.set_debug(true)
  test.eq(async.debug(), true)
  async.set_debug(false)
  test.eq(async.debug(), false)
  async.set_debug(was)
end)

test("slow_callback_duration is a tenth of a second unless changed", function()
  test.eq(async.slow_callback_duration, 0.1)
end)

test("callbacks name their wrong argument, themselves and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'call_soon' (function expected, got nil)",
    function() async.call_soon(nil) end
  )
  test.blames_caller(
    "bad argument #1 to 'call_later' (number expected, got function)",
    function() async.call_later(print) end
  )
  test.blames_caller(
    "bad argument #2 to 'call_later' (function expected, got nil)",
    function() async.call_later(1) end
  )
  test.blames_caller(
    "bad argument #1 to 'call_later'",
    function() async.call_later(0 / 0, print) end
  )
  test.blames_caller("bad argument #1 to 'call_at'", function() async.call_at(0 / 0, print) end)
  test.blames_caller(
    "bad argument #1 to 'set_exception_handler'",
    function() async.set_exception_handler(1) end
  )
end)
