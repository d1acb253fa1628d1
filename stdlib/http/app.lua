--- Applications: routes, middleware, state, and what happens at their beginning and end.
local check = require "rille.core.check"
local dispatch = require "rille.http.dispatch"
local lifecycle = require "rille.http.lifecycle"
local options_of = require "rille.http.server_options"
local router = require "rille.http.router"
local routes = require "rille.http.routes"
local server = require "rille.http.server"
local tree = require "rille.http.tree"

local rawget, rawset, setmetatable, type, pairs, ipairs, tostring =
  rawget, rawset, setmetatable, type, pairs, ipairs, tostring
local format = string.format

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
local STATE = tree.STATE
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

local function add(app, pattern, handler, methods, options, name, known)
  local state = state_of(app, name)
  pattern = check.string(pattern, 1, name)
  check.callable(handler, 2, name)
  options = check.options(options, known or routes.KNOWN, 3, name)
  local ok, names = pcall(router.names, pattern)
  if not ok then check.bad(1, name, names) end
  tree.check_names(app, names, 1, name)
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
  state_of(self, "mount")
  prefix = check.string(prefix, 1, "mount")
  if type(inner) ~= "table" or not rawget(inner, STATE) then
    check.bad(2, "mount", "App expected, got " .. type(inner))
  end
  tree.mount(self, prefix, inner)
  return self
end

-- ---- middleware ---------------------------------------------------------------------------------

--- Adds middleware: what is called in the place of the handler, and calls it by `next(req)`, which
-- gives a response. The first that was added is the outermost. It runs for paths without a route as
-- well.
---@param middleware fun(req: Request, next: fun(req: Request): Response)
---@return App  itself
function App:use(middleware)
  local state = state_of(self, "use")
  check.callable(middleware, 1, "use")
  state.middleware[#state.middleware + 1] = middleware
  state.chain = dispatch.chain(self, state.middleware)
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

local KNOWN = {}
for name in pairs(options_of.KNOWN) do
  if name ~= "handler" then KNOWN[name] = true end
end

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
  settings.handler, settings.app = dispatch.handler(self, settings), self
  settings.default_max_body = settings.max_body_bytes
  settings.max_body_bytes, settings.limits_vary = tree.largest_limit(self, settings.max_body_bytes)
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

--- The OpenAPI document of the routes, with those of mounted applications; WebSockets, files and
-- routes with the option `hidden` are left out.
---@param options? rille.http.OpenApiOptions
---@return table  OpenAPI 3.1
function App:openapi(options)
  state_of(self, "openapi")
  local openapi = require "rille.http.openapi"
  local info, path = openapi.options(options, "openapi")
  local function document()
    return openapi.document(function(visit) tree.visit_routes(self, "", {}, visit) end, info)
  end
  if path then
    local text, count
    add(self, path, function()
      local n = 0
      tree.visit_routes(self, "", {}, function() n = n + 1 end)
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
