local async, test = require "rille.async", require "support.test"

local function collect(queue)
  local items = {}
  while not queue:empty() do items[#items + 1] = queue:get_nowait() end
  return items
end

test("a queue gives its items first in, first out", function()
  local queue = async.Queue()
  for i = 1, 3 do queue:put(i) end
  test.eq(queue:qsize(), 3)
  test.eq({ queue:get(), queue:get(), queue:get() }, { 1, 2, 3 })
  test.eq(queue:empty(), true)
end)

test("many items keep their order while the queue grows and shrinks", function()
  local queue, put, got = async.Queue(), 0, 0
  for round = 1, 50 do
    for _ = 1, round do
      put = put + 1
      queue:put(put)
    end
    for _ = 1, math.floor(round / 2) do
      got = got + 1
      test.eq(queue:get(), got)
    end
  end
  while got < put do
    got = got + 1
    test.eq(queue:get(), got)
  end
  assert(queue:empty())
end)

test("put and get that need not wait do not give the turn away", function()
  local queue, log = async.Queue(1), test.log()
  local other = async.spawn(log, "other")
  queue:put(1)
  queue:get()
  log "through"
  other:await()
  test.eq(log, { "through", "other" })
end)

test("nil is an item like another", function()
  local queue = async.Queue()
  queue:put(nil)
  queue:put(false)
  queue:put(nil)
  test.eq(queue:qsize(), 3)
  test.eq(queue:empty(), false)
  test.eq(queue:get(), nil)
  test.eq(queue:get(), false)
  test.eq(queue:get_nowait(), nil)
  test.eq(queue:empty(), true)
  local task = async.spawn(function() return select("#", queue:get()) end)
  async.sleep(0)
  queue:put_nowait(nil)
  test.eq(task:await(), 1)
end)

test("get waits for an item, first come first served", function()
  local queue, log, tasks = async.Queue(), test.log(), {}
  for i = 1, 3 do
    tasks[i] = async.spawn(function() log(i, queue:get()) end)
  end
  async.sleep(0)
  for _, item in ipairs { "a", "b", "c" } do queue:put(item) end
  async.wait(tasks)
  test.eq(log, { "1 a", "2 b", "3 c" })
end)

test("put waits for a place, first come first served", function()
  local queue, log, tasks = async.Queue(1), test.log(), {}
  queue:put "first"
  for i = 1, 3 do
    tasks[i] = async.spawn(function()
      queue:put(i)
      log("put", i)
    end)
  end
  async.sleep(0)
  test.eq(log, {})
  test.eq({ queue:get(), queue:get(), queue:get(), queue:get() }, { "first", 1, 2, 3 })
  async.wait(tasks)
  test.eq(log, { "put 1", "put 2", "put 3" })
end)

test("an item goes directly to the first waiter, and nobody overtakes it", function()
  local queue = async.Queue()
  local task = async.spawn(queue.get, queue)
  async.sleep(0)
  queue:put_nowait "item"
  test.eq(queue:qsize(), 0)
  test.raises("QueueEmpty", queue.get_nowait, queue)
  test.eq(task:await(), "item")
end)

test("a free place goes directly to the first waiter, and nobody overtakes it", function()
  local queue = async.Queue(1)
  queue:put(1)
  local task = async.spawn(queue.put, queue, 2)
  async.sleep(0)
  test.eq(queue:get_nowait(), 1)
  test.eq(queue:full(), true)
  test.raises("QueueFull", queue.put_nowait, queue, 3)
  task:await()
  test.eq(queue:get(), 2)
end)

test("get_nowait of an empty queue is QueueEmpty", function()
  local queue = async.Queue()
  test.raises("QueueEmpty", queue.get_nowait, queue)
  test.blames_caller("QueueEmpty", function() queue:get_nowait() end)
end)

test("put_nowait into a full queue is QueueFull", function()
  local queue = async.Queue(1)
  queue:put_nowait(1)
  test.eq(queue:full(), true)
  test.raises("QueueFull", queue.put_nowait, queue, 2)
  test.blames_caller("QueueFull", function() queue:put_nowait(2) end)
  test.eq(collect(queue), { 1 })
end)

test("a queue has no limit unless it is given one", function()
  local queue = async.Queue()
  test.eq(queue:maxsize(), 0)
  for i = 1, 100 do queue:put_nowait(i) end
  test.eq(queue:full(), false)
  test.eq(async.Queue(0):full(), false)
  test.eq(async.Queue(3):maxsize(), 3)
end)

test("join waits until each item is marked done", function()
  local queue, log = async.Queue(), test.log()
  queue:put(1)
  queue:put(2)
  local joiner = async.spawn(function()
    queue:join()
    log "joined"
  end)
  queue:get()
  queue:task_done()
  queue:get()
  test.turns(3)
  log "last"
  queue:task_done()
  joiner:await()
  test.eq(log, { "last", "joined" })
end)

test("join of a queue with nothing to do does not give the turn away", function()
  local queue, log = async.Queue(), test.log()
  local other = async.spawn(log, "other")
  queue:join()
  queue:put(1)
  queue:get()
  queue:task_done()
  queue:join()
  log "joined"
  other:await()
  test.eq(log, { "joined", "other" })
end)

test("an item handed directly to a waiter counts for join too", function()
  local queue = async.Queue()
  local getter = async.spawn(queue.get, queue)
  async.sleep(0)
  queue:put(1)
  getter:await()
  local joiner = async.spawn(queue.join, queue)
  test.turns(2)
  assert(not joiner:done())
  queue:task_done()
  joiner:await()
end)

test("task_done once too often is an InvalidStateError at the caller's line", function()
  local queue = async.Queue()
  test.raises("InvalidStateError", queue.task_done, queue)
  queue:put(1)
  queue:get()
  queue:task_done()
  test.blames_caller("InvalidStateError", function() queue:task_done() end)
end)

test("after shutdown nothing can be put, and what is there can be got", function()
  local queue = async.Queue()
  queue:put(1)
  queue:put(2)
  queue:shutdown()
  test.raises("QueueShutDown", queue.put, queue, 3)
  test.raises("QueueShutDown", queue.put_nowait, queue, 3)
  test.eq(queue:get(), 1)
  test.eq(queue:get_nowait(), 2)
  test.raises("QueueShutDown", queue.get, queue)
  test.raises("QueueShutDown", queue.get_nowait, queue)
end)

test("shutdown wakes who waits to get or to put with QueueShutDown", function()
  local empty, full = async.Queue(), async.Queue(1)
  full:put "stays"
  local getter, putter = async.spawn(empty.get, empty), async.spawn(full.put, full, "refused")
  async.sleep(0)
  empty:shutdown()
  full:shutdown()
  async.wait { getter, putter }
  test.raises("QueueShutDown", getter.await, getter)
  test.raises("QueueShutDown", putter.await, putter)
  test.eq(full:get(), "stays")
end)

test("an item given to a waiter before the shutdown arrives", function()
  local queue = async.Queue()
  local getter = async.spawn(queue.get, queue)
  async.sleep(0)
  queue:put "item"
  queue:shutdown()
  test.eq(getter:await(), "item")
end)

test("join after shutdown still waits for what was put", function()
  local queue = async.Queue()
  queue:put(1)
  queue:shutdown()
  local joiner = async.spawn(queue.join, queue)
  test.turns(2)
  assert(not joiner:done())
  queue:get()
  queue:task_done()
  joiner:await()
end)

test("an immediate shutdown empties the queue and lets join go", function()
  local queue = async.Queue()
  queue:put(1)
  queue:put(2)
  local joiner = async.spawn(queue.join, queue)
  test.turns(2)
  queue:shutdown(true)
  joiner:await()
  test.eq(queue:qsize(), 0)
  test.raises("QueueShutDown", queue.get, queue)
end)

test("an immediate shutdown leaves what is being worked on to be marked done", function()
  local queue = async.Queue()
  queue:put(1)
  queue:put(2)
  queue:get()
  local joiner = async.spawn(queue.join, queue)
  test.turns(2)
  queue:shutdown(true)
  test.turns(2)
  assert(not joiner:done())
  queue:task_done()
  joiner:await()
end)

test("a second shutdown changes nothing", function()
  local queue = async.Queue()
  queue:put(1)
  queue:shutdown()
  queue:shutdown()
  test.eq(queue:get(), 1)
  test.raises("QueueShutDown", queue.get, queue)
end)

test("iter gives the items and ends at shutdown, after the last one", function()
  local queue, log = async.Queue(), test.log()
  local reader = async.spawn(function()
    for item in queue:iter() do log(item) end
    log "end"
  end)
  queue:put "a"
  test.turns(2)
  queue:put "b"
  queue:put "c"
  queue:shutdown()
  reader:await()
  test.eq(log, { "a", "b", "c", "end" })
end)

test("iter ends at a nil", function()
  local queue, log = async.Queue(), test.log()
  for _, item in ipairs { "a", "b" } do queue:put(item) end
  queue:put(nil)
  queue:put "after"
  for item in queue:iter() do log(item) end
  test.eq(log, { "a", "b" })
  test.eq(queue:get(), "after")
end)

test("iter by several tasks gives each item to one of them and ends for all", function()
  local queue, seen, tasks = async.Queue(), {}, {}
  for i = 1, 3 do
    tasks[i] = async.spawn(function()
      for item in queue:iter() do
        seen[#seen + 1] = item
        async.sleep(0)
      end
    end)
  end
  for i = 1, 10 do queue:put(i) end
  queue:shutdown()
  async.wait(tasks)
  table.sort(seen)
  test.eq(seen, { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 })
end)

test("iter marks nothing as done", function()
  local queue = async.Queue()
  queue:put(1)
  queue:shutdown()
  for _ in queue:iter() do queue:task_done() end
  queue:join()
end)

test("a cancelled get takes no item", function()
  local queue = async.Queue()
  local getter = async.spawn(queue.get, queue)
  async.sleep(0)
  getter:cancel()
  queue:put "item"
  async.wait { getter }
  assert(getter:cancelled())
  test.eq(collect(queue), { "item" })
end)

test("a cancelled get passes its turn on", function()
  local queue = async.Queue()
  local first, second = async.spawn(queue.get, queue), async.spawn(queue.get, queue)
  async.sleep(0)
  first:cancel()
  queue:put "item"
  test.eq(second:await(), "item")
  async.wait { first }
end)

test("a get that was given its item before it was cancelled returns it", function()
  local queue, log = async.Queue(), test.log()
  local getter = async.spawn(function()
    log(queue:get())
    async.sleep(0)
    log "not reached"
  end)
  async.sleep(0)
  queue:put "item"
  getter:cancel()
  async.wait { getter }
  assert(getter:cancelled())
  test.eq(log, { "item" })
end)

test("a cancelled put puts nothing and holds up nobody", function()
  local queue = async.Queue(1)
  queue:put(1)
  local first, second = async.spawn(queue.put, queue, 2), async.spawn(queue.put, queue, 3)
  async.sleep(0)
  first:cancel()
  async.wait { first }
  test.eq(queue:get(), 1)
  second:await()
  test.eq(collect(queue), { 3 })
  queue:task_done()
  queue:task_done()
  queue:join() -- only two items ever counted
end)

test("a put that was given its place before it was cancelled has put its item", function()
  local queue, log = async.Queue(1), test.log()
  queue:put(1)
  local putter = async.spawn(function()
    queue:put(2)
    log "put"
    async.sleep(0)
    log "not reached"
  end)
  async.sleep(0)
  queue:get()
  putter:cancel()
  async.wait { putter }
  assert(putter:cancelled())
  test.eq(log, { "put" })
  test.eq(collect(queue), { 2 })
end)

for _, name in ipairs { "Queue", "PriorityQueue", "LifoQueue" } do
  test(name .. " names a wrong maximum size, itself and the caller's line", function()
    local bad = "bad argument #1 to '" .. name .. "'"
    test.blames_caller(bad, function() async[name](-1) end)
    test.blames_caller(bad, function() async[name](0 / 0) end)
    test.blames_caller(bad, function() async[name](1.5) end)
    test.blames_caller(bad .. " (number expected, got string)", function() async[name] "many" end)
  end)
end
