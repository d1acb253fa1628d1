--- Applications: routes, middleware, state, and what happens at their beginning and end.
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local check = require "rille.core.check"
local answer = require "rille.http.answer"
local request = require "rille.http.request"
local router = require "rille.http.router"
local server = require "rille.http.server"
local options_of = require "rille.http.server_options"

local xpcall = require("rille.core.protect").xpcall
local keep_trace, rethrow = task.keep_trace, task.rethrow
local rawget, rawset, setmetatable, type, pairs, ipairs, tostring, next =
  rawget, rawset, setmetatable, type, pairs, ipairs, tostring, next
local format = string.format
local response_of, response_of_error = answer.response_of, answer.response_of_error
local CONNECTION = request.CONNECTION

---@class App
local App = {}
-- An application's values stand in itself; what it is made of has a key of its own.
local STATE = {}
local meta = { __name = "App" }

local function state_of(app, name)
  local state = type(app) == "table" and rawget(app, STATE)
  if not state then
    check.bad(1, name, "App expected, got " .. (app == nil and "nil" or type(app)))
  end
  return state
end

-- ---- values -------------------------------------------------------------------------------------

function meta.__index(app, key)
  local method = App[key]
  if method ~= nil then return method end
  -- What it has not itself, the application has in which it is mounted.
  for _, outer in ipairs(rawget(app, STATE).outers) do
    local value = outer[key]
    if value ~= nil and App[key] == nil then return value end
  end
  return nil
end

function meta.__newindex(app, key, value)
  if App[key] ~= nil then
    check.fail(format("'%s' is a method of applications, and cannot be a value's name",
      tostring(key)))
  end
  rawset(app, key, value)
end

-- ---- routes -------------------------------------------------------------------------------------

local ROUTE = { max_body_bytes = true, max_collect_bytes = true }

