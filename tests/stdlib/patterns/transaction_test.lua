local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local transaction = require("rille.patterns").transaction

-- A transaction that notes what happens to it; `fails` names the step that fails.
local function logged(log, fails)
  local function step(name)
    return function(value, err)
      async.sleep(0)
      log(name, value, err)
      if name == fails then error(errors.new("Failed", name), 0) end
      return "tx"
    end
  end
  return transaction(step "begin", step "commit", step "rollback")
end

test("a block that ends well is committed, and gives its results", function()
  local log = test.log()
  test.eq({ async.with(logged(log), function(tx, ...)
    log("block", tx)
    return ...
  end, "a", nil, "c") }, { "a", nil, "c" })
  test.eq(log, { "begin nil nil", "block tx", "commit tx nil" })
end)

test("a block that fails is rolled back, and its error raised as it was", function()
  local log = test.log()
  test.raises("^broken$", async.with, logged(log), function() error("broken", 0) end)
  test.eq(log, { "begin nil nil", "rollback tx broken" })
end)

test("the method with does the same", function()
  local log = test.log()
  local tx = logged(log)
  test.eq(tx:with(function(value, x) return value .. x end, 1), "tx1")
  test.raises("^broken$", tx.with, tx, function() error("broken", 0) end)
  test.eq(log, { "begin nil nil", "commit tx nil", "begin nil nil", "rollback tx broken" })
end)

test("a cancelled block is rolled back, and the rollback may wait", function()
  local log = test.log()
  local task = async.spawn(async.with, logged(log), function() async.sleep(1000) end)
  test.turns()
  task:cancel()
  async.wait { task }
  test.eq({ task:cancelled(), #log }, { true, 2 })
  test.contains(log[2], "rollback tx Cancelled")
end)

test("a cancellation during the commit waits until it is through", function()
  local log = test.log()
  local task = async.spawn(function()
    logged(log):with(function() end)
    async.sleep(0)
    log "not reached"
  end)
  test.turns(2) -- it commits
  test.eq(log, { "begin nil nil" })
  task:cancel()
  async.wait { task }
  test.eq({ task:cancelled(), log[2], log[3] }, { true, "commit tx nil" })
end)

test("what cannot be committed is rolled back", function()
  local log = test.log()
  local err = test.raises("Failed", async.with, logged(log, "commit"), function() end)
  test.eq(err.message, "commit")
  test.eq(log[3], "rollback tx Failed: commit")
end)

test("an error of the rollback has the former one as its cause", function()
  local err = test.raises("Failed", async.with, logged(test.log(), "rollback"), function()
    error("broken", 0)
  end)
  test.eq({ err.message, err.cause }, { "rollback", "broken" })
end)

test("if it cannot begin, nothing is rolled back and it can be tried again", function()
  local log, calls = test.log(), 0
  local tx = transaction(function()
    calls = calls + 1
    if calls == 1 then error("cannot begin", 0) end
  end, function() log "commit" end, function() log "rollback" end)
  test.raises("^cannot begin$", tx.with, tx, log)
  tx:with(function(value) log("block", value) end)
  test.eq(log, { "block nil", "commit" })
end)

test("it cannot be entered twice at a time", function()
  local log = test.log()
  local tx = logged(log)
  test.raises("InvalidStateError", tx.with, tx, function() tx:with(error) end)
  test.contains(log[2], "rollback")
end)

test("every begin has its end, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function()
      local s = { open = 0, data = 0 }
      s.tx = function()
        return transaction(function()
          async.sleep(0)
          s.open = s.open + 1
          return { s.data }
        end, function(copy)
          async.sleep(0)
          s.data, s.open = copy[1], s.open - 1
        end, function()
          async.sleep(0)
          s.open = s.open - 1
        end)
      end
      return s
    end,
    body = function(s)
      s.tx():with(function(copy)
        for _ = 1, 2 do
          copy[1] = copy[1] + 1
          async.sleep(0)
        end
      end)
    end,
    check = function(s)
      test.eq(s.open, 0)
      assert(s.data == 0 or s.data == 2, s.data)
    end,
  }
end)

test("a wrong argument is an error at the caller's line", function()
  local function blames(part, fn) test.blames_caller(part, fn) end
  blames("bad argument #1 to 'transaction' (function expected, got nil)",
    function() transaction() end)
  blames("bad argument #2 to 'transaction' (function expected, got nil)",
    function() transaction(print) end)
  blames("bad argument #3 to 'transaction' (function expected, got table)",
    function() transaction(print, print, {}) end)
  local tx = transaction(print, print, print)
  blames("bad argument #1 to 'with' (function expected, got nil)", function() tx:with() end)
end)
