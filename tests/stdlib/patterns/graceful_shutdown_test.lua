local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local patterns = require "rille.patterns"
local has_signals = pcall(require, "rille.signal")

-- Signals of the process that runs the tests are its own.
local function GracefulShutdown(options)
  options = options or {}
  options.signals = false
  return patterns.GracefulShutdown(options)
end

local function hang(log, name)
  async.finally(function() async.sleep(1000) end, function() log(name) end)
end

test("wait ends with the stop, and gives its reason", function()
  local shutdown = GracefulShutdown()
  local waiters = { async.spawn(shutdown.wait, shutdown), async.spawn(shutdown.wait, shutdown) }
  test.turns()
  test.eq({ shutdown:stopping(), waiters[1]:done() }, { false, false })
  test.eq(shutdown:stop "enough", true)
  test.eq(shutdown:stop "again", false)
  test.eq({ shutdown:stopping(), shutdown:wait() }, { true, "enough" })
  test.eq({ waiters[1]:await(), waiters[2]:await() }, { "enough", "enough" })
  shutdown:close()
end)

test("stop may be called in a callback", function()
  local shutdown = GracefulShutdown()
  async.call_soon(shutdown.stop, shutdown, "callback")
  test.eq(shutdown:wait(), "callback")
  shutdown:close()
end)

test("first it stops accepting, then it lets finish", function()
  local shutdown, log = GracefulShutdown(), test.log()
  local queue = async.Queue()
  shutdown:on_stop(function(reason)
    log("stops accepting:", reason)
    queue:shutdown()
  end)
  shutdown:spawn(function()
    for item in queue:iter() do
      async.sleep(0)
      log(item)
    end
    log "finished"
  end)
  for i = 1, 3 do queue:put(i) end
  shutdown:stop "test"
  test.eq({ shutdown:close() }, { true, {} })
  test.eq(log, { "stops accepting: test", "1", "2", "3", "finished" })
end)

test("then it cancels, and waits for the clean-up", function()
  local shutdown, log = GracefulShutdown { timeout = 0.001 }, test.log()
  local task = shutdown:spawn(function()
    async.finally(function() async.sleep(1000) end, function()
      test.turns(3)
      log "cleaned up"
    end)
  end)
  local quick = shutdown:spawn(function() test.turns(3) return "quick" end)
  test.eq((shutdown:close()), true)
  test.eq(log, { "cleaned up" })
  test.eq({ task:cancelled(), quick:result() }, { true, "quick" })
end)

test("with no time to finish it cancels at once", function()
  local shutdown, log = GracefulShutdown { timeout = 0 }, test.log()
  shutdown:spawn(hang, log, "ended")
  test.turns()
  test.eq((shutdown:close()), true)
  test.eq(log, { "ended" })
end)