local function add(app, pattern, handler, methods, options, name, known)
  local state = state_of(app, name)
  pattern = check.string(pattern, 1, name)
  check.callable(handler, 2, name)
  options = check.options(options, known or ROUTE, 3, name)
  local route = { handler = handler }
  if options.max_body_bytes ~= nil then
    route.max_body = options_of.limit(options.max_body_bytes, nil, "max_body_bytes", name)
  end
  if options.max_collect_bytes ~= nil then
    route.max_collect = options_of.limit(options.max_collect_bytes, nil, "max_collect_bytes", name)
    if route.max_collect == 0 then route.max_collect = math.huge end
  end
  route.is_plain = not route.max_body and not route.max_collect
  state.routes[#state.routes + 1] = route
  local ok, e = pcall(state.router.add, state.router, pattern, methods, route)
  if not ok then check.bad(1, name, e) end
  return app
end

for _, name in ipairs { "get", "post", "put", "patch", "delete" } do
  local methods = { name:upper() }
  --- Adds a route. A pattern is a path with `{name}` for a segment and, at its end, `{name...}` for
  -- the rest, which may be empty. What is written out comes before a parameter, and that before the
  -- rest, whatever the order in which they are added. GET answers HEAD too.
  ---@param pattern string
  ---@param handler fun(req: Request)
  ---@param options? table  `max_body_bytes`, `max_collect_bytes`: the route's own
  ---@return App  itself
  App[name] = function(self, pattern, handler, options)
    return add(self, pattern, handler, methods, options, name)
  end
end

local ROUTE_OF_METHODS = { methods = true, max_body_bytes = true, max_collect_bytes = true }

--- Adds a route for several methods, or for all that have none of their own.
---@param pattern string
---@param handler fun(req: Request)
---@param options? table  `methods`, a list; and those of `get`
---@return App  itself
function App:route(pattern, handler, options)
  local methods = { "*" }
  if options ~= nil and check.table(options, 3, "route").methods ~= nil then
    methods = {}
    for i, method in ipairs(check.table(options.methods, "methods", "route")) do
      method = check.string(method, "methods", "route")
      if not http1.is_token(method) then
        check.bad("methods", "route", format("'%s' is no method", method))
      end
      methods[i] = method:upper()
    end
    if #methods == 0 then check.bad("methods", "route", "an empty list") end
  end
  return add(self, pattern, handler, methods, options, "route", ROUTE_OF_METHODS)
end

--- Serves the files of a folder: GET and HEAD, with ranges and conditions. Links are followed as
-- long as they stay within the folder; nothing is listed.
---@param prefix string
---@param dir string
---@param options? table  `index` ("index.html"; false for none), `dotfiles` (false), `max_age`
-- (seconds that they may be kept), `precompressed`: take `x.br` or `x.gz` for `x` where it is there
-- and the client takes it
---@return App  itself
function App:static(prefix, dir, options)
  local handler = require "rille.http.static"(prefix, dir, options)
  local pattern = prefix:gsub("/$", "") .. "/{path...}"
  return add(self, pattern, handler, { "GET" }, nil, "static")
end

--- Adds a route for WebSockets.
---@param pattern string
---@param handler fun(ws, req: Request)  its end closes the WebSocket
---@param options? table  `max_message` (1 MiB); `subprotocols` that are spoken, of which the first
-- that the client wants is taken; `compress` (true); `origins`: whose pages may connect, "*" for
-- all, only this host's by default; `ping_interval`, `ping_timeout`, `close_timeout`
---@return App  itself
function App:websocket(pattern, handler, options)
  state_of(self, "websocket")
  check.callable(handler, 2, "websocket")
  local side = require "rille.websocket.server"
  local settings = side.options(options, "websocket")
  return add(self, pattern, function(req) return side.handle(req, handler, settings) end, { "GET" },
    nil, "websocket")
end

--- Puts another application at a prefix: its routes stand below it, its middleware runs for it, and
-- its beginning and end are this one's.
---@param prefix string
---@param inner App
---@return App  itself
function App:mount(prefix, inner)
  local state = state_of(self, "mount")
  prefix = check.string(prefix, 1, "mount")
  local inner_state = type(inner) == "table" and rawget(inner, STATE)
  if not inner_state then check.bad(2, "mount", "App expected, got " .. type(inner)) end
  local function reaches(app)
    if app == self then return true end
    for _, mounted in ipairs(rawget(app, STATE).mounted) do
      if reaches(mounted) then return true end
    end
    return false
  end
  if reaches(inner) then check.bad(2, "mount", "it would stand in itself") end
  local ok, e = pcall(state.router.mount, state.router, prefix, inner)
  if not ok then check.bad(1, "mount", e) end
  state.mounted[#state.mounted + 1] = inner
  inner_state.outers[#inner_state.outers + 1] = self
  return self
end

-- ---- dispatch -----------------------------------------------------------------------------------

local function allow_header(allowed)
  local names = { "OPTIONS" }
  for name in pairs(allowed) do
    if name ~= "OPTIONS" then names[#names + 1] = name end
    if name == "GET" and not allowed.HEAD then names[#names + 1] = "HEAD" end
  end
  table.sort(names)
  return table.concat(names, ", ")
end

local function no_route(req, allowed)
  if next(allowed) == nil then
    if req.method == "OPTIONS" and req.target == "*" then return 204 end
    return 404
  end
  local headers = { Allow = allow_header(allowed) }
  if req.method == "OPTIONS" then return 204, "", headers end
  return 405, nil, headers
end

-- The limits of the request's route; its body has not been read yet.
local function apply_limits(req, route)
  local conn = req[CONNECTION]
  if route.max_collect then rawset(req, "_most_collected", route.max_collect) end
  if not conn:has_body() then return end
  local most = route.max_body or req[request.SETTINGS].default_max_body
  if not conn:limit_body(most) then request.fail(413, "body too large") end
end

local function call(req, route)
  local settings = req[request.SETTINGS]
  if settings.limits_vary or not route.is_plain then apply_limits(req, route) end
  return route.handler(req)
end

-- Adds what the values stand for to the parameters.
local function add_params(req, names, values)
  if #names == 0 then return end
  local params = req.params
  for i = 1, #names do params[names[i]] = values[i] end
end

local enter

-- Looks for the route of a request and calls its handler.
local function dispatch(app, req)
  local state = rawget(app, STATE)
  local segments = rawget(req, "_segments")
  if not segments then
    local route = state.router:exact(req.raw_path, req.method)
    if route then return call(req, route) end
    -- "*" stands for the server, and for no path.
    if req.raw_path == "*" then return no_route(req, {}) end
    segments = router.split(req.raw_path)
    rawset(req, "_segments", segments)
    rawset(req, "_at", 1)
  end
  local allowed = {}
  local found, kind, at, values = state.router:match(segments, rawget(req, "_at"), req.method,
    allowed)
  if not found then return no_route(req, allowed) end
  add_params(req, found.names, values)
  rawset(req, "_at", at)
  if kind == "route" then return call(req, found) end
  -- "/api" is as good as "/api/" for what is mounted there.
  if at > #segments then segments[at] = "" end
  return enter(found.what, req)
end

-- Calls what may abort, and makes a response of it all the same.
local function responded(ok, ...)
  if ok then return response_of(...) end
  local e = (...)
  local own = response_of_error(e)
  if own then return own end
  rethrow(e)
end

-- A handler that has taken the connection over need not return anything.
local function dispatch_within(app, req)
  local a, b, c = dispatch(app, req)
  if a == nil and rawget(req, "_upgraded") then return 101, "" end
  return a, b, c
end

-- Runs the middleware around the routes; built anew when there is more of it.
local function build_chain(app, list)
  local chain = function(req) return responded(xpcall(dispatch_within, keep_trace, app, req)) end
  for i = #list, 1, -1 do
    local middleware, inner = list[i], chain
    chain = function(req)
      return responded(xpcall(middleware, keep_trace, req, inner))
    end
  end
  return chain
end

function enter(app, req)
  rawset(req, "app", app)
  local state = rawget(app, STATE)
  local chain = state.chain
  if not chain then return dispatch(app, req) end
  return chain(req)
end

--- Adds middleware: what is called in the place of the handler, and calls it by `next(req)`, which
-- gives a response. The first that was added is the outermost. It runs for paths without a route as
-- well.
---@param middleware fun(req: Request, next: fun(req: Request): Response)
---@return App  itself
function App:use(middleware)
  local state = state_of(self, "use")
  check.callable(middleware, 1, "use")
  state.middleware[#state.middleware + 1] = middleware
  state.chain = build_chain(self, state.middleware)
  return self
end

-- ---- beginning and end --------------------------------------------------------------------------

for _, name in ipairs { "on_startup", "on_shutdown" } do
  --- Adds what is called when the application begins, before the server listens, or when the server
  -- begins to close.
  ---@param fn fun(app: App)
  ---@return App  itself
  App[name] = function(self, fn)
    local state = state_of(self, name)
    check.callable(fn, 1, name)
    table.insert(state[name], fn)
    return self
  end
end

--- Adds a context: entered before `on_startup`'s functions, left at the very end, the last one
-- first.
---@param factory fun(app: App): any  of async.context
---@return App  itself
-- Source: aiohttp's cleanup_ctx.
function App:cleanup_ctx(factory)
  local state = state_of(self, "cleanup_ctx")
  check.callable(factory, 1, "cleanup_ctx")
  table.insert(state.contexts, factory)
  return self
end

local function start(app, entered)
  local state = rawget(app, STATE)
  for _, factory in ipairs(state.contexts) do
    local context = factory(app)
    if context.enter then context:enter() end
    entered[#entered + 1] = context
  end
  for _, fn in ipairs(state.on_startup) do fn(app) end
  for _, inner in ipairs(state.mounted) do start(inner, entered) end
end

-- Calls them all; the first error is raised in the end.
local function call_all(list, fn)
  local failed, first = false, nil
  for i = 1, #list do
    local ok, e = xpcall(fn, keep_trace, list[i])
    if not ok and not failed then failed, first = true, e end
  end
  if failed then rethrow(first) end
end

local function shut_down(app)
  local state = rawget(app, STATE)
  call_all(state.on_shutdown, function(fn) fn(app) end)
  call_all(state.mounted, shut_down)
end

local function leave_all(entered)
  local list = {}
  for i = #entered, 1, -1 do list[#list + 1] = entered[i] end
  call_all(list, function(context)
    if context.exit then
      context:exit()
    else
      context:close()
    end
  end)
end

-- Whether a route has a limit of its own, and the largest; 0 is none.
local function largest_limit(app, largest)
  local state, vary = rawget(app, STATE), false
  local function note(limit)
    largest = (largest == 0 or limit == 0) and 0 or math.max(largest, limit)
    vary = true
  end
  for _, route in ipairs(state.routes) do
    if route.max_body then note(route.max_body) end
  end
  for _, inner in ipairs(state.mounted) do
    local inner_vary
    largest, inner_vary = largest_limit(inner, largest)
    vary = vary or inner_vary
  end
  return largest, vary
end

local KNOWN = {}
for name in pairs(options_of.KNOWN) do
  if name ~= "handler" then KNOWN[name] = true end
end

--- Serves the application; when this returns, it has begun and the server listens.
---@async
---@param options? table  those of http.serve, but for `handler`
---@return Server
-- Errors: OSError, TLSError; those of on_startup and of contexts, which are left again then.
function App:serve(options)
  state_of(self, "serve")
  options = check.options(options, KNOWN, 1, "serve")
  local settings = options_of.read(options, "serve")
  settings.handler = function(req) return enter(self, req) end
  settings.default_max_body = settings.max_body_bytes
  settings.max_body_bytes, settings.limits_vary = largest_limit(self, settings.max_body_bytes)
  local entered = {}
  return server.start(settings, {
    startup = function() start(self, entered) end,
    shutdown = function() shut_down(self) end,
    cleanup = function() leave_all(entered) end,
  }, "serve")
end

local clients = 0

--- Begins the application and gives a session that speaks to it, without a port: URLs are paths.
-- Closing the session ends the application.
---@async
---@param options? table  those of http.Session
---@return Session
-- Errors: as `serve`.
function App:test_client(options)
  state_of(self, "test_client")
  clients = clients + 1
  -- A socket that stands in no folder, and that nobody comes upon by chance.
  local path = format("@rille-test-%d-%s-%d", os.time(), tostring({}):sub(-8), clients)
  local given = { base_url = "http://test/", path = path }
  for name, value in pairs(check.options(options, { headers = true, timeout = true, limit = true,
    cookies = true, auth = true, redirects = true, max_body = true }, 1, "test_client")) do
    given[name] = value
  end
  local session = require("rille.http.session").new(given)
  local own = self:serve { path = path }
  local close = session.close
  function session.close(it)
    close(it)
    own:close(0)
  end
  return session
end

function meta.__tostring() return "App" end

--- Makes an application.
---@return App
return function(...)
  if select("#", ...) > 0 and (...) ~= nil then
    check.bad(1, "App", "no argument expected, got " .. type((...)))
  end
  return setmetatable({ [STATE] = {
    router = router.new(), routes = {}, middleware = {}, chain = false, mounted = {}, outers = {},
    on_startup = {}, on_shutdown = {}, contexts = {},
  } }, meta)
end
