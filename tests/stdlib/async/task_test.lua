local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

test("a spawned task starts soon, not at once", function()
  local log = test.log()
  local task = async.spawn(log, "task")
  log "maker"
  task:await()
  test.eq(log, { "maker", "task" })
end)

test("tasks start in the order in which they were spawned", function()
  local log, tasks = test.log(), {}
  for i = 1, 100 do tasks[i] = async.spawn(log, i) end
  async.wait(tasks)
  for i = 1, 100 do test.eq(log[i], tostring(i)) end
end)

test("create_task is another name of spawn", function()
  test.eq(async.create_task(function(a) return a + 1 end, 1):await(), 2)
end)

test("a task gets the arguments of spawn, nils among them", function()
  local n = async.spawn(function(...) return select("#", ...) end, nil, 2, nil):await()
  test.eq(n, 3)
end)

test("spawn_eager runs the function at once up to its first wait", function()
  local log = test.log()
  local task = async.spawn_eager(function(...)
    log("started with", ...)
    async.sleep(0)
    log "went on"
    return "result"
  end, 1, 2)
  log "maker"
  test.eq(task:await(), "result")
  test.eq(log, { "started with 1 2", "maker", "went on" })
end)

test("a task that spawn_eager ran to its end is done", function()
  local task = async.spawn_eager(function() return 1, nil end)
  assert(task:done())
  test.eq(select("#", task:result()), 2)
end)

test("an error in an eager task belongs to the task", function()
  local task = async.spawn_eager(error, "oops", 0)
  assert(task:done())
  test.eq(task:error(), "oops")
end)

test("an eager task is registered before it runs", function()
  local seen
  async.spawn_eager(function()
    for _, task in ipairs(async.all_tasks()) do
      seen = seen or task == async.current_task()
    end
  end)
  assert(seen)
end)

test("current_task is the task that runs, also after an eager one ran in between", function()
  local own, inner = async.current_task(), nil
  local task = async.spawn_eager(function() inner = async.current_task() end)
  test.eq(inner, task)
  test.eq(async.current_task(), own)
  async.sleep(0)
  test.eq(async.current_task(), own)
end)

test("all_tasks lists the tasks that are not done", function()
  local function has(wanted)
    for _, task in ipairs(async.all_tasks()) do
      if task == wanted then return true end
    end
    return false
  end
  local task = async.spawn(async.sleep, 0)
  assert(has(task) and has(async.current_task()))
  task:await()
  assert(not has(task))
end)

test("await gives all results of the function, nils among them", function()
  local task = async.spawn(function() return nil, 2, nil end)
  test.eq(select("#", task:await()), 3)
  test.eq({ task:await() }, { nil, 2, nil })
end)

test("await of a task that is done does not give the turn away", function()
  local done = async.spawn(function() return 1 end)
  async.sleep(0)
  local log = test.log()
  local other = async.spawn(log, "other")
  done:await()
  log "awaited"
  other:await()
  test.eq(log, { "awaited", "other" })
end)

test("everybody who waits for a task gets its results, first come first served", function()
  local log, waiters = test.log(), {}
  local task = async.spawn(function()
    async.sleep(0)
    return "result"
  end)
  for i = 1, 3 do
    waiters[i] = async.spawn(function() log(i, task:await()) end)
  end
  async.wait(waiters)
  test.eq(log, { "1 result", "2 result", "3 result" })
end)

test("await raises the error of the function, unchanged", function()
  local value = { "any table" }
  local task = async.spawn(error, value)
  local ok, err = pcall(task.await, task)
  assert(not ok and rawequal(err, value))
  assert(rawequal(task:error(), value))
end)

test("an error text keeps its place and passes through a task unchanged", function()
  local task = async.spawn(function() error "oops" end)
  local place = test.here(-1)
  local _, err = pcall(task.await, task)
  test.eq(err, place .. ": oops")
end)

test("a task whose error value is nil has an error of kind Error instead", function()
  local task = async.spawn(function() error(nil) end)
  test.raises("Error", task.await, task)
  assert(errors.is(task:error(), "Error"))
end)

test("false is an error value like another", function()
  local task = async.spawn(error, false)
  local ok, err = pcall(task.await, task)
  assert(not ok)
  test.eq(err, false)
end)

test("result and error of a task that is not done are InvalidStateErrors", function()
  local task = async.spawn(async.sleep, 0)
  test.raises("InvalidStateError", task.result, task)
  test.raises("InvalidStateError", task.error, task)
  task:await()
end)

test("a task that ended well has results and no error", function()
  local task = async.spawn(function() return 1, nil, 3 end)
  task:await()
  assert(task:done() and not task:cancelled())
  test.eq(task:error(), nil)
  test.eq({ task:result() }, { 1, nil, 3 })
end)

test("result of a task that failed raises its error", function()
  local task = async.spawn(error, "oops", 0)
  async.wait { task }
  assert(task:done() and not task:cancelled())
  test.eq(test.raises("oops", task.result, task), "oops")
end)

test("result and error of a cancelled task are CancelledErrors", function()
  local task = async.spawn(async.sleep, 0)
  task:cancel()
  async.wait { task }
  assert(task:done() and task:cancelled())
  test.raises("CancelledError", task.result, task)
  test.raises("CancelledError", task.error, task)
end)

test("a task has no setters", function()
  local task = async.spawn(async.sleep, 0)
  test.eq(task.set_result, nil)
  test.eq(task.set_error, nil)
  task:await()
end)

