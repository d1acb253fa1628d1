--- Values made at random, through the serializer and back.
local worker = require "rille.worker"
local json = require "rille.json"
local errors = require "rille.errors"
local test = require "support.test"

local ffi = require "ffi"

-- A generator of our own, so that a seed stands for the same value everywhere.
local function generator(seed)
  local state = seed * 2654435 + 12345
  return function(n)
    state = (state * 16807 + 1) % 2147483647
    return math.floor(state / 7) % n + 1
  end
end

local NUMBERS = { 0, -0.0, 1, -1, 0.5, 1 / 3, 2 ^ 31, -2 ^ 31, 2 ^ 53, 2 ^ 53 + 2, -2 ^ 53 - 2,
  1e308, 5e-324, math.huge, -math.huge, 0 / 0, 2147483647, 127, 128, 16383, 16384 }
local LONG = { 0LL, -1LL, 0x7fffffffffffffffLL, -0x7fffffffffffffffLL - 1, 1ULL,
  0xffffffffffffffffULL, 12345678901LL }

local function text(random)
  local bytes = {}
  for i = 1, random(40) - 1 do bytes[i] = string.char(random(256) - 1) end
  return table.concat(bytes)
end

-- A graph of tables and functions that may stand anywhere in each other.
local function make(seed)
  local random = generator(seed)
  local nodes = {}

  local function scalar()
    local kind = random(8)
    if kind == 1 then return NUMBERS[random(#NUMBERS)] end
    if kind == 2 then return random(1000000) - 500000 end
    if kind == 3 then return random(2) == 1 end
    if kind == 4 then return LONG[random(#LONG)] end
    if kind == 5 then return json.null end
    if kind == 6 then return string end -- a module
    if kind == 7 then return math.floor end
    return text(random)
  end

  local function node()
    local kind = random(8)
    if kind == 1 then return json.array {} end
    if kind == 2 then return errors.new("Kind" .. random(9), text(random)) end
    if kind == 3 then
      local a, b
      return function(set, x, y)
        if set then a, b = x, y end
        return a, b
      end
    end
    if kind == 4 then
      local list = {}
      for i = 1, random(300) do list[i] = random(1000) end
      return list
    end
    return {}
  end

  for i = 1, random(30) do nodes[i] = node() end
  local function value()
    if random(3) == 1 then return nodes[random(#nodes)] end
    return scalar()
  end
  local function key()
    while true do
      local k = value()
      if k == k and type(k) ~= "cdata" then return k end
    end
  end
  for _, n in ipairs(nodes) do
    if type(n) == "function" then
      n(true, value(), value())
    elseif errors.is_error(n) then
      -- Functions go as texts there: they may be anything's.
      for _, name in ipairs { "field", "other" } do
        local v = value()
        if type(v) ~= "function" then n[name] = v end
      end
    else
      for _ = 1, random(6) - 1 do n[key()] = value() end
      for _ = 1, random(4) - 1 do n[#n + 1] = value() end
    end
  end
  return nodes
end

-- Fails unless one is the other's picture, with the same sharing.
local function same(a, b)
  local to, from, pending = {}, {}, {}
  local check

  local function upvalues(f, g)
    local x, y = f()
    local u, v = g()
    check(x, u, "an upvalue")
    check(y, v, "an upvalue")
  end

  local function key_of(k)
    local kind = type(k)
    if (kind == "table" or kind == "function") and to[k] ~= nil then return to[k] end
    return k
  end

  function check(x, y, where)
    local kind = type(x)
    if kind ~= type(y) then error(where .. ": " .. kind .. " became " .. type(y), 0) end
    if kind == "number" then
      if x ~= x and y ~= y or x == y and 1 / x == 1 / y then return end
      error(("%s: %.17g became %.17g"):format(where, x, y), 0)
    elseif kind == "cdata" then
      assert(ffi.typeof(x) == ffi.typeof(y) and x == y, where)
    elseif kind == "table" or kind == "function" then
      if to[x] ~= nil or from[y] ~= nil then
        assert(to[x] == y and from[y] == x, where .. ": shared otherwise")
        return
      end
      if x == y then return end -- a module, or a function of one
      to[x], from[y] = y, x
      pending[#pending + 1] = { x, y }
    elseif x ~= y then
      error(("%s: %q became %q"):format(where, tostring(x), tostring(y)), 0)
    end
  end

  check(a, b, "the value")
  while #pending > 0 do
    local x, y = unpack(table.remove(pending))
    if type(x) == "function" then
      upvalues(x, y)
    else
      assert(getmetatable(x) == getmetatable(y), "another metatable")
      -- Tables that are keys: which is which is known from elsewhere, or by their number.
      local plain, odd, count = 0, 0, 0
      for k, v in next, x do
        count = count + 1
        local other = rawget(y, key_of(k))
        if (type(k) == "table" or type(k) == "function") and other == nil then
          odd = odd + 1
        elseif type(k) ~= "string" or k:sub(1, 1) ~= "_" then
          plain = plain + 1
          check(v, other, tostring(k))
        end
      end
      if not errors.is_error(x) then
        local n = 0
        for _ in next, y do n = n + 1 end
        assert(n == count, ("%d keys became %d"):format(count, n))
      end
    end
  end
end

test("what is made at random arrives as it was", function()
  local ch = worker.Channel()
  for seed = 1, math.max(50, math.floor(500 * test.SCALE)) do
    local value = make(seed)
    ch:send(value)
    local ok, e = pcall(same, value, ch:recv())
    if not ok then error(("seed %d: %s"):format(seed, tostring(e)), 0) end
  end
end)

test("what is made at random goes to threads and processes and comes back", function()
  for _, kind in ipairs { "thread", "process" } do
    local pool = worker.Pool { size = 1, kind = kind }
    for seed = 10001, 10001 + math.floor(30 * test.SCALE) do
      local value = make(seed)
      local ok, e = pcall(same, value, pool:run(function(v) return v end, value))
      if not ok then error(("%s, seed %d: %s"):format(kind, seed, tostring(e)), 0) end
    end
    pool:close()
  end
end)

test("a message that is another is refused with an error, or is another value", function()
  local core = require "rille.core.worker"
  local function trip(bytes)
    local ok, e = pcall(core.decode, bytes, {})
    if not ok then assert(errors.is(e, "WorkerError") or type(e) == "string", tostring(e)) end
  end
  for seed = 1, math.max(20, math.floor(300 * test.SCALE)) do
    local random = generator(seed)
    local t = { 1, "two", { 3.5, x = { y = "z" } }, [2.5] = true, n = -7, big = 5LL,
      [{}] = json.array {}, e = errors.new("A", "b") }
    t.self = t
    local bytes = core.encode("value", {}, t, nil, t[3])
    for _ = 1, 20 do
      local at = random(#bytes)
      local changed = bytes:sub(1, at - 1) .. string.char(random(256) - 1) .. bytes:sub(at + 1)
      trip(changed)
      trip(bytes:sub(1, at - 1))
      trip(bytes:sub(1, at) .. changed:sub(random(#bytes)))
    end
  end
end)

test("functions may hang on each other as deeply as they like", function()
  local n = math.max(1000, 100000 * test.SCALE)
  local function wrap(inner) return function() return inner end end
  local f = "the end"
  for _ = 1, n do f = wrap(f) end
  local ch = worker.Channel()
  ch:send(f)
  local copy, depth = ch:recv(), 0
  while type(copy) == "function" do copy, depth = copy(), depth + 1 end
  test.eq({ copy, depth }, { "the end", n })
end)

test("what cannot be copied is named in the depth too, by the beginning of its path", function()
  local t = { at_last = coroutine.create(print) }
  for _ = 1, math.max(1000, 100000 * test.SCALE) do t = { a = t } end
  local e = test.raises("CopyError", worker.run, function() end, t)
  test.contains(e.message, "argument #1.a.a.a")
  test.contains(e.message, "a coroutine")
  assert(#e.message < 300, "it is " .. #e.message .. " bytes long")
end)

test("errors may be caused by each other as often as they like", function()
  local e = errors.new("First", "one")
  for i = 1, math.max(1000, 20000 * test.SCALE) do
    e = errors.new("Next", "n" .. i, { cause = e })
  end
  local ch = worker.Channel()
  ch:send(e)
  local copy = ch:recv()
  while copy.cause do copy = copy.cause end
  test.eq(copy.kind, "First")
end)
