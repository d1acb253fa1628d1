--- What a pool and its processes say to each other: a kind, a number and a text at a time, and how
-- values travel in such a text.
local core = require "rille.core.worker"
local codec = require "rille.core.worker_codec"
local errors = require "rille.errors"

local char, byte, find, sub, concat = string.char, string.byte, string.find, string.sub,
  table.concat
local floor = math.floor

local M = {}

local HEAD = 9 -- bytes: the kind, the number, how long the text is
local LONGEST = 2 ^ 32

local function four(n)
  return char(n % 256, floor(n / 256) % 256, floor(n / 65536) % 256, floor(n / 16777216) % 256)
end

local function number_at(text, at)
  local a, b, c, d = byte(text, at, at + 3)
  return a + b * 256 + c * 65536 + d * 16777216
end

--- Writes a frame.
---@async
function M.write(stream, kind, number, text)
  if #text >= LONGEST then errors._raise("CopyError", "cannot copy values of 4 GiB and more") end
  stream:write(kind, four(number), four(#text), text)
end

--- Reads a frame: kind, number, text; nil at the end.
---@async
function M.read(stream)
  local head = stream:read_exactly(HEAD)
  local size = number_at(head, 6)
  return sub(head, 1, 1), number_at(head, 2), size > 0 and stream:read_exactly(size) or ""
end

--- Values as a text. `number_of(channel)` gives the number under which the other side knows it.
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
  local channels = {}
  for number in sub(text, 1, at - 1):gmatch "%d+" do
    channels[#channels + 1] = channel_of(tonumber(number))
  end
  local bytes = sub(text, at + 1)
  if sub(text, at, at) == "!" then codec.load(core.modules_of(bytes)) end
  return core.decode(bytes, channels)
end

return M
