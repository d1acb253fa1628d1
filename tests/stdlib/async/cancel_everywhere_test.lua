-- Every primitive under the harness: whichever of its waits is cancelled, nothing is lost.
local async, test = require "rille.async", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"

-- Counts who is inside fn, so that a check can tell that everybody has left.
local function counted(s, fn)
  s.inside = (s.inside or 0) + 1
  local ok, err = pcall(fn)
  s.inside = s.inside - 1
  if not ok then error(err, 0) end
end

local function nobody_inside(s) test.eq(s.inside or 0, 0, "inside") end

-- Waits `turns` times, counted.
local function worker(s, turns)
  return function()
    local result = turns
    counted(s, function()
      for _ = 1, turns do async.sleep(0) end
    end)
    return result
  end
end

local function spawn_all(n, fn, ...)
  local tasks = {}
  for i = 1, n do tasks[i] = async.spawn(fn, ...) end
  return tasks
end

-- Locks and permits -----------------------------------------------------------------------------

test("a lock is not lost, wherever a task is cancelled that uses it", function()
  cancel_everywhere {
    setup = function() return { lock = async.Lock() } end,
    body = function(s)
      async.wait(spawn_all(3, function()
        for _ = 1, 2 do
          s.lock:acquire()
          local ok, err = pcall(counted, s, function()
            test.eq(s.inside, 1)
            async.sleep(0)
          end)
          s.lock:release()
          if not ok then error(err, 0) end
        end
      end))
    end,
    check = function(s)
      nobody_inside(s)
      test.eq(s.lock:locked(), false)
      s.lock:acquire()
    end,
  }
end)

test("a lock is not lost, wherever a task is cancelled that is in its with", function()
  cancel_everywhere {
    setup = function() return { lock = async.Lock() } end,
    body = function(s)
      async.wait(spawn_all(3, function()
        s.lock:with(counted, s, function()
          test.eq(s.inside, 1)
          async.sleep(0)
        end)
      end))
    end,
    check = function(s)
      nobody_inside(s)
      test.eq(s.lock:locked(), false)
    end,
  }
end)

for _, name in ipairs { "Semaphore", "BoundedSemaphore" } do
  test("no permit of a " .. name .. " is lost, wherever a user of it is cancelled", function()
    cancel_everywhere {
      setup = function() return { sem = async[name](2) } end,
      body = function(s)
        async.wait(spawn_all(5, function()
          s.sem:acquire()
          local ok, err = pcall(counted, s, function()
            assert(s.inside <= 2)
            async.sleep(0)
          end)
          s.sem:release()
          if not ok then error(err, 0) end
        end))
      end,
      check = function(s)
        nobody_inside(s)
        test.eq(s.sem:value(), 2)
        s.sem:acquire()
        s.sem:acquire()
      end,
    }
  end)

  test("no permit of a " .. name .. " is lost to wait_for, wherever a task is cancelled", function()
    cancel_everywhere {
      setup = function() return { sem = async[name](1) } end,
      body = function(s)
        async.wait(spawn_all(3, function()
          local got = pcall(async.wait_for, s.sem.acquire, 1000, s.sem)
          if got then
            local ok, err = pcall(async.sleep, 0)
            s.sem:release()
            if not ok then error(err, 0) end
          end
        end))
      end,
      check = function(s) test.eq(s.sem:value(), 1) end,
    }
  end)
end

-- Signals between tasks -------------------------------------------------------------------------

test("an event wakes everybody that is left, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function() return { event = async.Event(), woken = 0 } end,
    body = function(s)
      local tasks = spawn_all(3, function()
        s.event:wait()
        s.woken = s.woken + 1
        async.sleep(0)
      end)
      tasks[4] = async.spawn(function()
        async.sleep(0)
        s.event:set()
        async.sleep(0)
      end)
      async.wait(tasks)
    end,
    at_rest = function(s) assert(not s.event:is_set(), "set, and yet somebody waits") end,
    check = function(s, victim)
      if not victim then test.eq(s.woken, 3) end
      s.event:clear()
      local task = async.spawn(s.event.wait, s.event)
      async.sleep(0)
      s.event:set()
      task:await()
    end,
  }
end)

