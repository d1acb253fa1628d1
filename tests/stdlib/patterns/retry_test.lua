local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local retry = require("rille.patterns").retry

-- Fails `n` times, then gives its arguments back.
local function failing(n, make_error)
  local calls = 0
  return function(...)
    calls = calls + 1
    if calls <= n then error(make_error and make_error(calls) or "failure " .. calls, 0) end
    return calls, ...
  end
end

-- The delays that a retry comes to, before jitter makes them nothing.
local function delays(options, n)
  local list = {}
  options.attempts = n + 1
  options.jitter = function(delay, attempt)
    list[attempt] = delay
    return 0
  end
  pcall(retry, failing(math.huge), options)
  return list
end

test("what succeeds is called once, with all arguments and results", function()
  test.eq({ retry(failing(0), nil, "a", nil, "c") }, { 1, "a", nil, "c" })
  test.eq({ retry(function() end) }, {})
  test.eq(select("#", retry(function() return nil, nil end, {})), 2)
end)

test("what fails is tried again with the same arguments", function()
  test.eq({ retry(failing(2), { base_delay = 0 }, "a", nil, "c") }, { 3, "a", nil, "c" })
end)

test("the error of the last try is raised as it was", function()
  test.raises("^failure 3$", retry, failing(5), { base_delay = 0 })
  test.raises("^failure 1$", retry, failing(5), { attempts = 1, base_delay = 1000 })
  local mine = errors.new("HTTPError", "503")
  local ok, err = pcall(retry, failing(5, function() return mine end), { base_delay = 0 })
  test.eq(ok, false)
  assert(rawequal(err, mine))
end)

test("attempts may be without a limit", function()
  test.eq(retry(failing(200), { attempts = math.huge, base_delay = 0 }), 201)
end)

test("pauses grow by the factor, up to the longest", function()
  test.eq(delays({}, 4), { 1, 2, 4, 8 })
  test.eq(delays({ base_delay = 3, factor = 3, max_delay = 50 }, 5), { 3, 9, 27, 50, 50 })
  test.eq(delays({ base_delay = 5, factor = 1 }, 3), { 5, 5, 5 })
  test.eq(delays({ base_delay = 100 }, 2), { 60, 60 })
  test.eq(delays({ base_delay = 0, factor = math.huge }, 3), { 0, 0, 0 })
  test.eq(delays({ base_delay = 1, max_delay = 0 }, 2), { 0, 0 })
end)

test("jitter leaves a share of each pause to chance", function()
  -- The least and the longest pause where 8 ns is the whole.
  local function spread(jitter)
    local low, high = math.huge, -math.huge
    pcall(retry, failing(math.huge), {
      attempts = 300, base_delay = 8e-9, factor = 1, jitter = jitter,
      on_retry = function(_, _, delay)
        low, high = math.min(low, delay * 1e9), math.max(high, delay * 1e9)
      end,
    })
    return low, high
  end
  local low, high = spread(true)
  assert(low >= 0 and low < 2 and high > 6 and high <= 8.001, low .. " " .. high)
  low, high = spread(0.5)
  assert(low >= 3.999 and low < 5 and high > 7 and high <= 8.001, low .. " " .. high)
  low, high = spread(0)
  test.eq(low, high)
  low, high = spread(false)
  test.eq(low, high)
end)

test("a function settles the pauses", function()
  local list = {}
  pcall(retry, failing(math.huge), {
    base_delay = 1e-9,
    jitter = function(delay, attempt) return delay * 10 * attempt end,
    on_retry = function(_, attempt, delay) list[attempt] = math.floor(delay * 1e9 + 0.5) end,
  })
  test.eq(list, { 10, 40 })
end)

test("jitter leaves the script's own random numbers alone", function()
  math.randomseed(1)
  local first = math.random()
  math.randomseed(1)
  retry(failing(3), { attempts = 4, base_delay = 1e-9, jitter = true })
  test.eq(math.random(), first)
end)

test("only the errors that are named are tried again", function()
  local function kinds(on, kind)
    local calls = 0
    pcall(retry, function()
      calls = calls + 1
      error(kind and errors.new(kind, "no") or "text", 0)
    end, { base_delay = 0, on = on })
    return calls
  end
  test.eq(kinds("HTTPError", "HTTPError"), 3)
  test.eq(kinds("HTTPError", "TimeoutError"), 1)
  test.eq(kinds("HTTPError", nil), 1)
  test.eq(kinds({ "HTTPError", "TimeoutError" }, "TimeoutError"), 3)
  test.eq(kinds({ "HTTPError", "TimeoutError" }, "OSError"), 1)
  test.eq(kinds(function(e) return e == "text" end, nil), 3)
  test.eq(kinds(function(e) return e == "text" end, "OSError"), 1)
end)

