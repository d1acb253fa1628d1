-- Applications: routes, middleware, state, beginning and end.
local async, test = require "rille.async", require "support.test"
local http = require "rille.http"
local raw = require "stdlib.http.raw"

-- Serves an application for this test alone.
local function serve(app, options)
  local server = app:serve(options)
  test.defer(function() server:close(0) end)
  return server.port, server
end

local function ask(port, line, headers)
  local peer = raw.connect(port):send(line .. " HTTP/1.1\r\nHost: a\r\n" .. (headers or "")
    .. "Connection: close\r\n\r\n")
  local text = peer:read_all()
  peer:close()
  local head, body = text:match "^(.-)\r\n\r\n(.*)$"
  return tonumber(text:match "^HTTP/1.1 (%d+)"), body, head
end

local function body_of(port, line)
  local _, body = ask(port, line)
  return body
end
local function get(port, path) return body_of(port, "GET " .. path) end
local function status(port, line) return (ask(port, line)) end

local function say(text) return function() return text end end

-- ---- routes -------------------------------------------------------------------------------------

test("what is written out comes before a parameter, and that before the rest", function()
  local app = http.App()
  app:get("/{path...}", function(req) return "rest " .. req.params.path end)
  app:get("/a/{id}", function(req) return "id " .. req.params.id end)
  app:get("/a/b", say "b")
  app:get("/a/{id}/c", function(req) return "c of " .. req.params.id end)
  app:get("/", say "root")
  local port = serve(app)
  test.eq({ get(port, "/"), get(port, "/a/b"), get(port, "/a/x"), get(port, "/a/b/c"),
    get(port, "/a/b/d"), get(port, "/x"), get(port, "/a/"), get(port, "/a") },
    { "root", "b", "id x", "c of b", "rest a/b/d", "rest x", "rest a/", "rest a" })
end)

test("segments are split as they were sent, and decoded once", function()
  local app = http.App()
  app:get("/i/{id}", function(req) return "[" .. req.params.id .. "]" .. req.path end)
  app:get("/f/{path...}", function(req) return "[" .. req.params.path .. "]" end)
  app:get("/käse", say "cheese")
  local port = serve(app)
  test.eq(get(port, "/i/a%2Fb"), "[a/b]/i/a/b")
  test.eq(get(port, "/i/%252F"), "[%2F]/i/%2F")
  test.eq(get(port, "/i/a+b%20c?x=/y"), "[a+b c]/i/a+b c")
  test.eq(get(port, "/f/"), "[]")
  test.eq(get(port, "/f/a/b%20c/"), "[a/b c/]")
  test.eq(get(port, "/k%C3%A4se"), "cheese")
  test.eq({ status(port, "GET /f"), status(port, "GET /i/"), status(port, "GET /i/a/"),
    status(port, "GET /i"), status(port, "GET /i/%00"), status(port, "GET /i/%ff"),
    status(port, "GET /i/%2") }, { 404, 404, 404, 404, 400, 400, 400 })
end)

test("methods: HEAD by GET, OPTIONS and 405 with Allow, 501 for what nobody knows", function()
  local app = http.App()
  app:get("/x", say "got"):post("/x", say "posted"):delete("/{any}", say "deleted")
  app:route("/all", function(req) return req.method end)
  app:route("/some", function(req) return req.method end, { methods = { "put", "PATCH" } })
  local port = serve(app)
  local code, body, head = ask(port, "HEAD /x")
  test.eq({ code, body }, { 200, "" })
  test.contains(head, "Content-Length: 3")
  code, body, head = ask(port, "PUT /x")
  test.eq({ code, body }, { 405, "Method Not Allowed" })
  test.contains(head, "\r\nAllow: DELETE, GET, HEAD, OPTIONS, POST")
  code, body, head = ask(port, "OPTIONS /x")
  test.eq({ code, body }, { 204, "" })
  test.contains(head, "\r\nAllow: DELETE, GET, HEAD, OPTIONS, POST")
  -- The literal has no DELETE, so the parameter answers.
  test.eq(select(2, ask(port, "DELETE /x")), "deleted")
  test.eq({ body_of(port, "PATCH /all"), body_of(port, "OPTIONS /all") },
    { "PATCH", "OPTIONS" })
  test.eq({ body_of(port, "PATCH /some"), status(port, "GET /some") }, { "PATCH", 405 })
  test.eq({ status(port, "BREW /x"), status(port, "OPTIONS *"), status(port, "PUT /no/where") },
    { 501, 204, 404 })
end)

