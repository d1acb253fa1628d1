local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local EventBus = require("rille.patterns").EventBus

test("every listener is called with the arguments, in the order of its adding", function()
  local bus, log = EventBus(), test.log()
  bus:on("a", function(...) log("first", ...) end)
  bus:on("b", function() log "other" end)
  bus:on("a", function(...) log("second", ...) end)
  test.eq(bus:emit("a", 1, nil, "x"), 2)
  test.eq(log, { "first 1 nil x", "second 1 nil x" })
  test.eq(bus:emit "nobody", 0)
end)

test("emit waits until all listeners have ended, which run at the same time", function()
  local bus, log = EventBus(), test.log()
  bus:on("a", function()
    test.turns(3)
    log "slow"
  end)
  bus:on("a", function() log "fast" end)
  bus:emit "a"
  test.eq(log, { "fast", "slow" })
end)

test("a listener that fails keeps no other from running", function()
  local bus, log = EventBus(), test.log()
  local second = errors.new("OSError", "second")
  bus:on("a", function()
    async.sleep(0)
    error("first", 0)
  end)
  bus:on("a", function() error(second, 0) end)
  bus:on("a", function()
    test.turns(3)
    log "third"
  end)
  local err = test.raises("ErrorGroup", bus.emit, bus, "a")
  test.eq(#err.errors, 2)
  test.eq(err.errors[1], "first")
  assert(rawequal(err.errors[2], second))
  test.eq(log, { "third" })
end)

test("once is called once", function()
  local bus, log = EventBus(), test.log()
  bus:once("a", function(n)
    log(n)
    if n < 3 then bus:emit("a", n + 1) end
  end)
  bus:emit("a", 1)
  test.eq(bus:emit("a", 2), 0)
  test.eq(log, { "1" })
end)

test("off takes a listener back as often as it was added", function()
  local bus, log = EventBus(), test.log()
  local fn = bus:on("a", function() log "a" end)
  bus:on("a", fn)
  bus:once("a", fn)
  test.eq(bus:emit "a", 3)
  test.eq(bus:off("a", fn), 2)
  test.eq({ bus:emit "a", bus:off("a", fn), bus:off("b", fn) }, { 0, 0, 0 })
end)

test("listeners may come and go while an event is under way", function()
  local bus, log = EventBus(), test.log()
  local function late() log "late" end
  local last
  bus:on("a", function()
    log "first"
    bus:off("a", last)
    bus:on("a", late)
  end)
  last = bus:on("a", function() log "last" end)
  bus:emit "a"
  test.eq(log, { "first", "last" })
  bus:emit "a"
  test.eq(log, { "first", "last", "first", "late" })
end)

test("any value but nil and NaN is an event's name", function()
  local bus, key, got = EventBus(), {}, 0
  bus:on(key, function() got = got + 1 end)
  bus:on(false, function() got = got + 10 end)
  bus:emit(key)
  bus:emit(false)
  test.eq(got, 11)
end)

test("a cancelled emit cancels its listeners and waits for them", function()
  local bus, log = EventBus(), test.log()
  for i = 1, 2 do
    bus:on("a", function()
      async.finally(function() async.sleep(1000) end, function()
        async.sleep(0)
        log("ended", i)
      end)
    end)
  end
  local task = async.spawn(bus.emit, bus, "a")
  test.turns()
  task:cancel()
  async.wait { task }
  test.eq(task:cancelled(), true)
  test.eq(log, { "ended 1", "ended 2" })
end)

test("an error is not lost when the emit is cancelled", function()
  local bus = EventBus()
  bus:on("a", function() error("broken", 0) end)
  bus:on("a", function() async.sleep(1000) end)
  local task = async.spawn(bus.emit, bus, "a")
  test.turns()
  task:cancel()
  async.wait { task }
  test.eq(task:error().errors, { "broken" })
end)

test("a bus works on, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function()
      local s = { bus = EventBus(), inside = 0 }
      for _ = 1, 2 do
        s.bus:on("a", function()
          s.inside = s.inside + 1
          local ok, err = pcall(test.turns, 2)
          s.inside = s.inside - 1
          if not ok then error(err, 0) end
        end)
      end
      return s
    end,
    body = function(s)
      async.wait { async.spawn(s.bus.emit, s.bus, "a"), async.spawn(s.bus.emit, s.bus, "a") }
    end,
    check = function(s)
      test.eq(s.inside, 0)
      test.eq(s.bus:emit "a", 2)
    end,
  }
end)

test("a wrong argument is an error at the caller's line", function()
  local bus = EventBus()
  local function blames(part, fn) test.blames_caller(part, fn) end
  blames("bad argument #1 to 'on' (an event's name expected, got nil)",
    function() bus:on(nil, print) end)
  blames("bad argument #1 to 'once' (an event's name expected, got NaN)",
    function() bus:once(0 / 0, print) end)
  blames("bad argument #2 to 'on' (function expected, got nil)", function() bus:on "a" end)
  blames("bad argument #2 to 'once' (function expected, got string)",
    function() bus:once("a", "b") end)
  blames("bad argument #1 to 'off' (an event's name expected, got nil)",
    function() bus:off(nil, print) end)
  blames("bad argument #2 to 'off' (function expected, got nil)", function() bus:off "a" end)
  blames("bad argument #1 to 'emit' (an event's name expected, got nil)", function() bus:emit() end)
end)
