-- A million tasks come and go, in every way a task can end, and the memory stays where it was.
local async, test = require "rille.async", require "support.test"

local TOTAL = math.max(1000, math.floor(1000000 * test.SCALE))
local AT_ONCE = 1000

local function resident_bytes()
  local kib = test.read("/proc/self/status"):match "VmRSS:%s*(%d+) kB"
  return tonumber(kib) * 1024
end

local function lua_bytes()
  collectgarbage()
  collectgarbage()
  return collectgarbage "count" * 1024
end

local function returns() return 1 end

local function sleeps() return async.sleep(0, 1) end

local function fails() error("expected", 0) end

local function waits_for_ever() async.sleep(1000) end

-- One round of AT_ONCE tasks. Most end by themselves; the rest fail, time out, or are cancelled.
local function round(lock, queue)
  local tasks = {}
  for i = 1, AT_ONCE do
    local kind = i % 16
    if kind == 0 then
      tasks[i] = async.spawn(pcall, fails)
    elseif kind == 1 then
      tasks[i] = async.spawn(waits_for_ever)
    elseif kind == 2 then
      tasks[i] = async.spawn(lock.with, lock, sleeps)
    elseif kind == 3 then
      tasks[i] = async.spawn(queue.put, queue, i)
    elseif kind == 4 then
      tasks[i] = async.spawn(queue.get, queue)
    elseif kind == 5 then
      tasks[i] = async.spawn(async.wait_for, sleeps, 1000)
    elseif kind == 6 then
      tasks[i] = async.spawn(async.move_on_after, 0, waits_for_ever)
    elseif kind == 7 then
      tasks[i] = async.spawn(fails)
    elseif kind == 8 then
      tasks[i] = async.spawn(async.finally, sleeps, sleeps)
    elseif kind < 12 then
      tasks[i] = async.spawn(sleeps)
    else
      tasks[i] = async.spawn(returns)
    end
  end
  async.sleep(0)
  for i = 1, AT_ONCE do
    if i % 16 == 1 then tasks[i]:cancel() end
  end
  async.wait(tasks)
  for i = 1, AT_ONCE do
    if i % 16 == 7 then test.eq(tasks[i]:error(), "expected") end
  end
  while not queue:empty() do queue:get_nowait() end
end

test("what a burst of tasks took is given back", function()
  local function burst(n)
    async.group(function(g)
      for _ = 1, n do g:spawn(async.sleep, 0.001) end
    end)
  end
  burst(1000)
  local before = lua_bytes()
  burst(math.max(2000, math.floor(50000 * test.SCALE)))
  assert(lua_bytes() < before + 6 * 1024 * 1024)
end)

test("many timers that are cancelled long before their time leave no memory behind", function()
  local n = math.max(1000, math.floor(200000 * test.SCALE))
  local function set_and_cancel()
    for _ = 1, n do async.call_later(1000, print):cancel() end
    for _ = 1, n / 10 do async.wait_for(sleeps, 1000) end
  end
  set_and_cancel()
  local lua_before, resident_before = lua_bytes(), resident_bytes()
  for _ = 1, 3 do set_and_cancel() end
  assert(lua_bytes() < lua_before + 1024 * 1024)
  assert(resident_bytes() < resident_before + 24 * 1024 * 1024)
end)

test("waits that give up leave nothing behind at what they waited for", function()
  local n = math.max(1000, math.floor(20000 * test.SCALE))
  local lock, event, future = async.Lock(), async.Event(), async.Future()
  local full, empty, sem = async.Queue(1), async.Queue(), async.Semaphore(0)
  local cond, barrier = async.Condition(), async.Barrier(2)
  lock:acquire()
  full:put(1)
  local task = async.spawn(event.wait, event)
  local waits = {
    function() lock:acquire() end,
    function() sem:acquire() end,
    function() event:wait() end,
    function() full:put(2) end,
    function() empty:get() end,
    function() full:join() end,
    function() barrier:wait() end,
    function() cond:with(cond.wait, cond) end,
    function() async.shield(task) end,
    function() async.shield(future) end,
    function() async.wait { task, future } end,
    function() async.wait({ task }, { timeout = -1 }) end,
    function() async.gather { function() async.shield(task) end } end,
    function() for _ in async.as_completed({ task }, { timeout = 1000 }) do end end,
  }
  local function give_up(times)
    for _, wait in ipairs(waits) do
      for _ = 1, times do async.move_on_after(-1, wait) end
    end
  end
  give_up(100)
  local before = lua_bytes()
  give_up(n / #waits)
  local grown = lua_bytes() - before
  event:set()
  task:await()
  assert(grown < 256 * 1024, "the Lua heap grew by " .. grown .. " bytes")
end)

test("generators, contexts and timers that are over leave nothing behind in their task", function()
  local n = math.max(1000, math.floor(20000 * test.SCALE))
  local numbers = async.generator(function(yield)
    for i = 1, 3 do yield(i) end
  end)
  local open = async.context(function(yield) yield(1) end)
  local function use(times)
    for _ = 1, times do
      for _ in numbers() do end
      local left = numbers()
      left()
      left:close()
      async.with(open(), returns)
      async.timeout(1000, returns)
      async.call_later(1000, returns):cancel()
      coroutine.wrap(sleeps)()
    end
  end
  use(100)
  local before = lua_bytes()
  use(n)
  local grown = lua_bytes() - before
  assert(grown < 256 * 1024, "the Lua heap grew by " .. grown .. " bytes")
end)

test("a million tasks leave the memory as it was", { limit = 30 }, function()
  local lock, queue = async.Lock(), async.Queue()
  for _ = 1, 20 do round(lock, queue) end -- until everything has its working size
  local lua_before, resident_before = lua_bytes(), resident_bytes()
  for _ = 1, TOTAL / AT_ONCE do round(lock, queue) end
  local lua_after, resident_after = lua_bytes(), resident_bytes()
  -- A leak of a single byte a task would be a megabyte.
  local ceiling = 512 * 1024
  if lua_after > lua_before + ceiling then
    error(("the Lua heap grew from %d to %d bytes"):format(lua_before, lua_after))
  end
  -- The collector decides when memory is given back, so the process gets more room than the heap.
  ceiling = 24 * 1024 * 1024
  if resident_after > resident_before + ceiling then
    error(("resident memory grew from %d to %d bytes"):format(resident_before, resident_after))
  end
end)

test("many sleeping tasks are all woken, and their memory is used again", { limit = 30 }, function()
  local n = math.max(1000, math.floor(100000 * test.SCALE))
  local function sleep_together()
    local tasks, woken = {}, 0
    for i = 1, n do
      tasks[i] = async.spawn(function()
        async.sleep(0.01)
        woken = woken + 1
      end)
    end
    async.wait(tasks)
    test.eq(woken, n)
  end
  sleep_together()
  sleep_together()
  local before = lua_bytes()
  sleep_together()
  assert(lua_bytes() < before + 1024 * 1024)
end)
