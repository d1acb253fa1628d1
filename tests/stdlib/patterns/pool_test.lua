local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local Pool = require("rille.patterns").Pool

-- A pool of numbered tables that counts what there is. `waits`: how many turns each function takes.
local function counted(options, waits)
  local made = { total = 0, alive = 0, most = 0 }
  options.create = options.create or function()
    test.turns(waits or 0)
    made.total, made.alive = made.total + 1, made.alive + 1
    made.most = math.max(made.most, made.alive)
    return { id = made.total }
  end
  options.destroy = options.destroy or function(item)
    assert(not item.gone, "destroyed twice")
    item.gone = true
    test.turns(waits or 0)
    made.alive = made.alive - 1
  end
  return Pool(options), made
end

local function ids(...)
  local list = {}
  for i, item in ipairs { ... } do list[i] = item.id end
  return list
end

local function stats(pool)
  local s = pool:stats()
  return { used = s.used, idle = s.idle, busy = s.busy, waiting = s.waiting }
end

-- Taking and giving back ------------------------------------------------------------------------

test("resources are made when they are needed, up to the size", function()
  local pool, made = counted { size = 3 }
  test.eq(made.total, 0)
  local a, b, c = pool:acquire(), pool:acquire(), pool:acquire()
  test.eq(ids(a, b, c), { 1, 2, 3 })
  local waiter = async.spawn(pool.acquire, pool)
  test.turns()
  test.eq({ waiter:done(), made.total }, { false, 3 })
  pool:release(b)
  assert(waiter:await() == b)
  test.eq(made.total, 3)
end)

test("the one that was used last is used next", function()
  local pool = counted { size = 3 }
  local a, b, c = pool:acquire(), pool:acquire(), pool:acquire()
  pool:release(a)
  pool:release(c)
  pool:release(b)
  test.eq(ids(pool:acquire(), pool:acquire(), pool:acquire()), { 2, 3, 1 })
end)

test("an idle resource is there without giving the turn away", function()
  local pool, log = counted {}, test.log()
  pool:release(pool:acquire())
  local other = async.spawn(log, "other")
  pool:release(pool:acquire())
  log "taken"
  other:await()
  test.eq(log, { "taken", "other" })
end)

test("waiters are served first come, first served, and nobody overtakes", function()
  local pool, log, tasks = counted { size = 1 }, test.log(), {}
  local item = pool:acquire()
  for i = 1, 4 do
    tasks[i] = async.spawn(function()
      local mine = pool:acquire()
      log(i)
      async.sleep(0)
      pool:release(mine)
    end)
  end
  async.sleep(0)
  pool:release(item)
  local late = pool:acquire() -- the resource is the first waiter's already
  log "late"
  pool:release(late)
  async.wait(tasks)
  test.eq(log, { "1", "2", "3", "4", "late" })
end)

test("what is released twice, or was never taken, is an error", function()
  local pool = counted { size = 2 }
  local item = pool:acquire()
  pool:release(item)
  test.raises("InvalidStateError", pool.release, pool, item)
  test.raises("InvalidStateError", pool.discard, pool, item)
  test.raises("InvalidStateError", pool.release, pool, {})
  test.raises("InvalidStateError", pool.release, pool, nil)
  test.eq(stats(pool), { used = 0, idle = 1, busy = 0, waiting = 0 })
end)

test("a discarded resource is destroyed, and makes room for a new one", function()
  local pool, made = counted({ size = 1 }, 1)
  local item = pool:acquire()
  local waiter = async.spawn(pool.acquire, pool)
  async.sleep(0)
  pool:discard(item)
  test.eq(item.gone, true)
  test.eq(waiter:await().id, 2)
  test.eq({ made.alive, made.most }, { 1, 1 })
end)

test("with gives the resource and the arguments, and the results back", function()
  local pool = counted { size = 1 }
  test.eq({ pool:with(function(item, ...) return item.id, ... end, "a", nil, "c") },
    { 1, "a", nil, "c" })
  test.eq(stats(pool), { used = 0, idle = 1, busy = 0, waiting = 0 })
end)

