--- Multipart bodies as they arrive: parts of any size, of which nothing is kept.
local fs = require "rille.fs"
local http1 = require "rille.core.http1"
local task = require "rille.core.task"
local errors = require "rille.errors"
local fields = require "rille.http.fields"

local xpcall = require("rille.core.protect").xpcall
local shielded = require("rille.async.cleanup").shielded
local keep_trace, rethrow = task.keep_trace, task.rethrow
local setmetatable, ipairs = setmetatable, ipairs
local find, sub, format, concat = string.find, string.sub, string.format, table.concat

local MAX_HEADER = 16384 -- bytes of a part's header fields

local M = {}

local function fail(status, fault)
  error(errors.new("HTTPError", format("%d %s: %s", status, http1.reason(status), fault),
    { status = status, _answer = {} }), 0)
end

local function malformed(what) fail(400, "malformed multipart body: " .. what) end

-- ---- the parts' bytes ---------------------------------------------------------------------------

-- Reads a body up to the lines that separate its parts. Before the first one it is in a part that
-- nobody wants.
local Reader = {}
Reader.__index = Reader

function Reader:more()
  local data = self.source()
  if not data then malformed "it ends in the middle" end
  self.input = self.input .. data
end

-- What stands at the end of a separating line: "--" behind the last part, else spaces and CR LF.
-- Gives where it ends and whether it was the last; false if the line is none.
function Reader:line_end(at)
  while true do
    local input = self.input
    local rest = sub(input, at, at + 1)
    if rest == "--" then return at + 2, true end
    local _, last = find(input, "^[ \t]*\r\n", at)
    if last then return last + 1, false end
    if not find(input, "^[ \t]*\r?$", at) and rest ~= "-" then return false end
    if #input - at > MAX_HEADER then malformed "a line that is too long" end
    self:more()
  end
end

--- More of the present part; nil at its end.
function Reader:next_data()
  if self.at_end then return nil end
  local separator = self.separator
  while true do
    local first, last = find(self.input, separator, 1, true)
    if first then
      if first > 1 then
        local data = sub(self.input, 1, first - 1)
        self.input = sub(self.input, first)
        return data
      end
      local rest, is_last = self:line_end(last + 1)
      if rest then
        self.input = sub(self.input, rest)
        self.at_end, self.is_last = true, is_last
        return nil
      end
      -- It only begins like one.
      local data = sub(self.input, 1, last)
      self.input = sub(self.input, last + 1)
      return data
    end
    -- The separator may have begun at the end.
    local sure = #self.input - #separator + 1
    if sure > 0 then
      local data = sub(self.input, 1, sure)
      self.input = sub(self.input, sure + 1)
      return data
    end
    self:more()
  end
end

