-- Private fields of objects are fields of tables, which any script can write: only Lua errors may
-- come of it. Each kind of object has a process of its own, in which a crash is a signal.
local test = require "support.test"

local OF_ONE_KIND = [=[
local kind, dir = ...
local has_http2 = pcall(require, "rille.core.http2")
local async, fs, net = require "rille.async", require "rille.fs", require "rille.net"
local patterns, http, process = require "rille.patterns", require "rille.http",
  require "rille.process"
local worker = require "rille.worker"
local websocket, signal = require "rille.websocket", require "rille.signal"

-- One server for all that needs one; what its handlers get is kept alive for a while.
local server, base, session, given
local function serve()
  if server then return end
  local app = http.App()
  app:get("/", function() return "x" end)
  app:post("/keep", function(req)
    given:set_result(req)
    async.sleep(0.05)
    return "kept"
  end)
  app:websocket("/ws", function(ws)
    if given and not given:done() then given:set_result(ws) end
    async.sleep(0.05)
  end)
  server = app:serve { http2 = has_http2 }
  base = "127.0.0.1:" .. server.port
  session = http.Session()
end

local function response(options)
  serve()
  return session:get("http://" .. base .. "/", options)
end

local MULTIPART = { body = '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n',
  headers = { ["Content-Type"] = "multipart/form-data; boundary=b" } }

-- What the server's handler was given.
local function request(path, options)
  serve()
  given = async.Future()
  local own = given
  if path == "/ws" then
    async.spawn(pcall, websocket.connect, "ws://" .. base .. path)
  else
    async.spawn(pcall, session.post, session, "http://" .. base .. path, options or { body = "x" })
  end
  local came, value = async.move_on_after(1, function() return own:await() end)
  if not came then
    server = nil -- it has something that was tampered with
    error "no request came"
  end
  return value
end

local function connection()
  local listener = net.listen {}
  return net.connect { host = "127.0.0.1", port = listener:address().port }, listener
end

-- Prints the names of the classes of all objects, and of those in them.
local function name_all(all)
  local seen = {}
  local function walk(value, depth)
    local is_object = type(value) == "table" or type(value) == "userdata"
    if depth > 6 or not is_object or seen[value] then return end
    seen[value] = true
    local meta = debug.getmetatable(value)
    if type(meta) == "table" and rawget(meta, "__name") then print("class", meta.__name) end
    walk(meta, depth + 1)
    if type(value) == "table" then
      for key, inner in next, value do
        walk(key, depth + 1)
        walk(inner, depth + 1)
      end
    end
  end
  for name, make in pairs(all) do
    local ok, object = pcall(make)
    print(name, ok, object)
    walk(object, 1)
  end
  process.exit(0)
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
  context = function()
    return async.context(function()
      return function(yield) yield(1) end
    end)()
  end,
  ContextVar = function() return async.ContextVar("x") end,
  Token = function() return async.ContextVar("x"):set(1) end,
  Context = function() return async.copy_context() end,
  Group = function()
    local group
    async.spawn(async.group, function(g)
      group = g
      async.sleep(0.001)
    end)
    async.sleep(0)
    return group
  end,
  Timeout = function()
    local scope
    async.spawn(async.timeout, 1, function(t)
      scope = t
      async.sleep(0.001)
    end)
    async.sleep(0)
    return scope
  end,
  File = function() return fs.open(dir .. "/file", "w+") end,
  lines = function() return (fs.open(dir .. "/text"):lines()) end,
  chunks = function() return (fs.open(dir .. "/text"):chunks(2)) end,
  Watch = function() return fs.watch(dir) end,
  scandir = function() return fs.scandir(dir) end,
  glob = function() return (fs.iglob or fs.glob)(dir .. "/*") end,
  walk = function() return fs.walk(dir) end,
  Stream = function() return (connection()) end,
  stream_lines = function() return ((connection()):lines()) end,
  Address = function() return (select(2, connection())):address() end,
  Listener = function() return (select(2, connection())) end,
  Udp = function() return net.udp { host = "127.0.0.1" } end,
  Resolver = function()
    return require("rille.dns").Resolver { servers = { "127.0.0.1:9" } }
  end,
  Process = function() return process.spawn { "cat", stdin = "pipe", stdout = "pipe" } end,
  Session = function() return http.Session() end,
  App = function()
    local app = http.App()
    app:get("/{id}", print)
    return app
  end,
  Server = function() return http.serve { handler = print } end,
  test_client = function()
    serve()
    return http.App():test_client()
  end,
  Shape = function() return http.shape.integer { min = 1 } end,
  HTTPResponse = function() return http.response { body = "x", headers = { a = "b" } } end,
  Response = function() return response() end,
  streamed = function() return response { stream = true } end,
  iterated = function() return (response { stream = true }:chunks()) end,
  fields = function() return response().headers end,
  over_http2 = function()
    if not has_http2 then return {} end
    serve()
    local own = http.Session { http2 = "prior" }
    local got = own:get("http://" .. base .. "/", { stream = true })
    own:close()
    return got
  end,
  Request = function() return request "/keep" end,
  request_chunks = function() return (request "/keep":chunks()) end,
  Parts = function() return (request("/keep", MULTIPART):multipart()) end,
  Part = function() return (request("/keep", MULTIPART):multipart()()) end,
  part_chunks = function() return (request("/keep", MULTIPART):multipart()():chunks()) end,
  CookieJar = function() return http.Session { cookies = { a = "b" } }.cookies end,
  WebSocket = function()
    serve()
    return websocket.connect("ws://" .. base .. "/ws")
  end,
  messages = function()
    serve()
    return (websocket.connect("ws://" .. base .. "/ws"):messages())
  end,
  accepted = function() return request "/ws" end,
  TLSContext = function()
    local ok, tls = pcall(require, "rille.tls")
    return ok and tls.context {} or {}
  end,
  SignalHandle = function() return signal.on("SIGUSR1", print) end,
  CircuitBreaker = function() return patterns.CircuitBreaker {} end,
  Batcher = function()
    return patterns.Batcher { handler = function(list) return list end, max_delay = 0.001 }
  end,
  EventBus = function() return patterns.EventBus() end,
  Cache = function() return patterns.Cache { ttl = 1 } end,
  ResourcePool = function()
    return patterns.Pool { size = 1, create = function() return {} end }
  end,
  GracefulShutdown = function() return patterns.GracefulShutdown {} end,
  Transaction = function()
    return patterns.transaction(function() end, function() end, function() end)
  end,
  RateLimiter = function() return patterns.RateLimiter { rate = 10 } end,
  Pool = function() return worker.Pool { size = 1 } end,
  Channel = function() return worker.Channel() end,
  ErrorGroup = function()
    return select(2, pcall(async.group, function(g) g:spawn(error, "x") end))
  end,
  Cancelled = function()
    local task = async.spawn(function() return select(2, pcall(async.sleep, 1)) end)
    async.sleep(0)
    task:cancel()
    return task[10].cancel
  end,
  array = function() return require("rille.json").array {} end,
  object = function() return require("rille.json").object {} end,
  Error = function() return require("rille.errors").new("Error", "x") end,
}
local make = makers[kind]
if kind == "names" then return name_all(makers) end

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
    if type(value) == "table" and key ~= "_maker" and key ~= "by" then
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
  local made, object = pcall(make)
  if not made then return end -- what it is made of was tampered with
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
if kind == "Server" then -- one that cannot count its connections waits for them for ever
  io.stdout:flush()
  local ffi = require "ffi"
  ffi.cdef "void _exit(int);"
  ffi.C._exit(0)
end
process.exit(0)
]=]