test("with gives the resource back after an error", function()
  local pool, made = counted { size = 1 }
  test.raises("^no$", pool.with, pool, function() error("no", 0) end)
  test.eq(pool:with(function(item) return item.id end), 1)
  test.eq(made.total, 1)
end)

test("after a cancellation or a timeout with does not let the resource be used again", function()
  local pool, made = counted({ size = 1 }, 1)
  local task = async.spawn(pool.with, pool, function() async.sleep(1000) end)
  test.turns()
  task:cancel()
  async.wait { task }
  test.eq({ made.total, made.alive, task:cancelled() }, { 1, 0, true })
  test.raises("TimeoutError", pool.with, pool, function()
    async.wait_for(async.sleep, 0.001, 1000)
  end)
  test.eq({ made.total, made.alive }, { 2, 0 })
  test.eq(pool:with(function(item) return item.id end), 3)
end)

test("with leaves alone what its function has given back itself", function()
  local pool = counted { size = 1 }
  local others
  pool:with(function(item)
    pool:release(item)
    others = pool:acquire()
  end)
  test.eq(stats(pool).used, 1)
  pool:release(others)
end)

test("destroy is the resource's close unless given", function()
  local closed = 0
  local pool = Pool { create = function()
    return { close = function() closed = closed + 1 end }
  end }
  pool:discard(pool:acquire())
  test.eq(closed, 1)
  pool = Pool { create = function() return {} end }
  pool:discard(pool:acquire())
  pool = Pool { create = newproxy }
  pool:discard(pool:acquire())
  test.eq(pool:stats().busy, 0)
end)

-- Failures --------------------------------------------------------------------------------------

test("a resource that fails its check is destroyed and replaced", function()
  local asked = test.log()
  local pool, made = counted({ size = 2, check = function(item)
    asked(item.id)
    async.sleep(0)
    if item.raises then error("check", 0) end
    return not item.broken
  end }, 1)
  local a = pool:acquire()
  test.eq(asked, {}) -- a new one is not asked about
  pool:release(a)
  assert(pool:acquire() == a)
  a.broken = true
  pool:release(a)
  local b = pool:acquire()
  test.eq({ b.id, a.gone }, { 2, true })
  b.raises = true
  pool:release(b)
  test.eq(pool:acquire().id, 3)
  test.eq({ made.alive, made.most }, { 1, 1 })
  test.eq(asked, { "1", "1", "2" })
end)

test("a resource that a waiter gets is checked too", function()
  local pool = counted { size = 1, check = function(item) return not item.broken end }
  local a = pool:acquire()
  local waiter = async.spawn(pool.acquire, pool)
  async.sleep(0)
  a.broken = true
  pool:release(a)
  test.eq(waiter:await().id, 2)
end)

test("a failed create gives its place to the next, and its error to its caller", function()
  local calls = 0
  local pool = counted { size = 1, create = function()
    calls = calls + 1
    async.sleep(0)
    if calls <= 2 then error(errors.new("OSError", "refused " .. calls), 0) end
    return { id = calls }
  end }
  local tasks = {}
  for i = 1, 3 do tasks[i] = async.spawn(pool.acquire, pool) end
  async.wait(tasks)
  test.eq({ tasks[1]:error().message, tasks[2]:error().message, tasks[3]:result().id },
    { "refused 1", "refused 2", 3 })
end)

test("a create that gives nothing, or the same again, is an error that costs no place", function()
  local pool = Pool { size = 1, create = function() return nil, "refused" end }
  local err = test.raises("InvalidStateError", pool.acquire, pool)
  test.contains(err.message, "refused")
  test.raises("InvalidStateError", pool.acquire, pool)
  pool = Pool { size = 2, create = function() return "always the same" end }
  local item = pool:acquire()
  test.raises("InvalidStateError", pool.acquire, pool)
  pool:release(item)
  test.eq(stats(pool), { used = 0, idle = 1, busy = 0, waiting = 0 })
end)

test("what was destroyed may be made again", function()
  local usable = true
  local pool = Pool { size = 1, create = function() return "the only one" end,
    check = function() return usable end }
  pool:discard(pool:acquire())
  pool:release(pool:acquire())
  usable = false
  pool:release(pool:acquire())
end)

