--- Applications within applications: what stands where, and what all of their routes have.
local check = require "rille.core.check"
local router = require "rille.http.router"

local rawget, ipairs, unpack = rawget, ipairs, unpack
local format = string.format

local M = {}

--- The key of what an application is made of: its values stand in itself.
local STATE = {}
M.STATE = STATE

--- A parameter must not stand in a prefix too.
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
M.check_names = check_names

-- Whether `inner` is `app`, or stands somewhere in it.
local function reaches(app, inner)
  if app == inner then return true end
  for _, mounted in ipairs(rawget(app, STATE).mounted) do
    if reaches(mounted.app, inner) then return true end
  end
  return false
end

-- The parameters of the prefix must not stand in the patterns of the routes below it.
local function check_inner(app, names)
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
  for _, mounted in ipairs(rawget(app, STATE).mounted) do check_inner(mounted.app, names) end
end

--- Puts an application at a prefix of another.
function M.mount(outer, prefix, inner)
  local state, inner_state = rawget(outer, STATE), rawget(inner, STATE)
  if reaches(inner, outer) then check.bad(2, "mount", "it would stand in itself") end
  local ok, names = pcall(router.names, prefix)
  if not ok then check.bad(1, "mount", names) end
  check_names(outer, names, 1, "mount")
  check_inner(inner, names)
  local e
  ok, e = pcall(state.router.mount, state.router, prefix, inner)
  if not ok then check.bad(1, "mount", e) end
  prefix = prefix:gsub("/$", "")
  state.mounted[#state.mounted + 1] = { app = inner, prefix = prefix, names = names }
  inner_state.outers[#inner_state.outers + 1] = { app = outer, prefix = prefix, names = names }
end

--- Adds the methods of all routes of an application.
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
M.add_methods = add_methods

--- The largest limit of a body, of which 0 is none, and whether a route has one of its own.
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
M.largest_limit = largest_limit

--- Calls visit(prefix, names of its parameters, route) for all routes, the outer ones first.
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
M.visit_routes = visit_routes

return M
