local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local sleep_for_ever = test.sleep_for_ever

test("timeout runs its function in the same task and gives its results", function()
  local own = async.current_task()
  local n = select("#", async.timeout(1000, function(_, ...)
    test.eq(async.current_task(), own)
    return ...
  end, nil, 2, nil))
  test.eq(n, 3)
end)

test("timeout raises TimeoutError when its deadline is past", function()
  local err = test.raises("TimeoutError", async.timeout, 0.002, sleep_for_ever)
  assert(not async.is_cancelled(err))
end)

test("the cancellation of a timeout never leaves it", function()
  test.raises("TimeoutError", async.timeout, 0.002, sleep_for_ever)
  async.sleep(0)
  assert(not async.current_task():cancelling())
end)

test("inside a timeout its cancellation is a cancellation", function()
  local seen
  test.raises("TimeoutError", async.timeout, 0.002, function()
    local _, err = pcall(sleep_for_ever)
    seen = err
    error(err, 0)
  end)
  assert(async.is_cancelled(seen) and errors.is(seen, "Cancelled"))
end)

test("a timeout that is swallowed by pcall is raised again at the next wait", function()
  local log = test.log()
  test.raises("TimeoutError", async.timeout, 0.002, function()
    pcall(sleep_for_ever)
    log "swallowed"
    async.sleep(0)
    log "not reached"
  end)
  test.eq(log, { "swallowed" })
end)

test("a function that returns although its deadline is past has its results stand", function()
  local scope
  local result = async.timeout(0.002, function(s)
    scope = s
    pcall(sleep_for_ever)
    return "result"
  end)
  test.eq(result, "result")
  assert(scope:expired())
  async.sleep(0) -- the cancellation is over as well
end)

test("a function that acknowledges the timeout may wait again", function()
  local result = async.timeout(0.002, function()
    async.pcall(sleep_for_ever)
    return async.sleep(0, "result")
  end)
  test.eq(result, "result")
end)

test("an error of the function past the deadline is raised as it is", function()
  local err = test.raises("oops", async.timeout, 0.002, function()
    pcall(sleep_for_ever)
    error("oops", 0)
  end)
  test.eq(err, "oops")
end)

test("the error of a function within its time is raised unchanged", function()
  local value = { "any table" }
  local ok, err = pcall(async.timeout, 1000, function() error(value) end)
  assert(not ok and rawequal(err, value))
end)

test("timeout(nil) has no limit and no deadline", function()
  local result = async.timeout(nil, function(scope)
    test.eq(scope:deadline(), nil)
    assert(not scope:expired())
    return async.sleep(0, "result")
  end)
  test.eq(result, "result")
end)

test("with a timeout of 0 the first wait raises, and what need not wait does not", function()
  local log = test.log()
  test.raises("TimeoutError", async.timeout, 0, function()
    async.Lock():acquire()
    log "did not wait"
    async.sleep(1000)
    log "not reached"
  end)
  test.eq(log, { "did not wait" })
end)

test("deadline is on the clock of async.time", function()
  local deadline = async.time() + 500
  async.timeout_at(deadline, function(scope)
    test.eq(scope:deadline(), deadline)
    assert(not scope:expired())
  end)
  async.timeout(1000, function(scope)
    assert(scope:deadline() > async.time() and scope:deadline() <= async.time() + 1000)
  end)
end)

test("timeout_at with a deadline that is past raises TimeoutError", function()
  test.raises("TimeoutError", async.timeout_at, async.time() - 1, sleep_for_ever)
end)

test("timeout_at hands the scope and its arguments on", function()
  local n = select("#", async.timeout_at(async.time() + 1000, function(scope, ...)
    test.eq(type(scope.expired), "function")
    return ...
  end, nil, nil))
  test.eq(n, 2)
end)

test("reschedule to an earlier deadline cancels earlier", function()
  test.raises("TimeoutError", async.timeout, 1000, function(scope)
    scope:reschedule(async.time() + 0.002)
    async.sleep(1000)
  end)
end)

test("reschedule to a later deadline, or to none, keeps the function going", function()
  test.eq(async.timeout(0.002, function(scope)
    scope:reschedule(async.time() + 1000)
    return async.sleep(0.005, "later")
  end), "later")
  test.eq(async.timeout(0.002, function(scope)
    scope:reschedule(nil)
    test.eq(scope:deadline(), nil)
    return async.sleep(0.005, "none")
  end), "none")
end)

test("reschedule by another task reaches the sleeping one", function()
  local scope
  local task = async.spawn(async.timeout, nil, function(s)
    scope = s
    async.sleep(1000)
  end)
  async.sleep(0)
  scope:reschedule(async.time())
  async.wait { task }
  assert(errors.is(task:error(), "TimeoutError"))
end)

test("reschedule of a timeout that has ended is an InvalidStateError", function()
  local scope
  async.timeout(1000, function(s) scope = s end)
  test.raises("InvalidStateError", scope.reschedule, scope, async.time())
end)

test("expired is true from the deadline on, also afterwards", function()
  local scope
  test.raises("TimeoutError", async.timeout, 0.002, function(s)
    scope = s
    async.sleep(1000)
  end)
  assert(scope:expired())
end)

test("the inner of two timeouts ends without touching the outer", function()
  local result = async.timeout(1000, function()
    test.raises("TimeoutError", async.timeout, 0.002, sleep_for_ever)
    return async.sleep(0, "outer goes on")
  end)
  test.eq(result, "outer goes on")
end)

