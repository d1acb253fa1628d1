--- Streams: connections, the pipes of a child, the standard streams. Bytes that have come are kept
-- in C++ until they are read; a write goes out at once if the peer takes it, else its task waits.
local binding = require "rille.core.stream"
local core = require "rille.core.scheduler"
local task = require "rille.core.task"
local main = require "rille.core.main"

local read, read_exactly, read_until = binding.read, binding.read_exactly, binding.read_until
local read_line, write = binding.read_line, binding.write
local raise = task.raise

for _, fn in pairs { read, read_exactly, read_until, read_line, write } do
  core.transparent[fn] = true
end

---@class Stream
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
-- the peer is slow to take it; a task that is cancelled meanwhile gives up the wait, and the message
-- still goes out whole.
---@async
---@return Stream  itself
-- Errors: OSError (EPIPE, ECONNRESET …), TLSError, Cancelled; InvalidStateError once it is closed or
-- shut down.
function Stream:write(...)
  local err = write(self, ...)
  if err ~= nil then raise(err) end
  return self
end

-- What was written is delivered before the program ends.
main.at_end(binding.finish_lingering)

return Stream
