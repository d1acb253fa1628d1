--- What goes to a worker and comes back, and what cannot.
local worker = require "rille.worker"
local json = require "rille.json"
local errors = require "rille.errors"
local test = require "support.test"

local ffi = require "ffi"
local eq = test.eq

local function echo(...) return ... end

-- The value as it is after two journeys.
local function trip(value) return (worker.run(echo, value)) end

test("plain values arrive as they were", function()
  for _, v in ipairs { true, false, 0, 1, -1, 127, 128, -128, 2 ^ 31, -2 ^ 53, 2 ^ 53 + 2, 0.1,
    1e300, -1e-300, math.huge, -math.huge, "", "text", ("x"):rep(100000), "\0\1\255" } do
    eq(trip(v), v)
  end
  local nan = trip(0 / 0)
  assert(nan ~= nan)
  eq(1 / trip(-0.0), -math.huge)
end)

test("nils keep their places among arguments and results", function()
  eq({ n = select("#", worker.run(echo)) }, { n = 0 })
  eq({ n = select("#", worker.run(echo, nil)) }, { n = 1 })
  eq({ n = select("#", worker.run(echo, nil, 1, nil)), worker.run(echo, nil, 1, nil) },
    { n = 3, nil, 1, nil })
end)

test("tables keep their lists, keys and holes", function()
  local t = { 1, "two", nil, 4, a = 1, [2.5] = "x", [true] = false, [100] = "far", [-1] = 0,
    { {} } }
  eq(trip(t), t)
  local large = {}
  for i = 1, math.max(100, 10000 * test.SCALE) do large[i] = { i, name = "n" .. i } end
  eq(trip(large), large)
end)

test("tables are copies", function()
  local t = { 1 }
  eq(worker.run(function(x)
    x[2] = 2
    return #x
  end, t), 2)
  eq(t, { 1 })
end)

test("cycles and sharing are kept, among arguments and upvalues too", function()
  local t = { name = "t" }
  t.self, t.list = t, { t, { t } }
  local copy = trip(t)
  assert(copy ~= t and copy.self == copy and copy.list[1] == copy and copy.list[2][1] == copy)
  local key = {}
  local a, b, by_key = worker.run(function(x, y) return x == y, x == t, x.k[x.key] end,
    { k = { [key] = "found" }, key = key }, nil)
  eq({ a, b, by_key }, { false, false, "found" })
  local shared = { 1 }
  local same = worker.run(function(x, y) return x == y and x == shared end, shared, shared)
  eq(same, true)
end)

test("tables may nest as deeply as they like", function()
  local n = math.max(1000, 100000 * test.SCALE)
  local t = {}
  for _ = 1, n do t = { t } end
  local copy, depth = trip(t), 0
  while copy[1] do copy, depth = copy[1], depth + 1 end
  eq(depth, n)
  local chain = {}
  for i = 1, n do chain = { next = chain, [chain] = i } end
  copy, depth = trip(chain), 0
  while copy.next do copy, depth = copy.next, depth + 1 end
  eq(depth, n)
end)

test("integers of 64 bits keep their type and value", function()
  for _, v in ipairs { 1LL, -1LL, 0x7fffffffffffffffLL, -0x7fffffffffffffffLL - 1,
    123456789012345678LL } do
    local copy = trip(v)
    assert(ffi.istype("int64_t", copy) and copy == v, tostring(copy))
  end
  for _, v in ipairs { 0ULL, 1ULL, 0xffffffffffffffffULL, 0x8000000000000000ULL } do
    local copy = trip(v)
    assert(ffi.istype("uint64_t", copy) and copy == v, tostring(copy))
  end
  test.raises("argument #1: a cdata other than int64_t and uint64_t", trip, ffi.new "int[2]")
end)

test("json's null and marks arrive", function()
  assert(trip(json.null) == json.null)
  local copy = trip { array = json.array {}, object = json.object { [1] = 2 }, null = json.null }
  eq(json.encode(copy, { sort_keys = true }), '{"array":[],"null":null,"object":{"1":2}}')
  eq(worker.run(function(v) return require("rille.json").encode(v) end, json.array {}), "[]")
  eq(json.encode(worker.run(function() return require("rille.json").decode "[]" end)), "[]")
end)

test("functions take their upvalues along", function()
  local n, t = 10, { 20 }
  local function add(x) return x + n + t[1] end
  eq(worker.run(add, 1), 31)
  eq(worker.run(function(f) return f(2) end, add), 32)
  local got = trip(add)
  eq(got(3), 33)
end)

