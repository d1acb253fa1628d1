local async, errors, test = require "rille.async", require "rille.errors", require "support.test"

-- A task that logs each turn it gets, to see what else runs meanwhile.
local function ticker(log, n)
  return async.spawn(function()
    for i = 1, n do
      log("tick", i)
      async.sleep(0)
    end
  end)
end

test("a wait inside coroutine.wrap parks the whole task, and others run", function()
  local log = test.log()
  local other = ticker(log, 2)
  local numbers = coroutine.wrap(function()
    for i = 1, 2 do
      async.sleep(0)
      coroutine.yield(i)
    end
  end)
  log(numbers())
  log(numbers())
  other:await()
  test.eq(log, { "tick 1", "1", "tick 2", "2" })
end)

test("a for loop may run over a coroutine that waits", function()
  local log = test.log()
  for a, b in coroutine.wrap(function()
    coroutine.yield(1, nil)
    async.sleep(0)
    coroutine.yield(2, "b")
  end) do
    log(a, b)
  end
  test.eq(log, { "1 nil", "2 b" })
end)

test("a coroutine that waits takes and gives all values of resume and yield", function()
  local co = coroutine.create(function(...)
    async.sleep(0)
    local n = select("#", ...)
    local m = select("#", coroutine.yield(n, nil))
    async.sleep(0)
    return m, nil, nil
  end)
  test.eq({ coroutine.resume(co, nil, nil) }, { true, 2, nil })
  test.eq(coroutine.status(co), "suspended")
  test.eq(select("#", coroutine.resume(co, nil, nil, nil)), 4)
  test.eq(coroutine.status(co), "dead")
end)

test("a wait passes through several coroutines inside each other", function()
  local function nested(depth)
    if depth == 0 then return async.sleep(0, "deep") end
    return coroutine.wrap(nested)(depth - 1)
  end
  local log = test.log()
  local other = ticker(log, 1)
  log(nested(10))
  other:await()
  test.eq(log, { "tick 1", "deep" })
end)

test("each coroutine knows itself, before and after a wait", function()
  local co
  co = coroutine.create(function()
    test.eq(coroutine.running(), co)
    async.sleep(0)
    test.eq(coroutine.running(), co)
    return "end"
  end)
  assert(coroutine.running() ~= co)
  test.eq({ coroutine.resume(co) }, { true, "end" })
end)

test("current_task in a coroutine is the task that runs it", function()
  local own = async.current_task()
  coroutine.wrap(function()
    async.sleep(0)
    test.eq(async.current_task(), own)
  end)()
end)

test("an error in a coroutine that has waited comes from resume, and from wrap", function()
  local value = { "any table" }
  local function fail()
    async.sleep(0)
    error(value)
  end
  local co = coroutine.create(fail)
  local ok, err = coroutine.resume(co)
  assert(not ok and rawequal(err, value))
  test.eq(coroutine.status(co), "dead")
  ok, err = pcall(coroutine.wrap(fail))
  assert(not ok and rawequal(err, value))
end)

test("a dead coroutine and one that runs cannot be resumed, as in stock Lua", function()
  local co = coroutine.create(function() async.sleep(0) end)
  coroutine.resume(co)
  local ok, err = coroutine.resume(co)
  test.eq(ok, false)
  test.contains(err, "dead")
  co = coroutine.create(function()
    async.sleep(0)
    return coroutine.resume(co)
  end)
  local outer_ok, inner_ok = coroutine.resume(co)
  test.eq({ outer_ok, inner_ok }, { true, false })
  test.raises("bad argument #1 to 'resume'", function() coroutine.resume(nil) end)
  test.raises("bad argument #1 to 'create'", function() coroutine.create(nil) end)
  test.raises("bad argument #1 to 'wrap'", function() coroutine.wrap(nil) end)
end)

test("a coroutine that waits for one task cannot be resumed by another meanwhile", function()
  local event = async.Event()
  local co = coroutine.create(function()
    event:wait()
    return "end"
  end)
  local task = async.spawn(coroutine.resume, co)
  async.sleep(0)
  assert(coroutine.status(co) ~= "dead")
  local ok = coroutine.resume(co)
  test.eq(ok, false)
  event:set()
  test.eq({ task:await() }, { true, "end" })
end)

