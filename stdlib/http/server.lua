--- A server of HTTP: each connection is a task, which takes its requests one after another.
local async = require "rille.async"
local http1 = require "rille.core.http1"
local tcp = require "rille.core.tcp"
local core = require "rille.core.scheduler"
local net = require "rille.net"
local task = require "rille.core.task"
local report = require "rille.core.report"
local errors = require "rille.errors"
local check = require "rille.core.check"
local options_of = require "rille.http.server_options"
local serve_connection = require("rille.http.connection").serve

local xpcall = require("rille.core.protect").xpcall
local shielded = require("rille.async.cleanup").shielded
local keep_trace, rethrow, raise = task.keep_trace, task.rethrow, task.raise
local setmetatable, pairs, tostring, type = setmetatable, pairs, tostring, type
local accept = tcp.accept

core.transparent[accept] = true

local workers -- rille.http.workers, once it is needed

-- Without descriptors nothing can be accepted; that may change at any time.
local STARVED_PAUSE = 0.05
local STARVED = { EMFILE = true, ENFILE = true, ENOBUFS = true, ENOMEM = true }

---@class Server
---@field host string?  an IP address
---@field port integer?
---@field path string?  of a Unix socket
---@field worker integer?  which of the `workers` this process is; nil in the one that supervises
local Server = { __name = "Server" }
Server.__index = Server

-- ---- connections --------------------------------------------------------------------------------

local function serve_http2(self, entry, stream)
  local http2 = require "rille.http.http2_server"
  self._core2 = self._core2 or http2.server(self._settings)
  if self._closing then self._core2:stop() end
  local conn = self._core2:open(stream)
  entry.link = conn
  if self._closing then conn:drain() end
  return http2.serve(self._settings, entry, conn)
end

-- What is open of one connection: `link` is the stream, then what speaks HTTP over it.
local function serve_stream(self, entry)
  local stream, tls = entry.link, self._tls
  if tls then
    local handshake = require "rille.tls.stream"
    local ok, e = xpcall(handshake.handshake, keep_trace, stream)
    if not ok then
      -- Whoever only looks at the port, or speaks no TLS, is nothing to report.
      if errors.is(e, "TLSError") or errors.is(e, "OSError") or self._closing then return end
      rethrow(e)
    end
  end
  if tls and self._closing then return end -- and so is the stream
  if tls and self._settings.http2 and require("rille.tls.binding").info(stream).alpn == "h2" then
    return serve_http2(self, entry, stream)
  end
  local conn = self._core:open(stream)
  entry.link = conn
  self._entries[conn] = entry
  if self._closing then conn:drain() end
  local is_http2 = serve_connection(self._settings, conn)
  if is_http2 then
    self._entries[conn] = nil
    local rest = conn:release()
    if rest then
      entry.link = rest
      return serve_http2(self, entry, rest)
    end
  end
end

function Server:child_done(child)
  local entry = self._children[child]
  self._children[child] = nil
  self._count = self._count - 1
  if entry.upgraded then entry.upgraded:close() end
  local conn = entry.link
  self._entries[conn] = nil
  conn:close()
  if child[2] == 3 then
    local e, x = child[3], child[10]
    task.take(child)
    report.report {
      message = "error in a connection of the HTTP server", error = e, task = child,
      traceback = x and x.trace and errors._render(x.trace) or nil,
    }
  end
  self._changed:set()
  self._changed:clear()
end

local function start(self, stream)
  if self._tls then require("rille.tls.stream").server(stream, self._tls) end
  local entry = { link = stream, upgraded = false, on_close = nil, requests = nil }
  local child = task.spawn_for(self, serve_stream, self, entry)
  child:set_name "HTTP connection"
  entry.task = child
  self._children[child] = entry
  self._count = self._count + 1
end

-- A connection has changed to another protocol, and is a stream now.
local function note_upgrade(self, conn, stream, on_close)
  local entry = self._entries[conn]
  entry.upgraded, entry.on_close = stream, on_close
  if self._closing and on_close then async.call_soon(on_close, "the server is closed") end
end

