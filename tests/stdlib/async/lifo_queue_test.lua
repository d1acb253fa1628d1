local async, test = require "rille.async", require "support.test"

test("a LIFO queue gives the last item first", function()
  local queue = async.LifoQueue()
  for i = 1, 3 do queue:put(i) end
  test.eq(queue:qsize(), 3)
  test.eq({ queue:get(), queue:get_nowait(), queue:get() }, { 3, 2, 1 })
  test.eq(queue:empty(), true)
end)

test("nil is an item of a LIFO queue too", function()
  local queue = async.LifoQueue()
  queue:put(1)
  queue:put(nil)
  test.eq(queue:qsize(), 2)
  test.eq({ queue:get(), queue:get() }, { nil, 1 })
end)

test("a bounded LIFO queue makes put wait", function()
  local queue = async.LifoQueue(1)
  queue:put(1)
  test.raises("QueueFull", queue.put_nowait, queue, 2)
  local putter = async.spawn(queue.put, queue, 2)
  async.sleep(0)
  test.eq(queue:get(), 1)
  putter:await()
  test.eq(queue:get(), 2)
  test.raises("QueueEmpty", queue.get_nowait, queue)
end)

test("the waiting gets of a LIFO queue are served first come first served", function()
  local queue, log, tasks = async.LifoQueue(), test.log(), {}
  for i = 1, 2 do
    tasks[i] = async.spawn(function() log(i, queue:get()) end)
  end
  async.sleep(0)
  queue:put "a"
  queue:put "b"
  async.wait(tasks)
  test.eq(log, { "1 a", "2 b" })
end)

test("a LIFO queue can be joined, shut down and iterated over", function()
  local queue, log = async.LifoQueue(), test.log()
  queue:put(1)
  queue:put(2)
  queue:shutdown()
  for item in queue:iter() do
    log(item)
    queue:task_done()
  end
  queue:join()
  test.eq(log, { "2", "1" })
end)
