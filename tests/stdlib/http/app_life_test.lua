-- Applications: what happens when something goes wrong at their beginning and end, what stands
-- between mounted ones, and clients for tests.
local async, test = require "rille.async", require "support.test"
local errors, http, json = require "rille.errors", require "rille.http", require "rille.json"
local raw = require "stdlib.http.raw"

local function say(text) return function() return text end end

-- ---- beginning and end --------------------------------------------------------------------------

local function context(log, name, fails_at)
  return async.context(function(yield)
    if fails_at == "enter" then error(name .. " cannot begin", 0) end
    log("enter", name)
    yield()
    log("leave", name)
    if fails_at == "leave" then error(name .. " cannot end", 0) end
  end)
end

test("contexts that were entered are left, the last one first, when a later one cannot begin",
  function()
    local app, log = http.App(), test.log()
    app:cleanup_ctx(context(log, "one")):cleanup_ctx(context(log, "two"))
    app:cleanup_ctx(context(log, "three", "enter")):cleanup_ctx(context(log, "four"))
    app:on_startup(function() log "start" end):on_shutdown(function() log "stop" end)
    test.raises("three cannot begin", app.serve, app)
    test.raises("three cannot begin", app.test_client, app)
    local once = { "enter one", "enter two", "leave two", "leave one" }
    for i = 1, 4 do once[4 + i] = once[i] end
    test.eq(log, once)
  end)

test("an error at the start of a mounted application ends the outer one too", function()
  local app, inner, log = http.App(), http.App(), test.log()
  app:cleanup_ctx(context(log, "outer"))
  inner:cleanup_ctx(context(log, "inner"))
  inner:on_startup(function() error("no database", 0) end)
  app:mount("/in", inner)
  test.raises("no database", app.serve, app)
  test.eq(log, { "enter outer", "enter inner", "leave inner", "leave outer" })
end)

