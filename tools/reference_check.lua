--- Compares the annotations with what is there: the methods of objects, one of each class, and the
-- options that functions take.
local async, http = require "rille.async", require "rille.http"
local net, process = require "rille.net", require "rille.process"
local fs, dns, worker = require "rille.fs", require "rille.dns", require "rille.worker"
local json, tls, patterns = require "rille.json", require "rille.tls", require "rille.patterns"
local websocket, errors = require "rille.websocket", require "rille.errors"

local function nothing() end

-- One of each class. What is made here is closed by `close_all`.
local function objects()
  local made, closers = {}, {}
  local function own(thing, close)
    closers[#closers + 1] = close or function() thing:close() end
    return thing
  end
  made.Task, made.Future = async.current_task(), async.Future()
  made.Handle = async.call_soon(nothing)
  made.Lock, made.Event, made.Condition = async.Lock(), async.Event(), async.Condition()
  made.Semaphore, made.Barrier, made.Queue = async.Semaphore(), async.Barrier(1), async.Queue()
  made.ContextVar, made.Context = async.ContextVar "x", async.copy_context()
  async.group(function(g) made.Group = g end)
  async.timeout(nil, function(scope) made.Timeout = scope end)
  made.Error = errors.new("Error", "text")
  local _, group = pcall(async.group, function() error "one" end)
  made.ErrorGroup = group

  made.File = own(fs.open "/dev/null")
  made.Process = own(process.spawn { "true", stdin = "pipe", stdout = "pipe", stderr = "pipe" })
  made.SignalHandle = own(require("rille.signal").on("SIGUSR2", nothing))
  made.Listener = own(net.listen {})
  made.UDP = own(net.udp())
  made.Stream = own(net.connect { host = "127.0.0.1", port = made.Listener:address().port })
  made.Address = made.Stream:peer()
  made.TLSContext = tls.context {}
  made.Resolver = own(dns.Resolver())
  made.WorkerPool, made.Channel = own(worker.Pool()), own(worker.Channel())

  made.Batcher = patterns.Batcher { handler = nothing }
  made.Cache, made.CircuitBreaker = patterns.Cache(), patterns.CircuitBreaker()
  made.EventBus, made.RateLimiter = patterns.EventBus(), patterns.RateLimiter { rate = 1 }
  made.GracefulShutdown = own(patterns.GracefulShutdown { signals = false })
  made.Pool = patterns.Pool { create = nothing }
  made.Transaction = patterns.transaction(nothing, nothing, nothing)

  made.App, made.Response = http.App(), http.response {}
  made.Shape = http.shape.any()
  made.App:post("/", function(req)
    made.Request = req
    for part in req:multipart() do made.Part = part end
    return 200
  end)
  made.App:websocket("/ws", function(ws) ws:recv() end)
  made.Server = own(made.App:serve {})
  made.Session = own(http.Session { base_url = "http://127.0.0.1:" .. made.Server.port })
  made.CookieJar = made.Session.cookies
  made.ClientResponse = made.Session:post("/", { multipart = { a = "1" } })
  made.Fields = made.ClientResponse.headers
  made.WebSocket = own(websocket.connect(("ws://127.0.0.1:%d/ws"):format(made.Server.port)))
  return made, function()
    for i = #closers, 1, -1 do closers[i]() end
  end
end

-- What takes which options: a call with a table of them.
local function probes(made)
  local app, session, shape = made.App, made.Session, http.shape
  return {
    ["rille.GatherOptions"] = function(o) async.gather({}, o) end,
    ["rille.MapOptions"] = function(o) async.map({}, nothing, o) end,
    ["rille.WaitOptions"] = function(o) async.wait({ made.Future }, o) end,
    ["rille.AsCompletedOptions"] = function(o) async.as_completed({ made.Future }, o) end,
    ["rille.json.DecodeOptions"] = function(o) json.decode("1", o) end,
    ["rille.json.EncodeOptions"] = function(o) json.encode(1, o) end,
    ["rille.dns.Options"] = function(o) dns.Resolver(o) end,
    ["rille.dns.LookupOptions"] = function(o) dns.lookup("localhost", o) end,
    ["rille.fs.WriteOptions"] = function(o) fs.write_file("/dev/null", "", o) end,
    ["rille.fs.RemoveOptions"] = function(o) fs.remove("/dev/null/none", o) end,
    ["rille.fs.MkdirOptions"] = function(o) fs.mkdir("/dev/null/none", o) end,
    ["rille.fs.WalkOptions"] = function(o) fs.walk("/dev/null", o) end,
    ["rille.fs.WatchOptions"] = function(o) fs.watch("/dev/null/none", o) end,
    ["rille.worker.PoolOptions"] = function(o) worker.Pool(o) end,
    ["rille.worker.MapOptions"] = function(o) made.WorkerPool:map({}, nothing, o) end,
    ["rille.net.ConnectOptions"] = function(o) net.connect(o) end,
    ["rille.net.ListenOptions"] = function(o) net.listen(o) end,
    ["rille.net.UdpOptions"] = function(o) net.udp(o) end,
    ["rille.net.ServeOptions"] = function(o) made.Listener:serve(nothing, o) end,
    ["rille.tls.Options"] = function(o) tls.context(o) end,
    ["rille.process.SpawnOptions"] = function(o) process.spawn(o) end,
    ["rille.process.RunOptions"] = function(o) process.run(o) end,
    ["rille.process.KillOptions"] = function(o) made.Process:kill("SIGTERM", o) end,
    ["rille.patterns.BatcherOptions"] = function(o) patterns.Batcher(o) end,
    ["rille.patterns.CacheOptions"] = function(o) patterns.Cache(o) end,
    ["rille.patterns.CircuitBreakerOptions"] = function(o) patterns.CircuitBreaker(o) end,
    ["rille.patterns.GracefulShutdownOptions"] = function(o) patterns.GracefulShutdown(o) end,
    ["rille.patterns.PoolOptions"] = function(o) patterns.Pool(o) end,
    ["rille.patterns.RateLimiterOptions"] = function(o) patterns.RateLimiter(o) end,
    ["rille.patterns.RetryOptions"] = function(o) patterns.retry(nothing, o) end,
    ["rille.websocket.ConnectOptions"] = function(o) websocket.connect("ws://h/", o) end,
    ["rille.websocket.BroadcastOptions"] = function(o) websocket.broadcast({}, "", o) end,
    ["rille.http.AppServeOptions"] = function(o) app:serve(o) end,
    ["rille.http.ServeOptions"] = function(o) http.serve(o) end,
    ["rille.http.RequestOptions"] = function(o) session:get("/", o) end,
    ["rille.http.SessionOptions"] = function(o) http.Session(o) end,
    ["rille.http.RouteOptions"] = function(o) app:get("/probe", nothing, o) end,
    ["rille.http.AnyRouteOptions"] = function(o) app:route("/probe", nothing, o) end,
    ["rille.http.StaticOptions"] = function(o) app:static("/probe", "/", o) end,
    ["rille.http.WebSocketOptions"] = function(o) app:websocket("/probe", nothing, o) end,
    ["rille.http.TestClientOptions"] = function(o) app:test_client(o) end,
    ["rille.http.OpenApiOptions"] = function(o) app:openapi(o) end,
    ["rille.http.ResponseOptions"] = function(o) http.response(o) end,
    ["rille.http.CookieOptions"] = function(o) made.Response:set_cookie("a", "b", o) end,
    ["rille.http.DeleteCookieOptions"] = function(o) made.Response:delete_cookie("a", o) end,
    ["rille.http.JarOptions"] = function(o) made.CookieJar:set("a", "b", o) end,
    ["rille.http.ShapeOptions"] = function(o) shape.any(o) end,
    ["rille.http.StringOptions"] = function(o) shape.string(o) end,
    ["rille.http.NumberOptions"] = function(o) shape.number(o) end,
    ["rille.http.ListOptions"] = function(o) shape.list("any", o) end,
    ["rille.http.ObjectOptions"] = function(o) shape.object({}, o) end,
    ["rille.http.MapOptions"] = function(o) shape.map("any", o) end,
  }
end

-- The tables in which a class may have its methods: those that have all that are annotated.
local function method_tables(object, known)
  local index = (debug.getmetatable(object) or {}).__index
  if type(index) == "table" then return { index } end
  local tables = {}
  for i = 1, 60 do
    local name, value = debug.getupvalue(index or nothing, i)
    if not name then break end
    local has_all = type(value) == "table" and next(known) ~= nil
    for key in pairs(has_all and known or {}) do
      if type(rawget(value, key)) ~= "function" then has_all = false end
    end
    if has_all then tables[#tables + 1] = value end
  end
  return tables
end

local function check_class(class, object, protocol, fault)
  local known, methods_known = {}, {}
  for _, method in ipairs(class.methods) do
    known[method.name], methods_known[method.name] = true, true
    if type(object[method.name]) ~= "function" then
      fault("%s:%s is annotated, but not there", class.name, method.name)
    end
  end
  for _, f in ipairs(class.doc.fields) do
    known[f.name] = true
    if f.kind:find "fun%(" and type(object[f.name]) ~= "function" then
      fault("%s:%s is annotated, but not there", class.name, f.name)
    end
  end
  for _, methods in ipairs(method_tables(object, methods_known)) do
    for name, value in pairs(methods) do
      if type(value) == "function" and type(name) == "string" and not name:find "^_"
        and not protocol[name] and not known[name] then
        fault("%s:%s has no documentation", class.name, name)
      end
    end
  end
end

-- The names that an error about an unknown option lists, and those of a record and its parents.
local function check_options(record, records, probe, fault)
  local ok, message = pcall(probe, { ["?"] = true })
  local list = not ok and tostring(message):match "unknown option '%?'; there are: (.*)%)"
  if not list then
    fault("%s: an unknown option gave no error but %s", record.name, tostring(message))
    return
  end
  local taken, named = {}, {}
  for name in list:gmatch "[%w_]+" do taken[name] = true end
  local at = record
  while at do
    for _, f in ipairs(at.doc.fields) do
      if f.name ~= "[integer]" then named[f.name] = true end
    end
    at = records[at.doc.parent]
  end
  for name in pairs(taken) do
    if not named[name] then fault("%s: the option '%s' has no annotation", record.name, name) end
  end
  for name in pairs(named) do
    if not taken[name] then fault("%s: there is no option '%s'", record.name, name) end
  end
end

---@param pages table[]  each with `classes`
---@param records table<string, table>  the tables of options
---@param protocol table<string, boolean>  methods that are not for scripts
---@param fault fun(format: string, ...)
return function(pages, records, protocol, fault)
  local made, close_all = objects()
  for _, page in ipairs(pages) do
    for _, class in ipairs(page.classes) do
      local object = made[class.name]
      if object then
        check_class(class, object, protocol, fault)
      elseif not class.doc.is_internal and not class.name:find "^rille%." then
        fault("tools/reference_check.lua makes no %s", class.name)
      end
    end
  end
  local probe_of = probes(made)
  for name, record in pairs(records) do
    if probe_of[name] then
      check_options(record, records, probe_of[name], fault)
    elseif name:find "Options$" then
      fault("tools/reference_check.lua does not try %s", name)
    end
  end
  close_all()
end
