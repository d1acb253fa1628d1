local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local Batcher = require("rille.patterns").Batcher

-- A handler that doubles numbers and notes the sizes of its batches in `sizes`.
local function doubling(sizes, turns)
  return function(items)
    sizes[#sizes + 1] = items.n
    test.turns(turns or 0)
    local results = {}
    for i, item in ipairs(items) do results[i] = item * 2 end
    return results
  end
end

local function submit_all(batcher, list)
  local tasks = {}
  for i, item in ipairs(list) do tasks[i] = async.spawn(batcher.submit, batcher, item) end
  return tasks
end

local function results_of(tasks)
  local list = {}
  for i, task in ipairs(tasks) do list[i] = task:await() end
  return list
end

test("each submitter gets the result of its item", function()
  local sizes = {}
  local batcher = Batcher { handler = doubling(sizes) }
  test.eq(results_of(submit_all(batcher, { 3, 1, 2 })), { 6, 2, 4 })
  test.eq(sizes, { 3 })
end)

test("without a delay a batch begins when every ready task has run", function()
  local sizes = {}
  local batcher = Batcher { handler = doubling(sizes) }
  local first = submit_all(batcher, { 1, 2 })
  async.wait(first)
  local second = submit_all(batcher, { 3 })
  async.wait(second)
  test.eq(sizes, { 2, 1 })
end)

test("a full batch begins at once, and the rest goes into others", function()
  local sizes = {}
  local batcher = Batcher { handler = doubling(sizes), max_size = 3, max_delay = 1000 }
  local tasks = submit_all(batcher, { 1, 2, 3, 4, 5, 6, 7 })
  async.wait { tasks[1], tasks[6] }
  test.turns()
  test.eq({ sizes, tasks[7]:done() }, { { 3, 3 }, false })
  batcher:flush()
  test.eq(results_of(tasks), { 2, 4, 6, 8, 10, 12, 14 })
  test.eq(sizes, { 3, 3, 1 })
end)

test("after its delay a batch begins with what there is", function()
  local sizes = {}
  local batcher = Batcher { handler = doubling(sizes), max_delay = 0.002 }
  local first = async.spawn(batcher.submit, batcher, 1)
  test.turns()
  local second = async.spawn(batcher.submit, batcher, 2)
  test.eq(results_of { first, second }, { 2, 4 })
  test.eq(sizes, { 2 })
end)

test("batches run at the same time", function()
  local running, most = 0, 0
  local batcher = Batcher { max_size = 1, handler = function()
    running = running + 1
    most = math.max(most, running)
    test.turns(2)
    running = running - 1
  end }
  async.wait(submit_all(batcher, { 1, 2, 3 }))
  test.eq(most, 3)
end)

test("nil is an item and a result", function()
  local batcher = Batcher { handler = function(items)
    return { n = items.n, [2] = items[2] == nil and "nil" }
  end }
  local tasks = { async.spawn(batcher.submit, batcher, 1), async.spawn(batcher.submit, batcher) }
  async.wait(tasks)
  test.eq({ tasks[1]:result(), tasks[2]:result() }, { nil, "nil" })
end)

test("a handler may give nothing", function()
  local batcher = Batcher { handler = function() end }
  test.eq(select("#", batcher:submit(1)), 1)
  test.eq(batcher:submit(1), nil)
end)

test("the handler's error reaches all of the batch, and only those", function()
  local mine = errors.new("DatabaseError", "gone")
  local batcher = Batcher { max_size = 2, handler = function(items)
    if items[1] == 1 then error(mine, 0) end
    return items
  end }
  local tasks = submit_all(batcher, { 1, 2, 3, 4 })
  async.wait(tasks)
  assert(rawequal(tasks[1]:error(), mine) and rawequal(tasks[2]:error(), mine))
  test.eq({ tasks[3]:result(), tasks[4]:result() }, { 3, 4 })
end)

test("an error object among the results is raised for its item alone", function()
  local batcher = Batcher { handler = function(items)
    return { items[1], errors.new("KeyError", "no such row") }
  end }
  local tasks = submit_all(batcher, { 1, 2 })
  async.wait(tasks)
  test.eq({ tasks[1]:result(), tasks[2]:error().kind }, { 1, "KeyError" })
end)

test("results that do not fit the items are an error that says so", function()
  local given
  local batcher = Batcher { handler = function() return given end }
  given = { 1, 2, 3 }
  test.contains(test.raises("InvalidStateError", batcher.submit, batcher, 1).message,
    "3 results for 1 items")
  given = "text"
  test.contains(test.raises("InvalidStateError", batcher.submit, batcher, 1).message, "a string")
end)

test("a submit in the handler goes into another batch", function()
  local batcher
  batcher = Batcher { handler = function(items)
    return { items[1] > 0 and batcher:submit(items[1] - 1) + 1 or 0 }
  end }
  test.eq(batcher:submit(3), 3)
end)

test("the item of a cancelled submit is taken out of a batch that has not begun", function()
  local seen
  local batcher = Batcher { max_delay = 1000, max_size = 3, handler = function(items)
    seen = items
    return items
  end }
  local tasks = submit_all(batcher, { "a", "b" })
  async.sleep(0)
  tasks[1]:cancel()
  async.wait { tasks[1] }
  tasks[3], tasks[4] = unpack(submit_all(batcher, { "c", "d" }))
  test.eq({ tasks[2]:await(), tasks[3]:await(), tasks[4]:await() }, { "b", "c", "d" })
  test.eq(seen, { n = 3, "b", "c", "d" })
end)

test("a submit cancelled while its batch is worked on leaves the others alone", function()
  local batcher = Batcher { handler = doubling({}, 5) }
  local tasks = submit_all(batcher, { 1, 2, 3 })
  test.turns(2)
  tasks[2]:cancel()
  async.wait(tasks)
  test.eq({ tasks[1]:result(), tasks[2]:cancelled(), tasks[3]:result() }, { 2, true, 6 })
end)

test("a batch that nobody waits for any more is cancelled and waited for", function()
  local log = test.log()
  local batcher = Batcher { handler = function(items)
    async.finally(function() async.sleep(1000) end, function()
      async.sleep(0)
      log("ended", items.n)
    end)
  end }
  local tasks = submit_all(batcher, { 1, 2 })
  test.turns()
  tasks[1]:cancel()
  test.turns()
  test.eq(log, {})
  tasks[2]:cancel()
  async.wait(tasks)
  test.eq(log, { "ended 2" })
end)

test("a batch that is given up before it has begun is not worked on", function()
  local sizes = {}
  local batcher = Batcher { max_delay = 1000, handler = doubling(sizes) }
  local task = async.spawn(batcher.submit, batcher, 1)
  test.turns()
  task:cancel()
  async.wait { task }
  task = async.spawn(batcher.submit, batcher, 1)
  test.turns()
  task:cancel()
  batcher:flush() -- makes it due at the same time
  async.wait { task }
  test.eq({ sizes, task:cancelled() }, { {}, true })
end)

test("a batch that is cancelled from elsewhere is not worked on", function()
  local sizes = {}
  local batcher = Batcher { max_delay = 1000, handler = doubling(sizes) }
  local tasks = submit_all(batcher, { 1, 2 })
  test.turns()
  for _, task in ipairs(async.all_tasks()) do
    if task:name() == "a batch" then task:cancel() end
  end
  async.wait(tasks)
  test.eq({ tasks[1]:error().kind, tasks[2]:error().kind, sizes },
    { "CancelledError", "CancelledError", {} })
  local task = async.spawn(batcher.submit, batcher, 3)
  async.sleep(0)
  batcher:flush()
  test.eq(task:await(), 6)
end)

test("a deadlock report says that a batch is waited for", function()
  local result = test.script [[
    local async, patterns = require "rille.async", require "rille.patterns"
    local batcher = patterns.Batcher { handler = function() async.Event():wait() end }
    local submitter = async.spawn(batcher.submit, batcher, 1)
    async.sleep(0)
    batcher:flush()
  ]]
  test.eq(result.code, 1)
  test.contains(result.stderr, "main waits for the end of a batch")
  test.contains(result.stderr, "Task-2 waits for the end of a batch")
end)

test("the batch does not end with the async.run of who submitted first", function()
  local batcher, event = Batcher { max_delay = 1000, handler = doubling({}) }, async.Event()
  local short = async.spawn(async.run, function()
    async.spawn(batcher.submit, batcher, 1)
    event:wait()
  end)
  test.turns()
  local other = async.spawn(batcher.submit, batcher, 2)
  async.sleep(0)
  event:set()
  short:await()
  test.eq(other:done(), false)
  batcher:flush()
  test.eq(other:await(), 4)
end)

test("flush waits for every batch under way, and raises none of their errors", function()
  local log = test.log()
  local batcher = Batcher { max_size = 2, max_delay = 1000, handler = function(items)
    test.turns(items.n * 3)
    log(items.n)
    error("broken", 0)
  end }
  local tasks = submit_all(batcher, { 1, 2, 3 })
  async.sleep(0)
  batcher:flush()
  test.eq(log, { "1", "2" })
  async.wait(tasks)
  for i = 1, 3 do test.eq(tasks[i]:error(), "broken") end
  batcher:flush()
end)

test("a cancelled flush leaves the batch alone", function()
  local batcher = Batcher { handler = doubling({}, 5) }
  local task = async.spawn(batcher.submit, batcher, 1)
  test.turns(2)
  local flushing = async.spawn(batcher.flush, batcher)
  async.sleep(0)
  flushing:cancel()
  async.wait { flushing }
  test.eq(task:await(), 2)
end)

test("close deals with what was submitted and refuses more", function()
  local sizes = {}
  local batcher = Batcher { max_delay = 1000, handler = doubling(sizes, 2) }
  local tasks = submit_all(batcher, { 1, 2 })
  async.sleep(0)
  batcher:close()
  test.eq(sizes, { 2 })
  test.eq(results_of(tasks), { 2, 4 })
  test.raises("InvalidStateError", batcher.submit, batcher, 3)
  batcher:close()
end)

test("nothing is lost, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function()
      local s = { done = 0 }
      s.batcher = Batcher { max_size = 2, handler = function(items)
        test.turns(2)
        assert(items.n <= 2)
        return items
      end }
      return s
    end,
    body = function(s)
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = async.spawn(function()
          for n = 1, 2 do assert(s.batcher:submit(i * n) == i * n) end
        end)
      end
      async.wait(tasks)
    end,
    check = function(s)
      test.eq(s.batcher:submit "again", "again")
      s.batcher:close()
    end,
  }
end)

