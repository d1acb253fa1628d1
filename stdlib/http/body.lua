--- Bodies of requests: what a script gives, made fit to be sent, perhaps more than once.
local check = require "rille.core.check"
local errors = require "rille.errors"
local fields = require "rille.http.fields"
local multipart = require "rille.http.multipart"

local type, tostring = type, tostring

local M = {}

-- ---- streams ------------------------------------------------------------------------------------

-- Pieces out of what a script gave: a function or an object to call, or one with chunks().
local Stream = {}
Stream.__index = Stream

local function stream(source)
  return setmetatable({ source = source, pieces = source, begun = false }, Stream)
end

function Stream:next()
  local source = self.source
  if not self.begun and type(source) ~= "function" and source.chunks then
    self.pieces = source:chunks()
  end
  self.begun = true
  while true do
    local piece = self.pieces()
    if type(piece) == "number" then piece = tostring(piece) end
    if piece == nil then return nil end
    if type(piece) ~= "string" then
      check.fail("a piece of the body is of type " .. type(piece) .. ", not a string")
    end
    -- An empty piece is not the end, and would be one in chunks.
    if piece ~= "" then return piece end
  end
end

function Stream:close()
  local source, pieces = self.source, self.pieces
  if pieces ~= source and type(pieces) ~= "function" and pieces.close then pieces:close() end
  if type(source) ~= "function" and source.close then source:close() end
end

--- How many bytes a file still has; nil for what is none, or has no end of its own (a FIFO).
---@async
---@param file string|File  a path or an open file
---@return integer?
-- Errors: OSError.
function M.size_of(file)
  if type(file) == "string" then
    local stat = require("rille.fs").stat(file)
    return stat.type == "file" and stat.size or nil
  end
  local meta = getmetatable(file)
  if type(file) ~= "table" or type(meta) ~= "table" or meta.__name ~= "File" then return nil end
  local stat = file:stat()
  return stat.type == "file" and math.max(0, stat.size - file:seek()) or nil
end

local function is_source(value)
  if check.is_callable(value) then return true end
  local t = type(value)
  if t ~= "table" and t ~= "userdata" then return false end
  local ok, chunks = pcall(function() return value.chunks end)
  return ok and type(chunks) == "function"
end

-- ---- options ------------------------------------------------------------------------------------

local KINDS = { "body", "json", "form", "multipart" }

--- The body that some options ask for: `data` or `stream`, and `content_type`; nil for none. A
-- stream may have `measure()`, which gives its length or nil.
---@param options table
---@param name string  of the function, for its errors
function M.read(options, name)
  local kind
  for _, k in ipairs(KINDS) do
    if options[k] ~= nil then
      if kind then
        check.bad(k, name, ("more than one of body, form, json, multipart: '%s' and '%s'"):format(
          kind, k))
      end
      kind = k
    end
  end
  if not kind then return nil end
  local value = options[kind]
  if kind == "json" then
    return { data = require("rille.json").encode(value), content_type = "application/json" }
  elseif kind == "form" then
    local ok, text = pcall(fields.format_parameters, value, "form")
    if not ok then check.bad("form", name, text) end
    return { data = text, content_type = "application/x-www-form-urlencoded" }
  elseif kind == "multipart" then
    return multipart.read(value, name)
  end
  if type(value) == "number" then value = tostring(value) end
  if type(value) == "string" then return { data = value } end
  if not is_source(value) then
    check.bad("body", name, "string, function or something with chunks() expected, got "
      .. type(value))
  end
  return { stream = stream(value), measure = function() return M.size_of(value) end }
end

--- Finds out the length of a stream where that is possible, so that it need not go in chunks.
---@async
function M.measure(body)
  if body and body.measure and body.length == nil and not body.stream.begun then
    body.length = body.measure() or false
  end
end

--- Makes it ready to be sent once more; false where that is impossible.
function M.rewind(body)
  if not body or body.data then return true end
  if body.again then
    body.stream, body.length = body.again(), nil
    return true
  end
  return not body.stream.begun
end

--- No further piece is wanted.
function M.close_stream(s)
  if not s.closed then
    s.closed = true
    local ok, e = pcall(s.close, s)
    if not ok and not errors.is(e, "InvalidStateError") then error(e, 0) end
  end
end

--- The same of what may be no stream.
function M.close(body)
  if body and body.stream then M.close_stream(body.stream) end
end

return M
