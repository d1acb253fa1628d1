-- The rules of cancellation: async.pcall and async.xpcall acknowledge it.
local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancelled, sleep_for_ever = test.cancelled, test.sleep_for_ever

test("async.pcall catches and acknowledges it, and waiting works again", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = async.pcall(sleep_for_ever)
    log(ok, async.is_cancelled(err))
    async.sleep(0)
    log "lives on"
    return "result"
  end)
  assert(not task:cancelled() and not task:cancelling())
  test.eq(task:result(), "result")
  test.eq(log, { "false true", "lives on" })
end)

test("async.xpcall catches and acknowledges it", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = async.xpcall(sleep_for_ever, function(e) return e end)
    log(ok, async.is_cancelled(err))
    async.sleep(0)
    log "lives on"
  end)
  assert(not task:cancelled())
  test.eq(log, { "false true", "lives on" })
end)

test("async.pcall and async.xpcall are pcall and xpcall for everything else", function()
  test.eq({ async.pcall(function(...) return ... end, 1, nil, 3) }, { true, 1, nil, 3 })
  test.eq({ async.pcall(error, "oops", 0) }, { false, "oops" })
  test.eq({ async.xpcall(function(...) return ... end, print, 1, nil, 3) }, { true, 1, nil, 3 })
  local function handler(err) return "handled " .. err end
  test.eq({ async.xpcall(error, handler, "oops", 0) }, { false, "handled oops" })
  test.eq({ async.pcall(async.sleep, 0, "waits") }, { true, "waits" })
end)

test("async.pcall in a loop acknowledges each cancellation", function()
  local caught = 0
  local task = async.spawn(function()
    while caught < 3 do
      local ok = async.pcall(sleep_for_ever)
      if not ok then caught = caught + 1 end
    end
  end)
  for _ = 1, 3 do
    test.turns(2)
    task:cancel()
  end
  task:await()
  test.eq(caught, 3)
end)

test("a cancellation that async.pcall caught and error raises again goes on unwinding", function()
  local log = test.log()
  local task = cancelled(function()
    local ok, err = async.pcall(sleep_for_ever)
    if not ok then
      log "clean-up"
      error(err, 0)
    end
  end)
  assert(task:cancelled())
  test.eq(log, { "clean-up" })
end)

test("is_cancelled is true of both kinds and of nothing else", function()
  local kinds = {}
  local inner = async.spawn(sleep_for_ever)
  local task = async.spawn(function()
    local _, err = async.pcall(sleep_for_ever)
    kinds[1] = err
  end)
  async.sleep(0)
  inner:cancel()
  task:cancel()
  async.wait { inner, task }
  local _, err = pcall(inner.await, inner)
  kinds[2] = err
  assert(async.is_cancelled(kinds[1]) and async.is_cancelled(kinds[2]))
  for _, other in ipairs { "Cancelled", 1, true, {}, errors.new("OSError", "x") } do
    test.eq(async.is_cancelled(other), false)
  end
  test.eq(async.is_cancelled(nil), false)
end)

test("async.xpcall acknowledges it whatever its handler makes of it", function()
  local task = cancelled(function()
    local ok, text = async.xpcall(sleep_for_ever, function(err) return "handled " .. err.kind end)
    async.sleep(0)
    return ok, text
  end)
  test.eq({ task:result() }, { false, "handled Cancelled" })
end)

test("async.pcall of another task's cancellation does not acknowledge one's own", function()
  local kept
  cancelled(function()
    local _, err = pcall(sleep_for_ever)
    kept = err
    error(err, 0)
  end)
  local log = test.log()
  local task = cancelled(function()
    pcall(sleep_for_ever)
    log(async.pcall(error, kept, 0))
    async.sleep(0)
    log "not reached"
  end)
  assert(task:cancelled())
  test.eq(log, { "false " .. tostring(kept) })
end)
