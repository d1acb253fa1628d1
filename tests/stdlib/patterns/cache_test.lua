local async, errors, test = require "rille.async", require "rille.errors", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local Cache = require("rille.patterns").Cache

-- A loader that gives "key:1", "key:2" ... and takes so many turns.
local function counting(turns)
  local calls = 0
  return function(key)
    calls = calls + 1
    local mine = calls
    test.turns(turns or 0)
    return key .. ":" .. mine
  end
end

local function ask(cache, n, key, loader)
  local tasks = {}
  for i = 1, n do tasks[i] = async.spawn(cache.get, cache, key, loader) end
  return tasks
end

test("a value is loaded once and kept", function()
  local cache, loader = Cache(), counting(1)
  test.eq({ cache:get("a", loader), cache:get("a", loader), cache:get("b", loader) },
    { "a:1", "a:1", "b:2" })
  test.eq({ cache:get "a", cache:size() }, { "a:1", 2 })
end)

test("a value that is there is given without giving the turn away", function()
  local cache, log = Cache(), test.log()
  cache:set("a", 1)
  local other = async.spawn(log, "other")
  cache:get("a", error)
  log "got"
  other:await()
  test.eq(log, { "got", "other" })
end)

test("without a loader nothing is loaded", function()
  local cache = Cache()
  test.eq(cache:get "a", nil)
  local task = async.spawn(cache.get, cache, "a", counting(3))
  test.turns(2)
  test.eq(cache:get "a", nil) -- while it is being loaded
  test.eq(task:await(), "a:1")
end)

test("however many ask at once, there is one load", function()
  local cache, loader = Cache(), counting(3)
  for _, task in ipairs(ask(cache, 10, "a", loader)) do test.eq(task:await(), "a:1") end
  local a, b = ask(cache, 1, "b", loader)[1], ask(cache, 1, "c", loader)[1]
  test.eq({ a:await(), b:await() }, { "b:2", "c:3" })
end)

test("nil and false are values", function()
  local cache, calls = Cache(), 0
  for _ = 1, 2 do
    test.eq(cache:get("nil", function()
      calls = calls + 1
      return nil
    end), nil)
    test.eq(cache:get("false", function()
      calls = calls + 1
      return false
    end), false)
  end
  test.eq({ calls, cache:size() }, { 2, 2 })
end)

test("any value but nil and NaN is a key", function()
  local cache, key = Cache(), {}
  test.eq({ cache:get(key, type), cache:get(true, type), cache:get(1.5, type) },
    { "table", "boolean", "number" })
  local odd = setmetatable({}, { __tostring = function() error "odd" end })
  test.eq(cache:get(odd, type), "table")
end)

test("an error goes to all who wait and is not kept", function()
  local cache, calls = Cache(), 0
  local function failing()
    calls = calls + 1
    test.turns(2)
    error(errors.new("OSError", "gone " .. calls), 0)
  end
  for _, task in ipairs(ask(cache, 3, "a", failing)) do
    async.wait { task }
    test.eq(task:error().message, "gone 1")
  end
  test.eq(cache:get("a", counting()), "a:1")
end)

test("who is cancelled leaves the load to the others", function()
  local cache = Cache()
  local tasks = ask(cache, 3, "a", counting(5))
  test.turns(2)
  tasks[1]:cancel() -- it has begun the load
  tasks[3]:cancel()
  async.wait(tasks)
  test.eq({ tasks[1]:cancelled(), tasks[2]:result(), tasks[3]:cancelled() }, { true, "a:1", true })
  test.eq(cache:get "a", "a:1")
end)

test("a load that nobody waits for any more is cancelled and waited for", function()
  local cache, log = Cache(), test.log()
  local tasks = ask(cache, 2, "a", function()
    async.finally(function() async.sleep(1000) end, function()
      async.sleep(0)
      log "ended"
    end)
  end)
  test.turns(2)
  tasks[1]:cancel()
  test.turns()
  test.eq(log, {})
  tasks[2]:cancel()
  async.sleep(0)
  local newcomer = async.spawn(cache.get, cache, "a", counting()) -- begins anew
  async.wait(tasks)
  test.eq(log, { "ended" })
  test.eq(newcomer:await(), "a:1")
  test.eq(cache:get "a", "a:1")
end)

