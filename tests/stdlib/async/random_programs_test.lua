-- Random programs of nested scopes, locks, queues and clean-ups, with random cancellations and
-- errors: whatever happens in them, nothing may be lost. Each is made from a number, which a
-- failure names; RILLE_TEST_SEED=number runs just that one.
local async, errors = require "rille.async", require "rille.errors"
local test = require "support.test"
local probe = require "rille.core.probe"

local SEED = tonumber(os.getenv "RILLE_TEST_SEED")
local PROGRAMS = math.max(20, math.floor(2000 * test.SCALE))
local FAILURE = "a failure that the program makes on purpose"

-- A generator of its own, so that a number means the same program everywhere.
local function random_source(seed)
  local state = seed * 2654435761 % 4294967296
  return function(n)
    state = (state * 1103515245 + 12345) % 2147483648
    return math.floor(state / 65536) % n + 1
  end
end

local function is_on_purpose(err)
  if async.is_cancelled(err) or err == FAILURE then return true end
  if errors.is(err, "TimeoutError") then return true end
  if not errors.is(err, "ErrorGroup") then return false end
  for _, inner in ipairs(err.errors) do
    if not is_on_purpose(inner) then return false end
  end
  return true
end

-- Every operation gets the world and how deep it stands; deeper ones are simpler.
local operations = {}
local step