test("a coroutine may be begun in one task and go on in another", function()
  local co = coroutine.wrap(function()
    async.sleep(0)
    coroutine.yield(async.current_task())
    async.sleep(0)
    coroutine.yield(async.current_task())
  end)
  test.eq(co(), async.current_task())
  local task = async.spawn(co)
  test.eq(task:await(), task)
end)

test("a cancellation is raised inside the coroutine that waits", function()
  local log = test.log()
  local task = async.spawn(function()
    coroutine.wrap(function()
      async.finally(function() async.sleep(1000) end, function()
        async.sleep(0)
        log "cleaned up"
      end)
    end)()
  end)
  test.turns(2)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "cleaned up" })
end)

test("a cancellation caught inside a coroutine is raised at the next wait outside", function()
  local log = test.log()
  local task = async.spawn(function()
    coroutine.wrap(function()
      pcall(async.sleep, 1000)
      log "caught"
    end)()
    async.sleep(0)
    log "not reached"
  end)
  test.turns(2)
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  test.eq(log, { "caught" })
end)

test("waiting works through pcall, xpcall, metamethods and iterators", function()
  local meta = {
    __index = function(_, key) return async.sleep(0, key) end,
    __newindex = function() async.sleep(0) end,
    __call = function(_, a) return async.sleep(0, a) end,
    __add = function(a, b) return async.sleep(0, "sum") end,
    __concat = function(a, b) return async.sleep(0, "text") end,
    __eq = function(a, b) return async.sleep(0, true) end,
    __lt = function(a, b) return async.sleep(0, true) end,
    __unm = function(a) return async.sleep(0, "minus") end,
  }
  local a, b = setmetatable({}, meta), setmetatable({}, meta)
  a.new = 1
  test.eq({ a.key, a(7), a + b, a .. b, -a }, { "key", 7, "sum", "text", "minus" })
  test.eq({ a == b, a < b }, { true, true })
  test.eq({ pcall(pcall, async.sleep, 0, 1) }, { true, true, 1 })
  local n = 0
  local function next_number(_, i) return async.sleep(0, i < 3 and i + 1 or nil) end
  for i in next_number, nil, 0 do n = n + i end
  test.eq(n, 6)
end)

test("require may wait", function()
  local dir = test.tmpdir()
  test.write(dir .. "/rille_test_waits.lua", [[
    local async = require "rille.async"
    return { name = ..., slept = async.sleep(0, "slept") }
  ]])
  local path = package.path
  test.defer(function() package.path, package.loaded.rille_test_waits = path, nil end)
  package.path = dir .. "/?.lua;" .. path
  local log = test.log()
  local other = ticker(log, 1)
  test.eq(require "rille_test_waits", { name = "rille_test_waits", slept = "slept" })
  test.eq(log, { "tick 1" })
  test.eq(require "rille_test_waits", package.loaded.rille_test_waits)
  other:await()
end)

test("a module that waits and is required by two tasks is loaded once, and both get it", function()
  local dir = test.tmpdir()
  test.write(dir .. "/rille_test_once.lua", [[
    local async = require "rille.async"
    rille_test_loads = (rille_test_loads or 0) + 1
    async.sleep(0)
    async.sleep(0)
    return { loads = rille_test_loads }
  ]])
  local path = package.path
  test.defer(function()
    package.path, package.loaded.rille_test_once = path, nil
    rawset(_G, "rille_test_loads", nil)
  end)
  package.path = dir .. "/?.lua;" .. path
  local a, b = async.spawn(require, "rille_test_once"), async.spawn(require, "rille_test_once")
  test.eq(a:await(), { loads = 1 })
  assert(rawequal(a:result(), b:await()))
end)

test("require raises the error of a module with its file and line", function()
  local dir = test.tmpdir()
  test.write(dir .. "/rille_test_bad.lua", 'require("rille.async").sleep(0)\n\nerror "oops"\n')
  test.write(dir .. "/rille_test_syntax.lua", "local x =\n= 1\n")
  local path = package.path
  test.defer(function() package.path = path end)
  package.path = dir .. "/?.lua;" .. path
  test.raises("rille_test_bad.lua:3: oops", require, "rille_test_bad")
  test.raises("rille_test_syntax.lua:2:.*near '='", require, "rille_test_syntax")
  test.eq(package.loaded.rille_test_bad, nil)
  test.raises("rille_test_bad.lua:3: oops", require, "rille_test_bad")
end)