local function accept_all(self)
  local binding, limit = self._listener._binding, self._settings.max_connections
  while not self._closing do
    if self._count >= limit then
      self._changed:wait()
    else
      local err, stream = accept(binding)
      if stream then
        start(self, stream)
      elseif err ~= nil then
        if not (errors.is(err, "OSError") and STARVED[err.code]) then raise(err) end
        async.sleep(STARVED_PAUSE)
      end
    end
  end
end

report.describe(accept_all, function(self) return "connections on " .. tostring(self) end)

-- ---- the end ------------------------------------------------------------------------------------

-- Who has connected already may have asked for something.
local function take_waiting(self)
  local binding, limit = self._listener._binding, self._settings.max_connections
  while self._count < limit do
    local _, stream = tcp.accept_now(binding)
    if not stream then return end
    start(self, stream)
  end
end

local function stop(self)
  if self._closing then return end
  self._closing = true
  self._core:stop()
  if self._core2 then self._core2:stop() end
  if self._listener then
    if not self._tls then take_waiting(self) end
    self._listener:close()
  end
  for _, entry in pairs(self._children) do
    if entry.on_close then
      local ok, e = xpcall(entry.on_close, keep_trace, "the server is closed")
      if not ok then report.report { message = "error while the server is closed", error = e } end
    elseif entry.link.drain then
      entry.link:drain()
    elseif self._tls then
      entry.link:close() -- in the middle of its handshake
    end
  end
  self._changed:set()
  self._changed:clear()
end

local function cancel_all(self, own, own_request)
  for child, entry in pairs(self._children) do
    if child ~= own then
      child:cancel "the server is closed"
    elseif own_request and entry.requests then
      entry.requests:cancel("the server is closed", own_request)
    end
  end
end

-- The connection's task that answers with this one: itself, or with HTTP/2 the one that has started
-- it.
local function connection_of(self, own)
  if not own or self._children[own] then return own end
  for child, entry in pairs(self._children) do
    if entry.requests and entry.requests.streams[own] then return child end
  end
  return own
end

-- How many connections there are besides the one whose task asks.
local function others(self, own) return self._count - (own and self._children[own] and 1 or 0) end

local function wait_for_others(_, self, own)
  while others(self, own) > 0 do self._changed:wait() end
end

local function run_hook(self, name)
  local hook = self._hooks[name]
  if not hook then return end
  local ok, e = xpcall(hook, keep_trace)
  if not ok then
    report.report { message = ("error in the %s of the HTTP server"):format(name), error = e,
      task = task.current() }
  end
end

local function listen(self)
  local settings = self._settings
  if settings.workers then
    self._listener = workers.listen(self, settings)
    self.worker = workers.number
  else
    self._listener = net.listen {
      host = settings.host, port = settings.port, path = settings.path,
      reuse_port = settings.reuse_port or nil,
    }
  end
  local where = self._listener:address()
  self.host, self.port, self.path = where.host, where.port, where.path
  self._name = tostring(where)
end

-- What an application does before it can serve. All that belongs to its life is done in one task.
local function begin(self)
  self._hooks.startup()
  listen(self)
end

-- What the server's own task runs; the end of it is the end of the server.
local function run(self, begun)
  local ok, e
  if begun then
    ok, e = xpcall(begin, keep_trace, self)
    if not ok then
      shielded(run_hook, self, "cleanup")
      if not begun:done() then return begun:set_error(e) end
      rethrow(e)
    end
    begun:set_result()
  end
  ok, e = xpcall(accept_all, keep_trace, self)
  stop(self)
  -- It is cancelled with the program, or with what started it; then there is no time to lose.
  if not ok then cancel_all(self) end
  shielded(run_hook, self, "shutdown")
  if ok then
    ok, e = xpcall(wait_for_others, keep_trace, nil, self)
    if not ok then cancel_all(self) end
  end
  shielded(wait_for_others, nil, self)
  shielded(run_hook, self, "cleanup")
  if not ok then rethrow(e) end
end

local function server_ended(self, own)
  if not own:cancelled() and own:error() ~= nil then
    report.report { message = "the HTTP server ended with an error", error = own:error(),
      task = own, traceback = own:traceback() }
  elseif own:cancelled() then
    stop(self) -- it may have been cancelled before it began
  end
  self._closed:set()
