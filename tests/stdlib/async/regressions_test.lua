-- Faults that were found and mended, each named after its symptom.
local async, errors = require "rille.async", require "rille.errors"
local test = require "support.test"

test("the coroutine of a task cannot be resumed by another", function()
  local co
  local a = async.spawn(function()
    co = coroutine.running()
    async.sleep(0)
    return "A"
  end)
  local b = async.spawn(function()
    local ok, e = coroutine.resume(co)
    test.eq({ ok, e }, { false, "cannot resume non-suspended coroutine" })
    return "B"
  end)
  test.eq({ a:await(), b:await() }, { "A", "B" })
end)

test("a deadlock inside a group ends in one DeadlockError, not in an endless row", function()
  local result = test.rille {
    "-e",
    [[
      local async = require "rille.async"
      local ok, e = pcall(async.group, function(g)
        g:spawn(async.finally, function() async.sleep(0) end, function() async.Future():await() end)
      end)
      print(ok, e.kind)
    ]],
  }
  test.eq({ result.stdout, result.code }, { "false\tDeadlockError\n", 0 })
end)

test("a comparison that fails while a putter is let in is the putter's error, and no item is lost",
  function()
    local queue, put = async.PriorityQueue(2), test.log()
    queue:put(1)
    queue:put(2)
    local putter = async.spawn(function()
      local ok, e = pcall(queue.put, queue, "text")
      put(ok, tostring(e):find "compare" ~= nil)
    end)
    async.sleep(0)
    test.eq({ queue:get(), queue:get() }, { 1, 2 })
    putter:await()
    test.eq(put, { "false true" })
    test.eq(queue:qsize(), 0)
  end)

test("a requirer that is cancelled while it waits leaves the loading alone", function()
  local started, go = async.Event(), async.Event()
  package.preload["regressions.slow"] = function()
    started:set()
    go:wait()
    return "loaded"
  end
  local a = async.spawn(require, "regressions.slow")
  started:wait()
  local b = async.spawn(require, "regressions.slow")
  local c = async.spawn(require, "regressions.slow")
  async.sleep(0)
  b:cancel()
  async.sleep(0)
  go:set()
  test.eq({ a:await(), c:await() }, { "loaded", "loaded" })
  assert(b:cancelled())
  package.preload["regressions.slow"], package.loaded["regressions.slow"] = nil, nil
end)

test("a pcall that is all there is in a coroutine catches a cancellation like any other", function()
  local task = async.spawn(function()
    coroutine.wrap(pcall)(async.sleep, 1000)
    async.sleep(1000)
  end)
  async.sleep(0)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
end)

test("a deadline of 0 is past, not missing", function()
  test.raises("TimeoutError", async.timeout_at, 0, function() async.sleep(1000) end)
end)

test("a wait that was refused below a C function leaves no trace in the next hand-over", function()
  local lock = async.Lock()
  lock:acquire()
  local task = async.spawn(function()
    pcall(table.sort, { 2, 1 }, function(a, b)
      coroutine.wrap(function() async.sleep(0) end)()
      return a < b
    end)
    lock:acquire()
    lock:release()
    async.sleep(0)
  end)
  async.sleep(0)
  lock:release()
  task:cancel()
  async.wait { task }
  assert(not lock:locked())
end)

test("everybody whom a shut-down queue turns away gets an error of his own", function()
  local queue, seen = async.Queue(), {}
  local function get()
    local ok, e = pcall(queue.get, queue)
    assert(not ok and errors.is(e, "QueueShutDown"))
    seen[#seen + 1] = e
  end
  local a, b = async.spawn(get), async.spawn(get)
  async.sleep(0)
  queue:shutdown()
  async.wait { a, b }
  assert(#seen == 2 and seen[1] ~= seen[2])
end)

test("an error object that many tasks pass on does not grow without end", function()
  local e = errors.new("Error", "again")
  for _ = 1, 500 do
    local t = async.spawn(error, e, 0)
    pcall(t.await, t)
  end
  assert(#e.traceback < 50000, #e.traceback)
end)