test("no notification of a condition and no lock is lost, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function() return { cond = async.Condition(), items = 0, taken = 0, waiting = 0 } end,
    body = function(s)
      local tasks = spawn_all(3, function()
        s.cond:acquire()
        local ok, err = pcall(function()
          while s.items == 0 do
            s.waiting = s.waiting + 1
            local waited, why = pcall(s.cond.wait, s.cond)
            s.waiting = s.waiting - 1
            assert(s.cond:locked())
            if not waited then error(why, 0) end
          end
          s.items, s.taken = s.items - 1, s.taken + 1
        end)
        s.cond:release()
        if not ok then error(err, 0) end
      end)
      for _ = 1, 3 do
        tasks[#tasks + 1] = async.spawn(function()
          async.sleep(0)
          s.cond:acquire()
          s.items = s.items + 1
          s.cond:notify()
          s.cond:release()
        end)
      end
      async.wait(tasks)
    end,
    at_rest = function(s)
      assert(s.items == 0 or s.waiting == 0, "there is an item, and yet somebody waits for one")
    end,
    check = function(s, victim)
      test.eq(s.cond:locked(), false)
      test.eq(s.waiting, 0)
      if not victim then test.eq({ s.items, s.taken }, { 0, 3 }) end
    end,
  }
end)

test("wait_for of a condition loses no lock, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function() return { cond = async.Condition(), turn = 1 } end,
    body = function(s)
      local tasks = {}
      for i = 1, 3 do
        tasks[i] = async.spawn(s.cond.with, s.cond, function()
          s.cond:wait_for(function() return s.turn >= i end)
          s.turn = math.max(s.turn, i + 1)
          s.cond:notify_all()
        end)
      end
      async.wait(tasks)
    end,
    check = function(s) test.eq(s.cond:locked(), false) end,
  }
end)

test("a barrier is whole again, wherever a task is cancelled that waits at it", function()
  cancel_everywhere {
    setup = function() return { barrier = async.Barrier(3), passed = 0 } end,
    body = function(s)
      async.wait(spawn_all(3, function()
        async.sleep(0)
        s.barrier:wait()
        s.passed = s.passed + 1
        async.sleep(0)
      end))
    end,
    at_rest = function(s) assert(s.barrier:n_waiting() < 3) end,
    check = function(s)
      test.eq(s.barrier:n_waiting(), 0)
      test.eq(s.barrier:broken(), false)
      assert(s.passed == 0 or s.passed == 3, "some have passed and some have not")
      async.wait(spawn_all(3, s.barrier.wait, s.barrier))
    end,
  }
end)

-- Queues ----------------------------------------------------------------------------------------

for name, maxsize in pairs { Queue = 2, PriorityQueue = 2, LifoQueue = 1 } do
  local function setup()
    return { queue = async[name](maxsize), put = {}, got = {}, getting = 0, putting = 0 }
  end

  local function waiting(s, what, fn, ...)
    s[what] = s[what] + 1
    local ok, value = pcall(fn, ...)
    s[what] = s[what] - 1
    if not ok then error(value, 0) end
    return value
  end

  local function producer(s, first)
    for item = first, first + 3 do
      waiting(s, "putting", s.queue.put, s.queue, item)
      s.put[#s.put + 1] = item
    end
  end

  local function consumer(s, n)
    for _ = 1, n do
      local item = waiting(s, "getting", s.queue.get, s.queue)
      s.got[#s.got + 1] = item
      s.queue:task_done()
      async.sleep(0)
    end
  end

  local function at_rest(s)
    assert(s.getting == 0 or s.queue:empty(), "there is an item, and yet somebody waits for one")
    assert(s.putting == 0 or s.queue:full(), "there is a place, and yet somebody waits for one")
  end

  local function check(s)
    while not s.queue:empty() do
      s.got[#s.got + 1] = s.queue:get_nowait()
      s.queue:task_done()
    end
    table.sort(s.put)
    table.sort(s.got)
    test.eq(s.got, s.put, "what was got, and what was put")
    test.eq({ s.getting, s.putting }, { 0, 0 })
    s.queue:join() -- hangs if an item was counted that was never put
    local ok = pcall(s.queue.task_done, s.queue)
    test.eq(ok, false)
  end

  test("no item of a " .. name .. " is lost or doubled, wherever a task is cancelled", function()
    cancel_everywhere {
      setup = setup,
      body = function(s)
        async.wait {
          async.spawn(producer, s, 1),
          async.spawn(producer, s, 11),
          async.spawn(consumer, s, 4),
          async.spawn(consumer, s, 4),
        }
      end,
      at_rest = at_rest,
      check = check,
    }
  end)

  test("no item of a " .. name .. " is lost to wait_for, wherever a task is cancelled", function()
    cancel_everywhere {
      setup = setup,
      body = function(s)
        async.wait {
          async.spawn(function()
            for item = 1, 3 do
              waiting(s, "putting", async.wait_for, s.queue.put, 1000, s.queue, item)
              s.put[#s.put + 1] = item
            end
          end),
          async.spawn(function()
            for _ = 1, 3 do
              local item = waiting(s, "getting", async.wait_for, s.queue.get, 1000, s.queue)
              s.got[#s.got + 1] = item
              s.queue:task_done()
            end
          end),
        }
      end,
      at_rest = at_rest,
      check = check,
    }
  end)

  test("join and shutdown of a " .. name .. " lose nothing when a task is cancelled", function()
    cancel_everywhere {
      setup = setup,
      body = function(s)
        local readers = spawn_all(2, function()
          for item in s.queue:iter() do
            s.got[#s.got + 1] = item
            s.queue:task_done()
            async.sleep(0)
          end
        end)
        local writer = async.spawn(producer, s, 1)
        async.wait { writer }
        s.queue:join()
        s.queue:shutdown()
        async.wait(readers)
      end,
      check = check,
    }
  end)
end

-- Waiting for others ----------------------------------------------------------------------------

test("await leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local inner = async.spawn(worker(s, 2))
      local middle = async.spawn(function() return inner:await() end)
      test.eq(async.spawn(function() return middle:await() end):await(), 2)
    end,
    check = nobody_inside,
  }
end)

test("gather leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local task = async.spawn(worker(s, 3))
      test.eq(async.gather { worker(s, 1), task, worker(s, 2) }, { 1, 3, 2, n = 3 })
    end,
    check = nobody_inside,
  }
end)

test("gather with return_errors leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local cancelled = async.spawn(worker(s, 5))
      async.call_soon(cancelled.cancel, cancelled)
      async.gather({ worker(s, 1), cancelled, worker(s, 2) }, { return_errors = true })
    end,
    check = nobody_inside,
  }
end)

test("wait leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local tasks = { async.spawn(worker(s, 3)), async.spawn(worker(s, 1)) }
      local _, pending = async.wait(tasks, { return_when = "FIRST_COMPLETED", timeout = 1000 })
      if pending[1] then async.wait(pending, { return_when = "FIRST_ERROR" }) end
    end,
    check = nobody_inside,
  }
end)

test("as_completed leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local tasks = { async.spawn(worker(s, 3)), async.spawn(worker(s, 1)) }
      for task in async.as_completed(tasks, { timeout = 1000 }) do
        assert(task:done())
        async.sleep(0)
      end
    end,
    check = nobody_inside,
  }
end)

test("wait_for leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      async.wait_for(worker(s, 2), 1000)
      async.wait_for(async.spawn(worker(s, 2)), 1000)
      local ok, err = pcall(async.wait_for, worker(s, 3), -1)
      if not ok and async.is_cancelled(err) then error(err, 0) end
    end,
    check = nobody_inside,
  }
end)

