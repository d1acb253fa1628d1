-- Private fields of objects are fields of tables, which any script can write: only Lua errors may
-- come of it. Each kind of object has a process of its own, in which a crash is a signal.
local test = require "support.test"

local OF_ONE_KIND = [=[
local kind, dir = ...
local async, fs, net = require "rille.async", require "rille.fs", require "rille.net"
local patterns, http, process = require "rille.patterns", require "rille.http",
  require "rille.process"
local worker = require "rille.worker"

local function connection()
  local listener = net.listen {}
  return net.connect { host = "127.0.0.1", port = listener:address().port }, listener
end

local makers = {
  Lock = async.Lock,
  Event = async.Event,
  Condition = async.Condition,
  Future = async.Future,
  Semaphore = function() return async.Semaphore(1) end,
  Barrier = function() return async.Barrier(2) end,
  Queue = function() return async.Queue(1) end,
  PriorityQueue = function() return async.PriorityQueue(1) end,
  LifoQueue = function() return async.LifoQueue(1) end,
  Task = function() return async.spawn(async.sleep, 0.001) end,
  done = function()
    local ended = async.spawn(function() end)
    ended:await()
    return ended
  end,
  Handle = function() return async.call_later(0.001, function() end) end,
  generator = function() return async.generator(function(yield) yield(1) end)() end,
  File = function() return fs.open(dir .. "/file", "w+") end,
  lines = function() return (fs.open(dir .. "/text"):lines()) end,
  Watch = function() return fs.watch(dir) end,
  scandir = function() return fs.scandir(dir) end,
  walk = function() return fs.walk(dir) end,
  Stream = function() return (connection()) end,
  Listener = function() return (select(2, connection())) end,
  Udp = function() return net.udp { host = "127.0.0.1" } end,
  Resolver = function()
    return require("rille.dns").Resolver { servers = { "127.0.0.1:9" } }
  end,
  Process = function() return process.spawn { "cat", stdin = "pipe", stdout = "pipe" } end,
  Session = function() return http.Session() end,
  RateLimiter = function() return patterns.RateLimiter { rate = 10 } end,
  Pool = function() return worker.Pool { size = 1 } end,
  Channel = function() return worker.Channel() end,
  Error = function() return require("rille.errors").new("Error", "x") end,
}
local make = makers[kind]

local function is_code(key, value) return type(value) == "function" and key ~= "__gc" end

local function methods_of(object)
  local list, seen = {}, {}
  local function add(t)
    if type(t) ~= "table" or seen[t] then return end
    seen[t] = true
    for key, value in pairs(t) do
      if is_code(key, value) then list[#list + 1] = { tostring(key), value } end
    end
    add(debug.getmetatable(t))
    add(rawget(t, "__index"))
  end
  add(debug.getmetatable(object))
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

local lock, file = async.Lock(), fs.open(dir .. "/other", "w")
local values = { nil, 3, "x", {}, io.stdout, lock._list, file._handle, (connection()) }
local VALUES = 8

local calls = 0
local function attempt(method, ...)
  local task = async.spawn(pcall, method, ...)
  async.sleep(0)
  async.sleep(0)
  if not task:done() then
    task:cancel()
    async.sleep(0)
  end
  calls = calls + 1
  if calls % 40 == 0 then collectgarbage() end
end

local methods = methods_of(make())
for _, method in ipairs(methods) do
  for i = 1, VALUES do
    attempt(method[2], values[i])
    attempt(method[2], values[i], "x", 1)
  end
end

-- The fields of an object, and of the tables in it. What List has as its head would be walked for
-- ever, by Lua that a time limit stops.
local function paths_of(object)
  local paths = {}
  for key, value in pairs(object) do
    paths[#paths + 1] = { key }
    if type(value) == "table" and key ~= "_maker" then
      local n = 0
      for inner in pairs(value) do
        n = n + 1
        if n <= 12 and inner ~= "head" then paths[#paths + 1] = { key, inner } end
      end
    end
  end
  return paths
end

local WAITING = { acquire = true, get = true, wait = true, read = true, await = true }

local function try(path, value)
  local object = make()
  local owner = path[2] == nil and object or object[path[1]]
  local waiting = {}
  for _, method in ipairs(methods) do
    if WAITING[method[1]] then
      for _ = 1, 2 do waiting[#waiting + 1] = async.spawn(pcall, method[2], object) end
    end
  end
  async.sleep(0)
  rawset(owner, path[#path], value)
  collectgarbage "step"
  for _, method in ipairs(methods) do
    attempt(method[2], object)
    attempt(method[2], object, "x", 1)
  end
  for _, task in ipairs(waiting) do task:cancel() end
  async.sleep(0)
end

local first = make()
if type(first) == "table" then
  for _, path in ipairs(paths_of(first)) do
    for i = 1, VALUES do try(path, values[i]) end
  end
end
collectgarbage()
collectgarbage()
print("called", calls)
process.exit(0)
]=]

local function run(code, args)
  local result = test.script(code, { args = args })
  test.eq({ result.signal, result.code }, { nil, 0 }, result.stderr:sub(-2000))
  return result.stdout
end

for kind in OF_ONE_KIND:match("local makers = (%b{})"):gmatch "\n  (%w+) = " do
  test("nothing that a script does to the fields of one crashes: " .. kind, { limit = 3 },
    function()
      local dir = test.tmpdir()
      test.write(dir .. "/text", "a line\n")
      assert(os.execute(("mkdir '%s/folder'"):format(dir)) == 0)
      test.matches(run(OF_ONE_KIND, { kind, dir }), "called\t%d+")
    end)
end

test("who waits is not left in a list that is gone", function()
  test.eq(run [[
    local async = require "rille.async"
    local function wait_in(lock) lock:acquire() end
    local function wait_inside(lock) coroutine.wrap(wait_in)(lock) end
    for _, wait in ipairs { wait_in, wait_inside } do
      local lock = async.Lock()
      lock:acquire()
      local task = async.spawn(wait, lock)
      async.sleep(0)
      lock._list = nil
      for _ = 1, 3 do collectgarbage() end
      for _ = 1, 1000 do async.Lock() end
      task:cancel()
      print(pcall(task.await, task))
    end
    print "ended"
  ]]:match "ended", "ended")
end)

test("an object that is gone for the collector is none any more for who still finds it", function()
  run [[
    local net, async = require "rille.net", require "rille.async"
    local listener = net.listen {}
    local weak = setmetatable({}, { __mode = "k" })
    local file = require("rille.fs").open("/dev/null")
    weak[file._handle] = true
    for _ = 1, 20 do
      weak[net.connect { host = "127.0.0.1", port = listener:address().port }] = true
    end
    file._handle = nil
    for _ = 1, 100 do
      collectgarbage("step", 10)
      for object in pairs(weak) do
        pcall(function() return object:name() end)
        file._handle = object
        pcall(file.stat, file)
        file._handle = nil
      end
      if next(weak) == nil then break end
      async.sleep(0)
    end
    require("rille.process").exit(0)
  ]]
end)