test("wrong routes are named", function()
  local app = http.App()
  local function ok() return 200 end
  app:get("/a/{id}", ok)
  test.blames_caller("there is a route for GET /a/{name} already: /a/{id}",
    function() app:get("/a/{name}", ok) end)
  app:post("/a/{id}", ok)
  test.blames_caller("does not begin with '/'", function() app:get("a", ok) end)
  test.blames_caller("'/a?b': a path has no '?'", function() app:get("/a?b", ok) end)
  test.blames_caller("a path has no '#'", function() app:mount("/a#b", http.App()) end)
  test.blames_caller("a path has no control characters", function() app:get("/a\n", ok) end)
  test.blames_caller("'BREW' is no method that the server takes",
    function() app:route("/brew", ok, { methods = { "GET", "BREW" } }) end)
  test.blames_caller("behind the wildcard", function() app:get("/{a...}/b", ok) end)
  test.blames_caller("neither text nor a parameter", function() app:get("/x{a}", ok) end)
  test.blames_caller("two parameters are named 'a'", function() app:get("/{a}/{a}", ok) end)
  test.blames_caller("function expected, got nil", function() app:get("/q") end)
  test.blames_caller("unknown option 'max_boddy'",
    function() app:get("/q", ok, { max_boddy = 1 }) end)
  test.blames_caller("bad argument 'methods'",
    function() app:route("/q", ok, { methods = { "A B" } }) end)
  app:mount("/m", http.App())
  test.blames_caller("there is something at /m already",
    function() app:mount("/m", http.App()) end)
  test.blames_caller("it would stand in itself", function() app:mount("/n", app) end)
  test.blames_caller("unknown option 'handler'", function() app:serve { handler = ok } end)
  test.blames_caller("App expected, got nil", function() http.App().get(nil, "/", ok) end)
end)

test("a thousand routes are as good as one", function()
  local app = http.App()
  for i = 1, 1000 do app:get("/r" .. i .. "/{id}", function(req) return i .. req.params.id end) end
  local port = serve(app)
  test.eq({ get(port, "/r1/x"), get(port, "/r1000/y"), status(port, "GET /r1001/z") },
    { "1x", "1000y", 404 })
end)