test("at last it gives up, and reports what does not end", function()
  local shutdown = GracefulShutdown { timeout = 0, cancel_timeout = 0.001 }
  local event = async.Event()
  local stuck = shutdown:spawn(function()
    async.finally(function() async.sleep(1000) end, function() event:wait() end)
  end)
  stuck:set_name "the stuck one"
  shutdown:spawn(async.sleep, 1000)
  test.turns()
  local ended, left = shutdown:close()
  test.eq({ ended, #left, left[1] == stuck }, { false, 1, true })
  local reports = test.reports()
  test.eq({ #reports, reports[1].message }, { 1,
    "the shutdown gave up on the stuck one, which waits for an event" })
  event:set()
  async.wait { stuck }
end)

test("the reason is the reason of the cancellations", function()
  local shutdown = GracefulShutdown { timeout = 0 }
  local task = shutdown:spawn(async.sleep, 1000)
  test.turns()
  shutdown:stop "SIGTERM"
  shutdown:close()
  local _, err = pcall(task.result, task)
  test.eq({ err.kind, err.reason }, { "CancelledError", "SIGTERM" })
end)

test("cancel leaves no time to finish", function()
  local shutdown, log = GracefulShutdown { timeout = math.huge }, test.log()
  shutdown:spawn(hang, log, "ended")
  local closing = async.spawn(shutdown.close, shutdown)
  test.turns()
  test.eq(closing:done(), false)
  shutdown:cancel "hurry"
  test.eq({ closing:await(), log[1] }, { true, "ended" })
end)

test("tasks are cancelled in the order in which they came", function()
  local shutdown, log = GracefulShutdown { timeout = 0 }, test.log()
  for i = 1, 9 do shutdown:spawn(hang, log, i) end
  test.turns()
  shutdown:close()
  test.eq(log, { "1", "2", "3", "4", "5", "6", "7", "8", "9" })
end)

test("after a cancel the time to clean up counts", function()
  local shutdown, event = GracefulShutdown { timeout = math.huge, cancel_timeout = 0.001 },
    async.Event()
  local stuck = shutdown:spawn(function()
    async.finally(function() async.sleep(1000) end, function() event:wait() end)
  end)
  local closing = async.spawn(shutdown.close, shutdown)
  test.turns()
  shutdown:cancel()
  local ended, left = closing:await()
  test.eq({ ended, left[1] == stuck, #test.reports() }, { false, true, 1 })
  event:set()
  async.wait { stuck }
end)

test("cancel before close begins the shutdown", function()
  local shutdown, log = GracefulShutdown { timeout = math.huge }, test.log()
  shutdown:spawn(hang, log, "ended")
  test.turns()
  shutdown:cancel "now"
  test.eq(shutdown:wait(), "now")
  test.eq({ shutdown:close(), log[1] }, { true, "ended" })
end)

test("once it has begun, nothing more is accepted", function()
  local shutdown = GracefulShutdown()
  local other = async.spawn(async.sleep, 1000)
  shutdown:stop()
  test.raises("InvalidStateError", shutdown.spawn, shutdown, print)
  test.raises("InvalidStateError", shutdown.add, shutdown, other)
  test.raises("InvalidStateError", shutdown.on_stop, shutdown, print)
  shutdown:close()
  test.raises("InvalidStateError", shutdown.spawn, shutdown, print)
  other:cancel()
end)

test("tasks from elsewhere can be added", function()
  local shutdown, log = GracefulShutdown { timeout = 0 }, test.log()
  local task = shutdown:add(async.spawn(hang, log, "ended"))
  shutdown:add(task)
  local done = async.spawn(function() end)
  async.wait { done }
  shutdown:add(done)
  test.turns()
  test.eq((shutdown:close()), true)
  test.eq(log, { "ended" })
end)

test("a task's error is its owner's", function()
  local shutdown = GracefulShutdown()
  local task = shutdown:spawn(error, "broken", 0)
  test.eq({ shutdown:close() }, { true, {} })
  test.eq(task:error(), "broken")
end)

test("an error of a hook keeps nothing from happening", function()
  local shutdown, log = GracefulShutdown { timeout = 0 }, test.log()
  shutdown:on_stop(function() error("first", 0) end)
  shutdown:on_stop(function() error(errors.new("OSError", "second"), 0) end)
  shutdown:on_stop(function() log "third" end)
  shutdown:spawn(hang, log, "ended")
  test.turns()
  shutdown:stop()
  local err = test.raises("ErrorGroup", shutdown.close, shutdown)
  test.eq({ err.errors[1], err.errors[2].message }, { "first", "second" })
  test.eq(log, { "third", "ended" })
end)

test("hooks get their time even if there is none for the tasks", function()
  local shutdown, log = GracefulShutdown { timeout = 0 }, test.log()
  shutdown:on_stop(function() log "hook" end)
  shutdown:close()
  test.eq(log, { "hook" })
end)

test("closing twice is closing once, and both wait", function()
  local shutdown, event = GracefulShutdown(), async.Event()
  shutdown:spawn(event.wait, event)
  local closings = { async.spawn(shutdown.close, shutdown), async.spawn(shutdown.close, shutdown) }
  test.turns()
  test.eq({ closings[1]:done(), closings[2]:done() }, { false, false })
  event:set()
  test.eq((closings[1]:await()), true)
  test.eq((closings[2]:await()), true)
  test.eq((shutdown:close()), true)
end)

test("a task that it waits for cannot close it", function()
  local shutdown = GracefulShutdown()
  local task = shutdown:spawn(shutdown.close, shutdown)
  async.wait { task }
  test.eq(task:error().kind, "InvalidStateError")
  test.eq(shutdown:stopping(), false)
  shutdown:close()
end)

test("a cancelled close cancels the tasks at once and waits for them", function()
  local shutdown, log = GracefulShutdown { timeout = math.huge }, test.log()
  shutdown:spawn(function()
    async.finally(function() async.sleep(1000) end, function()
      test.turns(3)
      log "ended"
    end)
  end)
  local closing = async.spawn(shutdown.close, shutdown)
  test.turns()
  closing:cancel()
  async.wait { closing }
  test.eq({ closing:cancelled(), log[1] }, { true, "ended" })
  test.eq((shutdown:close()), true)
end)

test("it is a resource that async.with closes", function()
  local log = test.log()
  async.with(GracefulShutdown { timeout = 0 }, function(shutdown)
    shutdown:spawn(hang, log, "ended")
    test.turns()
  end)
  test.eq(log, { "ended" })
end)

test("nothing is left over, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function()
      return { shutdown = GracefulShutdown { timeout = math.huge, cancel_timeout = math.huge },
        inside = 0 }
    end,
    body = function(s)
      s.shutdown:on_stop(function() test.turns(1) end)
      for _ = 1, 2 do
        s.shutdown:spawn(function()
          s.inside = s.inside + 1
          async.finally(function() s.shutdown:wait() end, function()
            async.sleep(0)
            s.inside = s.inside - 1
          end)
        end)
      end
      async.sleep(0)
      s.shutdown:stop()
      s.shutdown:close()
      test.eq(s.inside, 0)
    end,
    check = function(s)
      test.eq({ s.shutdown:close() }, { true, {} })
      test.eq(s.inside, 0)
    end,
  }
end)

-- Signals: each in a program of its own, which has the signal sent to itself.
local PROGRAM = [[
  local async, patterns = require "rille.async", require "rille.patterns"
  local function send(name) io.popen("kill -" .. name .. " $PPID"):close() end
  local function work(name)
    async.finally(function() async.sleep(1000) end, function() print(name .. " ended") end)
  end
]]

if has_signals then
  test("SIGINT and SIGTERM ask for the shutdown", function()
    for _, name in ipairs { "INT", "TERM" } do
      local result = test.script(PROGRAM .. ([[
        local shutdown = patterns.GracefulShutdown { timeout = 0 }
        shutdown:spawn(work, "task")
        async.sleep(0)
        send "%s"
        print(shutdown:wait())
        print((shutdown:close()))
      ]]):format(name))
      test.eq({ result.stdout, result.code }, { "SIG" .. name .. "\ntask ended\ntrue\n", 0 },
        result.stderr)
    end
  end)

  test("a second signal cancels what would be waited for", function()
    local result = test.script(PROGRAM .. [[
      local shutdown = patterns.GracefulShutdown { timeout = math.huge }
      shutdown:spawn(work, "task")
      shutdown:on_stop(function() send "INT" end)
      async.sleep(0)
      send "TERM"
      print(shutdown:wait())
      print((shutdown:close()))
    ]])
    test.eq({ result.stdout, result.code }, { "SIGTERM\ntask ended\ntrue\n", 0 }, result.stderr)
  end)

  test("after the close signals do what they do by default", function()
    local result = test.script(PROGRAM .. [[
      async.with(patterns.GracefulShutdown(), function() end)
      send "TERM"
      async.sleep(1000)
    ]])
    test.eq(result.signal, 15)
  end)

  test("other signals may be named, or none", function()
    local result = test.script(PROGRAM .. [[
      local shutdown = patterns.GracefulShutdown { signals = { "SIGUSR1" } }
      send "USR1"
      print(shutdown:wait())
      shutdown:close()
      shutdown = patterns.GracefulShutdown { signals = false }
      send "TERM"
      async.sleep(1000)
    ]])
    test.eq({ result.stdout, result.signal }, { "SIGUSR1\n", 15 }, result.stderr)
  end)

  test("an unknown signal is named, and leaves no handler", function()
    local result = test.script(PROGRAM .. [[
      print(pcall(patterns.GracefulShutdown, { signals = { "SIGTERM", "SIGFOO" } }))
      send "TERM"
      async.sleep(1000)
    ]])
    test.contains(result.stdout, "SIGFOO")
    test.eq(result.signal, 15)
  end)
end

test("a wrong argument is an error at the caller's line", function()
  local function blames(part, fn) test.blames_caller(part, fn) end
  local new = patterns.GracefulShutdown
  blames("'timeout' to 'GracefulShutdown' (a time of at least 0 s expected, got -1)",
    function() new { timeout = -1 } end)
  blames("'cancel_timeout' to 'GracefulShutdown' (number expected, got NaN)",
    function() new { cancel_timeout = 0 / 0 } end)
  blames("'signals' to 'GracefulShutdown' (a list of names or false expected, got string)",
    function() new { signals = "SIGINT" } end)
  blames("unknown option 'grace'", function() new { grace = 1 } end)
  local shutdown = GracefulShutdown()
  blames("bad argument #1 to 'spawn' (function expected, got nil)", function() shutdown:spawn() end)
  blames("bad argument #1 to 'add' (Task expected, got table)", function() shutdown:add {} end)
  blames("bad argument #1 to 'on_stop' (function expected, got nil)",
    function() shutdown:on_stop() end)
end)
