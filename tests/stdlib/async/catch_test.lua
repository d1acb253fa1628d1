local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local timeout = errors.new("TimeoutError", "late")
local invalid = errors.new("InvalidStateError", "odd")

-- Waits to be cancelled, so that each of several children has its turn to fail.
local function fail_when_cancelled(value)
  pcall(async.sleep, 1000)
  error(value, 0)
end

local function fails_with(...)
  local values = { ... }
  return function()
    async.group(function(g)
      for _, value in ipairs(values) do g:spawn(fail_when_cancelled, value) end
      async.sleep(0)
      g:cancel()
    end)
  end
end

test("catch gives the results of a function that does not fail", function()
  local n = select("#", async.catch(function() return 1, nil, nil end, { TimeoutError = error }))
  test.eq(n, 3)
end)

test("catch hands the matching part to its handler", function()
  local seen
  async.catch(fails_with(timeout, timeout), { TimeoutError = function(group) seen = group end })
  assert(errors.is(seen, "ErrorGroup"))
  test.eq(#seen.errors, 2)
  assert(rawequal(seen.errors[1], timeout))
end)

test("catch returns the results of its handler when one ran", function()
  local n = select("#", async.catch(fails_with(timeout), {
    TimeoutError = function() return nil, 2, nil end,
  }))
  test.eq(n, 3)
end)

test("each handler of catch runs once, with all that is of its kind", function()
  local log = test.log()
  async.catch(fails_with(timeout, invalid, timeout), {
    TimeoutError = function(group) log("late", #group.errors) end,
    InvalidStateError = function(group) log("odd", #group.errors) end,
  })
  table.sort(log)
  test.eq(log, { "late 2", "odd 1" })
end)

test("catch raises what is left when its handlers have run", function()
  local log = test.log()
  local err = test.raises("ErrorGroup", async.catch, fails_with(timeout, invalid), {
    TimeoutError = function() log "handled" end,
  })
  test.eq(#err.errors, 1)
  assert(rawequal(err.errors[1], invalid))
  test.eq(log, { "handled" })
end)

test("an error that is no group comes to the handler in one", function()
  local seen
  async.catch(function() error(timeout) end, { TimeoutError = function(group) seen = group end })
  assert(errors.is(seen, "ErrorGroup"))
  test.eq(#seen.errors, 1)
  assert(rawequal(seen.errors[1], timeout))
end)

test("an error that no handler wants passes as it is", function()
  local ok, err = pcall(async.catch, function() error(invalid) end, { TimeoutError = error })
  assert(not ok and rawequal(err, invalid))
  ok, err = pcall(async.catch, function() error("text", 0) end, { TimeoutError = error })
  test.eq({ ok, err }, { false, "text" })
end)

test("errors from handlers join what is left", function()
  local err = test.raises("ErrorGroup", async.catch, fails_with(timeout, invalid), {
    TimeoutError = function() error("from the handler", 0) end,
  })
  test.eq(#err.errors, 2)
  local texts = { tostring(err.errors[1]), tostring(err.errors[2]) }
  table.sort(texts)
  test.eq(texts, { "InvalidStateError: odd", "from the handler" })
end)

test("catch finds errors in nested groups", function()
  local seen = 0
  async.catch(function()
    async.group(function(g) g:spawn(fails_with(timeout, timeout)) end)
  end, {
    TimeoutError = function(group) seen = #group.errors[1].errors end,
  })
  test.eq(seen, 2)
end)

test("a cancellation passes through catch", function()
  local log = test.log()
  local task = async.spawn(async.catch, function() async.sleep(1000) end, {
    TimeoutError = function() log "handler" end,
    Cancelled = function() log "handler" end,
  })
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, {})
end)

test("the function and the handlers of catch may wait", function()
  local log = test.log()
  async.catch(function()
    async.sleep(0)
    error(timeout)
  end, {
    TimeoutError = function()
      async.sleep(0)
      log "handled"
    end,
  })
  test.eq(log, { "handled" })
end)

test("a handler of catch that is no function is named", function()
  test.blames_caller("TimeoutError", function() async.catch(print, { TimeoutError = 1 }) end)
end)

test("catch names its wrong argument, itself and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'catch' (function expected, got nil)",
    function() async.catch(nil, {}) end
  )
  test.blames_caller(
    "bad argument #2 to 'catch' (table expected, got nil)",
    function() async.catch(print) end
  )
end)