test("nothing is lost, wherever a task is cancelled that waits for a batch to fill", function()
  cancel_everywhere {
    setup = function()
      return { batcher = Batcher { max_size = 3, max_delay = 1000, handler = function(items)
        async.sleep(0)
        return items
      end } }
    end,
    body = function(s)
      local tasks = submit_all(s.batcher, { 1, 2, 3, 4 })
      test.turns(3)
      s.batcher:flush()
      async.wait(tasks)
    end,
    check = function(s) s.batcher:close() end,
  }
end)

test("a wrong argument is an error at the caller's line", function()
  local function blames(part, fn) test.blames_caller(part, fn) end
  blames("bad argument 'handler' to 'Batcher' (function expected, got nil)",
    function() Batcher {} end)
  blames("'max_size' to 'Batcher' (at least 1 expected, got 0)",
    function() Batcher { handler = print, max_size = 0 } end)
  blames("'max_size' to 'Batcher' (whole number expected, got nan)",
    function() Batcher { handler = print, max_size = 0 / 0 } end)
  blames("'max_delay' to 'Batcher' (a time of at least 0 s expected, got -1)",
    function() Batcher { handler = print, max_delay = -1 } end)
  blames("unknown option 'size'", function() Batcher { handler = print, size = 1 } end)
end)
