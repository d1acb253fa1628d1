--- What becomes of an application's request: the middleware around its routes, the search for a
-- route, and the handler.
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local check = require "rille.core.check"
local answer = require "rille.http.answer"
local request = require "rille.http.request"
local router = require "rille.http.router"
local routes = require "rille.http.routes"
local tree = require "rille.http.tree"

local xpcall = require("rille.core.protect").xpcall
local keep_trace, rethrow = task.keep_trace, task.rethrow
local rawget, rawset, type, pairs, next = rawget, rawset, type, pairs, next
local format = string.format
local response_of, response_of_error = answer.response_of, answer.response_of_error
local CONNECTION, HEAD, SETTINGS = request.CONNECTION, request.HEAD, request.SETTINGS
local route_key = http1.route_key
local STATE = tree.STATE

local M = {}

-- ---- routes -------------------------------------------------------------------------------------

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
      return no_route(req,
        req.method == "OPTIONS" and tree.add_methods(app, { OPTIONS = true }) or {})
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

-- ---- middleware ---------------------------------------------------------------------------------

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

--- What runs a list of middleware around the routes of an application.
function M.chain(app, list)
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

--- What the server calls. A route without parameters, limits and shapes of its own is found at
-- once: nobody has asked for the request's parts yet, and mostly nobody will, so they are not kept.
function M.handler(app, settings)
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

return M