local function operation(fn) operations[#operations + 1] = fn end

local function steps(w, depth)
  for _ = 1, w.random(3) do step(w, depth - 1) end
  return "done"
end

-- For whoever has no use for an error that was made on purpose; a cancellation goes on.
local function tolerate(ok, err)
  if ok then return end
  if async.is_cancelled(err) or not is_on_purpose(err) then error(err, 0) end
end

operation(function() async.sleep(0) end)
operation(function() async.sleep(0) end)

operation(function(w)
  w.value = w.value + 1
  w.queue:put(w.value)
  w.put = w.put + 1
end)

operation(function(w)
  w.queue:get()
  w.got = w.got + 1
end)

operation(function(w)
  if pcall(w.queue.put_nowait, w.queue, 0) then w.put = w.put + 1 end
end)

operation(function(w)
  async.move_on_after(w.random(2) * 1000 - 1500, function()
    w.queue:get()
    w.got = w.got + 1
  end)
end)

operation(function(w, depth)
  w.lock:with(function()
    assert(not w.locked, "two hold the lock")
    w.locked = true
    local ok, err = pcall(steps, w, math.min(depth, 1))
    w.locked = false
    if not ok then error(err, 0) end
  end)
end)

operation(function(w, depth)
  w.sem:acquire()
  w.permits = w.permits + 1
  local ok, err = pcall(function()
    assert(w.permits <= 2, "too many permits")
    steps(w, depth)
  end)
  w.permits = w.permits - 1
  w.sem:release()
  if not ok then error(err, 0) end
end)

operation(function(w)
  w.cond:with(function()
    if w.random(2) == 1 then
      w.cond:notify(w.random(2))
    else
      w.cond:wait()
    end
  end)
end)

operation(function(w, depth)
  w.begun = w.begun + 1
  async.finally(function() return steps(w, depth) end, function()
    for _ = 1, w.random(3) - 1 do async.sleep(0) end
    w.ended = w.ended + 1
  end)
end)

operation(function(w, depth)
  w.begun = w.begun + 1
  async.with({
    exit = function()
      async.sleep(0)
      w.ended = w.ended + 1
    end,
  }, function() steps(w, depth) end)
end)

operation(function(w, depth)
  local open = async.context(function(yield)
    w.begun = w.begun + 1
    async.finally(yield, function()
      async.sleep(0)
      w.ended = w.ended + 1
    end)
  end)
  async.with(open(), function() steps(w, depth) end)
end)

operation(function(w, depth)
  tolerate(pcall(async.timeout, 1000, function(scope)
    if w.random(2) == 1 then w.scopes[#w.scopes + 1] = scope end
    steps(w, depth)
  end))
end)

operation(function(w, depth)
  async.move_on_after(nil, function(scope)
    if w.random(3) == 1 then scope:reschedule(async.time() - 1) end
    steps(w, depth)
  end)
end)

operation(function(w)
  local scope = table.remove(w.scopes)
  if scope then pcall(scope.reschedule, scope, async.time() - 1) end
end)

operation(function(w, depth)
  tolerate(pcall(async.wait_for, function() return steps(w, depth) end, 1000))
end)

operation(function(w, depth)
  tolerate(pcall(async.group, function(g)
    w.groups[#w.groups + 1] = g
    for _ = 1, w.random(3) do g:spawn(steps, w, depth - 1) end
    steps(w, depth)
  end))
end)

operation(function(w)
  local group = table.remove(w.groups)
  if group then pcall(group.cancel, group) end
end)

operation(function(w, depth)
  local function entry() return steps(w, depth - 1) end
  tolerate(pcall(async.gather, { entry, entry }, { return_errors = w.random(2) == 1 }))
end)

operation(function(w, depth)
  local function entry() steps(w, depth - 1) end
  tolerate(pcall(async.map, { 1, 2, 3 }, entry, { limit = w.random(3) }))
end)

operation(function(w, depth)
  local task = async.spawn(steps, w, depth)
  w.tasks[#w.tasks + 1] = task
  tolerate(pcall(task.await, task))
end)

operation(function(w, depth)
  tolerate(pcall(async.shield, function() return steps(w, depth - 1) end))
end)

operation(function(w, depth) w.tasks[#w.tasks + 1] = async.spawn_eager(steps, w, depth - 1) end)

operation(function(w, depth)
  coroutine.wrap(function() steps(w, depth) end)()
end)

operation(function(w, depth)
  local numbers = async.generator(function(yield)
    w.begun = w.begun + 1
    async.finally(function()
      for i = 1, 3 do
        step(w, depth - 1)
        yield(i)
      end
    end, function()
      async.sleep(0)
      w.ended = w.ended + 1
    end)
  end)
  for i in numbers() do
    if i == w.random(3) then break end
    step(w, depth - 1)
  end
end)

operation(function(w, depth) pcall(steps, w, depth) end)
operation(function(w, depth) async.pcall(steps, w, depth) end)
operation(function(w, depth) xpcall(function() steps(w, depth) end, tostring) end)

operation(function(w)
  local task = w.tasks[w.random(#w.tasks)]
  task:cancel()
end)

operation(function() async.current_task():cancel() end)

operation(function(w)
  if w.random(4) == 1 then error(FAILURE, 0) end
end)

operation(function(w) async.call_soon(w.event.set, w.event) end)

operation(function(w)
  w.event:wait()
  w.event:clear()
end)

function step(w, depth)
  -- The first few operations need no room below.
  local n = depth > 0 and #operations or 5
  operations[w.random(n)](w, depth)
end

local function world(seed)
  local w = {
    random = random_source(seed),
    queue = async.Queue(2),
    lock = async.Lock(),
    sem = async.Semaphore(2),
    event = async.Event(),
    tasks = {},
    groups = {},
    scopes = {},
    value = 0,
    put = 0,
    got = 0,
    permits = 0,
    begun = 0,
    ended = 0,
  }
  w.cond = async.Condition()
  return w
end

local function main(w)
  for _ = 1, 4 do w.tasks[#w.tasks + 1] = async.spawn(steps, w, 4) end
  async.wait { unpack(w.tasks, 1, 4) }
end

-- Runs one program to its end and raises what is wrong with what it leaves behind.
local function run(seed)
  local before, w, others = probe.stats(), world(seed), {}
  for _, task in ipairs(async.all_tasks()) do others[task] = true end
  local root = async.spawn(async.run, main, w)
  -- Its tasks may wait for each other for ever, and who has acknowledged a cancellation may do so
  -- again: then all are cancelled, until none is left.
  for _ = 1, 50 do
    for _ = 1, 200 do
      if root:done() then break end
      async.sleep(0)
    end
    if root:done() then break end
    for _, task in ipairs(async.all_tasks()) do
      if not others[task] then task:cancel() end
    end
  end
  if not root:done() then error("it does not end:\n" .. root:traceback(), 0) end
  if not root:cancelled() and root:error() ~= nil then
    local err = root:error()
    if not is_on_purpose(err) then error(err, 0) end
  end

  test.eq(w.lock:locked(), false, "lock")
  test.eq(w.cond:locked(), false, "lock of the condition")
  test.eq({ w.permits, w.sem:value() }, { 0, 2 }, "permits")
  test.eq(w.ended, w.begun, "clean-ups that ended, and that were begun")
  test.eq(w.queue:qsize(), w.put - w.got, "items in the queue")
  root, w.tasks, w.scopes, w.groups = nil, nil, nil, nil -- luacheck: ignore 311
  for _ = 1, 100 do
    local now = probe.stats()
    if now.tasks <= before.tasks and now.timers <= before.timers then return end
    async.sleep(0)
  end
  error("left behind: " .. test.show(before) .. " became " .. test.show(probe.stats()), 0)
end

local function check_reports(seed)
  for _, report in ipairs(test.reports()) do
    if not is_on_purpose(report.error) then
      error(("program %d or before: %s"):format(seed, tostring(report.error)), 0)
    end
  end
end

test("random programs lose nothing", { limit = 6 }, function()
  for seed = SEED or 1, SEED or PROGRAMS do
    local ok, err = pcall(run, seed)
    if not ok then
      local trace = type(err) == "table" and err.traceback or ""
      error(("program %d: %s\n%s"):format(seed, tostring(err), tostring(trace)), 0)
    end
    if seed % 100 == 0 then check_reports(seed) end
  end
  check_reports(SEED or PROGRAMS)
end)