test("timeout and move_on_after leave nothing behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      async.timeout(1000, worker(s, 2))
      local ok, err = pcall(async.timeout, nil, function(scope)
        scope:reschedule(async.time() - 1)
        counted(s, function() async.sleep(1000) end)
      end)
      if not ok and async.is_cancelled(err) then error(err, 0) end
      async.move_on_after(1000, worker(s, 2))
      async.move_on_after(-1, function() counted(s, function() async.sleep(1000) end) end)
    end,
    check = nobody_inside,
  }
end)

test("nested timeouts leave nothing behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      async.move_on_after(1000, function()
        async.move_on_after(-1, function() counted(s, function() async.sleep(1000) end) end)
        async.move_on_after(1000, worker(s, 2))
        async.sleep(0)
      end)
      async.sleep(0)
    end,
    check = nobody_inside,
  }
end)

test("a shielded task ends in its own way, wherever its waiter is cancelled", function()
  cancel_everywhere {
    setup = function() return { ended = 0 } end,
    body = function(s)
      s.inner = async.spawn(worker(s, 3))
      async.shield(s.inner)
    end,
    check = function(s)
      nobody_inside(s)
      assert(s.inner == nil or s.inner:done())
    end,
  }
end)

test("a group leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      async.group(function(g)
        g:spawn(worker(s, 3))
        g:spawn(function()
          async.sleep(0)
          g:spawn(worker(s, 2))
        end)
        worker(s, 1)()
      end)
    end,
    check = nobody_inside,
  }
end)

test("a group that fails leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local ok, err = pcall(async.group, function(g)
        g:spawn(worker(s, 5))
        g:spawn(function()
          async.sleep(0)
          error("oops", 0)
        end)
        worker(s, 5)()
      end)
      if not ok and async.is_cancelled(err) then error(err, 0) end
    end,
    check = nobody_inside,
  }
end)

test("a group that cancels itself leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      async.group(function(g)
        g:spawn(worker(s, 5))
        async.sleep(0)
        g:cancel()
        worker(s, 5)()
      end)
      async.sleep(0)
    end,
    check = nobody_inside,
  }
end)

test("map leaves no task behind, wherever a task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      async.map({ 1, 2, 3, 4 }, function(item) worker(s, item)() end, { limit = 2 })
      async.map({ 1, 2 }, function(item) worker(s, item)() end)
    end,
    check = nobody_inside,
  }
end)