test("whatever fails at the end, the rest is done, and all errors are reported", function()
  local app, inner, log = http.App(), http.App(), test.log()
  app:cleanup_ctx(context(log, "one", "leave")):cleanup_ctx(context(log, "two"))
  app:cleanup_ctx(context(log, "three", "leave"))
  app:on_shutdown(function() error("stop one", 0) end):on_shutdown(function() log "stop two" end)
  inner:on_shutdown(function() log "stop inner" end)
  inner:on_shutdown(function() error("stop three", 0) end)
  app:mount("/in", inner)
  local server = app:serve()
  server:close()
  test.eq(log, { "enter one", "enter two", "enter three", "stop two", "stop inner", "leave three",
    "leave two", "leave one" })
  local reports = test.reports()
  test.eq(#reports, 2)
  local function messages(report)
    assert(errors.is(report.error, "ErrorGroup"), tostring(report.error))
    return { tostring(report.error.errors[1]), tostring(report.error.errors[2]) }
  end
  test.eq(messages(reports[1]), { "stop one", "stop three" })
  test.eq(messages(reports[2]), { "three cannot end", "one cannot end" })
end)

test("a context that is none is named", function()
  local app = http.App()
  app:cleanup_ctx(function() return nil end)
  local e = test.raises("InvalidStateError", app.serve, app)
  test.contains(e.message, "cleanup_ctx: what can be entered and left expected")
  -- Whatever async.with takes will do.
  app = http.App()
  local log = test.log()
  app:cleanup_ctx(function(own)
    log(own == app)
    return { close = function() log "closed" end }
  end)
  app:serve():close()
  test.eq(log, { "true", "closed" })
end)

test("what starts in a context ends with the application, and sees its values", function()
  local app, log = http.App(), test.log()
  app:cleanup_ctx(async.context(function(yield, own)
    own.ticks = async.Queue()
    local task = async.spawn(function()
      for tick in own.ticks:iter() do log("tick", tick) end
    end)
    yield()
    own.ticks:shutdown()
    task:await()
    log "drained"
  end))
  app:get("/{n}", function(req)
    req.app.ticks:put(req.params.n)
    return 204
  end)
  async.with(app:test_client(), function(client)
    for n = 1, 3 do client:get("/" .. n) end
  end)
  test.eq(log, { "tick 1", "tick 2", "tick 3", "drained" })
end)

-- ---- mounts -------------------------------------------------------------------------------------

test("values are looked for from the inner application outwards, nil and false are kept apart",
  function()
    local outer, middle, inner = http.App(), http.App(), http.App()
    outer.a, outer.b, outer.c, middle.b, inner.c = 1, 1, 1, 2, false
    outer:mount("/m", middle)
    middle:mount("/i", inner)
    inner:get("/", function(req)
      local app = req.app
      return { app.a, app.b, app.c == false, app.d == nil }
    end)
    async.with(outer:test_client(), function(client)
      test.eq(client:get("/m/i/"):json(), { 1, 2, true, true })
      outer.d = 4
      test.eq(client:get("/m/i"):json(), { 1, 2, true, false })
    end)
  end)

test("outer middleware sees the outer application, before and after the inner one", function()
  local outer, inner, log = http.App(), http.App(), test.log()
  outer.name, inner.name = "outer", "inner"
  local function note(req, next)
    log(req.app.name)
    local ok, response = pcall(next, req)
    log(req.app.name, ok)
    return ok and response or 500
  end
  outer:use(note)
  inner:use(note)
  inner:get("/", function(req) return req.app.name end)
  inner:get("/error", function() error "inside" end)
  outer:mount("/in", inner)
  async.with(outer:test_client(), function(client)
    test.eq(client:get("/in/"):text(), "inner")
    test.eq(client:get("/in/error").status, 500)
  end)
  test.eq(log, { "outer", "inner", "inner true", "outer true", "outer", "inner", "inner false",
    "outer true" })
end)

test("Allow names the methods of both, where an outer route stands at an inner one's path",
  function()
    local outer, inner = http.App(), http.App()
    outer:post("/api/x", say "outer")
    inner:get("/x", say "inner")
    outer:mount("/api", inner)
    async.with(outer:test_client(), function(client)
      test.eq({ client:get("/api/x"):text(), client:post("/api/x"):text() }, { "inner", "outer" })
      local response = client:put "/api/x"
      test.eq({ response.status, response.headers.allow }, { 405, "GET, HEAD, OPTIONS, POST" })
      response = client:options "/api/x"
      test.eq({ response.status, response.headers.allow }, { 204, "GET, HEAD, OPTIONS, POST" })
      test.eq(client:head("/api/x").status, 200)
    end)
  end)

test("OPTIONS * names all methods that there are", function()
  local app, inner = http.App(), http.App()
  app:get("/", say "x"):post("/", say "x")
  inner:patch("/", say "x")
  app:mount("/in", inner)
  local server = app:serve()
  test.defer(function() server:close(0) end)
  local answer = raw.answer(server.port, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
  test.matches(answer, "^HTTP/1.1 204 ")
  test.contains(answer, "Allow: GET, HEAD, OPTIONS, PATCH, POST\r\n")
  test.matches(raw.answer(server.port, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"), "^HTTP/1.1 40")
end)

test("a parameter that stands in a prefix and in a route below it is an error", function()
  local function ok() return 200 end
  local outer, inner, deep = http.App(), http.App(), http.App()
  deep:get("/{id}", ok)
  inner:mount("/deep", deep)
  test.blames_caller("the parameter 'id' stands in /{id} as well",
    function() outer:mount("/{id}", inner) end)
  outer:mount("/u/{user}", inner)
  test.blames_caller("the parameter 'user' stands in the prefix /u/{user} as well",
    function() deep:get("/x/{user}", ok) end)
  test.blames_caller("the parameter 'user' stands in the prefix /u/{user} as well",
    function() inner:mount("/{user}", http.App()) end)
  deep:get("/x/{other}", ok)
end)

test("files below a mounted application, and redirects to its folders", function()
  local dir = test.tmpdir()
  os.execute("mkdir -p " .. dir .. "/sub")
  test.write(dir .. "/a.txt", "A")
  test.write(dir .. "/sub/index.html", "index")
  local outer, inner = http.App(), http.App()
  inner:static("/files", dir)
  outer:mount("/in/{who}", inner)
  async.with(outer:test_client(), function(client)
    test.eq(client:get("/in/x/files/a.txt"):text(), "A")
    local response = client:get("/in/x/files/sub", { redirects = 0 })
    test.eq({ response.status, response.headers.location }, { 301, "/in/x/files/sub/" })
    test.eq(client:get("/in/x/files/sub"):text(), "index")
    test.eq(client:get("/in/x/files/../../a.txt").status, 404)
  end)
end)

test("a route that was refused is not half there", function()
  local app = http.App()
  app:get("/x", say "first")
  pcall(app.route, app, "/x", say "second", { methods = { "POST", "GET" } })
  pcall(app.post, app, "/x", say "third", { request = { a = "nonsense" } })
  async.with(app:test_client(), function(client)
    test.eq({ client:get("/x"):text(), client:post("/x").status }, { "first", 405 })
  end)
end)

test("middleware that forgets something is named in the log", function()
  local app, forgets = http.App(), nil
  app:use(function(req, next)
    if forgets == "return" then
      next(req)
    elseif forgets == "request" then
      return next()
    else
      return next(req)
    end
  end)
  local line = debug.getinfo(1, "l").currentline - 9
  app:get("/", say "x")
  async.with(app:test_client(), function(client)
    test.eq(client:get("/"):text(), "x")
    forgets = "return"
    test.eq(client:get("/").status, 500)
    forgets = "request"
    test.eq(client:get("/").status, 500)
  end)
  local reports = test.reports()
  test.matches(tostring(reports[1].error),
    "the middleware at .*app_life_test.lua:" .. line .. " returned nothing")
  test.contains(tostring(reports[2].error), "bad argument #1 to 'next' (the request expected")
end)

-- ---- clients for tests --------------------------------------------------------------------------

test("a test client streams both ways, takes events, and sees errors as clients do", function()
  local app = http.App()
  app:post("/upper", function(req)
    local chunks = req:chunks()
    return http.response { stream = function()
      local chunk = chunks()
      return chunk and chunk:upper()
    end }
  end)
  app:get("/events", function()
    local n = 0
    return http.response { sse = function()
      n = n + 1
      return n <= 3 and { data = "event " .. n, id = n } or nil
    end }
  end)
  app:get("/broken", function() error "not for others" end)
  async.with(app:test_client(), function(client)
    local n = 0
    local response = client:post("/upper", { body = function()
      n = n + 1
      return n <= 3 and "part " .. n .. ";" or nil
    end, stream = true })
    local parts = {}
    for chunk in response:chunks() do parts[#parts + 1] = chunk end
    test.eq(table.concat(parts), "PART 1;PART 2;PART 3;")
    test.contains(client:get("/events"):text(), "id: 3\ndata: event 3")
    response = client:get "/broken"
    test.eq({ response.status, response:text() }, { 500, "Internal Server Error" })
  end)
  test.contains(tostring(test.reports()[1].error), "not for others")
end)

test("a test client opens WebSockets, with its cookies, headers and credentials", function()
  local app = http.App()
  app:get("/login", function()
    return http.response { body = "in" }:set_cookie("session", "s1")
  end)
  app:websocket("/live", function(ws, req)
    ws:send(json.encode { req.cookies.session or "none", req.headers["x-a"] or "none",
      req.headers.authorization or "none", req.query.q or "none", ws.subprotocol or "none" })
    for message in ws:messages() do ws:send(message:upper()) end
  end, { subprotocols = { "v1" } })
  async.with(app:test_client { headers = { ["X-A"] = "1" }, auth = { bearer = "t" } },
    function(client)
      client:get "/login"
      local ws = client:websocket("/live?q=7", { subprotocols = { "v1" } })
      test.eq(json.decode((ws:recv())), { "s1", "1", "Bearer t", "7", "v1" })
      ws:send "hello"
      test.eq(ws:recv(), "HELLO")
      ws:close()
      test.eq(test.raises("HTTPError", client.websocket, client, "/nowhere").status, 404)
    end)
end)

test("applications for tests leave nothing open", function()
  local before = raw.open_files()
  local app = http.App()
  app:get("/", say "x")
  for _ = 1, 20 do
    async.with(app:test_client(), function(client) client:get "/" end)
  end
  raw.open_files(before)
end)
