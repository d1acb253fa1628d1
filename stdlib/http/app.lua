--- Applications: routes, middleware, state, and what happens at their beginning and end.
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local check = require "rille.core.check"
local answer = require "rille.http.answer"
local request = require "rille.http.request"
local router = require "rille.http.router"
local server = require "rille.http.server"
local options_of = require "rille.http.server_options"
local lifecycle = require "rille.http.lifecycle"
local routes = require "rille.http.routes"

local xpcall = require("rille.core.protect").xpcall
local keep_trace, rethrow = task.keep_trace, task.rethrow
local rawget, rawset, setmetatable, type, pairs, ipairs, tostring, next, unpack =
  rawget, rawset, setmetatable, type, pairs, ipairs, tostring, next, unpack
local format = string.format
local response_of, response_of_error = answer.response_of, answer.response_of_error
local CONNECTION, HEAD, SETTINGS = request.CONNECTION, request.HEAD, request.SETTINGS
local route_key = http1.route_key

--- Adds a route for requests with the method of that name; `get` answers HEAD too.
---@alias rille.http.AddRoute
---| fun(self: App, pattern: string, handler: function, options?: rille.http.RouteOptions): App

---@class rille.http.RouteOptions
---@field max_body_bytes? integer|false  the route's own
---@field max_collect_bytes? integer|false  the route's own
---@field request? any  the shape of its JSON, which `req:json()` then checks; see http.shape
---@field params? table<string, any>  shapes of the parameters in the pattern
---@field query? table<string, any>  shapes of the parameters of the query
---@field summary? string  for the OpenAPI document, as all that follow
---@field description? string
---@field tags? string[]
---@field operation_id? string
---@field deprecated? boolean
---@field response? any  the shape of an answer with status 200
---@field responses? table<integer, any>  status to shape or text
---@field hidden? boolean  leaves the route out

--- A pattern of a route is a path with `{name}` for a segment and, at its end, `{name...}` for the
-- rest, which may be empty. What is written out comes before a parameter, and that before the rest,
-- whatever the order in which they are added. A value that is set in an application, `app.db = db`,
-- is there in handlers as `req.app.db`.
---@class App
---@field get rille.http.AddRoute
---@field post rille.http.AddRoute
---@field put rille.http.AddRoute
---@field patch rille.http.AddRoute
---@field delete rille.http.AddRoute
---@field on_startup fun(self: App, fn: fun(app: App)): App  calls `fn` before it listens
---@field on_shutdown fun(self: App, fn: fun(app: App)): App  calls `fn` when it begins to close
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
    local value = outer.app[key]
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

-- What is wrong with a parameter that stands in a prefix too.
local function check_names(app, names, position, name)
  for _, outer in ipairs(rawget(app, STATE).outers) do
    for _, other in ipairs(outer.names) do
      for i = 1, #names do
        if names[i] == other then
          check.bad(position, name, format("the parameter '%s' stands in the prefix %s as well",
            other, outer.prefix))
        end
      end
    end
    check_names(outer.app, names, position, name)
  end
end

