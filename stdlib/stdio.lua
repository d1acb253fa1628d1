--- rille.stdio: the standard streams, to be read and written without holding up what else there is
-- to do. The descriptors themselves are left as they were, for the others who have them.
local binding = require "rille.core.stdio"
local descriptor_of = require("rille.core.child").descriptor
local stream_binding = require "rille.core.stream"
local errors = require "rille.errors"
local check = require "rille.core.check"
local main = require "rille.core.main"
require "rille.net.stream"

local type, rawget, getmetatable, tostring = type, rawget, getmetatable, tostring
local drain = binding.drain

local NUMBERS = { stdin = 0, stdout = 1, stderr = 2 }

---@class rille.stdio
---@field stdin Stream  opened when it is first used, like the others
---@field stdout Stream
---@field stderr Stream
local M = setmetatable({}, {
  __index = function(self, name)
    local number = NUMBERS[name]
    if not number then return nil end
    local stream = binding.open(number)
    self[name] = stream
    return stream
  end,
})

-- ---- order --------------------------------------------------------------------------------------

-- What Lua's own functions print has its place behind what was written to a stream before. The
-- other way round, a write to the stream puts out first what they have in their buffer.

local function settle(name)
  local stream = rawget(M, name)
  if stream then drain(stream) end
end

local print, io_write = print, io.write

function _G.print(...)
  settle "stdout"
  print(...)
end

function io.write(...)
  settle "stdout"
  return io_write(...)
end

local file_methods = getmetatable(io.stdout).__index
local file_write = file_methods.write

function file_methods.write(file, ...)
  if file == io.stdout then settle "stdout" elseif file == io.stderr then settle "stderr" end
  return file_write(file, ...)
end

main.at_end(function()
  settle "stdout"
  settle "stderr"
end)

-- ---- terminals ----------------------------------------------------------------------------------

local function descriptor_argument(value)
  local meta = getmetatable(value)
  if type(value) == "userdata" and meta == stream_binding.metatable then
    if value:is_closed() then
      errors._raise("InvalidStateError", "isatty: the stream " .. value:name() .. " is closed")
    end
    return (descriptor_of(value))
  elseif type(value) == "table" and type(meta) == "table" and meta.__name == "File" then
    if value._closed then
      errors._raise("InvalidStateError", ("isatty: the file '%s' is closed"):format(
        tostring(value.path)))
    end
    return require("rille.core.file").descriptor(value._handle)
  end
  check.bad(1, "isatty", "Stream expected, got " .. type(value))
end

--- True if it is a terminal.
---@param stream? Stream|File  standard output by default
---@return boolean
-- Errors: InvalidStateError if it is closed.
-- Source: POSIX isatty.
function M.isatty(stream)
  local number = 1
  if stream ~= nil then number = descriptor_argument(stream) end
  return number ~= nil and binding.is_tty(number)
end

--- The size of the terminal in characters: columns, rows; nil without a terminal.
---@return integer? columns
---@return integer? rows
M.size = binding.size

return M
