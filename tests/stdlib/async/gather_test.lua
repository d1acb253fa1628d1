local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local function returns(...)
  local values, n = { ... }, select("#", ...)
  return function()
    async.sleep(0)
    return unpack(values, 1, n)
  end
end

local function fails(value)
  return function()
    async.sleep(0)
    error(value, 0)
  end
end

test("gather gives the first results in the order of its list, with n", function()
  local results = async.gather {
    function()
      test.turns(3)
      return "slow", "second results are left out"
    end,
    returns "fast",
  }
  test.eq(results, { "slow", "fast", n = 2 })
end)

test("gather counts results that are nil", function()
  test.eq(async.gather { returns(nil), returns(2), returns() }, { nil, 2, nil, n = 3 })
end)

test("gather of nothing gives nothing", function()
  test.eq(async.gather {}, { n = 0 })
end)

test("gather runs its functions at the same time, in order", function()
  local log = test.log()
  local function steps(name)
    return function()
      log(name, 1)
      async.sleep(0)
      log(name, 2)
    end
  end
  async.gather { steps "a", steps "b" }
  test.eq(log, { "a 1", "b 1", "a 2", "b 2" })
end)

test("gather takes functions, tasks and futures", function()
  local future = async.Future()
  async.call_soon(future.set_result, future, "future")
  local task = async.spawn(returns "task")
  local results = async.gather { returns "function", task, future }
  test.eq(results, { "function", "task", "future", n = 3 })
end)

test("gather takes what is done already", function()
  local future = async.Future()
  future:set_result "done"
  test.eq(async.gather { future }, { "done", n = 1 })
end)

test("a function that stands twice in gather runs twice", function()
  local runs = 0
  local function count()
    runs = runs + 1
    return runs
  end
  test.eq(async.gather { count, count }, { 1, 2, n = 2 })
end)

test("a task that stands twice in gather runs once and gives its result twice", function()
  local runs = 0
  local task = async.spawn(function()
    runs = runs + 1
    return runs
  end)
  test.eq(async.gather { task, task }, { 1, 1, n = 2 })
end)

test("gather raises the first error, unchanged", function()
  local value = { "any table" }
  local ok, err = pcall(async.gather, { fails(value), function() async.sleep(1000) end })
  assert(not ok and rawequal(err, value))
end)

test("at the first error gather cancels the functions it started and waits for them", function()
  local log = test.log()
  local ok, err = pcall(async.gather, {
    function()
      async.finally(function() async.sleep(1000) end, function()
        test.turns(3)
        log "cleaned up"
      end)
    end,
    fails "oops",
  })
  log "raised"
  assert(not ok)
  test.eq(err, "oops")
  test.eq(log, { "cleaned up", "raised" })
end)

test("at the first error of a task among them gather cancels its functions", function()
  local log = test.log()
  local task = async.spawn(fails "oops")
  test.raises("oops", async.gather, {
    function() async.finally(function() async.sleep(1000) end, function() log "cancelled" end) end,
    task,
  })
  test.eq(log, { "cancelled" })
end)

test("at the first error tasks and futures go on and are not waited for", function()
  local event, future = async.Event(), async.Future()
  local task = async.spawn(function()
    event:wait()
    return "went on"
  end)
  test.raises("oops", async.gather, { task, future, fails "oops" })
  assert(not task:done() and not task:cancelling() and not future:done())
  event:set()
  test.eq(task:await(), "went on")
end)

test("with return_errors the errors stand among the results", function()
  local value = { "any table" }
  local results = async.gather({ returns(1), fails(value), returns(3) }, { return_errors = true })
  test.eq(results.n, 3)
  test.eq(results[1], 1)
  assert(rawequal(results[2], value))
  test.eq(results[3], 3)
end)

test("with return_errors nothing is cancelled", function()
  local log = test.log()
  async.gather({
    fails "oops",
    function()
      test.turns(5)
      log "went on"
    end,
  }, { return_errors = true })
  test.eq(log, { "went on" })
end)

test("with return_errors a cancelled entry is a CancelledError among the results", function()
  local task = async.spawn(async.sleep, 1000)
  async.call_soon(task.cancel, task)
  local results = async.gather({ task, returns(2) }, { return_errors = true })
  assert(errors.is(results[1], "CancelledError"))
  test.eq(results[2], 2)
end)

test("a cancelled entry raises CancelledError in gather, whose task is not cancelled", function()
  local task = async.spawn(async.sleep, 1000)
  async.call_soon(task.cancel, task)
  test.raises("CancelledError", async.gather, { task })
  async.sleep(0) -- would raise
end)

test("a cancelled gather cancels all its entries, tasks and futures too", function()
  local log, future = test.log(), async.Future()
  local function clean(name)
    return function()
      async.finally(function() async.sleep(1000) end, function()
        test.turns(3)
        log(name)
      end)
    end
  end
  local task = async.spawn(clean "task")
  local gathering = async.spawn(function()
    async.finally(function() async.gather { clean "function", task, future } end, function()
      log "gather"
    end)
  end)
  async.sleep(0)
  async.sleep(0)
  gathering:cancel()
  async.wait { gathering }
  assert(gathering:cancelled() and task:cancelled() and future:cancelled())
  table.sort(log, function(a, b) return a ~= "gather" and (b == "gather" or a < b) end)
  test.eq(log, { "function", "task", "gather" })
end)

test("a cancelled gather waits for its entries to end", function()
  local order = test.log()
  local gathering = async.spawn(function()
    async.finally(function()
      async.gather {
        function()
          async.finally(function() async.sleep(1000) end, function()
            test.turns(4)
            order "entry"
          end)
        end,
      }
    end, function() order "gather" end)
  end)
  test.turns(2)
  gathering:cancel()
  async.wait { gathering }
  test.eq(order, { "entry", "gather" })
end)

test("a cancelled gather is cancelled whatever comes of its entries", function()
  local gathering = async.spawn(function()
    async.gather { function() pcall(async.sleep, 1000) return "lived on" end }
    return "not reached"
  end)
  test.turns(2)
  gathering:cancel()
  async.wait { gathering }
  assert(gathering:cancelled())
end)

test("an error raised by a function of gather while it cleans up is reported as lost", function()
  test.raises("first", async.gather, {
    fails "first",
    function()
      async.finally(function() async.sleep(1000) end, function() error("second", 0) end)
    end,
  })
  local reports = test.reports()
  test.eq(#reports, 1)
  test.eq(reports[1].error, "second")
end)

test("errors that gather raised or returned are not reported as lost", function()
  test.raises("oops", async.gather, { fails "oops" })
  async.gather({ fails "a", fails "b" }, { return_errors = true })
  test.eq(test.reports(), {})
end)

test("gather names an unknown option", function()
  test.blames_caller("return_error", function() async.gather({}, { return_error = true }) end)
end)

test("gather names its wrong argument, itself and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'gather' (table expected, got nil)",
    function() async.gather(nil) end
  )
  test.blames_caller("bad argument #2 to 'gather'", function() async.gather({}, 1) end)
  test.blames_caller("gather", function() async.gather { 1 } end)
end)
