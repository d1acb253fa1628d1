local async, test = require "rille.async", require "support.test"

test("sleep returns its further arguments, nils among them", function()
  local n = select("#", async.sleep(0, nil, 2, nil))
  test.eq(n, 3)
  test.eq({ async.sleep(0.001, "a", "b") }, { "a", "b" })
end)

test("sleep(0) lets every ready task run once", function()
  local log = test.log()
  local function steps(name)
    for i = 1, 2 do
      log(name, i)
      async.sleep(0)
    end
  end
  local a, b = async.spawn(steps, "a"), async.spawn(steps, "b")
  async.sleep(0)
  test.eq(log, { "a 1", "b 1" })
  async.sleep(0)
  test.eq(log, { "a 1", "b 1", "a 2", "b 2" })
  async.wait { a, b }
end)

test("sleepers wake in the order of their deadlines", function()
  local log = test.log()
  local tasks = {}
  for i, seconds in ipairs { 0.03, 0.01, 0.02 } do
    tasks[i] = async.spawn(function()
      async.sleep(seconds)
      log(seconds)
    end)
  end
  async.wait(tasks)
  test.eq(log, { "0.01", "0.02", "0.03" })
end)

test("sleepers with one deadline wake in the order in which they went to sleep", function()
  local log, tasks = test.log(), {}
  for i = 1, 5 do
    tasks[i] = async.spawn(function()
      async.sleep(0.01)
      log(i)
    end)
  end
  async.wait(tasks)
  test.eq(log, { "1", "2", "3", "4", "5" })
end)

test("a sleep does not end before its time by async.time", function()
  local start = async.time()
  async.sleep(0.005)
  assert(async.time() - start >= 0.005)
end)

test("a negative sleep is a sleep of 0", function()
  local log = test.log()
  local task = async.spawn(log, "other")
  async.sleep(-1)
  log "slept"
  test.eq(log, { "other", "slept" })
  task:await()
end)

test("an endless sleep lasts until it is cancelled", function()
  local task = async.spawn(async.sleep, math.huge)
  async.sleep(0.005)
  assert(not task:done())
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
end)

test("sleepers and tasks that always have work both get on", function()
  local busy = async.spawn(function()
    while true do async.sleep(0) end
  end)
  async.sleep(0.005)
  busy:cancel()
  async.wait { busy }
end)

test("sleep names the wrong argument, itself and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'sleep' (number expected, got nil)",
    function() async.sleep(nil) end
  )
  test.blames_caller(
    "bad argument #1 to 'sleep' (number expected, got table)",
    function() async.sleep({}) end
  )
  test.blames_caller(
    "bad argument #1 to 'sleep' (number expected, got n",
    function() async.sleep() end
  )
end)

test("NaN is not a time to sleep", function()
  test.blames_caller("bad argument #1 to 'sleep'", function() async.sleep(0 / 0) end)
end)