test("a timeout ends a load that nobody else waits for", function()
  local cache = Cache()
  test.raises("TimeoutError", async.wait_for, cache.get, 0.001, cache, "a", function()
    async.sleep(1000)
  end)
  test.eq(cache:get("a", counting()), "a:1")
end)

test("the load does not end with the async.run of who asked first", function()
  local cache, event = Cache(), async.Event()
  local short = async.spawn(async.run, function()
    ask(cache, 1, "a", counting(20))
    event:wait()
  end)
  test.turns()
  local other = ask(cache, 1, "a", counting())[1]
  async.sleep(0)
  event:set()
  short:await()
  test.eq(other:done(), false)
  test.eq(other:await(), "a:1")
end)

test("the loader sees the context of who asked", function()
  local cache, var = Cache(), async.ContextVar "user"
  var:set "ann"
  test.eq(cache:get("a", function() return var:get() end), "ann")
end)

test("a value expires after its time", function()
  local cache, loader = Cache { ttl = 0.002 }, counting()
  test.eq(cache:get("a", loader), "a:1")
  async.sleep(0.003)
  test.eq({ cache:get "a", cache:get("a", loader) }, { nil, "a:2" })
end)

test("what has expired is dropped, though nobody asks for it", function()
  local cache = Cache { ttl = 0.001 }
  for i = 1, 100 do cache:set(i, true) end
  async.sleep(0.002)
  cache:set("new", true)
  local left = 0
  for _ in pairs(cache._entries) do left = left + 1 end
  assert(left == 1, left)
  async.sleep(0.002)
  test.eq({ cache:size(), cache:delete "new" }, { 0, false })
  cache:set("new", true)
  async.sleep(0.002)
  test.eq(cache:delete "new", false)
end)

test("with no time to live there is still one load for many", function()
  local cache, loader = Cache { ttl = 0 }, counting(3)
  local tasks = ask(cache, 3, "a", loader)
  async.wait(tasks)
  test.eq({ tasks[1]:result(), tasks[3]:result(), cache:get("a", loader) }, { "a:1", "a:1", "a:2" })
end)

test("beyond its size the cache drops what was not used for the longest time", function()
  local cache = Cache { max = 3 }
  for _, key in ipairs { "a", "b", "c" } do cache:set(key, key) end
  cache:get "a"
  cache:set("d", "d")
  test.eq({ cache:size(), cache:get "a", cache:get "c", cache:get "d" }, { 3, "a", "c", "d" })
  test.eq(cache:get "b", nil)
  cache:set("a", "A") -- takes no further place
  test.eq({ cache:size(), cache:get "c" }, { 3, "c" })
  for _, key in ipairs { "e", "f", "g" } do cache:set(key, key) end
  test.eq({ cache:size(), cache:get "a", cache:get "g" }, { 3, nil, "g" })
end)

test("what was taken out is not dropped once more", function()
  local cache = Cache { max = 2 }
  cache:set("a", 1)
  cache:delete "a"
  cache:set("b", 2)
  cache:set("a", 3)
  cache:set("c", 4)
  test.eq({ cache:size(), cache:get "a", cache:get "c" }, { 2, 3, 4 })
end)

test("set and delete change what is there", function()
  local cache = Cache()
  cache:set("a", 1)
  cache:set("a", 2)
  test.eq({ cache:get "a", cache:delete "a", cache:delete "a", cache:get "a" }, { 2, true, false })
  test.eq(cache:size(), 0)
end)

