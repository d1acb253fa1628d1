local async, test = require "rille.async", require "support.test"

local function drain(queue)
  local items = {}
  while not queue:empty() do items[#items + 1] = queue:get_nowait() end
  return items
end

test("a priority queue gives the smallest item first", function()
  local queue = async.PriorityQueue()
  for _, item in ipairs { 5, 1, 4, 1, 3 } do queue:put(item) end
  test.eq(queue:qsize(), 5)
  test.eq(drain(queue), { 1, 1, 3, 4, 5 })
end)

test("a priority queue sorts many items", function()
  local queue, want = async.PriorityQueue(), {}
  local x = 12345
  for i = 1, 1000 do
    x = (x * 1103515245 + 12345) % 2147483648
    want[i] = x % 100
    queue:put(want[i])
  end
  table.sort(want)
  test.eq(drain(queue), want)
end)

local function by_priority(a, b) return a.priority < b.priority end

test("equal items come in the order of their arrival", function()
  local queue, got = async.PriorityQueue(0, by_priority), {}
  for i = 1, 20 do queue:put { priority = i % 3, number = i } end
  for _, item in ipairs(drain(queue)) do got[#got + 1] = item.number end
  test.eq(got, { 3, 6, 9, 12, 15, 18, 1, 4, 7, 10, 13, 16, 19, 2, 5, 8, 11, 14, 17, 20 })
end)

test("less decides which item is smaller", function()
  local queue = async.PriorityQueue(nil, function(a, b) return a > b end)
  for _, item in ipairs { 2, 3, 1 } do queue:put(item) end
  test.eq(drain(queue), { 3, 2, 1 })
end)

test("nil is an item of a priority queue too", function()
  local queue = async.PriorityQueue(0, function(a, b) return (a or 0) < (b or 0) end)
  for _, item in ipairs { 1, -1 } do queue:put(item) end
  queue:put(nil)
  test.eq(queue:qsize(), 3)
  test.eq({ queue:get(), queue:get(), queue:get() }, { -1, nil, 1 })
end)

test("a bounded priority queue makes put wait, and what waits is sorted in", function()
  local queue, log = async.PriorityQueue(2), test.log()
  queue:put(5)
  queue:put(3)
  test.eq(queue:full(), true)
  test.raises("QueueFull", queue.put_nowait, queue, 1)
  local putter = async.spawn(function()
    queue:put(1)
    log "put"
  end)
  async.sleep(0)
  test.eq(queue:get(), 3)
  putter:await()
  test.eq(drain(queue), { 1, 5 })
end)

test("a waiting get is given the item, and nobody overtakes it", function()
  local queue = async.PriorityQueue()
  local getter = async.spawn(queue.get, queue)
  async.sleep(0)
  queue:put_nowait(7)
  queue:put_nowait(1)
  test.eq(getter:await(), 7)
  test.eq(queue:get(), 1)
end)

test("get_nowait of an empty priority queue is QueueEmpty", function()
  local queue = async.PriorityQueue()
  test.raises("QueueEmpty", queue.get_nowait, queue)
end)

test("a priority queue can be joined, shut down and iterated over", function()
  local queue, log = async.PriorityQueue(), test.log()
  queue:put(2)
  queue:put(1)
  queue:shutdown()
  for item in queue:iter() do
    log(item)
    queue:task_done()
  end
  queue:join()
  test.eq(log, { "1", "2" })
  test.raises("QueueShutDown", queue.put, queue, 1)
end)

test("an item that cannot be compared is refused, and the queue keeps the others", function()
  local queue = async.PriorityQueue()
  for _, item in ipairs { 3, 1, 2 } do queue:put(item) end
  test.raises("compare", queue.put, queue, {})
  test.eq(drain(queue), { 1, 2, 3 })
end)

test("a wrong less is named", function()
  test.blames_caller(
    "bad argument #2 to 'PriorityQueue' (function expected, got number)",
    function() async.PriorityQueue(0, 1) end
  )
end)