test("functions that call themselves and each other arrive", function()
  local function factorial(i) return i <= 1 and 1 or i * factorial(i - 1) end
  eq(worker.run(factorial, 10), 3628800)
  local even, odd
  function even(i) if i == 0 then return true end return odd(i - 1) end
  function odd(i) if i == 0 then return false end return even(i - 1) end
  eq({ worker.run(even, 11), worker.run(odd, 11) }, { false, true })
end)

test("functions of one message share the upvalues that they shared", function()
  local count = 0
  local function add() count = count + 1 end
  local function get() return count end
  eq(worker.run(function(a, g)
    a()
    a()
    count = count + 10
    return g()
  end, add, get), 12)
  eq(count, 0, "the original")
end)

test("a function that is sent again has fresh upvalues, even if the former one is kept", function()
  local pool = worker.Pool { size = 1 }
  local function make(n)
    return function()
      kept = kept or {} -- luacheck: ignore (a global of the worker)
      local function current() return n end
      table.insert(kept, current) -- luacheck: ignore
      local all = {}
      for i, f in ipairs(kept) do all[i] = f() end -- luacheck: ignore
      return all
    end
  end
  eq(pool:run(make(1)), { 1 })
  eq(pool:run(make(2)), { 1, 2 })
  eq(pool:run(make(3)), { 1, 2, 3 })
  pool:close()
end)

test("functions of many shapes arrive", function()
  local a, b, c, d, e, f, g, h = 1, 2, 3, 4, 5, 6, 7, 8
  eq(worker.run(function(...)
    local function inner()
      a = a + 1
      return a + b + c + d + e + f + g + h
    end
    local nested = function() return function() return inner() + h end end
    return nested()()(), select("#", ...)
  end == nil and 0 or function(...)
    local function inner()
      a = a + 1
      return a + b + c + d + e + f + g + h
    end
    local nested = function() return function() return inner() + h end end
    return nested()(), select("#", ...)
  end, 1, 2, 3), 45)
  local s = ("constant"):rep(3)
  local function work(n)
    local sum = 0
    for i = 1, n do sum = sum + i % 7 end
    local big = 12345678901234567LL
    return { sum, s .. tostring(big), 1.5, { 1, x = { 2 } } }
  end
  eq(worker.run(work, 100000), work(100000))
end)

test("a function that was compiled here arrives", function()
  local function sum(n)
    local s = 0
    for i = 1, n do s = s + i end
    return s
  end
  for _ = 1, 100 do sum(1000) end
  eq(worker.run(sum, 1000), 500500)
end)

test("a module travels as its name", function()
  local path = require "rille.path"
  assert(worker.run(function() return path == require "rille.path" end))
  assert(trip(path) == path)
  assert(trip(_G) == _G)
  eq(worker.run(function(p) return p.join("a", "b") end, path), "a/b")
end)

test("a module of the script is loaded in the worker, by its own path", function()
  local dir = test.tmpdir()
  test.write(dir .. "/my_module.lua", [[
    local M = { loaded_in = 0 }
    local helper = require "rille.path"
    function M.join(...) return helper.join(...) end
    function M.count() M.loaded_in = M.loaded_in + 1 return M.loaded_in end
    return M
  ]])
  local before = package.path
  package.path = dir .. "/?.lua;" .. package.path
  local mine = require "my_module"
  mine.loaded_in = 41
  eq(worker.run(mine.join, "x", "y"), "x/y")
  eq(worker.run(function() return mine.count() end), 1)
  package.path = before
  package.loaded.my_module = nil
end)

test("a module that the worker cannot load is named with the place", function()
  package.loaded.only_here = { f = function() end }
  local only = package.loaded.only_here
  local e = test.raises("WorkerError", worker.run, function() return only end)
  test.contains(e.message, "upvalue 'only'")
  test.contains(e.message, "only_here")
  package.loaded.only_here = nil
end)

test("functions of Lua and of Rille travel by their names", function()
  local format, insert, p, sleep = string.format, table.insert, pcall, require("rille.async").sleep
  eq({ worker.run(function()
    local t = {}
    insert(t, format("%d", 5))
    sleep(0)
    return t[1], p(error, "x", 0)
  end) }, { "5", false, "x" })
  eq(worker.run(math.max, 1, 3, 2), 3)
  assert(trip(print) == print and trip(pcall) == pcall and trip(sleep) == sleep)
end)

