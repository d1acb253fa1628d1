local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local CircuitBreaker = require("rille.patterns").CircuitBreaker

local function fail(text) error(text or "service error", 0) end
local function succeed(...) return ... end

local function try(breaker, fn, ...)
  local ok, err = pcall(breaker.call, breaker, fn, ...)
  if ok then return "ok" end
  return errors.is(err, "CircuitOpenError") and "refused" or "failed", err
end

-- A breaker that is open, and that lets a call probe at once if `recovery_timeout` is 0.
local function opened(options)
  options.failure_threshold = 1
  local breaker = CircuitBreaker(options)
  try(breaker, fail)
  return breaker
end

test("a closed breaker passes arguments, results and errors on", function()
  local breaker = CircuitBreaker()
  test.eq({ breaker:call(succeed, "a", nil, "c") }, { "a", nil, "c" })
  test.eq(select("#", breaker:call(succeed, nil, nil)), 2)
  local mine = errors.new("HTTPError", "503")
  local _, err = try(breaker, error, mine, 0)
  assert(rawequal(err, mine))
  test.eq(breaker:state(), "closed")
end)

test("failures in a row open it, and calls are refused without being made", function()
  local breaker, calls = CircuitBreaker { failure_threshold = 3 }, 0
  local function failing()
    calls = calls + 1
    fail()
  end
  test.eq({ try(breaker, failing), (try(breaker, failing)) }, { "failed", "failed" })
  test.eq(breaker:state(), "closed")
  test.eq((try(breaker, failing)), "failed")
  test.eq(breaker:state(), "open")
  test.eq((try(breaker, failing)), "refused")
  test.eq(calls, 3)
end)

test("a success between failures begins the count anew", function()
  local breaker = CircuitBreaker { failure_threshold = 2 }
  for _ = 1, 5 do
    try(breaker, fail)
    try(breaker, succeed)
  end
  test.eq(breaker:state(), "closed")
end)

test("a refusal tells the last error and how long it will be", function()
  local breaker = opened { recovery_timeout = 1000 }
  local _, err = try(breaker, succeed)
  test.eq(err.cause, "service error")
  test.contains(err.message, "service error")
  assert(err.retry_after > 900 and err.retry_after <= 1000, err.retry_after)
end)

test("after its time it is half open, and successes close it", function()
  local breaker = opened { recovery_timeout = 0, success_threshold = 3 }
  test.eq(breaker:state(), "half_open")
  for _ = 1, 2 do
    test.eq((try(breaker, succeed)), "ok")
    test.eq(breaker:state(), "half_open")
  end
  test.eq((try(breaker, succeed)), "ok")
  test.eq(breaker:state(), "closed")
end)

test("it stays open until its time has come", function()
  local start = async.time()
  local breaker = opened { recovery_timeout = 0.003, success_threshold = 1 }
  while breaker:state() == "open" do async.sleep(0.001) end
  assert(async.time() - start >= 0.003)
  test.eq((try(breaker, succeed)), "ok")
  test.eq(breaker:state(), "closed")
end)

test("one failure in the half open state opens it again", function()
  local breaker = CircuitBreaker { failure_threshold = 3, recovery_timeout = 0 }
  for _ = 1, 3 do try(breaker, fail) end
  test.eq((try(breaker, succeed)), "ok")
  test.eq((try(breaker, fail)), "failed")
  test.eq((try(breaker, succeed)), "ok") -- the first in a row again
  test.eq(breaker:state(), "half_open")
  test.eq((try(breaker, succeed)), "ok")
  test.eq(breaker:state(), "closed")
end)

test("a half open breaker lets one probe through at a time", function()
  local breaker = opened { recovery_timeout = 0 }
  local event = async.Event()
  local probe = async.spawn(breaker.call, breaker, function()
    event:wait()
    return "probed"
  end)
  async.sleep(0)
  local answer, err = try(breaker, succeed)
  test.eq({ answer, err.retry_after }, { "refused", nil })
  test.contains(err.message, "half open")
  event:set()
  test.eq(probe:await(), "probed")
  test.eq((try(breaker, succeed)), "ok")
  test.eq(breaker:state(), "closed")
end)

test("a cancelled call is neither a success nor a failure", function()
  local breaker = CircuitBreaker { failure_threshold = 1, recovery_timeout = 0 }
  local function hang() async.sleep(1000) end
  local task = async.spawn(breaker.call, breaker, hang)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  test.eq(breaker:state(), "closed")
  test.raises("TimeoutError", async.wait_for, breaker.call, 0.001, breaker, hang)
  test.eq(breaker:state(), "closed")

  try(breaker, fail)
  task = async.spawn(breaker.call, breaker, hang) -- the probe
  async.sleep(0)
  task:cancel()
  async.wait { task }
  test.eq(breaker:state(), "half_open")
  test.eq((try(breaker, succeed)), "ok")
end)

test("a timeout inside the call is a failure", function()
  local breaker = CircuitBreaker { failure_threshold = 1 }
  try(breaker, async.wait_for, async.sleep, 0.001, 1000)
  test.eq(breaker:state(), "open")
end)

