--- Streams: connections, the pipes of a child, the standard streams. Bytes that have come are kept
-- in C++ until they are read; a write goes out at once if the peer takes it, else its task waits.
local binding = require "rille.core.stream"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local main = require "rille.core.main"
local check = require "rille.core.check"
local report = require "rille.core.report"
local errors = require "rille.errors"
local address = require "rille.net.address"
local give_turn = require "rille.core.turn"

local read, read_exactly, read_until = binding.read, binding.read_exactly, binding.read_until
local read_line, write = binding.read_line, binding.write
local raise = task.raise

for _, fn in pairs { read, read_exactly, read_until, read_line, write } do
  core.transparent[fn] = true
end

---@class Stream
---@field shutdown async fun(self: Stream)  Sends the end of what is written; reading goes on.
---@field close fun(self: Stream)  Closes it; what was written is delivered, for at most 10 s.
---@field abort fun(self: Stream)  Closes it at once and resets the connection.
---@field set_nodelay fun(self: Stream, on: boolean)  Whether small writes go at once; they do.
---@field set_keepalive fun(self: Stream, value: boolean|number)  Probes an idle peer; seconds.
local Stream = binding.Stream

--- What has come, as soon as there is something.
---@async
---@param max? integer  bytes at most; 65536 by default
---@return string?  1 to `max` bytes; nil at the end
-- Errors: OSError (ECONNRESET …), TLSError, InvalidStateError, Cancelled; no byte is lost then.
function Stream:read(max)
  local err, data = read(self, max)
  if err ~= nil then raise(err) end
  return data
end

--- So many bytes and no fewer.
---@async
---@param n integer
---@return string
-- Errors: IncompleteReadError (`partial`, `expected`) if the stream ends before; as `read`.
-- Source: asyncio.StreamReader.readexactly.
function Stream:read_exactly(n)
  local err, data = read_exactly(self, n)
  if err ~= nil then raise(err) end
  return data
end

--- Everything up to a separator, and the separator.
---@async
---@param separator string
---@param max? integer  bytes at most, with the separator; 1 MiB by default
---@return string
-- Errors: LimitOverrunError if there is no separator within `max` bytes, nothing is consumed then;
-- IncompleteReadError (`partial`) if the stream ends before; as `read`.
-- Source: asyncio.StreamReader.readuntil.
function Stream:read_until(separator, max)
  local err, data = read_until(self, separator, max)
  if err ~= nil then raise(err) end
  return data
end

--- A line without its `\n`. What follows the last one is a line too, if it is not empty.
---@async
---@param max? integer  bytes at most; 1 MiB by default
---@return string?  nil at the end
-- Errors: LimitOverrunError, nothing is consumed then; as `read`.
function Stream:read_line(max)
  local err, data = read_line(self, max)
  if err ~= nil then raise(err) end
  return data
end

--- Writes strings and numbers as one message: those of several tasks do not interleave. Waits while
-- the peer is slow to take it; a task that is cancelled meanwhile gives up the wait, and the
-- message still goes out whole.
---@async
---@param ... string|number
---@return Stream  itself
-- Errors: OSError (EPIPE, ECONNRESET …), TLSError, Cancelled; InvalidStateError once it is closed
-- or shut down.
function Stream:write(...)
  local err, has_gone_on = write(self, ...)
  -- A peer that takes whatever comes must not keep all other tasks waiting.
  if has_gone_on then err = give_turn() end
  if err ~= nil then raise(err) end
  return self
end

local function check_open(self, name)
  if Stream.is_closed(self) then
    errors._raise("InvalidStateError", ("%s: the stream %s is closed"):format(name,
      Stream.name(self)))
  end
end

-- ---- lines --------------------------------------------------------------------------------------

local Lines = { __name = "Lines" }
Lines.__index = Lines

--- The next line; nil at the end.
---@async
function Lines:__call()
  local stream = self._stream
  if not stream then return nil end
  local err, line = read_line(stream, self._max)
  if err ~= nil then raise(err) end
  if line == nil then self._stream = false end
  return line
end

--- Ends the iteration; the stream stays open, and stands behind what was handed out.
function Lines:close() self._stream = false end

--- An iterator over lines without their `\n`: `for line in stream:lines() do`.
---@param max? integer  bytes in a line at most; 1 MiB by default
---@return fun(): string?  with `close()`
-- Errors: InvalidStateError if it is closed; those of `read_line`, in the loop.
function Stream:lines(max)
  check_open(self, "lines")
  if max ~= nil then max = check.count(max, 1, 1, "lines") end
  return setmetatable({ _stream = self, _max = max }, Lines)
end

-- ---- addresses ----------------------------------------------------------------------------------

--- This end's address; nil for what is no socket.
---@return Address?
-- Errors: InvalidStateError if it is closed.
function Stream:address() return address.new(Stream.socket_address(self)) end

--- The other end's address; nil for what is no socket.
---@return Address?
-- Errors: InvalidStateError if it is closed.
function Stream:peer()
  local family, host, port = Stream.peer_address(self)
  if family then return address.new(family, host, port) end
  -- Of a connection that is lost the system has forgotten it.
  return Stream.socket_address(self) and address.parse(Stream.name(self)) or nil
end

-- ---- TLS ----------------------------------------------------------------------------------------

--- Goes on encrypted: on the server's side if the stream was accepted, else on the client's.
---@async
---@param options? boolean|rille.tls.Options|TLSContext
---@return Stream  itself
-- Errors: TLSError, OSError; InvalidStateError if it is closed, in use, or has plain bytes left.
-- The stream is closed then.
function Stream:start_tls(options)
  check_open(self, "start_tls")
  local tls = require "rille.tls.stream"
  local accepted = Stream.was_accepted(self)
  local origin = not accepted and require("rille.net.connect").origins[self]
  if origin then return tls.start_tls(self, options, accepted, origin.host, origin.port) end
  local peer = self:peer()
  return tls.start_tls(self, options, accepted, peer and peer.host, peer and peer.port)
end

---@class rille.net.TlsInfo
---@field version string  "TLSv1.3"
---@field cipher string
---@field alpn? string  the protocol that both have agreed on
---@field server_name? string  the name that was asked for
---@field resumed boolean  whether an earlier session was taken up
---@field peer? table  `{ subject =, issuer =, names =, not_after = }` of its certificate

--- What the encryption is like; nil if there is none.
---@async
---@return rille.net.TlsInfo?
function Stream:tls()
  check_open(self, "tls")
  local tls = package.loaded["rille.tls.stream"]
  return tls and tls.info(self)
end

-- ---- the rest -----------------------------------------------------------------------------------

binding.metatable.__tostring = function(self)
  local name = Stream.name(self)
  return ("Stream: %s%s"):format(name, Stream.is_closed(self) and " (closed)" or "")
end

for _, name in ipairs { "read", "read_exactly", "read_until", "read_line" } do
  report.describe(Stream[name], function(self) return "a read of " .. Stream.name(self) end)
end
report.describe(Lines.__call, function(self)
  return "a line of " .. (self._stream and Stream.name(self._stream) or "?")
end)
report.describe(Stream.write, function(self)
  return ("%s to take what is written"):format(Stream.name(self))
end)

-- What was written is delivered before the program ends.
main.at_end(binding.finish_lingering)

return Stream
