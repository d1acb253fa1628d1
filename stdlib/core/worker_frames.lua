--- What a pool and its processes say to each other: a kind, a number and a text at a time, and how
-- values travel in such a text.
local core = require "rille.core.worker"
local codec = require "rille.core.worker_codec"
local errors = require "rille.errors"

local char, byte, find, sub, concat = string.char, string.byte, string.find, string.sub,
  table.concat
local floor = math.floor

local M = {}

local MARK = "\240R" -- what each frame begins with, and nothing that is printed
local HEAD = 11 -- bytes: the mark, the kind, the number, how long the text is
local LONGEST = 2 ^ 32

local function four(n)
  return char(n % 256, floor(n / 256) % 256, floor(n / 65536) % 256, floor(n / 16777216) % 256)
end

local function number_at(text, at)
  local a, b, c, d = byte(text, at, at + 3)
  return a + b * 256 + c * 65536 + d * 16777216
end

--- What came is no frame.
function M.fail()
  errors._raise("WorkerError", "what came from the worker's process is no message of a worker")
end

--- Writes a frame.
---@async
function M.write(stream, kind, number, text)
  if #text >= LONGEST then errors._raise("CopyError", "cannot copy values of 4 GiB and more") end
  stream:write(MARK, kind, four(number), four(#text), text)
end

--- Reads a frame: kind, number, text.
---@async
-- Errors: IncompleteReadError and OSError at the end of the connection; WorkerError.
function M.read(stream)
  local head = stream:read_exactly(HEAD)
  if sub(head, 1, 2) ~= MARK then M.fail() end
  local size = number_at(head, 8)
  return sub(head, 3, 3), number_at(head, 4), size > 0 and stream:read_exactly(size) or ""
end

--- Values as a text, whose channels are still to get their numbers.
---@param what "call"|"results"|"value"
function M.encode(what, ...)
  local channels = {}
  local bytes, needs_modules = core.encode(what, channels, ...)
  return { channels = channels, bytes = bytes, mark = needs_modules and "!" or ";" }
end

--- The whole text. `number_of(channel)` gives the number under which the other side knows it.
function M.number(encoded, number_of)
  local numbers = {}
  for i, channel in ipairs(encoded.channels) do numbers[i] = number_of(channel) end
  return concat { concat(numbers, ","), encoded.mark, encoded.bytes }
end

--- Both at once.
---@param what "call"|"results"|"value"
function M.pack(what, number_of, ...)
  local channels = {}
  local bytes, needs_modules = core.encode(what, channels, ...)
  for i, channel in ipairs(channels) do channels[i] = number_of(channel) end
  return concat { concat(channels, ","), needs_modules and "!" or ";", bytes }
end

--- The values of a text. `channel_of(number)` gives the channel; modules that they need are loaded.
---@async
function M.unpack(text, channel_of)
  local at = find(text, "[!;]")
  if not at then M.fail() end
  local channels = {}
  for number in sub(text, 1, at - 1):gmatch "%d+" do
    channels[#channels + 1] = channel_of(tonumber(number))
  end
  local bytes = sub(text, at + 1)
  if sub(text, at, at) == "!" then codec.load(core.modules_of(bytes)) end
  return core.decode(bytes, channels)
end

return M
