local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

local sleep_for_ever = test.sleep_for_ever

-- A child that waits for its cancellation and says when its clean-up is through.
local function cleaner(log, name)
  return function()
    async.finally(sleep_for_ever, function()
      test.turns(3)
      log(name)
    end)
  end
end

local function caught_group(fn, ...)
  return test.raises("ErrorGroup", async.group, fn, ...)
end

test("group returns the results of its function when all have ended", function()
  local log = test.log()
  local n = select("#", async.group(function(g)
    g:spawn(function()
      test.turns(3)
      log "child"
    end)
    log "body"
    return 1, nil, nil
  end))
  log "group"
  test.eq(n, 3)
  test.eq(log, { "body", "child", "group" })
end)

test("a group without children is just its function", function()
  test.eq(async.group(function() return "result" end), "result")
end)

test("spawn in a group gives a task and hands the arguments on", function()
  async.group(function(g)
    local task = g:spawn(function(...) return select("#", ...), ... end, nil, 2, nil)
    test.eq({ task:await() }, { 3, nil, 2, nil })
    assert(task:done() and not task:cancelled())
  end)
end)

test("a group's children may spawn in the group, also when its function has ended", function()
  local log = test.log()
  async.group(function(g)
    g:spawn(function()
      test.turns(2)
      g:spawn(function()
        test.turns(2)
        log "grandchild"
      end)
      log "child"
    end)
  end)
  log "group"
  test.eq(log, { "child", "grandchild", "group" })
end)

test("the first failure cancels the function and the other children and waits for them", function()
  local log = test.log()
  local err = caught_group(function(g)
    g:spawn(cleaner(log, "child"))
    g:spawn(function()
      async.sleep(0)
      error("oops", 0)
    end)
    cleaner(log, "body")()
  end)
  log "group"
  test.eq(err.errors, { "oops" })
  table.sort(log, function(a, b) return a ~= "group" and (b == "group" or a < b) end)
  test.eq(log, { "body", "child", "group" })
end)

test("a failure after the function has returned cancels the other children", function()
  local log = test.log()
  local err = caught_group(function(g)
    g:spawn(cleaner(log, "child"))
    g:spawn(function()
      test.turns(3)
      error("oops", 0)
    end)
  end)
  test.eq(err.errors, { "oops" })
  test.eq(log, { "child" })
end)

test("an error of the function alone cancels the children and is an ErrorGroup too", function()
  local log = test.log()
  local err = caught_group(function(g)
    g:spawn(cleaner(log, "child"))
    async.sleep(0)
    error("oops", 0)
  end)
  test.eq(err.errors, { "oops" })
  test.eq(log, { "child" })
end)

test("an error of a group without children is an ErrorGroup", function()
  test.eq(caught_group(function() error("oops", 0) end).errors, { "oops" })
end)

test("children that fail while the rest is being cancelled are all listed", function()
  local err = caught_group(function(g)
    for i = 1, 3 do
      g:spawn(function()
        async.finally(sleep_for_ever, function() error("clean-up " .. i, 0) end)
      end)
    end
    g:spawn(function()
      async.sleep(0)
      error("first", 0)
    end)
  end)
  test.eq(#err.errors, 4)
  test.eq(err.errors[1], "first")
  table.sort(err.errors)
  test.eq(err.errors, { "clean-up 1", "clean-up 2", "clean-up 3", "first" })
end)

test("a child's error value stands in the ErrorGroup as it was raised", function()
  local value = { "any table" }
  local err = caught_group(function(g) g:spawn(error, value) end)
  assert(rawequal(err.errors[1], value))
end)

test("errors that an ErrorGroup carries are not reported as lost", function()
  caught_group(function(g)
    for _, text in ipairs { "a", "b" } do
      g:spawn(function()
        pcall(sleep_for_ever)
        error(text, 0)
      end)
    end
    async.sleep(0)
    g:cancel()
  end)
  test.eq(test.reports(), {})
end)

test("after its ErrorGroup waiting works, and nothing is being cancelled", function()
  caught_group(function(g)
    g:spawn(error, "oops", 0)
    async.sleep(1000)
  end)
  async.sleep(0)
  assert(not async.current_task():cancelling())
end)

test("cancel ends all in a group without an error", function()
  local log = test.log()
  async.group(function(g)
    g:spawn(cleaner(log, "child"))
    async.sleep(0)
    g:cancel()
    cleaner(log, "body")()
    log "not reached"
  end)
  table.sort(log)
  test.eq(log, { "body", "child" })
end)

test("a group whose function was cancelled by cancel returns nothing", function()
  local n = select("#", async.group(function(g)
    g:cancel()
    async.sleep(1000)
    return "not reached"
  end))
  test.eq(n, 0)
end)

test("cancel by a child reaches the function, and waiting works afterwards", function()
  local n = select("#", async.group(function(g)
    g:spawn(g.cancel, g)
    async.sleep(1000)
    return "not reached"
  end))
  test.eq(n, 0)
  async.sleep(0)
end)

test("cancel of a group tells those it cancels why, by whom and where", function()
  local seen, body, place
  async.group(function(g)
    g:spawn(function()
      local _, err = pcall(sleep_for_ever)
      seen = err
      error(err, 0)
    end)
    g:spawn(function()
      place = test.here(1)
      g:cancel "enough"
    end)
    local _, err = pcall(sleep_for_ever)
    body = err
    error(err, 0)
  end)
  for _, err in ipairs { seen, body } do
    assert(errors.is(err, "Cancelled"))
    test.eq(err.reason, "enough")
    test.eq(type(err.by:name()), "string")
    test.eq(err.at, place)
  end
end)

test("errors that are raised after cancel are raised in an ErrorGroup", function()
  local err = caught_group(function(g)
    g:spawn(function()
      async.finally(sleep_for_ever, function() error("oops", 0) end)
    end)
    async.sleep(0)
    g:cancel()
  end)
  test.eq(err.errors, { "oops" })
end)

test("spawn in a group that has ended is an InvalidStateError", function()
  local group
  async.group(function(g) group = g end)
  test.raises("InvalidStateError", group.spawn, group, print)
  test.blames_caller("InvalidStateError", function() group:spawn(print) end)
end)

test("a child that is cancelled by itself does not fail the group", function()
  local result = async.group(function(g)
    local child = g:spawn(sleep_for_ever)
    async.sleep(0)
    child:cancel()
    async.wait { child }
    assert(child:cancelled())
    return async.sleep(0, "result")
  end)
  test.eq(result, "result")
end)

test("a child that dies of another's CancelledError fails the group", function()
  local other = async.spawn(sleep_for_ever)
  local err = caught_group(function(g)
    g:spawn(other.await, other)
    async.sleep(0)
    other:cancel()
    async.sleep(1000)
  end)
  test.eq(#err.errors, 1)
  assert(errors.is(err.errors[1], "CancelledError"))
end)

test("a cancelled group cancels its children, waits for them, and is cancelled", function()
  local log = test.log()
  local task = async.spawn(async.group, function(g)
    g:spawn(cleaner(log, "child"))
    g:spawn(cleaner(log, "child"))
    sleep_for_ever()
  end)
  test.turns(2)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "child", "child" })
end)