local function add(app, pattern, handler, methods, options, name, known)
  local state = state_of(app, name)
  pattern = check.string(pattern, 1, name)
  check.callable(handler, 2, name)
  options = check.options(options, known or routes.KNOWN, 3, name)
  local ok, names = pcall(router.names, pattern)
  if not ok then check.bad(1, name, names) end
  check_names(app, names, 1, name)
  local route = routes.new(handler, options, name)
  if route.params then
    local there = {}
    for _, parameter in ipairs(names) do there[parameter] = true end
    for _, parameter in ipairs(route.params.names) do
      if not there[parameter] then
        check.bad("params", name, format("'%s' does not stand in '%s'", parameter, pattern))
      end
    end
  end
  route.methods = methods
  local e
  ok, e = pcall(state.router.add, state.router, pattern, methods, route)
  if not ok then check.bad(1, name, e) end
  state.routes[#state.routes + 1] = route
  return app
end

for _, name in ipairs { "get", "post", "put", "patch", "delete" } do
  local methods = { name:upper() }
  -- Documented as fields of the class.
  App[name] = function(self, pattern, handler, options)
    return add(self, pattern, handler, methods, options, name)
  end
end

---@class rille.http.AnyRouteOptions: rille.http.RouteOptions
---@field methods? string[]  all that have no route of their own by default

--- Adds a route for several methods, or for all that have none of their own.
---@param pattern string
---@param handler fun(req: Request)
---@param options? rille.http.AnyRouteOptions
---@return App  itself
function App:route(pattern, handler, options)
  options = check.options(options, routes.KNOWN_WITH_METHODS, 3, "route")
  local methods = routes.methods(options.methods, "route")
  return add(self, pattern, handler, methods, options, "route",
    routes.KNOWN_WITH_METHODS)
end

---@class rille.http.StaticOptions
---@field index? string|false  "index.html" by default; false for none
---@field dotfiles? boolean  whether names that begin with a dot are served; false by default
---@field max_age? number  seconds that clients may keep them
---@field precompressed? boolean  takes `x.br`, `x.zst` or `x.gz` for `x` where there is one

--- Serves the files of a folder: GET and HEAD, with ranges and conditions. Links are followed as
-- long as they stay within the folder; nothing is listed.
---@param prefix string
---@param dir string
---@param options? rille.http.StaticOptions
---@return App  itself
function App:static(prefix, dir, options)
  local handler = require "rille.http.static"(prefix, dir, options)
  local pattern = prefix:gsub("/$", "") .. "/{path...}"
  return add(self, pattern, handler, { "GET" }, { hidden = true }, "static")
end

---@class rille.http.WebSocketOptions
---@field max_message? integer  bytes; 1 MiB by default
---@field subprotocols? string[]  that are spoken; the first that the client wants is taken
---@field compress? boolean  true by default
---@field origins? string[]  whose pages may connect, "*" for all; only this host's by default
---@field ping_interval? number|false  seconds; 20 by default
---@field ping_timeout? number|false  seconds; 20 by default
---@field close_timeout? number  seconds; 10 by default

--- Adds a route for WebSockets.
---@param pattern string
---@param handler fun(ws: WebSocket, req: Request)  its end closes the WebSocket
---@param options? rille.http.WebSocketOptions
---@return App  itself
function App:websocket(pattern, handler, options)
  state_of(self, "websocket")
  check.callable(handler, 2, "websocket")
  local side = require "rille.websocket.server"
  local settings = side.options(options, "websocket")
  return add(self, pattern, function(req) return side.handle(req, handler, settings) end, { "GET" },
    { hidden = true }, "websocket")
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
      if reaches(mounted.app) then return true end
    end
    return false
  end
  if reaches(inner) then check.bad(2, "mount", "it would stand in itself") end
  local ok, names = pcall(router.names, prefix)
  if not ok then check.bad(1, "mount", names) end
  check_names(self, names, 1, "mount")
  local function check_inner(app)
    for _, route in ipairs(rawget(app, STATE).routes) do
      for _, name in ipairs(route.names) do
        for _, other in ipairs(names) do
          if name == other then
            check.bad(1, "mount", format("the parameter '%s' stands in %s as well", name,
              route.pattern))
          end
        end
      end
    end
    for _, mounted in ipairs(rawget(app, STATE).mounted) do check_inner(mounted.app) end
  end
  check_inner(inner)
  local e
  ok, e = pcall(state.router.mount, state.router, prefix, inner)
  if not ok then check.bad(1, "mount", e) end
  prefix = prefix:gsub("/$", "")
  state.mounted[#state.mounted + 1] = { app = inner, prefix = prefix, names = names }
  inner_state.outers[#inner_state.outers + 1] = { app = self, prefix = prefix, names = names }
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

-- Of all routes of an application.
local function add_methods(app, allowed)
  local state = rawget(app, STATE)
  for _, route in ipairs(state.routes) do
    for _, method in ipairs(route.methods) do
      if method ~= "*" then allowed[method] = true end
    end
  end
  for _, mounted in ipairs(state.mounted) do add_methods(mounted.app, allowed) end
  return allowed
end

local function no_route(req, allowed)
  if next(allowed) == nil then return 404 end
  local headers = { Allow = allow_header(allowed) }
  if req.method == "OPTIONS" then return 204, "", headers end
  return 405, nil, headers
end

-- The limits of the request's route; its body has not been read yet.
local function apply_limits(req, route)
  local conn = req[CONNECTION]
  if route.max_collect then rawset(req, "_most_collected", route.max_collect) end
  if not conn:has_body() then return end
  local most = route.max_body or req[SETTINGS].default_max_body
  if not conn:limit_body(most) then request.fail(413, "body too large") end
end

local function apply_shapes(req, route)
  if route.request then rawset(req, "_shape", route.request) end
  if route.query then rawset(req, "_query_shape", route.query) end
  if route.params then
    local params = req.params
    local values = routes.parameters(route.params, function(name) return { params[name] } end)
    for name, value in pairs(values) do params[name] = value end
  end
end

local function call(req, route)
  local settings = req[SETTINGS]
  if settings.limits_vary or not route.is_plain then
    apply_limits(req, route)
    apply_shapes(req, route)
  end
  return route.handler(req)
end

-- Adds what the values stand for to the parameters.
local function add_params(req, names, values)
  if #names == 0 then return end
  local params = req.params
  for i = 1, #names do params[names[i]] = values[i] end
end

local enter

-- The route of a path without parameters. Mostly nobody has asked for the request's parts yet, and
-- nobody will: they are not kept.
local function exact_route(routes_of, req)
  local method, path
  if not rawget(req, "method") and not rawget(req, "raw_path") then
    method, path = route_key(req[HEAD])
  end
  if not method then method, path = req.method, req.raw_path end
  return routes_of:exact(path, method)
end

-- Looks for the route of a request and calls its handler.
local function dispatch(app, req)
  local state = rawget(app, STATE)
  local segments = rawget(req, "_segments")
  if not segments then
    local route = exact_route(state.router, req)
    if route then return call(req, route) end
    -- "*" stands for the server, and for no path.
    if req.raw_path == "*" then
      return no_route(req, req.method == "OPTIONS" and add_methods(app, { OPTIONS = true }) or {})
    end
    segments = router.split(req.raw_path)
    rawset(req, "_segments", segments)
    rawset(req, "_at", 1)
  end
  -- Of the application in which this one is mounted, if it has routes for this path too.
  local allowed = rawget(req, "_allowed") or {}
  local found, kind, at, values = state.router:match(segments, rawget(req, "_at"), req.method,
    allowed)
  if not found then return no_route(req, allowed) end
  add_params(req, found.names, values)
  rawset(req, "_at", at)
  if kind == "route" then return call(req, found) end
  -- "/api" is as good as "/api/" for what is mounted there.
  if at > #segments then segments[at] = "" end
  rawset(req, "_allowed", allowed)
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

-- Middleware that forgets its `return` is found by its place.
local function responded_by(middleware, ok, a, ...)
  if ok and a == nil then
    local where = type(middleware) == "function" and debug.getinfo(middleware, "S")
    error(format("the middleware %sreturned nothing",
      where and format("at %s:%d ", where.short_src, where.linedefined) or ""), 0)
  end
  return responded(ok, a, ...)
end

-- Runs the middleware around the routes; built anew when there is more of it.
local function build_chain(app, list)
  local function after(req, ...)
    -- It may have been an inner application's.
    if rawget(req, "app") then rawset(req, "app", app) end
    return responded(...)
  end
  local chain = function(req) return after(req, xpcall(dispatch_within, keep_trace, app, req)) end
  for i = #list, 1, -1 do
    local middleware, inner = list[i], chain
    local function following(req)
      if type(req) ~= "table" then
        check.bad(1, "next", "the request expected, got " .. type(req))
      end
      return inner(req)
    end
    chain = function(req)
      return responded_by(middleware, xpcall(middleware, keep_trace, req, following))
    end
  end
  return chain
end

function enter(app, req)
  if app ~= req[SETTINGS].app then rawset(req, "app", app) end
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
  -- Documented as fields of the class.
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
  for _, mounted in ipairs(state.mounted) do
    local inner_vary
    largest, inner_vary = largest_limit(mounted.app, largest)
    vary = vary or inner_vary
  end
  return largest, vary
end

local KNOWN = {}
for name in pairs(options_of.KNOWN) do
  if name ~= "handler" then KNOWN[name] = true end
end

-- What the server calls. A route without parameters, limits and shapes of its own is found at once:
-- nobody has asked for the request's parts yet, and mostly nobody will, so they are not kept.
local function handler_of(app, settings)
  local state = rawget(app, STATE)
  local router_of, exact = state.router, state.router.exact
  return function(req)
    if not state.chain and not settings.limits_vary then
      local method, path = route_key(req[HEAD])
      local route = method and exact(router_of, path, method)
      if route and route.is_plain then return route.handler(req) end
    end
    return enter(app, req)
  end
end

---@class rille.http.AppServeOptions
---@field host? string  a name or an IP address; "127.0.0.1" by default, "*" for all
---@field port? integer  any if nil or 0; the server's field `port` tells which
---@field path? string  of a Unix socket, in place of host and port
---@field tls? rille.tls.Options|TLSContext  with `cert` and `key`
---@field http2? boolean  by ALPN, and without TLS by prior knowledge; true by default
---@field workers? integer  so many processes, each running the script; only this one by default
---@field reuse_port? boolean  several processes may share the port
---@field max_connections? integer|false  at once, the others wait; 10000 by default
---@field max_requests? integer|false  on one connection; no limit by default
---@field max_header_bytes? integer|false  32768 by default
---@field max_headers? integer|false  100 by default
---@field max_target_bytes? integer|false  8192 by default
---@field max_body_bytes? integer|false  16 MiB by default
---@field max_collect_bytes? integer|false  what body() and the like take; 1 MiB by default
---@field header_timeout? number|false  seconds for the head of a request; 10 by default
---@field body_timeout? number|false  seconds that a body may pause; 30 by default
---@field idle_timeout? number|false  seconds between two requests; 60 by default
---@field write_timeout? number|false  seconds in which the client takes nothing; 30 by default
---@field handler_timeout? number|false  seconds for a handler; no limit by default
---@field cancel_on_disconnect? boolean  cancels the handler when its client goes; false by default
---@field compress? boolean|table  or `{ min_bytes = 1024, types =, level = }`; false by default
---@field access_log? boolean|fun(record: table)  true: a line on stderr; false by default
---@field trusted_proxies? boolean|string[]  whose X-Forwarded fields count; none by default

--- Serves the application; when this returns, it has begun and the server listens. 0 or false
-- switches a limit off.
---@async
---@param options? rille.http.AppServeOptions
---@return Server
-- Errors: OSError, TLSError; those of on_startup and of contexts, which are left again then.
function App:serve(options)
  state_of(self, "serve")
  options = check.options(options, KNOWN, 1, "serve")
  local settings = options_of.read(options, "serve")
  settings.handler, settings.app = handler_of(self, settings), self
  settings.default_max_body = settings.max_body_bytes
  settings.max_body_bytes, settings.limits_vary = largest_limit(self, settings.max_body_bytes)
  local entered = {}
  return server.start(settings, {
    startup = function() lifecycle.start(state_of, self, entered) end,
    shutdown = function() lifecycle.shut_down(state_of, self) end,
    cleanup = function() lifecycle.leave(entered) end,
  }, "serve")
end

---@class rille.http.TestClientOptions
---@field headers? table  all of these are as in http.Session
---@field timeout? number|table|false
---@field limit? integer|false
---@field cookies? boolean|table
---@field auth? table
---@field redirects? integer|false
---@field max_body? integer|false

--- Begins the application and gives a session that speaks to it, without a port: URLs are paths.
-- Closing the session ends the application.
---@async
---@param options? rille.http.TestClientOptions
---@return Session  which also has `websocket(path [, options])`: see websocket.connect
-- Errors: as `serve`.
function App:test_client(options)
  state_of(self, "test_client")
  return require "rille.http.test_client"(self, options)
end

-- ---- the document -------------------------------------------------------------------------------

-- Calls visit(prefix, names of its parameters, route) for all routes, the outer ones first.
local function visit_routes(app, prefix, names, visit)
  local state = rawget(app, STATE)
  for _, route in ipairs(state.routes) do visit(prefix, names, route) end
  for _, mounted in ipairs(state.mounted) do
    local all = { unpack(names) }
    for _, name in ipairs(mounted.names) do all[#all + 1] = name end
    visit_routes(mounted.app, prefix .. mounted.prefix, all, visit)
  end
end

---@class rille.http.OpenApiOptions
---@field title? string  "API" by default
---@field version? string  "1.0.0" by default
---@field description? string
---@field servers? string[]  URLs
---@field path? string|boolean  where to serve it, true for "/openapi.json"; made when asked for

--- The OpenAPI document of the routes, with those of mounted applications; WebSockets, files and
-- routes with the option `hidden` are left out.
---@param options? rille.http.OpenApiOptions
---@return table  OpenAPI 3.1
function App:openapi(options)
  state_of(self, "openapi")
  local openapi = require "rille.http.openapi"
  local info, path = openapi.options(options, "openapi")
  local function document()
    return openapi.document(function(visit) visit_routes(self, "", {}, visit) end, info)
  end
  if path then
    local text, count
    add(self, path, function()
      local n = 0
      visit_routes(self, "", {}, function() n = n + 1 end)
      if n ~= count then
        text, count = require("rille.json").encode(document(), { sort_keys = true }), n
      end
      return 200, text, { ["Content-Type"] = "application/json" }
    end, { "GET" }, { hidden = true }, "openapi")
  end
  return document()
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
