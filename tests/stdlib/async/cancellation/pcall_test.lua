-- The rules of cancellation: what pcall, xpcall and coroutine.resume make of it.
local async, test = require "rille.async", require "support.test"
local cancelled, sleep_for_ever = test.cancelled, test.sleep_for_ever

test("Lua's own idiom of catching, cleaning up and raising again works", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = pcall(sleep_for_ever)
    log "clean-up"
    if not ok then error(err, 0) end
  end)
  assert(task:cancelled())
  test.eq(log, { "clean-up" })
end)

test("caught by pcall it is raised again at the next wait, and so on", function()
  local log = test.log()
  local task = cancelled(function()
    pcall(async.sleep, 1000)
    log "first"
    pcall(async.sleep, 1000)
    log "second"
    pcall(async.sleep, 1000)
    log "third"
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "first", "second", "third" })
end)

test("caught by xpcall it is raised again at the next wait", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = xpcall(sleep_for_ever, function(e)
      log("handler", e.kind)
      return e
    end)
    log(ok, err.kind)
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "handler Cancelled", "false Cancelled" })
end)

test("caught by coroutine.resume it is raised again at the next wait", function()
  local log = test.log()
  local task = cancelled(function()
    local co = coroutine.create(sleep_for_ever)
    local ok, err = coroutine.resume(co)
    log(ok, err.kind, coroutine.status(co))
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "false Cancelled dead" })
end)

test("the same pcall in a loop catches one cancellation only once", function()
  local turns = 0
  local task = cancelled(function()
    while true do
      pcall(async.sleep, 1000)
      turns = turns + 1
    end
  end)
  assert(task:cancelled())
  test.eq(turns, 1)
end)

test("a pcall in a helper called again from the same place counts as the same", function()
  local turns = 0
  local function try()
    local ok = pcall(async.sleep, 1000)
    return ok
  end
  local task = cancelled(function()
    for _ = 1, 10 do
      local ok = try()
      turns = turns + (ok and 100 or 1)
    end
  end)
  assert(task:cancelled())
  test.eq(turns, 1)
end)

test("the same xpcall catches once, and then lets it through without its handler", function()
  local log = test.log()
  local task = cancelled(function()
    while true do
      xpcall(sleep_for_ever, function(e) log("handler", e.kind) end)
    end
  end)
  assert(task:cancelled())
  test.eq(log, { "handler Cancelled" })
end)

test("coroutine.resume in a loop catches one cancellation only once", function()
  local turns = 0
  local task = cancelled(function()
    while true do
      coroutine.resume(coroutine.create(sleep_for_ever))
      turns = turns + 1
    end
  end)
  assert(task:cancelled())
  test.eq(turns, 1)
end)

test("a retry loop cannot swallow it, nor spin on it", function()
  local attempts = 0
  local task = cancelled(function()
    local ok
    repeat
      attempts = attempts + 1
      ok = pcall(sleep_for_ever)
    until ok
  end)
  assert(task:cancelled())
  test.eq(attempts, 2)
end)

test("a pcall at another place starts afresh", function()
  local log = test.log()
  local task = cancelled(function()
    for i = 1, 2 do
      if i == 1 then
        pcall(async.sleep, 1000)
      else
        pcall(async.sleep, 1000)
      end
      log(i)
    end
    async.sleep(0)
  end)
  assert(task:cancelled())
  test.eq(log, { "1", "2" })
end)

test("a pcall at another depth starts afresh", function()
  local log = test.log()
  local function at_depth(depth)
    if depth > 0 then
      at_depth(depth - 1)
      return
    end
    pcall(async.sleep, 1000)
    log "caught"
  end
  local task = cancelled(function()
    for depth = 0, 2 do at_depth(depth) end
    async.sleep(0)
  end)
  assert(task:cancelled())
  test.eq(log, { "caught", "caught", "caught" })
end)

test("all deeper pcalls start afresh once one further out has caught it", function()
  local log = test.log()
  local function attempt()
    pcall(async.sleep, 1000)
    log "inner"
    async.sleep(0)
    log "not reached"
  end
  local task = cancelled(function()
    pcall(attempt)
    log "outer"
    pcall(attempt)
    log "outer"
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "inner", "outer", "inner", "outer" })
end)

test("after 64 catches no pcall catches it any more", function()
  local caught = 0
  local function catch_deeper_and_deeper()
    pcall(async.sleep, 1000)
    caught = caught + 1
    catch_deeper_and_deeper()
    return nil
  end
  local task = cancelled(function()
    pcall(catch_deeper_and_deeper)
    caught = caught + 1000
  end)
  assert(task:cancelled())
  test.eq(caught, 64)
end)

test("after 64 catches async.pcall still catches it", function()
  local caught, log = 0, test.log()
  local function catch_deeper_and_deeper()
    pcall(async.sleep, 1000)
    caught = caught + 1
    catch_deeper_and_deeper()
    return nil
  end
  local task = cancelled(function()
    local ok, err = async.pcall(catch_deeper_and_deeper)
    log(ok, async.is_cancelled(err))
    async.sleep(0)
    log "lives on"
  end)
  assert(not task:cancelled())
  test.eq(caught, 64)
  test.eq(log, { "false true", "lives on" })
end)

test("the same pcall catches each of several cancellations that were acknowledged", function()
  local caught = 0
  local task = async.spawn(function()
    for _ = 1, 3 do
      async.pcall(function()
        local ok, err = pcall(async.sleep, 1000)
        if not ok then caught = caught + 1 end
        error(err, 0)
      end)
    end
  end)
  for _ = 1, 3 do
    test.turns(2)
    task:cancel()
  end
  task:await()
  test.eq(caught, 3)
end)

test("pcall is what it was for everything but cancellations", function()
  local value = { "any table" }
  test.eq({ pcall(function(...) return ... end, 1, nil, 3) }, { true, 1, nil, 3 })
  for _ = 1, 100 do
    local ok, err = pcall(error, value)
    assert(not ok and rawequal(err, value))
  end
  local ok, err = pcall(function() error(nil) end)
  test.eq({ ok, err }, { false, nil })
  test.eq({ pcall(async.sleep, 0, "waits") }, { true, "waits" })
  test.eq(pcall(nil), false)
  test.raises("bad argument #1 to '?pcall", function() pcall() end)
end)

test("xpcall is what it was for everything but cancellations", function()
  local function handler(err) return "handled " .. tostring(err) end
  test.eq({ xpcall(function(...) return ... end, handler, 1, nil, 3) }, { true, 1, nil, 3 })
  test.eq({ xpcall(error, handler, "oops", 0) }, { false, "handled oops" })
  test.eq({ xpcall(async.sleep, handler, 0, "waits") }, { true, "waits" })
  local function raiser()
    async.sleep(0)
    error "oops"
  end
  local _, traceback = xpcall(function()
    raiser()
    return nil
  end, debug.traceback)
  test.contains(traceback, "raiser")
end)