test("stats tell what the pool has in hand", function()
  local pool = counted({ size = 3 }, 2)
  local a, b = pool:acquire(), pool:acquire()
  pool:release(a)
  test.eq(pool:stats(), { size = 3, used = 1, idle = 1, busy = 0, waiting = 0 })
  pool:acquire()
  local tasks = {}
  for i = 1, 3 do tasks[i] = async.spawn(pool.acquire, pool) end
  async.sleep(0)
  test.eq(pool:stats(), { size = 3, used = 2, idle = 0, busy = 1, waiting = 2 })
  tasks[3]:cancel()
  pool:release(b)
  async.wait(tasks)
  test.eq(pool:stats(), { size = 3, used = 3, idle = 0, busy = 0, waiting = 0 })
end)

test("an error of destroy is its caller's, and costs no place", function()
  local pool = counted { size = 1, destroy = function() error("stuck", 0) end }
  test.raises("^stuck$", pool.discard, pool, pool:acquire())
  test.eq(pool:acquire().id, 2)
end)

test("an error of destroy after a failed check is reported, and acquire goes on", function()
  local pool = counted { size = 1, check = function() return false end,
    destroy = function() error("stuck", 0) end }
  pool:release(pool:acquire())
  test.eq(pool:acquire().id, 2)
  local reports = test.reports()
  test.eq({ #reports, reports[1].error }, { 1, "stuck" })
end)

test("a body's error is the cause of the error of a discard", function()
  local pool = counted { size = 1, destroy = function() error(errors.new("Stuck", "d"), 0) end }
  local err = test.raises("Stuck", pool.with, pool, function()
    error(errors.new("TimeoutError", "t"), 0)
  end)
  test.eq(err.cause.kind, "TimeoutError")
end)

-- Timeouts and cancellation ---------------------------------------------------------------------

test("who waits too long gets a TimeoutError that says what is in use", function()
  local pool = counted { size = 1, timeout = 0.001 }
  local item = pool:acquire()
  local err = test.raises("TimeoutError", pool.acquire, pool)
  test.contains(err.message, "1 of 1 are in use")
  pool:release(item)
  assert(pool:acquire() == item)
end)

test("the timeout includes making and checking", function()
  local slow = true
  local pool, made = counted { size = 1, timeout = 0.001, check = function()
    if slow then async.sleep(1000) end
    return true
  end }
  pool:release(pool:acquire())
  test.raises("TimeoutError", pool.acquire, pool)
  test.eq({ made.total, made.alive }, { 1, 0 }) -- cut off in its check, it is not used again
  slow = false
  test.eq(pool:acquire().id, 2)

  pool = Pool { size = 1, timeout = 0.001, create = function() async.sleep(1000) end }
  test.raises("TimeoutError", pool.acquire, pool)
  test.raises("TimeoutError", pool.acquire, pool)
  test.eq(stats(pool), { used = 0, idle = 0, busy = 0, waiting = 0 })
end)

test("a TimeoutError of create is not taken for the pool's own", function()
  local mine = errors.new("TimeoutError", "connect")
  local pool = Pool { timeout = 1000, create = function() error(mine, 0) end }
  local _, err = pcall(pool.acquire, pool)
  assert(rawequal(err, mine))
end)

test("a resource handed to a waiter that is cancelled at once is the waiter's", function()
  local pool = counted { size = 1 }
  local item = pool:acquire()
  local waiter = async.spawn(function()
    local mine = pool:acquire()
    pool:release(mine)
    return mine
  end)
  async.sleep(0)
  pool:release(item)
  waiter:cancel()
  assert(waiter:await() == item)
  test.eq(stats(pool).idle, 1)
end)

for _, variant in ipairs {
  { "new resources", size = 2 },
  { "checked resources", size = 1, check = function(item)
    test.turns(1)
    return item.id % 2 == 1
  end },
  { "a timeout", size = 1, timeout = 1000, check = function()
    async.sleep(0)
    return true
  end },
} do
  test("no place is lost, wherever a task is cancelled: " .. variant[1], function()
    cancel_everywhere {
      setup = function()
        local s = {}
        s.pool, s.made = counted({ size = variant.size, check = variant.check,
          timeout = variant.timeout }, 1)
        return s
      end,
      body = function(s)
        local tasks = {}
        for i = 1, 4 do
          tasks[i] = async.spawn(function()
            s.pool:with(function(item)
              assert(not item.inside)
              item.inside = true
              local ok, err = pcall(async.sleep, 0)
              item.inside = false
              if not ok then error(err, 0) end
            end)
            local item = s.pool:acquire()
            local ok, err = pcall(async.sleep, 0)
            s.pool:release(item)
            if not ok then error(err, 0) end
          end)
        end
        async.wait(tasks)
      end,
      check = function(s)
        assert(s.made.most <= variant.size)
        test.eq(s.pool:stats().used + s.pool:stats().busy, 0)
        local all = {}
        for i = 1, variant.size do all[i] = s.pool:acquire() end
        for _, item in ipairs(all) do s.pool:release(item) end
        s.pool:close()
        test.eq(s.made.alive, 0)
      end,
    }
  end)
end

-- The end ---------------------------------------------------------------------------------------

test("close destroys what is idle and waits for what is in use", function()
  local pool, made = counted({ size = 3 }, 1)
  local a, b = pool:acquire(), pool:acquire()
  pool:release(b)
  local closing = async.spawn(pool.close, pool)
  test.turns(20)
  test.eq({ closing:done(), made.alive, b.gone }, { false, 1, true })
  pool:release(a)
  closing:await()
  test.eq({ made.alive, a.gone }, { 0, true })
end)

test("a closed pool refuses, also those who wait in it", function()
  local pool = counted { size = 1 }
  local item = pool:acquire()
  local waiter = async.spawn(pool.acquire, pool)
  async.sleep(0)
  local closing = async.spawn(pool.close, pool)
  async.wait { waiter }
  test.eq(waiter:error().kind, "InvalidStateError")
  test.raises("InvalidStateError", pool.acquire, pool)
  test.raises("InvalidStateError", pool.with, pool, print)
  pool:release(item)
  closing:await()
end)

test("what is being made or checked when the pool closes is destroyed", function()
  local pool, made = counted({ size = 2, check = function()
    test.turns(3)
    return true
  end }, 3)
  local first = async.spawn(pool.acquire, pool)
  pool:release(first:await())
  local tasks = { async.spawn(pool.acquire, pool), async.spawn(pool.acquire, pool) }
  async.sleep(0)
  pool:close()
  test.eq({ made.total, made.alive }, { 2, 0 })
  for i = 1, 2 do test.eq(tasks[i]:error().kind, "InvalidStateError") end
end)

test("a resource handed over just before the close is destroyed", function()
  local pool, made = counted { size = 1 }
  local item = pool:acquire()
  local waiter = async.spawn(pool.acquire, pool)
  async.sleep(0)
  pool:release(item)
  pool:close()
  test.eq(made.alive, 0)
  async.wait { waiter }
  test.eq(waiter:error().kind, "InvalidStateError")
end)

test("a place handed over just before the close is not used", function()
  local pool, made = counted { size = 1 }
  local item = pool:acquire()
  local waiter = async.spawn(pool.acquire, pool)
  async.sleep(0)
  pool:discard(item)
  pool:close()
  async.wait { waiter }
  test.eq({ waiter:error().kind, made.total }, { "InvalidStateError", 1 })
end)

test("closing twice is closing once, and both wait", function()
  local pool = counted { size = 1 }
  local item = pool:acquire()
  local closings = { async.spawn(pool.close, pool), async.spawn(pool.close, pool) }
  test.turns()
  test.eq({ closings[1]:done(), closings[2]:done() }, { false, false })
  pool:release(item)
  async.wait(closings)
  pool:close()
end)

test("after its grace close takes away what is in use", function()
  local pool, made = counted { size = 2 }
  local a = pool:acquire()
  pool:close(0)
  test.eq({ a.gone, made.alive }, { true, 0 })
  pool:release(a) -- its user cannot know
  pool:discard(a)

  pool, made = counted { size = 2 }
  pool:with(function(item)
    pool:close(0.001)
    test.eq({ item.gone, made.alive }, { true, 0 })
  end)
end)

test("a cancelled close leaves a closed pool that loses nothing", function()
  local pool, made = counted({ size = 2 }, 1)
  local a, b = pool:acquire(), pool:acquire()
  pool:release(b)
  local closing = async.spawn(pool.close, pool)
  async.sleep(0) -- it destroys b
  closing:cancel()
  async.wait { closing }
  test.eq({ closing:cancelled(), b.gone }, { true, true })
  pool:release(a)
  test.eq(made.alive, 0)
end)

test("all that destroy raises in a close is in one ErrorGroup", function()
  local pool = counted { size = 3, destroy = function(item) error("stuck " .. item.id, 0) end }
  local a, b, c = pool:acquire(), pool:acquire(), pool:acquire()
  pool:release(a)
  pool:release(b)
  local closing = async.spawn(pool.close, pool)
  test.turns()
  test.raises("^stuck 3$", pool.release, pool, c)
  async.wait { closing }
  test.eq(closing:error().kind, "ErrorGroup")
  test.eq(closing:error().errors, { "stuck 2", "stuck 1" })
end)

test("a pool is a resource that async.with closes", function()
  local made
  async.with((function()
    local pool
    pool, made = counted {}
    return pool
  end)(), function(pool)
    pool:release(pool:acquire())
    test.eq(made.alive, 1)
  end)
  test.eq(made.alive, 0)
end)

test("nothing is left, wherever a task is cancelled while the pool closes", function()
  cancel_everywhere {
    setup = function()
      local s = {}
      s.pool, s.made = counted({ size = 2 }, 1)
      return s
    end,
    body = function(s)
      local tasks = {}
      for i = 1, 3 do
        tasks[i] = async.spawn(function()
          local ok, err = pcall(s.pool.with, s.pool, function() test.turns(1) end)
          if not ok and not errors.is(err, "InvalidStateError") then error(err, 0) end
        end)
      end
      test.turns(2)
      s.pool:close()
      async.wait(tasks)
    end,
    check = function(s)
      s.pool:close()
      test.eq(s.made.alive, 0)
    end,
  }
end)

test("a deadlock report says who holds the resources", function()
  local result = test.script [[
    local async, patterns = require "rille.async", require "rille.patterns"
    local pool = patterns.Pool { size = 7, create = function() return {} end }
    for i = 7, 1, -1 do
      async.spawn_eager(function()
        async.current_task():set_name("holder " .. i)
        pool:acquire()
      end)
    end
    pool:acquire()
  ]]
  test.eq(result.code, 1)
  test.contains(result.stderr, "waits for one of a pool's 7 resources, taken by holder 1, "
    .. "holder 2, holder 3, holder 4, holder 5, and 2 more")
end)

test("a wrong argument is an error at the caller's line", function()
  local function blames(part, fn) test.blames_caller(part, fn) end
  blames("bad argument 'create' to 'Pool' (function expected, got nil)", function() Pool() end)
  blames("bad argument 'create' to 'Pool' (function expected, got table)",
    function() Pool { create = {} } end)
  blames("'destroy' to 'Pool' (function expected, got number)",
    function() Pool { create = print, destroy = 1 } end)
  blames("'check' to 'Pool' (function expected, got boolean)",
    function() Pool { create = print, check = true } end)
  blames("'size' to 'Pool' (at least 1 expected, got 0)",
    function() Pool { create = print, size = 0 } end)
  blames("'size' to 'Pool' (whole number expected, got 2.5)",
    function() Pool { create = print, size = 2.5 } end)
  blames("'timeout' to 'Pool' (a time of at least 0 s expected, got -1)",
    function() Pool { create = print, timeout = -1 } end)
  blames("unknown option 'max_size'", function() Pool { create = print, max_size = 1 } end)
  local pool = Pool { create = print }
  blames("bad argument #1 to 'with' (function expected, got nil)", function() pool:with() end)
  blames("bad argument #1 to 'close' (number expected, got table)", function() pool:close {} end)
end)
