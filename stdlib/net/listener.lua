--- Listeners, and servers on them that give each connection a task.
local tcp = require "rille.core.tcp"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local timeout = require "rille.async.timeout"
local errors = require "rille.errors"
local check = require "rille.core.check"
local main = require "rille.core.main"
local report = require "rille.core.report"
local address = require "rille.net.address"
local shielded = require("rille.async.cleanup").shielded
local protected_call = require("rille.core.protect").xpcall

local park, wake = core.park, core.wake
local accept = tcp.accept
local keep_trace, rethrow, raise = task.keep_trace, task.rethrow, task.raise
local type, getmetatable, setmetatable, pairs, tostring = type, getmetatable, setmetatable, pairs,
  tostring

core.transparent[accept] = true

local GRACE = 10 -- seconds
-- Without descriptors nothing can be accepted; that may change at any time.
local STARVED_PAUSE = 0.1
local STARVED_SILENCE = 60 -- between two reports of that: it may come and go with each connection
local STARVED = { EMFILE = true, ENFILE = true, ENOBUFS = true, ENOMEM = true }

---@class Listener
local Listener = { __name = "Listener" }
Listener.__index = Listener

local function check_self(self, name)
  if type(self) ~= "table" or getmetatable(self) ~= Listener then
    check.bad(1, name, "Listener expected, got " .. (self == nil and "nil" or type(self)))
  end
end

local function check_open(self, name)
  check_self(self, name)
  if self._closed then
    errors._raise("InvalidStateError", ("%s: the listener %s is closed"):format(name, self._name))
  end
end

--- The next connection. What nobody accepts stays in the system's backlog.
---@async
---@return Stream
-- Errors: InvalidStateError once it is closed; OSError (EMFILE, ENFILE: out of descriptors; the
-- connection waits); Cancelled. With `tls`, a failed handshake is an error of the stream.
function Listener:accept()
  check_open(self, "accept")
  local err, stream = accept(self._binding)
  if err ~= nil then raise(err) end
  if not stream then check_open(self, "accept") end
  if self._tls then require("rille.tls.stream").server(stream, self._tls) end
  return stream
end

--- Where it listens.
---@return Address
-- Errors: InvalidStateError if it is closed.
function Listener:address()
  check_open(self, "address")
  return address.new(self._binding:address())
end

--- Takes no more connections. `serve` gives those that it has `grace` seconds to end, and returns
-- when they have; this does not wait. A Unix socket's file is removed. A second time does nothing.
---@param grace? number  seconds; what was given to `serve`, or 10, by default
function Listener:close(grace)
  check_self(self, "close")
  if grace ~= nil then grace = check.seconds(grace, 1, "close") end
  if self._closed then return end
  self._closed = true
  self._grace = grace
  self._binding:close()
  for server in pairs(self._servers) do server:changed() end
end

Listener.__tostring = function(self)
  return ("Listener: %s%s"):format(self._name, self._closed and " (closed)" or "")
end

report.describe(Listener.accept, function(self) return "a connection on " .. self._name end)

-- ---- serve --------------------------------------------------------------------------------------

-- What one call of `serve` has in hand. Its task waits in one place, for one of several things.
local Server = {}
Server.__index = Server

function Server:changed() wake(self._place[1]) end

local function wait_for_change(self)
  local err = park(self._place, 1)
  if err ~= nil then raise(err) end
end

-- A connection's task has ended. The error is the connection's alone.
function Server:child_done(child)
  local stream = self._streams[child]
  self._streams[child] = nil
  self._alive = self._alive - 1
  if child[2] == 3 then
    local e, x = child[3], child[10]
    task.take(child)
    if not self._handshakes or self._handshakes[child] then
      report.report {
        message = ("error in a connection of the server on %s, from %s"):format(
          self._listener._name, stream:name()),
        error = e, task = child, traceback = x and x.trace and errors._render(x.trace) or nil,
      }
    end
  end
  if self._handshakes then self._handshakes[child] = nil end
  stream:close()
  self:changed()
end

-- With TLS: whoever only looks at the port, or speaks no TLS, is nothing to report.
local function after_handshake(self, stream)
  require("rille.tls.stream").handshake(stream)
  self._handshakes[task.current()] = true
  return self._fn(stream)
end

