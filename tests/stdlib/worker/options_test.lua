--- Pools that prepare their workers, and that replace them after a number of jobs; what is said of
-- jobs in hand.
local async = require "rille.async"
local worker = require "rille.worker"
local test = require "support.test"

local eq = test.eq

local function is_ready() return _G.ready end

local function count()
  _G.jobs = (_G.jobs or 0) + 1
  return _G.jobs
end

for _, kind in ipairs { "thread", "process" } do
  local function kind_test(name, fn) test(("%s (%s)"):format(name, kind), fn) end

  kind_test("an initializer is called once in each worker, before its first job", function()
    local calls, greeting = worker.Channel(), { text = "hello" }
    local path = require "rille.path"
    local pool = worker.Pool { size = 1, kind = kind, initializer = function()
      require("rille.async").sleep(0)
      _G.ready = path.join(greeting.text, "there")
      calls:send "called"
    end }
    greeting.text = "too late"
    eq(calls:size(), 0)
    for _ = 1, 3 do eq(pool:run(is_ready), "hello/there") end
    eq(calls:size(), 1)
    pool:close()
    eq(is_ready(), nil)
  end)

  kind_test("the job of a worker whose initializer fails fails with its error, and the next one "
    .. "calls it again", function()
    local tries = worker.Channel()
    for i = 1, 3 do tries:send(i) end
    local pool = worker.Pool { size = 1, kind = kind, initializer = function()
      local try = tries:recv()
      if try < 3 then error(require("rille.errors").new("SetupError", "try " .. try)) end
      _G.ready = try
    end }
    for i = 1, 2 do
      local e = test.raises("SetupError", pool.run, pool, is_ready)
      eq(e.message, "try " .. i)
      test.contains(e.traceback, "options_test.lua")
    end
    eq(pool:run(is_ready), 3)
    pool:close()
  end)

  kind_test("a worker that has done its jobs is replaced, and its successor is prepared", function()
    local calls = worker.Channel()
    local pool = worker.Pool { size = 1, kind = kind, max_jobs = 2,
      initializer = function() calls:send(true) end }
    local seen = {}
    for i = 1, 5 do seen[i] = pool:run(count) end
    eq(seen, { 1, 2, 1, 2, 1 })
    eq(calls:size(), 3)
    pool:close()
  end)

  kind_test("jobs in the queue outlive the workers that are replaced", function()
    local pool = worker.Pool { size = 1, kind = kind, max_jobs = 1 }
    local list = {}
    for i = 1, 12 do list[i] = i end
    eq(pool:map(list, count), { n = 12, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 })
    local e = test.raises("boom", pool.run, pool, function() error "boom" end)
    test.contains(e, "options_test.lua")
    local last = async.spawn(pool.run, pool, count)
    async.sleep(0)
    pool:close()
    eq(last:await(), 1)
  end)

  kind_test("an initializer that cannot be copied is an error when the pool is made", function()
    local co = coroutine.create(count)
    local e = test.raises("CopyError", worker.Pool,
      { kind = kind, initializer = function() return co end })
    test.contains(e.message, "upvalue 'co'")
  end)

  kind_test("an initializer that was cancelled with its job is called again", function()
    local begun, free = worker.Channel(), worker.Channel()
    local pool = worker.Pool { size = 1, kind = kind, initializer = function()
      begun:send(true)
      free:recv()
      _G.ready = "at last"
    end }
    local job = async.spawn(pool.run, pool, is_ready)
    begun:recv()
    job:cancel()
    async.wait { job }
    job = async.spawn(pool.run, pool, is_ready)
    begun:recv()
    free:send(true)
    eq(job:await(), "at last")
    pool:close()
  end)
end

test("threads that were replaced leave nothing behind", function()
  local fs = require "rille.fs"
  local function size() -- of all that is mapped, threads' stacks too, in MiB
    return tonumber(fs.read_file("/proc/self/status"):match "VmSize:%s+(%d+)") / 1024
  end
  local pool, list = worker.Pool { size = 1, max_jobs = 1 }, {}
  for i = 1, 20 do list[i] = i end
  pool:map(list, count)
  local before = size()
  for _ = 1, 5 do pool:map(list, count) end
  assert(size() - before < 400, size() - before)
  pool:close()
end)

test("wrong options of a pool are named", function()
  test.blames_caller("bad argument 'initializer' to 'Pool' (function expected, got number)",
    function() worker.Pool { initializer = 1 } end)
  test.blames_caller("'max_jobs'", function() worker.Pool { max_jobs = 0 } end)
  test.blames_caller("'max_jobs'", function() worker.Pool { max_jobs = 1.5 } end)
  test.blames_caller("max_tasks", function() worker.Pool { max_tasks = 1 } end)
end)

test("a dot for the colon of a pool's method is said to be one", function()
  local pool = worker.Pool { size = 1 }
  test.blames_caller("calling 'run' on bad self", function() pool.run(count) end)
  test.blames_caller("calling 'map' on bad self", function() pool.map({ 1 }, count) end)
  pool:close()
end)

test("a RILLE_POOL_SIZE that is no size is ignored by workers too", function()
  local size = worker.Pool():size()
  for _, value in ipairs { "3 threads", "1.5", "-2", "0", "100000" } do
    local result = test.rille({ "-e", "print(require('rille.worker').Pool():size())" },
      { env = { RILLE_POOL_SIZE = value } })
    eq(result.stdout, size .. "\n")
  end
end)

test("async.stats counts jobs that wait for a thread, and those nobody waits for", function()
  local before = async.stats()
  local pool, begun, free = worker.Pool { size = 1 }, worker.Channel(), worker.Channel()
  local first = async.spawn(pool.run, pool, function()
    local a = require "rille.async"
    begun:send(true)
    a.finally(function() a.sleep(1000) end, function() free:recv() end)
  end)
  begun:recv()
  local second = async.spawn(pool.run, pool, count)
  async.sleep(0)
  eq(async.stats().pool_queued, before.pool_queued + 1)
  eq(async.stats().abandoned, before.abandoned)
  first:cancel()
  async.wait { first }
  eq(async.stats().abandoned, before.abandoned + 1)
  free:send(true)
  eq(second:await(), 1)
  eq(async.stats().pool_queued, before.pool_queued)
  eq(async.stats().abandoned, before.abandoned)
  pool:close()
end)