local function run(code, args)
  local result = test.script(code, { args = args })
  test.eq({ result.signal, result.code }, { nil, 0 }, result.stderr:sub(-2000))
  return result.stdout
end

for kind in OF_ONE_KIND:match("local makers = (%b{})"):gmatch "\n  ([%w_]+) = " do
  test("nothing that a script does to the fields of one crashes: " .. kind, { limit = 3 },
    function()
      local dir = test.tmpdir()
      test.write(dir .. "/text", "a line\n")
      assert(os.execute(("mkdir '%s/folder'"):format(dir)) == 0)
      test.matches(run(OF_ONE_KIND, { kind, dir }), "called\t%d+")
    end)
end

-- Those that no script can get.
local HIDDEN = {
  Unwind = true, -- goes through the body of a generator, where nothing catches it
}

test("no class is missing above that a script can get an object of", function()
  local dir = test.tmpdir()
  test.write(dir .. "/text", "a line\n")
  local there, out = {}, run(OF_ONE_KIND, { "names", dir })
  for name in out:gmatch "class\t([^\n]+)" do there[name] = true end
  test.eq(out:match "[^\n]*\tfalse\t[^\n]*", nil)
  local found = 0
  for path in io.popen("find stdlib -name '*.lua'"):lines() do
    for name in test.read(path):gmatch '__name = "([^"]+)"' do
      found = found + 1
      if not there[name] and not HIDDEN[name] then
        error(("of the class '%s' in %s there is no object here"):format(name, path))
      end
    end
  end
  assert(found > 50)
end)

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