--- The header fields of the next part, as a list; nil if there is none.
function Reader:next_head()
  while self:next_data() do end
  if self.is_last then
    -- What follows is of no meaning, and is read so that the connection can go on.
    while self.source() do end
    return nil
  end
  self.at_end = false
  local list = {}
  while true do
    local line_end = find(self.input, "\r\n", 1, true)
    if line_end == 1 then
      self.input = sub(self.input, 3)
      return list
    elseif line_end then
      local line = sub(self.input, 1, line_end - 1)
      local name, value = line:match "^([^:]+):(.*)$"
      value = name and fields.trim(value)
      if not name or not http1.is_token(name) or find(value, "[%z\r\n]") then
        malformed "a header field"
      end
      list[#list + 1] = name
      list[#list + 1] = value
      self.header_bytes = self.header_bytes + line_end + 1
      self.input = sub(self.input, line_end + 2)
    else
      if self.header_bytes + #self.input > MAX_HEADER then malformed "too many header fields" end
      self:more()
    end
    if self.header_bytes > MAX_HEADER then malformed "too many header fields" end
  end
end

-- ---- a part -------------------------------------------------------------------------------------

---@class Part
---@field name string?
---@field filename string?  as the client named it: not a path to be trusted
---@field headers Fields
---@field content_type string
local Part = { __name = "Part" }
Part.__index = Part

local PartChunks = { __name = "Chunks" }
PartChunks.__index = PartChunks

function PartChunks:__call()
  local part = self._part
  if not part then return nil end
  if part._parts._current ~= part then
    errors._raise("InvalidStateError", "chunks: the iteration has gone on to the next part")
  end
  local data = part._parts._reader:next_data()
  if not data then self._part = false end
  return data
end

function PartChunks:close() self._part = false end

--- An iterator over what is in it, as it comes.
---@return fun(): string?  with `close()`
-- Errors: InvalidStateError if it was read before; in the loop HTTPError (400, 413, 408).
function Part:chunks()
  if self._taken then
    errors._raise("InvalidStateError", "chunks: the part has been read")
  end
  self._taken = true
  return setmetatable({ _part = self }, PartChunks)
end

--- What is in it, collected in memory.
---@async
---@return string
-- Errors: HTTPError (413 if it is larger than `max_collect_bytes`; 400, 408).
function Part:bytes()
  if self._bytes then return self._bytes end
  local list, size = {}, 0
  for data in self:chunks() do
    size = size + #data
    if size > self._parts._most then fail(413, "a part of the body is too large") end
    list[#list + 1] = data
  end
  self._bytes = concat(list)
  return self._bytes
end

--- What is in it, as text.
---@async
---@return string
function Part:text() return self:bytes() end

local function write_all(self, file)
  local size = 0
  for data in self:chunks() do
    file:write(data)
    size = size + #data
  end
  file:close()
  return size
end

--- Writes it into a file as it comes. If that fails there is none.
---@async
---@param path string
---@return integer  its size
-- Errors: OSError; HTTPError (400, 413, 408).
function Part:save(path)
  if self._taken then errors._raise("InvalidStateError", "save: the part has been read") end
  -- Whoever is cancelled while the file is made could not tell whether it was.
  local ok, file = shielded(fs.open, path, "w")
  if not ok then rethrow(file) end
  local result
  ok, result = xpcall(write_all, keep_trace, self, file)
  if ok then return result end
  shielded(function()
    pcall(file.close, file)
    pcall(fs.remove, path)
  end)
  return rethrow(result)
end

-- ---- all parts ----------------------------------------------------------------------------------

local Parts = { __name = "Parts" }
Parts.__index = Parts

--- The next part; nil at the end.
---@async
function Parts:__call()
  if not self._reader then return nil end
  self._reader.header_bytes = 0
  local head = self._reader:next_head()
  if not head then
    self:close()
    return nil
  end
  local headers = fields.headers(head)
  local disposition = headers["content-disposition"] or ""
  local part = setmetatable({
    headers = headers, content_type = headers["content-type"] or "text/plain",
    name = fields.parameter(disposition, "name"),
    filename = fields.parameter(disposition, "filename"), _parts = self, _taken = false,
  }, Part)
  local extended = fields.parameter(disposition, "filename*")
  if extended then
    local text = extended:match "^[uU][tT][fF]%-8'[^']*'(.*)$"
    if text then part.filename = http1.unescape(text) end
  end
  self._current = part
  return part
end

--- Ends the iteration; what was not read is passed over.
function Parts:close()
  if not self._reader then return end
  self._source:close()
  self._reader, self._current = false, false
end

--- Iterates over the parts of a body.
---@param source fun(): string?  its bytes, with `close()`
---@param boundary string
---@param most integer  bytes that a part may have to be collected
function M.read(source, boundary, most)
  local reader = setmetatable({
    -- As if a line had ended before the first one.
    source = source, separator = "\r\n--" .. boundary, input = "\r\n", at_end = false,
    is_last = false, header_bytes = 0,
  }, Reader)
  return setmetatable({ _reader = reader, _source = source, _most = most, _current = false }, Parts)
end

for _, name in ipairs { "bytes", "save" } do
  require("rille.core.report").describe(Part[name], function()
    return "a part of a multipart body"
  end)
end

return M