test("a worker has globals of its own", function()
  local pool = worker.Pool { size = 1 }
  pool:run(function() a_global = 1 end) -- luacheck: ignore
  eq(rawget(_G, "a_global"), nil)
  eq(pool:run(function() return a_global end), 1) -- luacheck: ignore
  pool:close()
end)

test("errors arrive with kind, fields, cause and the worker's traceback", function()
  local e = test.raises("ShopError", worker.run, function()
    local cause = errors.new("StoreError", "empty", { shelf = 3 })
    local fields = { code = "ESHOP", cause = cause, list = { 1, { 2 } } }
    error(errors.new("ShopError", "closed", fields), 0)
  end)
  eq({ e.message, e.code, e.cause.kind, e.cause.shelf, e.list },
    { "closed", "ESHOP", "StoreError", 3, { 1, { 2 } } })
  test.contains(e.traceback, "in a worker:")
  test.contains(e.traceback, "copies_test.lua")
  test.contains(e.cause.traceback, "copies_test.lua")
  eq(tostring(e), "ShopError: closed")
end)

test("other values arrive as errors unchanged", function()
  local ok, e = pcall(worker.run, function() error("text", 0) end)
  eq({ ok, e }, { false, "text" })
  ok, e = pcall(worker.run, function() error({ code = 7 }, 0) end)
  eq({ ok, e }, { false, { code = 7 } })
  test.raises("copies_test.lua:%d+: attempt to index", worker.run, function()
    local x = nil
    return x.y -- luacheck: ignore
  end)
end)

