local async, test = require "rille.async", require "support.test"

local function waiters(barrier, n)
  local tasks = {}
  for i = 1, n do tasks[i] = async.spawn(barrier.wait, barrier) end
  async.sleep(0)
  return tasks
end

test("a barrier lets its parties go when all have come", function()
  local barrier = async.Barrier(3)
  local tasks = waiters(barrier, 2)
  test.turns(3)
  test.eq(barrier:n_waiting(), 2)
  assert(not tasks[1]:done() and not tasks[2]:done())
  barrier:wait()
  async.wait(tasks)
  test.eq(barrier:n_waiting(), 0)
end)

test("each party gets an index of its own, from 0", function()
  local tasks = waiters(async.Barrier(3), 3)
  async.wait(tasks)
  local indexes = {}
  for i, task in ipairs(tasks) do indexes[i] = task:result() end
  table.sort(indexes)
  test.eq(indexes, { 0, 1, 2 })
end)

test("a barrier tells its parties, and is not broken", function()
  local barrier = async.Barrier(3)
  test.eq(barrier:parties(), 3)
  test.eq(barrier:n_waiting(), 0)
  test.eq(barrier:broken(), false)
end)

test("a barrier can be passed again and again", function()
  local barrier, log, tasks = async.Barrier(2), test.log(), {}
  for i = 1, 2 do
    tasks[i] = async.spawn(function()
      for round = 1, 3 do
        barrier:wait()
        log(round)
      end
    end)
  end
  async.wait(tasks)
  test.eq(log, { "1", "1", "2", "2", "3", "3" })
end)

test("a barrier for one lets it pass without giving the turn away", function()
  local barrier, log = async.Barrier(1), test.log()
  local other = async.spawn(log, "other")
  test.eq(barrier:wait(), 0)
  log "passed"
  other:await()
  test.eq(log, { "passed", "other" })
end)

test("reset raises BrokenBarrierError in those who wait and leaves the barrier usable", function()
  local barrier = async.Barrier(2)
  local tasks = waiters(barrier, 1)
  barrier:reset()
  async.wait(tasks)
  test.raises("BrokenBarrierError", tasks[1].await, tasks[1])
  test.eq(barrier:broken(), false)
  test.eq(barrier:n_waiting(), 0)
  tasks = waiters(barrier, 2)
  async.wait(tasks)
  test.eq(tasks[1]:result() + tasks[2]:result(), 1)
end)

test("abort breaks the barrier for those who wait and those who come", function()
  local barrier = async.Barrier(2)
  local tasks = waiters(barrier, 1)
  barrier:abort()
  async.wait(tasks)
  test.raises("BrokenBarrierError", tasks[1].await, tasks[1])
  test.eq(barrier:broken(), true)
  test.raises("BrokenBarrierError", barrier.wait, barrier)
end)

test("reset mends a broken barrier", function()
  local barrier = async.Barrier(2)
  barrier:abort()
  barrier:reset()
  test.eq(barrier:broken(), false)
  local tasks = waiters(barrier, 2)
  async.wait(tasks)
  test.eq(tasks[1]:error(), nil)
end)

test("a cancelled party leaves the barrier, which is not broken by it", function()
  local barrier = async.Barrier(2)
  local tasks = waiters(barrier, 1)
  tasks[1]:cancel()
  async.wait(tasks)
  test.eq(barrier:n_waiting(), 0)
  test.eq(barrier:broken(), false)
  tasks = waiters(barrier, 1)
  test.eq(barrier:n_waiting(), 1)
  barrier:wait()
  async.wait(tasks)
end)

test("a party that was let go before it was cancelled has passed", function()
  local barrier, log = async.Barrier(2), test.log()
  local task = async.spawn(function()
    barrier:wait()
    log "passed"
    async.sleep(0)
    log "not reached"
  end)
  async.sleep(0)
  barrier:wait()
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "passed" })
end)

test("a barrier names a wrong number of parties, itself and the caller's line", function()
  test.blames_caller("bad argument #1 to 'Barrier'", function() async.Barrier(0) end)
  test.blames_caller("bad argument #1 to 'Barrier'", function() async.Barrier(-1) end)
  test.blames_caller("bad argument #1 to 'Barrier'", function() async.Barrier(1.5) end)
  test.blames_caller(
    "bad argument #1 to 'Barrier' (number expected, got n",
    function() async.Barrier() end
  )
end)