test("a future wakes everybody, wherever a task is cancelled that waits for it", function()
  cancel_everywhere {
    setup = function() return { future = async.Future() } end,
    body = function(s)
      local tasks = spawn_all(3, function()
        counted(s, function() s.future:await() end)
      end)
      tasks[4] = async.spawn(function()
        async.sleep(0)
        if not s.future:done() then s.future:set_result(1) end
      end)
      async.wait(tasks)
    end,
    at_rest = function(s) assert(not s.future:done(), "done, and yet somebody waits") end,
    check = nobody_inside,
  }
end)

-- Clean-up --------------------------------------------------------------------------------------

-- Counts how often `what` began and ended, with waits in between.
local function balanced(s, what)
  return function()
    s[what .. " begun"] = (s[what .. " begun"] or 0) + 1
    async.sleep(0)
    async.sleep(0)
    s[what .. " ended"] = (s[what .. " ended"] or 0) + 1
  end
end

local function is_balanced(...)
  local names = { ... }
  return function(s)
    nobody_inside(s)
    for _, what in ipairs(names) do
      test.eq(s[what .. " ended"] or 0, s[what .. " begun"] or 0, what)
    end
    test.eq(s.entered or 0, s["clean-up ended"] or 0, "entered, and cleaned up")
  end
end

test("a clean-up of finally runs to its end, wherever its task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      for _ = 1, 2 do
        s.entered = (s.entered or 0) + 1
        async.finally(worker(s, 2), balanced(s, "clean-up"))
      end
    end,
    check = is_balanced "clean-up",
  }
end)

test("clean-ups in each other run to their end, wherever their task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      s.entered = 1
      async.finally(function()
        async.finally(worker(s, 1), balanced(s, "inner"))
      end, function()
        async.finally(balanced(s, "clean-up"), balanced(s, "innermost"))
      end)
    end,
    check = is_balanced("clean-up", "inner", "innermost"),
  }
end)

test("a resource that was entered is left, wherever its task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local leave = balanced(s, "clean-up")
      async.with({
        enter = function()
          async.sleep(0)
          s.entered = (s.entered or 0) + 1
        end,
        exit = function() leave() end,
      }, worker(s, 2))
    end,
    check = is_balanced "clean-up",
  }
end)

test("a context is left when it was entered, wherever its task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local open = async.context(function(yield)
        async.sleep(0)
        s.entered = (s.entered or 0) + 1
        async.finally(yield, balanced(s, "clean-up"))
      end)
      async.with(open(), worker(s, 2))
    end,
    check = is_balanced "clean-up",
  }
end)

test("a generator is cleaned up, wherever its task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local numbers = async.generator(function(yield)
        s.entered = (s.entered or 0) + 1
        async.finally(function()
          for i = 1, 3 do
            async.sleep(0)
            yield(i)
          end
        end, balanced(s, "clean-up"))
      end)
      for _ in numbers() do async.sleep(0) end
    end,
    check = is_balanced "clean-up",
  }
end)

test("a generator left half-way is cleaned up, wherever its task is cancelled", function()
  cancel_everywhere {
    body = function(s)
      local numbers = async.generator(function(yield)
        s.entered = (s.entered or 0) + 1
        async.finally(function()
          yield(1)
          yield(2)
        end, balanced(s, "clean-up"))
      end)
      for _ in numbers() do
        async.sleep(0)
        break
      end
      async.sleep(0)
    end,
    check = is_balanced "clean-up",
  }
end)

test("waits inside coroutines lose nothing, wherever their task is cancelled", function()
  cancel_everywhere {
    setup = function() return { lock = async.Lock() } end,
    body = function(s)
      local function locked_numbers()
        return coroutine.wrap(function()
          for i = 1, 2 do
            s.lock:with(counted, s, function() async.sleep(0) end)
            coroutine.yield(i)
          end
        end)
      end
      async.wait(spawn_all(2, function()
        for _ in locked_numbers() do async.sleep(0) end
      end))
    end,
    check = function(s)
      nobody_inside(s)
      test.eq(s.lock:locked(), false)
    end,
  }
end)

test("everything at once loses nothing, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function()
      return { queue = async.Queue(2), sem = async.Semaphore(2), lock = async.Lock(), sum = 0 }
    end,
    body = function(s)
      async.group(function(g)
        for _ = 1, 2 do
          g:spawn(function()
            for item in s.queue:iter() do
              s.sem:with(function()
                async.timeout(1000, function()
                  s.lock:with(counted, s, function()
                    async.sleep(0)
                    s.sum = s.sum + item
                  end)
                end)
              end)
            end
          end)
        end
        for item = 1, 4 do s.queue:put(item) end
        s.queue:shutdown()
      end)
    end,
    check = function(s, victim)
      nobody_inside(s)
      test.eq({ s.sem:value(), s.lock:locked() }, { 2, false })
      if not victim then test.eq(s.sum, 10) end
    end,
  }
end)