test("a group of errors arrives as one", function()
  local e = test.raises("ErrorGroup", worker.run, function()
    require("rille.async").group(function(g)
      g:spawn(function()
        require("rille.async").sleep(0)
        error(errors.new("A", "a"), 0)
      end)
      g:spawn(function()
        pcall(require("rille.async").sleep, 1000)
        error(errors.new("B", "b"), 0)
      end)
    end)
  end)
  eq({ #e.errors, e.errors[1].kind, e:subgroup("B").errors[1].message }, { 2, "A", "b" })
end)

test("an error with what cannot be copied still arrives", function()
  local e = test.raises("Odd", worker.run, function()
    local co = coroutine.create(print)
    error(errors.new("Odd", "odd", { co = co, deep = { co } }), 0)
  end)
  eq(e.message, "odd")
  e = test.raises("Odd", worker.run, function()
    error(errors.new("Odd", "odd", { file = io.stdout, fn = print }), 0)
  end)
  test.contains(e.file, "file")
  local ok, other = pcall(worker.run, function() error({ coroutine.create(print) }, 0) end)
  assert(not ok)
  test.contains(other.message, "cannot be copied")
end)

test("errors that hold themselves, or cannot be shown, arrive", function()
  local e = test.raises("Odd", worker.run, function()
    local err = errors.new("Odd", "odd", { list = {} })
    err.me, err.list[1] = err, err
    error(err, 0)
  end)
  assert(e.me == e and e.list[1] == e)
  test.contains(e.traceback, "in a worker:")
  local function silent(kind)
    return setmetatable({}, { __tostring = function() error("no text, but " .. kind, 0) end })
  end
  local ok, other = pcall(worker.run, function() error(silent "this", 0) end)
  eq(ok, false)
  test.contains(other.message, "an error that cannot be copied")
  e = test.raises("Odd", worker.run, function()
    error(errors.new("Odd", "odd", { field = silent "that", n = 1 }), 0)
  end)
  eq({ e.n, e.field }, { 1, nil })
  local cause = test.raises("Outer", worker.run, function()
    error(errors.new("Outer", "outer", { cause = "a text" }), 0)
  end).cause
  eq(cause, "a text")
end)

test("an error of C's, of the stack and of memory arrives as what it is", function()
  test.raises("bad argument #1 to 'rep'", worker.run, function()
    local s = string.rep()
    return s
  end)
  test.raises("stack overflow", worker.run, function()
    local function deep() return 1 + deep() end
    return deep()
  end)
  eq(worker.run(function() return "and the worker goes on" end), "and the worker goes on")
end)

test("large arguments and results arrive", function()
  local n = math.max(1000000, math.floor(30000000 * test.SCALE))
  local text = ("x"):rep(n)
  for _, kind in ipairs { "thread", "process" } do
    local pool = worker.Pool { size = 1, kind = kind }
    local size, back = pool:run(function(s) return #s, s end, text)
    eq(size, n)
    assert(back == text)
    pool:close()
  end
end)

test("what cannot be copied is named with its path", function()
  local co = coroutine.create(print)
  local function refused(path, ...)
    local e = test.raises("CopyError", worker.run, ...)
    eq(e.path, path)
    test.contains(tostring(e), path)
  end
  local sock, conf = io.stdout, { a = { b = co } }
  refused("upvalue 'sock'", function() return sock end)
  refused("upvalue 'conf'.a.b", function() return conf end)
  refused("argument #1", echo, co)
  refused("argument #2", echo, 1, co)
  refused("argument #1.list[3]", echo, { list = { 1, 2, co } })
  refused("argument #1[\"a b\"][2.5].x", echo, { ["a b"] = { [2.5] = { x = co } } })
  refused("a key of argument #1", echo, { [co] = 1 })
  local function helper() return sock end
  refused("upvalue 'helper': upvalue 'sock'", function() return helper end)
  refused("argument #1.f: upvalue 'conf'.a.b", echo, { f = function() return conf end })
  refused("argument #1.object", echo, { object = setmetatable({}, {}) })
  local e = test.raises("CopyError", worker.run, echo, setmetatable({}, { __name = "Thing" }))
  test.contains(e.message, "a Thing")
  e = test.raises("CopyError", worker.run, echo, require("rille.async").Lock())
  test.contains(e.message, "argument #1")
end)

test("what each kind of thing is that cannot be copied is said", function()
  local async = require "rille.async"
  local task = async.spawn(function() end)
  local pool = worker.Pool {}
  local dir = test.tmpdir()
  local file = require("rille.fs").open(dir .. "/file", "w")
  local var = async.ContextVar "var"
  local iterate = ("x"):gmatch "x"
  local function wants(text, fn)
    local e = test.raises("CopyError", worker.run, fn)
    test.contains(e.message, "cannot copy upvalue '")
    test.contains(e.message, text)
  end
  wants("upvalue 'task': a Task", function() return task end)
  wants("upvalue 'pool': a worker.Pool", function() return pool end)
  wants("upvalue 'file': a File", function() return file end)
  wants("upvalue 'var': a ContextVar", function() return var end)
  wants("upvalue 'iterate': a C function that no module has", function() return iterate end)
  wants("upvalue 'var'", function() return function() return var end end)
  pool:close()
  file:close()
  task:await()
end)

test("a function with an environment of its own is refused, in the depth too", function()
  local fn = setfenv(function() return x end, { x = 1 }) -- luacheck: ignore
  local e = test.raises("CopyError", worker.run, fn)
  eq(e.path, "the function")
  test.contains(e.message, "an environment of its own (setfenv)")
  e = test.raises("CopyError", worker.run, echo, { list = { 1, { f = fn } } })
  eq(e.path, "argument #1.list[2].f")
  setfenv(fn, _G)
  eq(worker.run(fn), nil)
end)

test("functions that hold each other in tables, and take any arguments, arrive", function()
  local object = { n = 0 }
  function object.add(...)
    for i = 1, select("#", ...) do object.n = object.n + (select(i, ...) or 0) end
    return object
  end
  object.call = function(...) return object.add(...).add(1) end
  local copy = worker.run(object.call, 1, nil, 3)
  eq(copy.n, 5)
  assert(copy.call(1) == copy)
  eq({ copy.n, object.n }, { 7, 0 })
end)

test("a result that cannot be copied is named", function()
  local e = test.raises("CopyError", worker.run, function()
    return 1, { x = coroutine.create(print) }
  end)
  eq(e.path, "result #2.x")
end)

test("wrong arguments are named", function()
  test.blames_caller("bad argument #1 to 'run' (function expected, got nil)",
    function() worker.run() end)
  test.blames_caller("bad argument #1 to 'run' (function expected, got table)",
    function() worker.run {} end)
  test.blames_caller("unknown option 'sise'", function() worker.Pool { sise = 1 } end)
  test.blames_caller("'size'", function() worker.Pool { size = 0 } end)
  test.blames_caller("'kind'", function() worker.Pool { kind = "fibre" } end)
  test.blames_caller("#1", function() worker.Channel(-1) end)
end)