test("a route's own limit of the body, larger or smaller", function()
  local app = http.App()
  app:post("/small", function(req) return tostring(#req:body()) end, { max_body_bytes = 3 })
  app:post("/large", function(req) return tostring(#req:body()) end,
    { max_body_bytes = 100, max_collect_bytes = 50 })
  app:post("/usual", function(req) return tostring(#req:body()) end)
  app:post("/unread", function() return "did not look" end, { max_body_bytes = 3 })
  local port = serve(app, { max_body_bytes = 10 })
  local function post(path, n, chunked)
    local peer = raw.connect(port):send("POST " .. path .. " HTTP/1.1\r\nHost: a\r\n")
    if chunked then
      peer:send(("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"):format(n, ("x"):rep(n)))
    else
      peer:send(("Content-Length: %d\r\n\r\n%s"):format(n, ("x"):rep(n)))
    end
    return tonumber(peer:read_response():match "^HTTP/1.1 (%d+)")
  end
  for _, chunked in ipairs { false, true } do
    test.eq({ post("/small", 3, chunked), post("/small", 4, chunked), post("/large", 50, chunked),
      post("/large", 51, chunked), post("/large", 101, chunked), post("/usual", 10, chunked),
      post("/usual", 11, chunked) }, { 200, 413, 200, 413, 413, 200, 413 })
  end
  test.eq(post("/unread", 4), 413)
end)

-- ---- middleware ---------------------------------------------------------------------------------

test("middleware: the first is outermost, and runs for 404 and 405 too", function()
  local app, log = http.App(), test.log()
  local function note(name)
    return function(req, next)
      log(name, "in")
      local response = next(req)
      log(name, "out", response.status)
      response.headers["X-" .. name] = "yes"
      return response
    end
  end
  app:use(note "A"):use(note "B")
  app:get("/", say "hello")
  app:get("/list", function() return 201, "x", { { "X-List", "1" } } end)
  app:get("/abort", function() http.abort(418, "no") end)
  app:get("/table", function() return { a = 1 } end)
  local port = serve(app)
  local code, body, head = ask(port, "GET /")
  test.eq({ code, body }, { 200, "hello" })
  test.contains(head, "Content-Type: text/plain; charset=utf-8")
  test.contains(head, "X-A: yes\r\nX-B: yes")
  test.eq(log, { "A in", "B in", "B out 200", "A out 200" })
  code, body, head = ask(port, "GET /list")
  test.eq({ code, body }, { 201, "x" })
  test.contains(head, "X-List: 1\r\nX-A: yes\r\nX-B: yes")
  test.eq((ask(port, "GET /nowhere")), 404)
  test.eq((ask(port, "POST /")), 405)
  test.eq((select(2, ask(port, "GET /abort"))), "no")
  test.eq(log[#log], "A out 418")
  test.eq(get(port, "/table"), '{"a":1}')
end)

test("middleware may answer by itself, change the request's handling, and catch errors", function()
  local app = http.App()
  app:use(function(req, next)
    local ok, response = pcall(next, req)
    if ok then return response end
    return 500, "caught: " .. tostring(response):gsub("^.-: ", "")
  end)
  app:use(function(req, next)
    if req.path == "/closed" then return 403 end
    if req.path == "/aborted" then http.abort(401) end
    return next(req)
  end)
  app:get("/error", function() error "secret" end)
  local port = serve(app)
  test.eq((ask(port, "GET /closed")), 403)
  test.eq((ask(port, "GET /aborted")), 401)
  test.eq(get(port, "/error"), "caught: secret")
end)

test("an error under middleware is reported with the place where it was raised", function()
  local app = http.App()
  app:use(function(req, next) return next(req) end)
  app:get("/", function() error "broken" end)
  local port = serve(app)
  test.eq((ask(port, "GET /")), 500)
  local report = test.reports()[1]
  test.contains(tostring(report.error), "broken")
  test.matches(report.traceback, "app_test.lua:%d+: in function")
end)

test("a connection may change its protocol behind middleware", function()
  local app = http.App()
  app:use(function(req, next) return next(req) end)
  app:get("/up", function(req)
    local stream = req:upgrade { Upgrade = "x" }
    stream:write(stream:read():upper())
  end)
  local peer = raw.connect(serve(app))
  peer:send "GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\nhello"
  test.matches(peer:read_all(), "^HTTP/1.1 101 .*\r\n\r\nHELLO$")
  test.eq(#test.reports(), 0)
end)

-- ---- state and mounts ---------------------------------------------------------------------------

test("values of an application are there for its requests", function()
  local app = http.App()
  app.database = { name = "db" }
  app["a-b"] = 1
  app:get("/", function(req) return req.app.database.name .. tostring(req.app == app) end)
  test.eq(get(serve(app), "/"), "dbtrue")
  test.eq({ app["a-b"], app.nothing }, { 1, nil })
  test.blames_caller("'get' is a method of applications", function() app.get = 1 end)
  test.blames_caller("'serve' is a method of applications", function() app.serve = 1 end)
end)

test("mounted applications: routes without the prefix, values that fall back", function()
  local outer, inner, deep = http.App(), http.App(), http.App()
  outer.name, outer.shared, inner.name = "outer", "from outer", "inner"
  inner:get("/", function(req) return req.app.name .. ", " .. req.app.shared end)
  inner:get("/x/{id}", function(req) return req.app.name .. req.params.id .. req.path end)
  deep:get("/y", function(req) return req.params.user .. " " .. req.app.shared end)
  inner:mount("/u/{user}", deep)
  outer:mount("/api", inner)
  outer:get("/api/own", say "own")
  local log = test.log()
  inner:use(function(req, next)
    log("inner", req.app == inner)
    return next(req)
  end)
  local port = serve(outer)
  test.eq({ get(port, "/api/"), get(port, "/api"), get(port, "/api/x/7"), get(port, "/api/own"),
    get(port, "/api/u/joe/y") },
    { "inner, from outer", "inner, from outer", "inner7/api/x/7", "own", "joe from outer" })
  test.eq({ status(port, "GET /api/no"), status(port, "GET /apix"), status(port, "POST /api/x/7") },
    { 404, 404, 405 })
  test.eq(log[1], "inner true")
end)

-- ---- beginning and end --------------------------------------------------------------------------

test("contexts and hooks run in their order, and the other way round at the end", function()
  local app, inner, log = http.App(), http.App(), test.log()
  local function context(name)
    return async.context(function(yield, given)
      log(name, "enter", given.title)
      async.sleep(0)
      yield()
      async.sleep(0)
      log(name, "leave")
    end)
  end
  app.title, inner.title = "app", "inner"
  app:cleanup_ctx(context "one"):cleanup_ctx(context "two")
  app:on_startup(function(a) log("start", a.title) end)
  app:on_shutdown(function(a) log("stop", a.title) end)
  inner:cleanup_ctx(context "three")
  inner:on_startup(function(a) log("start", a.title) end)
  inner:on_shutdown(function(a) log("stop", a.title) end)
  app:mount("/in", inner)
  local begun = async.Event()
  app:get("/", function()
    begun:set()
    async.sleep(0.01)
    log "answered"
    return 200
  end)
  local server = app:serve()
  log "serving"
  local peer = raw.connect(server.port):send "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
  begun:wait()
  server:close()
  test.eq(log, { "one enter app", "two enter app", "start app", "three enter inner", "start inner",
    "serving", "stop app", "stop inner", "answered", "three leave", "two leave", "one leave" })
  peer:close()
end)

test("an application that cannot begin leaves what it has entered", function()
  local app, log = http.App(), test.log()
  app:cleanup_ctx(async.context(function(yield)
    log "enter"
    yield()
    log "leave"
  end))
  app:on_startup(function() error "no database" end)
  test.raises("no database", app.serve, app, {})
  test.eq(log, { "enter", "leave" })
  test.eq(#test.reports(), 0)
end)

test("a port that is taken ends the application's life again", function()
  local app, log = http.App(), test.log()
  app:cleanup_ctx(async.context(function(yield)
    log "enter"
    yield()
    log "leave"
  end))
  local port = serve(http.App())
  test.raises("OSError", app.serve, app, { port = port })
  test.eq(log, { "enter", "leave" })
end)

test("clean-up runs when the program ends by a signal", function()
  local result = test.script([[
    local async, http = require "rille.async", require "rille.http"
    local app = http.App()
    app:cleanup_ctx(async.context(function(yield)
      yield()
      async.sleep(0)
      print "cleaned up"
    end))
    app:on_shutdown(function() print "shutdown" end)
    local server = app:serve {}
    require("rille.process").kill(require("rille.process").pid(), "SIGTERM")
    server:wait()
  ]])
  test.eq(result.stdout, "shutdown\ncleaned up\n")
end)

test("a start that is cancelled cleans up", function()
  local app, log = http.App(), test.log()
  app:cleanup_ctx(async.context(function(yield)
    log "enter"
    yield()
    log "leave"
  end))
  app:on_startup(function() async.sleep(1000) end)
  local task = async.spawn(app.serve, app)
  test.turns()
  task:cancel()
  async.wait { task }
  test.eq({ task:cancelled(), log[1], log[2] }, { true, "enter", "leave" })
end)

-- ---- files --------------------------------------------------------------------------------------

test("static: files of a folder, and nothing else", function()
  local dir = test.tmpdir()
  os.execute(("mkdir -p %s/pub/sub %s/pub/empty"):format(dir, dir))
  test.write(dir .. "/secret.txt", "secret")
  test.write(dir .. "/pub/a.txt", "hello")
  test.write(dir .. "/pub/b c.html", "<p>")
  test.write(dir .. "/pub/.hidden", "hidden")
  test.write(dir .. "/pub/sub/index.html", "index")
  os.execute(("cd %s/pub && ln -s ../secret.txt out && ln -s a.txt in && ln -s .. up && ln -s loop "
    .. "loop && mkfifo fifo"):format(dir))
  local app = http.App()
  app:static("/s", dir .. "/pub", { max_age = 60 })
  app:static("/dots/", dir .. "/pub", { dotfiles = true, index = false })
  local port = serve(app)
  local code, body, head = ask(port, "GET /s/a.txt")
  test.eq({ code, body }, { 200, "hello" })
  test.contains(head, "Content-Type: text/plain; charset=utf-8\r\n")
  test.contains(head, "Cache-Control: max-age=60\r\n")
  test.eq({ get(port, "/s/b%20c.html"), get(port, "/s/sub/"), get(port, "/s/in"),
    get(port, "/dots/.hidden") }, { "<p>", "index", "hello", "hidden" })
  code, body, head = ask(port, "GET /s/sub?x=1")
  test.eq({ code, body }, { 301, "" })
  test.contains(head, "Location: /s/sub/?x=1")
  code, body, head = ask(port, "HEAD /s/a.txt")
  test.eq({ code, body }, { 200, "" })
  test.contains(head, "Content-Length: 5\r\n")
  for _, path in ipairs { "/s/out", "/s/up/secret.txt", "/s/../secret.txt", "/s/%2e%2e/secret.txt",
    "/s/..%2fsecret.txt", "/s/sub/../../secret.txt", "/s/%2e%2e%2fsecret.txt", "/s/.hidden",
    "/s/loop", "/s/fifo", "/s/", "/s/empty", "/s/empty/", "/s/nothing", "/s/a.txt/", "/s//a.txt",
    "/s/./a.txt", "/s", "/dots/sub/", "/dots/../secret.txt", "/s/..\\secret.txt",
    "/s/" .. ("x"):rep(300), "/s/sub//index.html" } do
    test.eq({ path, status(port, "GET " .. path) }, { path, 404 })
  end
  test.eq({ status(port, "GET /s/a.txt%00.html"), status(port, "POST /s/a.txt") }, { 400, 405 })
end)

test("static: what is compressed beforehand is sent to who takes it", function()
  local dir = test.tmpdir()
  test.write(dir .. "/a.js", "plain")
  test.write(dir .. "/a.js.gz", "gzipped")
  test.write(dir .. "/a.js.br", "brotli")
  local app = http.App()
  app:static("/", dir, { precompressed = true })
  local port = serve(app)
  local function accepting(encodings)
    local _, body, head = ask(port, "GET /a.js", "Accept-Encoding: " .. encodings .. "\r\n")
    test.contains(head, "Content-Type: text/javascript; charset=utf-8\r\n")
    test.contains(head, "Vary: Accept-Encoding")
    return body, head:match "Content%-Encoding: (%S+)"
  end
  test.eq({ accepting "gzip" }, { "gzipped", "gzip" })
  test.eq({ accepting "gzip, br" }, { "brotli", "br" })
  test.eq({ accepting "br;q=0, identity" }, { "plain" })
end)

-- ---- without a port -----------------------------------------------------------------------------

test("a test client speaks to the application without a port", function()
  local app, log = http.App(), test.log()
  app:on_startup(function() log "start" end)
  app:on_shutdown(function() log "stop" end)
  app:get("/hello/{name}", function(req) return "hello " .. req.params.name end)
  app:post("/json", function(req) return 201, { got = req:json() } end)
  app:get("/cookie", function(req)
    return http.response { body = req.cookies.a or "none" }:set_cookie("a", "b")
  end)
  async.with(app:test_client { headers = { ["X-Test"] = "yes" } }, function(client)
    test.eq(client:get("/hello/joe"):text(), "hello joe")
    local response = client:post("/json", { json = { 1, 2 } })
    test.eq({ response.status, response:json().got[2] }, { 201, 2 })
    test.eq({ client:get("/cookie"):text(), client:get("/cookie"):text() }, { "none", "b" })
    test.eq(client:get("/nowhere").status, 404)
    test.eq(log, { "start" })
  end)
  test.eq(log, { "start", "stop" })
  local one, two = app:test_client(), app:test_client()
  test.eq({ one:get("/hello/1"):text(), two:get("/hello/2"):text() }, { "hello 1", "hello 2" })
  one:close()
  one:close()
  test.eq(two:get("/hello/3"):text(), "hello 3")
  two:close()
end)