test("tasks have names of their own, and can be given one", function()
  local a, b = async.spawn(async.sleep, 0), async.spawn(async.sleep, 0)
  test.eq(type(a:name()), "string")
  assert(a:name() ~= b:name())
  a:set_name "reader"
  test.eq(a:name(), "reader")
  async.wait { a, b }
  test.eq(a:name(), "reader")
end)

test("cancel answers whether the task was still there to be cancelled", function()
  local task = async.spawn(async.sleep, 0)
  test.eq(task:cancel(), true)
  async.wait { task }
  test.eq(task:cancel(), false)
end)

test("cancelling is true from the request until it is acknowledged", function()
  local seen = test.log()
  local task = async.spawn(function()
    local own = async.current_task()
    pcall(async.sleep, 1000)
    seen(own:cancelling())
    async.pcall(async.sleep, 1000)
    seen(own:cancelling())
  end)
  async.sleep(0)
  test.eq(task:cancelling(), false)
  task:cancel()
  test.eq(task:cancelling(), true)
  task:await()
  test.eq(seen, { "true", "false" })
end)

local function deep_in_a_task(event)
  event:wait()
end

test("traceback tells where a waiting task stands", function()
  local event = async.Event()
  local task = async.spawn(function()
    deep_in_a_task(event)
    return 1
  end)
  async.sleep(0)
  test.contains(task:traceback(), debug.getinfo(deep_in_a_task, "S").short_src .. ":")
  test.contains(task:traceback(), "deep_in_a_task")
  event:set()
  task:await()
end)

test("traceback of the task that runs tells where it runs", function()
  test.contains(async.current_task():traceback(), test.here())
end)

test("traceback of a task that has not started tells where it was made", function()
  local task = async.spawn(function() end)
  test.contains(task:traceback(), test.here(-1))
  task:await()
end)

test("context is the task's own, with what its variables hold there", function()
  local var = async.ContextVar "var"
  local task = async.spawn(function()
    var:set "inner"
    async.sleep(0)
  end)
  async.sleep(0)
  test.eq(task:context():run(var.get, var), "inner")
  test.eq(var:get(), nil)
  task:await()
end)

test("a done callback is called soon after the end, with the task", function()
  local log = test.log()
  local task = async.spawn(function() log "end" end)
  task:add_done_callback(function(done)
    log("first", done == task, done:done())
  end)
  task:add_done_callback(function() log "second" end)
  task:await()
  test.turns()
  test.eq(log, { "end", "first true true", "second" })
end)

test("a done callback of a task that is done is called soon, not at once", function()
  local log = test.log()
  local task = async.spawn(function() end)
  task:await()
  task:add_done_callback(function() log "callback" end)
  log "added"
  test.turns()
  test.eq(log, { "added", "callback" })
end)

test("remove_done_callback tells how many it took away", function()
  local log = test.log()
  local task = async.spawn(async.sleep, 0)
  local function callback() log "called" end
  task:add_done_callback(callback)
  task:add_done_callback(callback)
  test.eq(task:remove_done_callback(callback), 2)
  test.eq(task:remove_done_callback(callback), 0)
  task:await()
  test.turns()
  test.eq(log, {})
end)

test("a task that waits for itself gets an error that says so", function()
  local task
  task = async.spawn(function() task:await() end)
  async.wait { task }
  test.contains(tostring(task:error()), "itself")
end)

test("a task that waits for itself through gather gets an error that says so", function()
  local task
  task = async.spawn(function() async.gather { task } end)
  async.wait { task }
  test.contains(tostring(task:error()), "itself")
end)

test("a task that waits for itself through wait_for gets an error that says so", function()
  local task
  task = async.spawn(function() async.wait_for(task, 1000) end)
  async.wait { task }
  test.contains(tostring(task:error()), "itself")
end)

test("a task that waits for itself through wait gets an error that says so", function()
  local task
  task = async.spawn(function() async.wait { task } end)
  async.wait { task }
  test.contains(tostring(task:error()), "itself")
end)

test("a failed task leaves later tasks intact", function()
  for i = 1, 50 do
    local bad = async.spawn(error, "oops", 0)
    local good = async.spawn(function() return async.sleep(0, i) end)
    async.wait { bad, good }
    test.eq(bad:error(), "oops")
    test.eq(good:result(), i)
  end
end)

test("the timer of an earlier wait does not wake a task out of a later one", function()
  local event = async.Event()
  local task = async.spawn(function()
    async.pcall(async.sleep, 0.005)
    event:wait()
  end)
  async.sleep(0)
  task:cancel()
  async.sleep(0.02) -- longer than the first sleep would have lasted
  assert(not task:done())
  event:set()
  task:await()
end)

test("spawn and spawn_eager name the wrong argument, themselves and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'spawn' (function expected, got nil)",
    function() async.spawn(nil) end
  )
  test.blames_caller(
    "bad argument #1 to 'spawn_eager' (function expected, got number)",
    function() async.spawn_eager(1) end
  )
end)

test("a task's methods name a wrong argument, themselves and the caller's line", function()
  local task = async.spawn(async.sleep, 0)
  test.blames_caller(
    "bad argument #1 to 'set_name' (string expected, got table)",
    function() task:set_name({}) end
  )
  test.blames_caller(
    "bad argument #1 to 'add_done_callback' (function expected, got number)",
    function() task:add_done_callback(1) end
  )
  task:await()
end)
