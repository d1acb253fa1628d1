local async, test = require "rille.async", require "support.test"

local count = async.generator(function(yield, n)
  for i = 1, n do yield(i) end
end)

test("a generator gives the values of its yields", function()
  local log = test.log()
  for i in count(3) do log(i) end
  test.eq(log, { "1", "2", "3" })
end)

test("a generator factory makes an independent iterator with each call", function()
  local a, b = count(3), count(3)
  test.eq({ a(), a(), b(), a(), b() }, { 1, 2, 1, 3, 2 })
  a:close()
  b:close()
end)

test("a generator may give several values at once", function()
  local pairs_of = async.generator(function(yield)
    yield("a", 1)
    yield("b", nil, 3)
  end)
  local iterator = pairs_of()
  test.eq({ iterator() }, { "a", 1 })
  test.eq(select("#", iterator()), 3)
  iterator:close()
end)

test("a generator may wait for its values", function()
  local log = test.log()
  local ticker = async.generator(function(yield)
    for i = 1, 2 do
      async.sleep(0)
      yield(i)
    end
  end)
  local other = async.spawn(function()
    for _ = 1, 2 do
      log "other"
      async.sleep(0)
    end
  end)
  for i in ticker() do log(i) end
  other:await()
  test.eq(log, { "other", "1", "other", "2" })
end)

test("the loop over a generator may wait", function()
  local log = test.log()
  for i in count(2) do
    async.sleep(0)
    log(i)
  end
  test.eq(log, { "1", "2" })
end)

test("a generator does not run ahead", function()
  local log = test.log()
  local noisy = async.generator(function(yield)
    log "first"
    yield(1)
    log "second"
    yield(2)
  end)
  local iterator = noisy()
  test.eq(log, {})
  iterator()
  test.turns(3)
  test.eq(log, { "first" })
  iterator:close()
end)

test("an error in a generator is raised where the value was asked for, unchanged", function()
  local value = { "any table" }
  local failing = async.generator(function(yield)
    yield(1)
    error(value)
  end)
  local iterator = failing()
  test.eq(iterator(), 1)
  local ok, err = pcall(iterator)
  assert(not ok and rawequal(err, value))
  test.eq(select("#", iterator()), 0)
end)

test("a generator that has ended gives nothing more", function()
  local iterator = count(1)
  iterator()
  test.eq(select("#", iterator()), 0)
  test.eq(select("#", iterator()), 0)
end)

local function cleaning(log)
  return async.generator(function(yield)
    async.finally(function()
      yield(1)
      log "not reached"
    end, function()
      async.sleep(0)
      log "cleaned up"
    end)
  end)
end

test("close runs the pending clean-up of a generator, which may wait", function()
  local log = test.log()
  local iterator = cleaning(log)()
  iterator()
  iterator:close()
  test.eq(log, { "cleaned up" })
end)

test("a closed generator gives nothing, and may be closed again", function()
  local log = test.log()
  local iterator = cleaning(log)()
  iterator()
  iterator:close()
  iterator:close()
  test.eq(select("#", iterator()), 0)
  test.eq(log, { "cleaned up" })
end)

test("a generator that is closed before its first value never runs", function()
  local log = test.log()
  local noisy = async.generator(function(yield)
    log "ran"
    yield(1)
  end)
  local iterator = noisy()
  iterator:close()
  test.eq(select("#", iterator()), 0)
  test.eq(log, {})
end)

test("close unwinds through a plain pcall", function()
  local log = test.log()
  local stubborn = async.generator(function(yield)
    while true do
      pcall(yield, 1)
      log "caught"
    end
  end)
  local iterator = stubborn()
  iterator()
  iterator:close()
  test.eq(log, {})
  test.eq(select("#", iterator()), 0)
end)

test("a generator left half-way is closed when the task that made it ends", function()
  local log = test.log()
  async.spawn(function()
    for _ in cleaning(log)() do break end
    log "left"
  end):await()
  test.turns(3)
  test.eq(log, { "left", "cleaned up" })
end)

test("a generator left half-way is closed when the task that made it is cancelled", function()
  local log = test.log()
  local task = async.spawn(function()
    for _ in cleaning(log)() do async.sleep(1000) end
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  test.turns(3)
  assert(task:cancelled())
  test.eq(log, { "cleaned up" })
end)

test("async.with closes a generator", function()
  local log = test.log()
  async.with(cleaning(log)(), function(iterator) test.eq(iterator(), 1) end)
  test.eq(log, { "cleaned up" })
end)

test("a cancellation that comes while a generator waits cleans it up", function()
  local log = test.log()
  local slow = async.generator(function(yield)
    async.finally(function()
      async.sleep(1000)
      yield(1)
    end, function() log "cleaned up" end)
  end)
  local task = async.spawn(function()
    for _ in slow() do log "not reached" end
  end)
  test.turns(2)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "cleaned up" })
end)

test("generators may be put one into another", function()
  local doubled = async.generator(function(yield, inner)
    for i in inner do yield(i * 2) end
  end)
  local log = test.log()
  for i in doubled(count(3)) do log(i) end
  test.eq(log, { "2", "4", "6" })
end)

test("close of a generator that stands in a group cancels the group's children", function()
  local log = test.log()
  local grouped = async.generator(function(yield)
    async.group(function(g)
      g:spawn(function()
        async.finally(function() async.sleep(1000) end, function() log "child" end)
      end)
      async.sleep(0)
      yield(1)
    end)
  end)
  local iterator = grouped()
  test.eq(iterator(), 1)
  iterator:close()
  test.eq(log, { "child" })
end)

test("a scope in a generator does not hold for who asks it for values", function()
  local limited = async.generator(function(yield)
    async.timeout(0.002, function()
      yield(1)
      async.sleep(1000)
    end)
  end)
  local iterator = limited()
  test.eq(iterator(), 1)
  async.sleep(0.01) -- past the deadline, but outside
  test.raises("TimeoutError", iterator)
  async.sleep(0)
end)

test("nothing can cancel the clean-up of a generator before it begins", function()
  local log, others = test.log(), {}
  for _, task in ipairs(async.all_tasks()) do others[task] = true end
  local task = async.spawn(function()
    for _ in cleaning(log)() do async.sleep(1000) end
  end)
  async.sleep(0)
  local function cancel_all()
    for _, each in ipairs(async.all_tasks()) do
      if not others[each] then each:cancel() end
    end
  end
  cancel_all()
  async.call_soon(cancel_all)
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "cleaned up" })
end)

test("generator names its wrong argument, itself and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'generator' (function expected, got nil)",
    function() async.generator(nil) end
  )
end)
