--- A server of HTTP: each connection is a task, which takes its requests one after another.
local async = require "rille.async"
local http1 = require "rille.core.http1"
local tcp = require "rille.core.tcp"
local task = require "rille.core.task"
local report = require "rille.core.report"
local errors = require "rille.errors"
local check = require "rille.core.check"
local answer = require "rille.http.answer"
local request = require "rille.http.request"
local address_of = require("rille.net.resolve").address

local xpcall = require("rille.core.protect").xpcall
local shielded = require("rille.async.cleanup").shielded
local keep_trace, rethrow = task.keep_trace, task.rethrow
local getmetatable, setmetatable, type, pairs = getmetatable, setmetatable, type, pairs
local traceback = debug.traceback
local Request, ANSWERED, TEXT = request.meta, request.ANSWERED, answer.TEXT

-- ---- one request --------------------------------------------------------------------------------

-- An error that is no object keeps its traceback in one of these.
local Raised = {}

local function note_traceback(e)
  if errors.is_error(e) or getmetatable(e) == errors._Cancelled then return e end
  return setmetatable({ value = e, stack = traceback("", 2) }, Raised)
end

local function report_error(req, e)
  local trace
  if getmetatable(e) == Raised then
    trace, e = { stack = e.stack }, e.value
  else
    trace = rawget(e, "_trace")
  end
  report.report {
    message = ("error in the handler of %s %s"):format(req.method, req.target), error = e,
    task = task.current(), traceback = trace and errors._render(trace) or nil,
  }
end

local function internal_error(conn)
  return conn:respond(500, http1.reason(500), TEXT)
end

-- Sends what resolve(...) makes of it, or a 500 if that is nothing that can be sent.
local function send(conn, req, resolve, ...)
  local ok, status, body, content_type, lines, flags = xpcall(resolve, note_traceback, ...)
  if not ok then
    report_error(req, status)
    return internal_error(conn)
  end
  if not status then return false end
  conn:respond(status, body, content_type, lines, flags)
  return true
end

local function fail(conn, req, e)
  if getmetatable(e) == errors._Cancelled and task.is_live(e) then error(e, 0) end
  if errors.is(e, "HTTPError") and send(conn, req, answer.resolve_error, e) ~= false then return end
  report_error(req, e)
  internal_error(conn)
end

-- What a connection's task runs.
local function serve_connection(server, conn)
  local handler, most = server._handler, server._most
  local me = task.current()
  local environment = me[5]
  while true do
    local head = conn:next()
    if not head then return end
    local req = setmetatable({ conn, head, most, false }, Request)
    local ok, a, b, c = xpcall(handler, note_traceback, req)
    if ok and b == nil and type(a) == "string" then
      conn:respond(200, a, TEXT)
    elseif ok then
      send(conn, req, answer.resolve, a, b, c)
    else
      fail(conn, req, a)
    end
    req[ANSWERED] = true
    -- Context variables that a handler has set are those of its request.
    me[5] = environment
  end
end

report.describe(serve_connection, function() return "a request, or for one to be sent" end)

-- ---- the server ---------------------------------------------------------------------------------

---@class Server
---@field host string
---@field port integer
local Server = {}
Server.__index = Server
Server.__name = "Server"

local function busy(self, own)
  local others = self._count - (own and self._connections[own] and 1 or 0)
  return others > 0 or not self._acceptor:done()
end

local function changed(self)
  self._changed:set()
  self._changed:clear()
  if not busy(self) then self._closed:set() end
end

local function connection_ended(self, child)
  self._connections[child]:close()
  self._connections[child] = nil
  self._count = self._count - 1
  local e = not child:cancelled() and child:error() or nil
  -- A peer that goes away while it is sent to is nothing to speak of.
  if e ~= nil and not (errors.is(e, "OSError") and e.syscall == "write") then
    report.report { message = "error in a connection of the HTTP server", error = e, task = child,
      traceback = child:traceback() }
  end
  changed(self)
end

local function accept_all(self)
  local listener = self._listener
  while true do
    local conn = listener:accept()
    if not conn then return end
    if self._closing then conn:drain() end
    local child = async.spawn(serve_connection, self, conn)
    child:set_name "HTTP connection"
    self._connections[child] = conn
    self._count = self._count + 1
    child:add_done_callback(self._connection_ended)
  end
end

report.describe(accept_all, function() return "connections" end)

local function stop(self)
  if self._closing then return end
  self._closing = true
  self._listener:stop()
  for _, conn in pairs(self._connections) do conn:drain() end
end

local function cancel_all(self, own)
  for child in pairs(self._connections) do
    if child ~= own then child:cancel "the server is closed" end
  end
end

