local async, test = require "rille.async", require "support.test"

test("a variable that was never set has its default, then the one asked with, then nil", function()
  test.eq(async.ContextVar("a", "default"):get(), "default")
  test.eq(async.ContextVar("a"):get(), nil)
  test.eq(async.ContextVar("a"):get "mine", "mine")
  test.eq(async.ContextVar("a", "default"):get "mine", "mine")
end)

test("a variable that was set has its value, whatever the defaults", function()
  local var = async.ContextVar("a", "default")
  var:set "value"
  test.eq(var:get(), "value")
  test.eq(var:get "mine", "value")
end)

test("false is a value of a variable", function()
  local var = async.ContextVar("a", true)
  var:set(false)
  test.eq(var:get(), false)
end)

test("variables of one name are independent", function()
  local a, b = async.ContextVar "same", async.ContextVar "same"
  a:set(1)
  test.eq(b:get(), nil)
end)

test("reset puts back what was there before set", function()
  local var = async.ContextVar("a", "default")
  local first = var:set(1)
  local second = var:set(2)
  var:reset(second)
  test.eq(var:get(), 1)
  var:reset(first)
  test.eq(var:get(), "default")
end)

test("a token can be used once, and only for its variable", function()
  local var, other = async.ContextVar "a", async.ContextVar "b"
  local token = var:set(1)
  assert(not pcall(other.reset, other, token))
  var:reset(token)
  assert(not pcall(var.reset, var, token))
  test.raises("bad argument #1 to 'reset'", var.reset, var, nil)
end)

test("a task starts with a copy of its maker's context", function()
  local var = async.ContextVar "a"
  var:set "outer"
  local task = async.spawn(function()
    local before = var:get()
    var:set "inner"
    async.sleep(0)
    return before, var:get()
  end)
  var:set "later" -- the copy was made when the task was
  test.eq({ task:await() }, { "outer", "inner" })
  test.eq(var:get(), "later")
end)

test("an eager task has a context of its own, too", function()
  local var = async.ContextVar "a"
  var:set "outer"
  async.spawn_eager(function()
    test.eq(var:get(), "outer")
    var:set "inner"
  end):await()
  test.eq(var:get(), "outer")
end)

test("each task keeps its value while others run", function()
  local var, tasks = async.ContextVar "a", {}
  for i = 1, 3 do
    tasks[i] = async.spawn(function()
      var:set(i)
      test.turns(3)
      return var:get()
    end)
  end
  for i = 1, 3 do test.eq(tasks[i]:await(), i) end
end)

test("functions run by gather, map and groups start with a copy, too", function()
  local var = async.ContextVar "a"
  var:set "outer"
  local function change()
    local before = var:get()
    var:set "inner"
    return before
  end
  test.eq(async.gather { change, change }, { "outer", "outer", n = 2 })
  test.eq(async.map({ 1 }, change), { "outer", n = 1 })
  async.group(function(g) test.eq(g:spawn(change):await(), "outer") end)
  test.eq(var:get(), "outer")
end)

test("timeout runs in the same task and so in the same context", function()
  local var = async.ContextVar "a"
  async.timeout(1000, function() var:set "inside" end)
  test.eq(var:get(), "inside")
end)

test("what copy_context's run sets stays in that context", function()
  local var = async.ContextVar "a"
  var:set "outer"
  local context = async.copy_context()
  local n = select("#", context:run(function(...)
    test.eq(var:get(), "outer")
    var:set "inner"
    return ...
  end, 1, nil, nil))
  test.eq(n, 3)
  test.eq(var:get(), "outer")
  test.eq(context:run(var.get, var), "inner")
end)

test("a function run in a context may wait, and others do not see its values", function()
  local var = async.ContextVar "a"
  var:set "outer"
  local task = async.spawn(function() return var:get() end)
  async.copy_context():run(function()
    var:set "inner"
    async.sleep(0)
    test.eq(var:get(), "inner")
  end)
  test.eq(var:get(), "outer")
  test.eq(task:await(), "outer")
end)

test("an error leaves the context it was raised in", function()
  local var = async.ContextVar "a"
  var:set "outer"
  local context = async.copy_context()
  test.raises("oops", context.run, context, function()
    var:set "inner"
    error "oops"
  end)
  test.eq(var:get(), "outer")
end)

test("a callback runs in a copy of its maker's context", function()
  local var, seen = async.ContextVar "a", nil
  var:set "maker"
  async.call_soon(function()
    seen = var:get()
    var:set "callback"
  end)
  var:set "later"
  async.sleep(0)
  test.eq(seen, "maker")
  test.eq(var:get(), "later")
end)

test("a value survives waits in a coroutine of the script", function()
  local var = async.ContextVar "a"
  coroutine.wrap(function()
    var:set "inside"
    async.sleep(0)
  end)()
  test.eq(var:get(), "inside")
end)

test("context variables name their wrong argument, themselves and the caller's line", function()
  test.blames_caller(
    "bad argument #1 to 'ContextVar' (string expected, got nil)",
    function() async.ContextVar(nil) end
  )
  test.blames_caller(
    "bad argument #1 to 'run' (function expected, got nil)",
    function() async.copy_context():run(nil) end
  )
end)