for _, case in ipairs {
  { "delete", function(cache) cache:delete "a" end, nil },
  { "clear", function(cache) cache:clear() end, nil },
  { "set", function(cache) cache:set("a", "set") end, "set" },
} do
  test("what was being loaded at a " .. case[1] .. " is not kept", function()
    local cache = Cache()
    local task = async.spawn(cache.get, cache, "a", counting(5))
    test.turns(2)
    case[2](cache)
    local later = async.spawn(cache.get, cache, "a", function() return "fresh" end)
    test.eq(later:await(), case[3] or "fresh")
    test.eq(task:await(), "a:1")
    test.eq(cache:get "a", case[3] or "fresh")
  end)
end

test("clear takes everything out", function()
  local cache = Cache { max = 2, ttl = 1000 }
  cache:set("a", 1)
  cache:set("b", 2)
  cache:clear()
  test.eq({ cache:size(), cache:get "a" }, { 0 })
  cache:set("c", 3)
  test.eq({ cache:size(), cache:get "c" }, { 1, 3 })
end)

test("a loader that asks for its own key gets an error instead of hanging", function()
  local cache = Cache()
  test.raises("InvalidStateError", cache.get, cache, "a", function(key)
    return cache:get(key, error)
  end)
  test.eq(cache:get("a", function(key) return cache:get(key .. "b", counting()) end), "ab:1")
end)

test("a deadlock report says which load is waited for", function()
  local result = test.script [[
    local async, patterns = require "rille.async", require "rille.patterns"
    local cache = patterns.Cache()
    cache:get("page", function() async.Event():wait() end)
  ]]
  test.eq(result.code, 1)
  test.contains(result.stderr, "main waits for the end of a cache's load of 'page'")
end)

test("a callback may look, but not load", function()
  local cache, done = Cache(), async.Future()
  cache:set("a", 1)
  async.call_soon(function()
    local value = cache:get("a", error)
    local ok, err = pcall(cache.get, cache, "b", counting())
    done:set_result(value, ok, tostring(err))
  end)
  local value, ok, err = done:await()
  test.eq({ value, ok }, { 1, false })
  test.contains(err, "cannot wait")
  test.eq(cache:get("b", counting()), "b:1")
end)

test("no load is lost or left over, wherever a task is cancelled", function()
  cancel_everywhere {
    setup = function() return { cache = Cache { max = 2 }, loads = 0 } end,
    body = function(s)
      local function load(key)
        s.loads = s.loads + 1
        local ok, err = pcall(test.turns, 2)
        s.loads = s.loads - 1
        if not ok then error(err, 0) end
        return key
      end
      local tasks = {}
      for i = 1, 5 do
        tasks[i] = async.spawn(function()
          for _, key in ipairs { "a", "b" } do test.eq(s.cache:get(key, load), key) end
        end)
      end
      async.wait(tasks)
    end,
    check = function(s)
      test.turns(10)
      test.eq(s.loads, 0)
      for _, key in ipairs { "a", "b" } do
        test.eq(s.cache:get(key, function() return key end), key)
      end
      test.eq(next(s.cache._loads), nil)
    end,
  }
end)

test("a wrong argument is an error at the caller's line", function()
  local function blames(part, fn) test.blames_caller(part, fn) end
  blames("'ttl' to 'Cache' (a time of at least 0 s expected, got -1)",
    function() Cache { ttl = -1 } end)
  blames("'ttl' to 'Cache' (number expected, got NaN)", function() Cache { ttl = 0 / 0 } end)
  blames("'max' to 'Cache' (at least 1 expected, got 0)", function() Cache { max = 0 } end)
  blames("unknown option 'size'", function() Cache { size = 1 } end)
  local cache = Cache()
  blames("bad argument #1 to 'get' (a key expected, got nil)", function() cache:get() end)
  blames("bad argument #1 to 'set' (a key expected, got NaN)", function() cache:set(0 / 0, 1) end)
  blames("bad argument #1 to 'delete' (a key expected, got nil)", function() cache:delete() end)
  blames("bad argument #2 to 'get' (function expected, got string)",
    function() cache:get("a", "b") end)
end)