test("the outer of two timeouts passes through the inner as a cancellation", function()
  local log = test.log()
  test.raises("TimeoutError", async.timeout, 0.002, function()
    local _, err = pcall(async.timeout, 1000, sleep_for_ever)
    log(err.kind)
    error(err, 0)
  end)
  test.eq(log, { "Cancelled" })
end)

test("when two nested timeouts expire together the outermost wins", function()
  local log = test.log()
  test.raises("TimeoutError", async.timeout, nil, function(outer)
    local _, err = pcall(async.timeout, nil, function(inner)
      inner:reschedule(async.time() - 1)
      outer:reschedule(async.time() - 1)
      async.sleep(1000)
    end)
    log(err.kind)
    error(err, 0)
  end)
  test.eq(log, { "Cancelled" })
end)

test("when a task and a timeout in it are cancelled together the task is cancelled", function()
  local task
  task = async.spawn(async.timeout, nil, function(scope)
    scope:reschedule(async.time() - 1)
    task:cancel()
    async.sleep(1000)
  end)
  async.wait { task }
  assert(task:cancelled())
end)

test("a task cancelled inside a timeout is cancelled, and the timeout has not expired", function()
  local scope
  local task = async.spawn(async.timeout, 1000, function(s)
    scope = s
    async.sleep(1000)
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled() and not scope:expired())
end)

test("an outer timeout that expires while an inner group fails is not lost with that", function()
  local log = test.log()
  test.raises("TimeoutError", async.timeout, nil, function(outer)
    local _, err = pcall(async.group, function(g)
      g:spawn(function()
        async.sleep(0)
        outer:reschedule(async.time() - 1)
        async.sleep(0.002) -- it has expired
        error("oops", 0)
      end)
      async.finally(sleep_for_ever, function() async.sleep(0.002) end)
    end)
    log(err.kind)
    async.sleep(1000)
  end)
  test.eq(#log, 1)
end)

test("a cancel that comes while an inner timeout cleans up is not lost with that", function()
  local log, event = test.log(), async.Event()
  local task = async.spawn(function()
    pcall(async.timeout, -1, function()
      async.finally(sleep_for_ever, function()
        log "cleaning up"
        event:wait()
      end)
    end)
    async.sleep(0)
    log "not reached"
  end)
  async.sleep(0.002)
  task:cancel()
  async.sleep(0)
  event:set()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "cleaning up" })
end)

test("timeouts in timeouts end one after the other, each as itself", function()
  local log = test.log()
  -- Far enough apart that no busy machine lets two end at once.
  async.move_on_after(0.4, function()
    local ok, err = pcall(async.timeout, 0.2, function()
      log(async.move_on_after(0.002, sleep_for_ever))
      async.sleep(1000)
    end)
    log(ok, err.kind)
    async.sleep(1000)
  end)
  log "end"
  test.eq(log, { "false", "false TimeoutError", "end" })
end)

test("a timeout cancels the task that its function waits for, and waits for its end", function()
  local log = test.log()
  local inner = async.spawn(function()
    async.finally(sleep_for_ever, function()
      test.turns(3)
      log "inner"
    end)
  end)
  test.raises("TimeoutError", async.timeout, 0.002, function() inner:await() end)
  log "raised"
  assert(inner:cancelled())
  test.eq(log, { "inner", "raised" })
end)

test("a timeout that has ended does not disturb later waits", function()
  async.timeout(0.002, function() end)
  async.sleep(0.005)
end)

test("a TimeoutError of its own kind that the function raises passes through", function()
  local mine = errors.new("TimeoutError", "mine")
  local ok, err = pcall(async.timeout, 1000, function() error(mine) end)
  assert(not ok and rawequal(err, mine))
end)

test("move_on_after gives true and the results", function()
  local function collect(...) return select("#", ...), ... end
  test.eq({ collect(async.move_on_after(1000, function(scope, a)
    assert(not scope:expired())
    return a, nil
  end, 1)) }, { 3, true, 1 })
end)

test("move_on_after gives false past the deadline, and waiting works", function()
  test.eq({ async.move_on_after(0.002, sleep_for_ever) }, { false })
  async.sleep(0)
end)

test("move_on_after without a limit runs its function to the end", function()
  local function work() return async.sleep(0, "result") end
  test.eq({ async.move_on_after(nil, work) }, { true, "result" })
end)

test("move_on_after raises the error of its function", function()
  test.raises("oops", async.move_on_after, 1000, function() error "oops" end)
end)

test("move_on_after lets a cancellation of the task pass", function()
  local task = async.spawn(async.move_on_after, 1000, sleep_for_ever)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
end)

test("the timeouts name their wrong argument, themselves and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'timeout' (number expected, got string)",
    function() async.timeout("x", print) end
  )
  test.blames_caller("bad argument #1 to 'timeout'", function() async.timeout(0 / 0, print) end)
  test.blames_caller(
    "bad argument #2 to 'timeout' (function expected, got nil)",
    function() async.timeout(1, nil) end
  )
  test.blames_caller(
    "bad argument #1 to 'timeout_at'",
    function() async.timeout_at(0 / 0, print) end
  )
  test.blames_caller(
    "bad argument #1 to 'move_on_after'",
    function() async.move_on_after({}, print) end
  )
  test.blames_caller(
    "bad argument #2 to 'timeout_at' (function expected, got nil)",
    function() async.timeout_at(async.time() + 1000) end
  )
  test.blames_caller(
    "bad argument #2 to 'move_on_after' (function expected, got nil)",
    function() async.move_on_after(1000) end
  )
  async.timeout(1000, function(scope)
    test.blames_caller("bad argument #1 to 'reschedule'", function() scope:reschedule(0 / 0) end)
  end)
end)