test("require of what is not there says what was looked for and where", function()
  local err = test.raises("module 'no.such.module' not found", require, "no.such.module")
  test.contains(tostring(err), "no field package.preload['no.such.module']")
  test.contains(tostring(err), "no file './no/such/module.lua'")
end)

test("a module that requires itself gets an error, not a hang", function()
  local dir = test.tmpdir()
  test.write(dir .. "/rille_test_loop.lua", 'return require "rille_test_loop"')
  local path = package.path
  test.defer(function() package.path, package.loaded.rille_test_loop = path, nil end)
  package.path = dir .. "/?.lua;" .. path
  test.raises("rille_test_loop", require, "rille_test_loop")
end)

test("require does the rest as in stock Lua", function()
  package.preload.rille_test_preload = function(name) package.loaded[name] = "set by itself" end
  package.preload.rille_test_nil = function() end
  test.defer(function()
    for _, name in ipairs { "rille_test_preload", "rille_test_nil" } do
      package.preload[name], package.loaded[name] = nil, nil
    end
  end)
  test.eq(require "rille_test_preload", "set by itself")
  test.eq(require "rille_test_nil", true)
  test.raises("bad argument #1 to 'require'", function() require(nil) end)
end)

test("waiting in a comparison of table.sort is refused with the name of sort", function()
  local err = test.raises("sort", table.sort, { 3, 2, 1 }, function(a, b)
    async.sleep(0)
    return a < b
  end)
  assert(not tostring(err):find "C%-call boundary")
  async.sleep(0)
end)

test("waiting in a callback of string.gsub is refused with the name of gsub", function()
  local function wait(c) return async.sleep(0, c) end
  local err = test.raises("gsub", string.gsub, "abc", "%w", wait)
  assert(not tostring(err):find "C%-call boundary")
  async.sleep(0)
end)

test("waiting in __tostring is refused below string.format and print with their names", function()
  local value = setmetatable({}, { __tostring = function() return async.sleep(0, "text") end })
  test.raises("format", function() return ("%s"):format(value) end)
  test.raises("print", print, value)
  async.sleep(0)
end)

test("waiting in what load and dofile run is refused with their names", function()
  local _, err = load(function() async.sleep(0) end)
  test.contains(tostring(err), "load")
  local path = test.write(test.tmpdir() .. "/waits.lua", 'require("rille.async").sleep(0)')
  test.raises("dofile", dofile, path)
  async.sleep(0)
end)

test("waiting across a C function inside a coroutine is refused with its name, too", function()
  test.raises("sort", coroutine.wrap(function()
    table.sort({ 3, 2, 1 }, function(a, b)
      async.sleep(0)
      return a < b
    end)
  end))
  async.sleep(0)
end)

test("what is refused leaves nothing waiting", function()
  local queue, lock = async.Queue(), async.Lock()
  lock:acquire()
  test.raises("gsub", string.gsub, "a", "a", function() queue:get() end)
  test.raises("gsub", string.gsub, "a", "a", function() lock:acquire() end)
  queue:put "item"
  test.eq(queue:qsize(), 1)
  lock:release()
  test.eq(lock:locked(), false)
end)

test("a call that need not wait works in a comparison of table.sort", function()
  local lock, list = async.Lock(), { 3, 1, 2 }
  table.sort(list, function(a, b)
    lock:acquire()
    lock:release()
    return a < b
  end)
  test.eq(list, { 1, 2, 3 })
end)

test("a coroutine that a task leaves suspended does no harm", function()
  for _ = 1, 10 do
    async.spawn(function()
      local co = coroutine.wrap(function()
        async.sleep(0)
        coroutine.yield(1)
      end)
      co()
    end):await()
  end
  collectgarbage()
  async.sleep(0)
end)

test("an error object passes through coroutines unchanged", function()
  local mine = errors.new("OSError", "mine")
  local ok, err = pcall(coroutine.wrap(function()
    async.sleep(0)
    error(mine)
  end))
  assert(not ok and rawequal(err, mine))
end)
