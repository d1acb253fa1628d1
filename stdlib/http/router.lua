--- Finds the handler of a path: a tree with a level for each segment, so that the time does not
-- depend on how many routes there are. Segments are split as they were sent, then decoded, so that
-- an encoded slash never splits.
local http1 = require "rille.core.http1"

local find, sub, byte, format, concat = string.find, string.sub, string.byte, string.format,
  table.concat
local setmetatable, pairs, error = setmetatable, pairs, error

local M = {}

--- The segments of a path that begins with a slash, decoded: "/a/" is { "a", "" }.
---@param path string  as it was sent
---@return string[]
local function split(path)
  local list, n, from = {}, 0, 2
  while true do
    local slash = find(path, "/", from, true)
    local segment = sub(path, from, slash and slash - 1)
    if find(segment, "%", 1, true) then segment = http1.unescape(segment) end
    n = n + 1
    list[n] = segment
    if not slash then return list end
    from = slash + 1
  end
end
M.split = split

-- ---- patterns -----------------------------------------------------------------------------------

-- Takes a pattern apart: segments, of which false is a parameter; the names; whether it ends with a
-- wildcard. Raises a string.
local function parse(pattern)
  if byte(pattern) ~= 47 then
    error(format("the pattern '%s' does not begin with '/'", pattern), 0)
  end
  local stranger = pattern:match "[?#%c]"
  if stranger then
    error(format("'%s': a path has no %s", (pattern:gsub("%c", "?")),
      stranger:find "%c" and "control characters" or "'" .. stranger .. "'"), 0)
  end
  local segments, names, seen = {}, {}, {}
  local rest = false
  for segment in (sub(pattern, 2) .. "/"):gmatch "([^/]*)/" do
    if rest then error(format("'%s': something stands behind the wildcard", pattern), 0) end
    local name, dots = segment:match "^{([%a_][%w_]*)(%.*)}$"
    if name and (dots == "" or dots == "...") then
      if seen[name] then
        error(format("'%s': two parameters are named '%s'", pattern, name), 0)
      end
      seen[name] = true
      names[#names + 1] = name
      rest = dots == "..."
      segments[#segments + 1] = false
    elseif find(segment, "[{}]") then
      error(format("'%s': '%s' is neither text nor a parameter", pattern, segment), 0)
    else
      segments[#segments + 1] = segment
    end
  end
  return segments, names, rest
end

--- The names of the parameters of a pattern. Raises a string if it is none.
function M.names(pattern)
  local _, names = parse(pattern)
  return names
end

-- ---- the tree -----------------------------------------------------------------------------------

local function new_node()
  return { literals = {}, param = false, rest = false, here = false, mount = false }
end

local Router = {}
Router.__index = Router

--- An empty router.
function M.new() return setmetatable({ _root = new_node(), _exact = {} }, Router) end

local function descend(node, segments, last)
  for i = 1, last do
    local segment = segments[i]
    if segment then
      node.literals[segment] = node.literals[segment] or new_node()
      node = node.literals[segment]
    else
      node.param = node.param or new_node()
      node = node.param
    end
  end
  return node
end

--- Adds a route: a table, which gets `names`. Raises a string if there is one already.
---@param methods string[]  "*" stands for all that have no route of their own
function Router:add(pattern, methods, route)
  local segments, names, rest = parse(pattern)
  route.names, route.pattern = names, pattern
  local node = descend(self._root, segments, rest and #segments - 1 or #segments)
  local kind = rest and "rest" or "here"
  local routes = node[kind] or {}
  for i = 1, #methods do
    local other = routes[methods[i]]
    if other then
      error(format("there is a route for %s %s already%s", methods[i], pattern,
        other.pattern ~= pattern and ": " .. other.pattern or ""), 0)
    end
  end
  for i = 1, #methods do routes[methods[i]] = route end
  node[kind] = routes
  if #names == 0 and not find(pattern, "%", 1, true) then self._exact[pattern] = routes end
end

--- Puts something at a prefix, for all paths below it that no route has. Raises a string.
function Router:mount(prefix, what)
  local segments, names, rest = parse(prefix)
  if rest then error(format("'%s': a wildcard in a prefix", prefix), 0) end
  if segments[#segments] == "" then segments[#segments] = nil end
  local node = descend(self._root, segments, #segments)
  if node.mount then error(format("there is something at %s already", prefix), 0) end
  node.mount = { what = what, names = names }
end

local function pick(routes, method, allowed)
  local route = routes[method] or method == "HEAD" and routes.GET or routes["*"]
  if route then return route end
  for name in pairs(routes) do allowed[name] = true end
  return nil
end

local search

local function search_below(node, segments, i, count, method, values, n, allowed)
  local segment = segments[i]
  local child = node.literals[segment]
  if child then
    local route, kind, at = search(child, segments, i + 1, count, method, values, n, allowed)
    if route then return route, kind, at end
  end
  if node.param and segment ~= "" then
    values[n + 1] = segment
    local route, kind, at = search(node.param, segments, i + 1, count, method, values, n + 1,
      allowed)
    if route then return route, kind, at end
  end
  if node.rest then
    local route = pick(node.rest, method, allowed)
    if route then
      values[n + 1] = concat(segments, "/", i, count)
      return route, "route", i
    end
  end
end

function search(node, segments, i, count, method, values, n, allowed)
  if i > count then
    local route = node.here and pick(node.here, method, allowed)
    if route then return route, "route", i end
  else
    local route, kind, at = search_below(node, segments, i, count, method, values, n, allowed)
    if route then return route, kind, at end
  end
  if node.mount then return node.mount, "mount", i end
end

--- The route of a path that has no parameters, if it can be told at once.
function Router:exact(path, method)
  local routes = self._exact[path]
  return routes and (routes[method] or method == "HEAD" and routes.GET)
end

--- Finds a route.
---@param segments string[]  decoded
---@param first integer  where to begin
---@param method string
---@param allowed table  gets the methods that there are for this path
---@return table? found, "route"|"mount", integer at, string[] values  of the parameters; `at`:
-- where the wildcard, or what is mounted, begins
function Router:match(segments, first, method, allowed)
  local values = {}
  local found, kind, at = search(self._root, segments, first, #segments, method, values, 0, allowed)
  return found, kind, at, values
end

return M