test("on_retry is told the error, the number of the try and the pause", function()
  local log = test.log()
  retry(failing(2), { base_delay = 0, on_retry = log })
  test.eq(log, { "failure 1 1 0", "failure 2 2 0" })
end)

test("an error of on_retry, and one of the predicate, end the tries", function()
  test.raises("^stop$", retry, failing(5), { on_retry = function() error("stop", 0) end })
  test.raises("^odd$", retry, failing(5), { on = function() error("odd", 0) end })
end)

test("a cancellation is not tried again", function()
  local calls = 0
  local function count() calls = calls + 1 end
  local task = async.spawn(retry, function()
    count()
    async.sleep(1000)
  end, { base_delay = 0, on = count, on_retry = count })
  async.sleep(0)
  task:cancel()
  async.wait { task }
  test.eq({ calls, task:cancelled() }, { 1, true })
end)

test("the end of a generator that is closed is not tried again", function()
  local calls = 0
  local generator = async.generator(function(yield)
    retry(function()
      calls = calls + 1
      yield(calls)
    end, { base_delay = 0 })
  end)()
  test.eq(generator(), 1)
  generator:close()
  test.eq(calls, 1)
end)

test("a cancellation ends the pause", function()
  local task = async.spawn(retry, failing(5), { base_delay = 1000, max_delay = 1000 })
  async.sleep(0)
  task:cancel()
  async.wait { task }
  test.eq(task:cancelled(), true)
end)

test("the end of a timeout around it is not tried again, of one inside it is", function()
  local outer, inner = 0, 0
  test.raises("TimeoutError", async.wait_for, retry, 0.001, function()
    outer = outer + 1
    async.sleep(1000)
  end, { base_delay = 0 })
  test.eq(outer, 1)
  test.raises("TimeoutError", retry, function()
    inner = inner + 1
    async.wait_for(async.sleep, 0.001, 1000)
  end, { base_delay = 0 })
  test.eq(inner, 3)
end)

test("the CancelledError of another task is an error like others", function()
  local calls = 0
  test.raises("CancelledError", retry, function()
    calls = calls + 1
    local other = async.spawn(async.sleep, 1000)
    other:cancel()
    other:await()
  end, { base_delay = 0 })
  test.eq(calls, 3)
end)

test("a wrong argument is an error at the caller's line", function()
  local function blames(part, fn) test.blames_caller(part, fn) end
  blames("bad argument #1 to 'retry' (function expected, got nil)", function() retry() end)
  blames("bad argument #2 to 'retry' (table expected, got number)", function() retry(print, 3) end)
  blames("unknown option 'delay'", function() retry(print, { delay = 1 }) end)
  blames("bad argument 'attempts' to 'retry' (at least 1 expected, got 0)",
    function() retry(print, { attempts = 0 }) end)
  blames("'attempts' to 'retry' (whole number expected, got 1.5)",
    function() retry(print, { attempts = 1.5 }) end)
  blames("'attempts' to 'retry' (whole number expected, got nan)",
    function() retry(print, { attempts = 0 / 0 }) end)
  blames("'base_delay' to 'retry' (a time of at least 0 s expected, got -1)",
    function() retry(print, { base_delay = -1 }) end)
  blames("'max_delay' to 'retry' (number expected, got boolean)",
    function() retry(print, { max_delay = true }) end)
  blames("'factor' to 'retry' (at least 1 expected, got 0.5)",
    function() retry(print, { factor = 0.5 }) end)
  blames("'jitter' to 'retry' (a share from 0 to 1 expected, got 2)",
    function() retry(print, { jitter = 2 }) end)
  blames("'jitter' to 'retry' (a share from 0 to 1 expected, got -0.5)",
    function() retry(print, { jitter = -0.5 }) end)
  blames("'jitter' to 'retry' (a share from 0 to 1 expected, got ",
    function() retry(print, { jitter = 0 / 0 }) end)
  blames("'jitter' to 'retry' (boolean, number or function expected, got string)",
    function() retry(print, { jitter = "1" }) end)
  blames("'on' to 'retry' (a kind of error, a list of them or a function expected, got number)",
    function() retry(print, { on = 3 }) end)
  blames("'on' to 'retry' (entry 2: a kind of error expected, got number)",
    function() retry(print, { on = { "OSError", 3 } }) end)
  blames("'on' to 'retry' (the list of kinds is empty)", function() retry(print, { on = {} }) end)
  blames("'on_retry' to 'retry' (function expected, got string)",
    function() retry(print, { on_retry = "log" }) end)
  blames("'jitter' to 'retry' (the function gave nil, not a time)",
    function() retry(error, { jitter = function() end }) end)
  blames("'jitter' to 'retry' (the function gave -1, not a time)",
    function() retry(error, { jitter = function() return -1 end }) end)
  blames("not a time)", function() retry(error, { jitter = function() return 0 / 0 end }) end)
end)