test("a group that is cancelled while it waits for its children cancels them", function()
  local log = test.log()
  local task = async.spawn(async.group, function(g) g:spawn(cleaner(log, "child")) end)
  test.turns(2)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "child" })
end)

test("a failed group that is cancelled raises its ErrorGroup, and is cancelled later", function()
  local log = test.log()
  local task = async.spawn(function()
    local ok, err = pcall(async.group, function(g)
      g:spawn(function()
        async.finally(sleep_for_ever, function() error("oops", 0) end)
      end)
      sleep_for_ever()
    end)
    log(ok, err.kind, err.errors[1])
    async.sleep(0)
    log "not reached"
  end)
  test.turns(2)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "false ErrorGroup oops" })
end)

test("when a task and a group in it are cancelled together the task is cancelled", function()
  local task
  task = async.spawn(async.group, function(g)
    g:cancel()
    task:cancel()
    async.sleep(1000)
  end)
  async.wait { task }
  assert(task:cancelled())
end)

test("the ErrorGroup of an inner group is one error of the outer", function()
  local err = caught_group(function(outer)
    outer:spawn(async.group, function(inner)
      inner:spawn(error, "deep", 0)
    end)
    async.sleep(1000)
  end)
  test.eq(#err.errors, 1)
  assert(errors.is(err.errors[1], "ErrorGroup"))
  test.eq(err.errors[1].errors, { "deep" })
end)

test("an inner group that fails leaves the outer intact when its error is caught", function()
  local result = async.group(function(outer)
    local sibling = outer:spawn(function() return async.sleep(0, "sibling") end)
    caught_group(function(inner)
      inner:spawn(error, "oops", 0)
      async.sleep(1000)
    end)
    async.sleep(0)
    return sibling:await()
  end)
  test.eq(result, "sibling")
end)

test("a second failure does not cancel again those who live on after the first", function()
  local log = test.log()
  local err = caught_group(function(g)
    g:spawn(function()
      async.pcall(sleep_for_ever)
      test.turns(5)
      log "lived on"
    end)
    g:spawn(function()
      async.finally(sleep_for_ever, function()
        test.turns(2)
        error("second", 0)
      end)
    end)
    g:spawn(error, "first", 0)
  end)
  test.eq(err.errors, { "first", "second" })
  test.eq(log, { "lived on" })
end)

test("a cancellation of a group that is swallowed is raised again at the next wait", function()
  local log = test.log()
  async.group(function(g)
    g:cancel()
    pcall(sleep_for_ever)
    log "swallowed"
    async.sleep(0)
    log "not reached"
  end)
  test.eq(log, { "swallowed" })
end)

test("a child of a group that is cancelled before it started does not run", function()
  local log = test.log()
  async.group(function(g)
    g:spawn(log, "ran")
    g:cancel()
  end)
  test.eq(log, {})
end)

test("an eager look at a group finds its child registered", function()
  -- The child ends in its first turn; the group must have counted it by then, and only once.
  for _ = 1, 10 do
    local result = async.group(function(g)
      for _ = 1, 10 do g:spawn(function() end) end
      return async.sleep(0, "result")
    end)
    test.eq(result, "result")
  end
end)

test("group names its wrong argument, itself and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'group' (function expected, got nil)",
    function() async.group(nil) end
  )
  async.group(function(g)
    test.blames_caller(
      "bad argument #1 to 'spawn' (function expected, got nil)",
      function() g:spawn(nil) end
    )
  end)
end)