test("a call that began before the circuit opened says nothing about it afterwards", function()
  local breaker = CircuitBreaker { failure_threshold = 2, success_threshold = 1,
    recovery_timeout = 1000 }
  local event = async.Event()
  local good = async.spawn(breaker.call, breaker, function() event:wait() end)
  local bad = async.spawn(function()
    return (try(breaker, function()
      event:wait()
      fail()
    end))
  end)
  async.sleep(0)
  try(breaker, fail)
  try(breaker, fail)
  async.sleep(0.002)
  event:set()
  async.wait { good, bad }
  test.eq({ breaker:state(), bad:result() }, { "open", "failed" })
  local _, err = try(breaker, succeed)
  assert(err.retry_after <= 999.998, "the late failure began its time anew")
end)

test("a late failure of the closed time does not spoil a probe", function()
  local breaker = CircuitBreaker { failure_threshold = 1, recovery_timeout = 0,
    success_threshold = 2 }
  local event = async.Event()
  local late = async.spawn(try, breaker, function()
    event:wait()
    fail()
  end)
  async.sleep(0)
  try(breaker, fail)
  test.eq((try(breaker, succeed)), "ok")
  event:set()
  late:await()
  test.eq((try(breaker, succeed)), "ok")
  test.eq(breaker:state(), "closed")
end)

test("errors that are not meant leave it closed, and count as answers", function()
  local breaker = CircuitBreaker { failure_threshold = 2, on = { "TimeoutError", "OSError" } }
  local function raise(kind) error(errors.new(kind, "no"), 0) end
  for _ = 1, 5 do try(breaker, raise, "HTTPError") end
  test.eq(breaker:state(), "closed")
  try(breaker, raise, "OSError")
  try(breaker, raise, "HTTPError")
  try(breaker, raise, "OSError")
  test.eq(breaker:state(), "closed")
  try(breaker, raise, "TimeoutError")
  test.eq(breaker:state(), "open")
end)

test("an error that is not meant is a probe's success", function()
  local breaker = opened { recovery_timeout = 0, on = function(e) return e ~= "not found" end }
  for _ = 1, 2 do test.eq((try(breaker, fail, "not found")), "failed") end
  test.eq(breaker:state(), "closed")
end)

test("what a predicate finds too late says nothing any more", function()
  local event = async.Event()
  local breaker = CircuitBreaker { failure_threshold = 1, recovery_timeout = 1000,
    on = function(e)
      if e == "slow" then event:wait() end
      return e ~= "slow"
    end }
  local late = async.spawn(try, breaker, fail, "slow")
  async.sleep(0)
  try(breaker, fail)
  test.eq(breaker:state(), "open")
  event:set()
  late:await()
  test.eq(breaker:state(), "open")
  breaker:reset()
  test.eq((try(breaker, succeed)), "ok")
end)

test("a predicate that fails replaces the error and frees the probe", function()
  local odd = false
  local breaker = opened { recovery_timeout = 0, on = function()
    if odd then error(errors.new("Odd", "predicate"), 0) end
    return true
  end }
  odd = true
  local _, err = try(breaker, fail)
  test.eq({ err.kind, err.cause }, { "Odd", "service error" })
  test.eq((try(breaker, succeed)), "ok")
end)

test("reset closes it", function()
  local breaker = opened {}
  breaker:reset()
  test.eq(breaker:state(), "closed")
  test.eq((try(breaker, succeed)), "ok")
end)

test("the probe's place is not lost, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function() return { breaker = opened { recovery_timeout = 0 } } end,
    body = function(s)
      local tasks = {}
      for i = 1, 4 do
        tasks[i] = async.spawn(function()
          for _ = 1, 3 do
            local ok, err = pcall(s.breaker.call, s.breaker, test.turns, 2)
            if not ok and not errors.is(err, "CircuitOpenError") then error(err, 0) end
            async.sleep(0)
          end
        end)
      end
      async.wait(tasks)
    end,
    check = function(s)
      if s.breaker:state() == "half_open" then
        s.breaker:call(succeed)
        s.breaker:call(succeed)
      end
      test.eq(s.breaker:state(), "closed")
    end,
  }
end)

test("a wrong argument is an error at the caller's line", function()
  local function blames(part, fn) test.blames_caller(part, fn) end
  blames("unknown option 'threshold'", function() CircuitBreaker { threshold = 1 } end)
  blames("bad argument 'failure_threshold' to 'CircuitBreaker' (at least 1 expected, got 0)",
    function() CircuitBreaker { failure_threshold = 0 } end)
  blames("'success_threshold' to 'CircuitBreaker' (whole number expected, got 0.5)",
    function() CircuitBreaker { success_threshold = 0.5 } end)
  blames("'recovery_timeout' to 'CircuitBreaker' (a time of at least 0 s expected, got -1)",
    function() CircuitBreaker { recovery_timeout = -1 } end)
  blames("'recovery_timeout' to 'CircuitBreaker' (number expected, got NaN)",
    function() CircuitBreaker { recovery_timeout = 0 / 0 } end)
  local breaker = CircuitBreaker()
  blames("bad argument #1 to 'call' (function expected, got nil)", function() breaker:call() end)
end)