local function start(self, stream)
  local child
  if self._handshakes then
    require("rille.tls.stream").server(stream, self._listener._tls)
    child = task.spawn_for(self, after_handshake, self, stream)
  else
    child = task.spawn_for(self, self._fn, stream)
  end
  child:set_name("connection from " .. stream:name())
  self._streams[child] = stream
  self._alive = self._alive + 1
end

local function wait_in_pause(_, self) wait_for_change(self) end

-- Out of descriptors: says so, and tries again when one may be free.
local function starve(self, e)
  local now = core.time()
  if now >= self._silent_until then
    self._silent_until = now + STARVED_SILENCE
    report.report {
      message = ("the server on %s takes no connections at present"):format(self._listener._name),
      error = e, task = task.current(),
    }
  end
  timeout.move_on_after(STARVED_PAUSE, wait_in_pause, self)
end

local function accept_all(self)
  local listener, limit = self._listener, self._limit
  local binding = listener._binding
  while not listener._closed do
    if self._alive >= limit then
      wait_for_change(self)
    else
      local err, stream = accept(binding)
      if stream then
        start(self, stream)
      elseif err ~= nil then
        if not (errors.is(err, "OSError") and STARVED[err.code]) then raise(err) end
        starve(self, err)
      end
    end
  end
end

report.describe(accept_all, function(self) return "connections on " .. self._listener._name end)

local function wait_for_all(self)
  while self._alive > 0 do wait_for_change(self) end
end

report.describe(wait_for_all, function(self)
  return ("%d connection%s to end"):format(self._alive, self._alive == 1 and "" or "s")
end)

local function wait_in_scope(_, self) wait_for_all(self) end

local function cancel_all(self)
  for child in pairs(self._streams) do child:cancel "the server is closed" end
  shielded(wait_for_all, self)
end

local function finish(self, ok, e)
  local listener = self._listener
  if not ok then
    listener:close()
    cancel_all(self)
    listener._servers[self] = nil
    rethrow(e)
  end
  local grace = listener._grace or self._grace
  local in_time
  ok, in_time = protected_call(timeout.move_on_after, keep_trace, grace, wait_in_scope, self)
  if not (ok and in_time) then cancel_all(self) end
  listener._servers[self] = nil
  if not ok then rethrow(in_time) end
end

local OPTIONS = { limit = true, grace = true }

---@class rille.net.ServeOptions
---@field limit? integer  connections at once, the others wait in the backlog; no limit by default
---@field grace? number  seconds that they have to end once it is closed; 10 by default

--- Gives each connection a task that runs `fn(stream)`; the stream is closed when that ends. An
-- error in it ends that connection alone, and is reported. Returns once the listener is closed and
-- the connections have ended.
---@async
---@param fn fun(stream: Stream)
---@param options? rille.net.ServeOptions
-- Errors: InvalidStateError if the listener is closed; Cancelled: the listener is closed then, and
-- the connections' tasks have been cancelled and have ended.
-- Source: asyncio.Server.serve_forever, Go's http.Server.Shutdown.
function Listener:serve(fn, options)
  check_open(self, "serve")
  check.callable(fn, 1, "serve")
  options = check.options(options, OPTIONS, 2, "serve")
  if type(fn) ~= "function" then
    local object = fn
    fn = function(stream) return object(stream) end
  end
  local limit, grace = options.limit, options.grace
  if not limit then limit = math.huge end
  limit = check.count(limit, 1, "limit", "serve")
  grace = grace == nil and GRACE or check.seconds(grace, "grace", "serve")
  local err = core.check_wait()
  if err ~= nil then raise(err) end
  local server = setmetatable({
    _listener = self, _fn = fn, _limit = limit, _grace = grace, _alive = 0, _streams = {},
    _place = { 0 }, _silent_until = 0, _handshakes = self._tls and {} or false,
  }, Server)
  self._servers[server] = true
  return finish(server, protected_call(accept_all, keep_trace, server))
end

-- Those that have a file, which goes with the program.
local with_file = setmetatable({}, { __mode = "k" })

main.at_end(function()
  for binding in pairs(with_file) do binding:close() end
end)

--- Makes a listener of one of the binding's.
return function(binding, tls)
  local where = address.new(binding:address())
  if where.path and where.path:sub(1, 1) ~= "@" then with_file[binding] = true end
  return setmetatable({
    _binding = binding, _tls = tls, _closed = false, _servers = {}, _name = tostring(where),
  }, Listener)
end