end

-- Within a handler, whose own request cannot end before this does, the others' end has to do.
local function wait_for_end(_, self, own)
  local entry = own and self._children[own]
  if entry then
    wait_for_others(nil, self, own)
    if entry.requests then entry.requests:wait_for_fewer(2) end
    return
  end
  self._closed:wait()
end

--- Closes the server: no further connections, idle ones are closed, requests in progress are
-- finished, and after `grace` seconds cancelled. Returns when all of that is done. A handler that
-- calls this is not waited for.
---@async
---@param grace? number  seconds; 10 by default
function Server:close(grace)
  grace = grace == nil and 10 or check.seconds(grace, 1, "close")
  local own_request = task.current()
  local own = connection_of(self, own_request)
  stop(self)
  if self._closed:is_set() then return end
  local ok, e = xpcall(async.move_on_after, keep_trace, grace, wait_for_end, self, own)
  if ok and e then return end
  -- The time is over, or whoever called this is cancelled and has none.
  cancel_all(self, own, own_request)
  shielded(wait_for_end, nil, self, own)
  if not ok then rethrow(e) end
end

--- Waits until the server is closed. To cancel this ends the wait alone.
---@async
function Server:wait() self._closed:wait() end

report.describe(Server.wait, function(self) return tostring(self) .. " to be closed" end)

Server.__tostring = function(self) return "Server: " .. self._name end

-- ---- the beginning ------------------------------------------------------------------------------

local M = {}

--- Starts a server with settings that are checked.
---@param settings table  see rille.http.server_options; `handler`
---@param hooks table  `startup`, called before it listens, `shutdown`, when it begins to close, and
-- `cleanup`, at its end, all in the server's own task
---@param fn string  the name of the public function
function M.start(settings, hooks, fn)
  local tls = settings.tls
  if tls then tls = require("rille.tls.stream").context(tls, "server", fn) end
  if settings.workers then
    workers = require "rille.http.workers"
    if not workers.number then return require "rille.http.supervisor"(settings, fn) end
  end
  local self = setmetatable({
    _settings = settings, _hooks = hooks, _tls = tls, _children = {}, _entries = {}, _count = 0,
    _closing = false, _listener = false, _name = "HTTP", _changed = async.Event(),
    _closed = async.Event(), _core = http1.server(settings), _core2 = false,
  }, Server)
  settings.upgraded = function(...) return note_upgrade(self, ...) end
  local begun = hooks.startup and async.Future()
  if not begun then listen(self) end
  self._task = async.spawn(run, self, begun)
  self._task:set_name "HTTP server"
  self._task:add_done_callback(function(own) server_ended(self, own) end)
  if begun then
    local ok, e = xpcall(begun.await, keep_trace, begun)
    if not ok then
      self._task:cancel()
      shielded(self._closed.wait, self._closed)
      rethrow(e)
    end
  end
  return self
end

---@class rille.http.ServeOptions: rille.http.AppServeOptions
---@field handler fun(req: Request): any, any, any  gives a status, a body, a response or a table

--- Starts a server; when this returns, it listens. A handler returns a status, a text, a response,
-- a table (sent as JSON), or `status, body [, headers]`. Of `workers`, each process runs the script
-- again from its beginning, and this one supervises them: it starts anew what has crashed, and
-- passes SIGTERM, SIGINT and SIGHUP on. 0 or false switches a limit off.
---@async
---@param options rille.http.ServeOptions
---@return Server
-- Errors: OSError (EADDRINUSE, EACCES ...), TLSError; WorkerError if a worker's script fails
-- again and again at its start.
function M.serve(options)
  options = check.options(check.table(options, 1, "serve"), options_of.KNOWN, 1, "serve")
  local handler = options.handler
  if not check.is_callable(handler) then
    check.bad("handler", "serve", "function expected, got " .. type(handler))
  end
  local settings = options_of.read(options, "serve")
  settings.handler = handler
  if type(handler) ~= "function" then
    settings.handler = function(req) return handler(req) end
  end
  return M.start(settings, {}, "serve")
end

return M
