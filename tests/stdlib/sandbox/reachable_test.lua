-- Whatever function a sandboxed script can reach by tables and metatables takes any value, and
-- fails as Lua does.
local test = require "support.test"
local sandbox = require "support.sandbox"

local WALK = [=[
local roots = { _G = _G }
for _, name in ipairs { "async", "dns", "errors", "fs", "http", "json", "net", "path", "patterns",
  "process", "signal", "stdio", "tls", "websocket", "worker" } do
  roots[name] = require("rille." .. name)
end
-- Parts of modules come when they are asked for.
for _, name in ipairs { "gather", "Lock", "timeout", "finally", "ContextVar", "run", "Queue",
  "Semaphore", "Event", "Condition", "Barrier", "group", "wait_for", "shield", "generator" } do
  assert(roots.async[name], name)
end
for _, name in ipairs { "retry", "CircuitBreaker", "RateLimiter", "Pool", "Batcher", "EventBus",
  "Cache", "transaction", "GracefulShutdown", "timed" } do
  assert(roots.patterns[name], name)
end

local listed = loadstring "return 7LL" ()
local lock, future = async.Lock(), async.Future()
local values = { nil, 3, -1, 0 / 0, 2 ^ 60, "x", "", {}, print, io.stdout, coroutine.create(print),
  lock._list, listed, require("rille.json").null, true, future, { 1, 2, x = lock }, "\0\255" }
local COUNT = 18

-- These end the program, take its output away or are not the walk's.
local skipped = {
  [os.exit] = true, [roots.process.exit] = true, [io.close] = true, [io.output] = true,
  [io.input] = true, [io.read] = true, [io.lines] = true, [print] = true, [io.write] = true,
  [error] = true, [collectgarbage] = true, [dofile] = true, [async.set_debug] = true,
  [async.set_exception_handler] = true, [io.stdout.close] = true, [io.stdout.write] = true,
  [io.stdout.setvbuf] = true, [string.rep] = true, [rawset] = true, [setmetatable] = true,
  [require] = true, [setfenv] = true,
}

local calls, found = 0, 0
local function attempt(fn, ...)
  local task = async.spawn(pcall, fn, ...)
  async.sleep(0)
  if not task:done() then
    task:cancel()
    async.sleep(0)
  end
  calls = calls + 1
  if calls % 200 == 0 then collectgarbage() end
end

local functions, seen = {}, {}
local function walk(value, depth)
  if seen[value] or depth > 8 then return end
  if type(value) == "function" then
    seen[value] = true
    if not skipped[value] then functions[#functions + 1] = value end
  elseif type(value) == "table" then
    seen[value] = true
    for key, inner in pairs(value) do
      if value ~= values then
        walk(key, depth + 1)
        walk(inner, depth + 1)
      end
    end
    local meta = getmetatable(value)
    if type(meta) == "table" then walk(meta, depth + 1) end
  end
end
walk(roots, 1)
for _, make in ipairs { "Lock", "Event", "Condition", "Queue", "PriorityQueue", "Future" } do
  walk(async[make](), 1)
end
walk(async.Semaphore(1), 1)
walk(async.spawn(print), 1)
walk(errors.new("Error", "x"), 1)
walk(roots.http.App(), 1)
walk(roots.http.Session(), 1)
walk(roots.worker.Channel(), 1)
walk(roots.patterns.EventBus(), 1)

for _, fn in ipairs(functions) do
  for i = 1, COUNT do
    attempt(fn, values[i])
    attempt(fn, values[i], values[i % COUNT + 1])
    attempt(fn, values[(i + 6) % COUNT + 1], values[i], values[i])
  end
end
io.stdout:write("called ", calls, " ", #functions, "\n")
]=]

test("no function that a script can reach crashes, whatever it is given", { limit = 6 }, function()
  local dir = test.tmpdir()
  local out = sandbox.run(WALK .. " os.exit(0)", { "--slice-limit=20" }, { cwd = dir })
  local calls, functions = out:match "called (%d+) (%d+)"
  assert(tonumber(functions) > 250 and tonumber(calls) > 10000, out:sub(-300))
end)