-- What the server's own task runs. It is cancelled with the program, or with what started it.
local function serve(self)
  local ok, e = xpcall(accept_all, keep_trace, self)
  if ok then return end
  stop(self)
  cancel_all(self)
  rethrow(e)
end

local function server_ended(self, acceptor)
  if acceptor:cancelled() then
    stop(self) -- it may have been cancelled before it began
    cancel_all(self)
  elseif acceptor:error() ~= nil then
    report.report { message = "the HTTP server ended with an error", error = acceptor:error(),
      task = acceptor, traceback = acceptor:traceback() }
  end
  changed(self)
end

local function wait_for_others(_, self, own)
  while busy(self, own) do self._changed:wait() end
end

--- Closes the server: no further connections, idle ones are closed, requests in progress are
-- finished, and after `grace` seconds cancelled. Returns when all of that is done. A handler that
-- calls this is not waited for.
---@async
---@param grace? number  seconds; 10 by default
function Server:close(grace)
  grace = grace == nil and 10 or check.seconds(grace, 1, "close")
  local own = task.current()
  stop(self)
  if not busy(self, own) then return end
  local ok, e = xpcall(async.move_on_after, keep_trace, grace, wait_for_others, self, own)
  if ok and e then return end
  -- The time is over, or whoever called this is cancelled and has none.
  cancel_all(self, own)
  shielded(wait_for_others, nil, self, own)
  if not ok then rethrow(e) end
end

--- Waits until the server is closed. To cancel this ends the wait alone.
---@async
function Server:wait() self._closed:wait() end

Server.__tostring = function(self)
  return ("Server: %s"):format(tcp.address(self.host, self.port))
end

-- ---- options ------------------------------------------------------------------------------------

-- With what they are when nothing is said; 0 or false switches a limit off.
local LIMITS = {
  max_header_bytes = 32768, max_headers = 100, max_target_bytes = 8192,
  max_body_bytes = 16 * 1048576, max_collect_bytes = 1048576, max_connections = 10000,
  header_timeout = 10, body_timeout = 30, idle_timeout = 60, write_timeout = 30,
}
local KNOWN = { handler = true, host = true, port = true }
for name in pairs(LIMITS) do KNOWN[name] = true end

local function read_limits(options)
  local limits = {}
  for name, default in pairs(LIMITS) do
    local value = options[name]
    if value == nil then value = default end
    if value == false or value == math.huge then value = 0 end
    if type(value) ~= "number" or value ~= value or value < 0 then
      check.bad(name, "serve", "number of at least 0, or false, expected, got "
        .. (type(value) == "number" and tostring(value) or type(value)), 1)
    end
    limits[name] = value
  end
  return limits
end

local function resolve_host(host)
  if host == "*" then return "0.0.0.0" end
  return (address_of(host))
end

--- Starts a server; when this returns, it listens.
---@async
---@param options table  `handler`: function(req) that returns a status, a body, a response, or
-- `status, body [, headers]`; `host` ("127.0.0.1"; "*" for all), `port` (any if nil or 0), and the
-- limits that stand above
---@return Server
-- Errors: OSError (EADDRINUSE, EACCES ...).
return function(options)
  options = check.options(check.table(options, 1, "serve"), KNOWN, 1, "serve")
  local handler = options.handler
  if not check.is_callable(handler) then
    check.bad("handler", "serve", "function expected, got " .. type(handler))
  end
  if type(handler) ~= "function" then
    local object = handler
    handler = function(req) return object(req) end
  end
  local host, port = options.host, options.port
  if host == nil then host = "127.0.0.1" end
  if port == nil then port = 0 end
  if type(host) ~= "string" or host == "" or host:find("%z") then
    check.bad("host", "serve", "name or address of a host expected, got "
      .. (type(host) == "string" and "'" .. host:gsub("%z", "?") .. "'" or type(host)))
  end
  if type(port) ~= "number" or port % 1 ~= 0 or port < 0 or port > 65535 then
    check.bad("port", "serve", "integer between 0 and 65535 expected, got " .. tostring(port))
  end
  local limits = read_limits(options)

  local self = setmetatable({
    host = resolve_host(host), _handler = handler,
    _most = limits.max_collect_bytes == 0 and math.huge or limits.max_collect_bytes,
    _connections = {}, _count = 0, _closing = false, _changed = async.Event(),
    _closed = async.Event(),
  }, Server)
  self._listener = http1.listen(self.host, port, limits)
  self.port = self._listener:port()
  self._connection_ended = function(child) connection_ended(self, child) end
  self._acceptor = async.spawn(serve, self)
  self._acceptor:set_name "HTTP server"
  self._acceptor:add_done_callback(function(acceptor) server_ended(self, acceptor) end)
  return self
end
