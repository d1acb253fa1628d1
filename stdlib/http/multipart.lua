--- Bodies of the type multipart/form-data, to be sent.
local check = require "rille.core.check"

local type, tostring, ipairs = type, tostring, ipairs

local M = {}

local PART = { name = true, data = true, file = true, filename = true, content_type = true }
local CHUNK = 65536

-- Nobody who makes up the data of a part may guess it.
local function boundary()
  local random = assert(io.open("/dev/urandom", "rb"))
  local bytes = random:read(16)
  random:close()
  return "rille-" .. bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end)
end

-- Quotes and line ends in names, as browsers send them.
-- Source: WHATWG HTML, multipart/form-data encoding algorithm.
local ESCAPED = { ['"'] = "%22", ["\r"] = "%0D", ["\n"] = "%0A" }

local function quoted(text) return '"' .. text:gsub('["\r\n]', ESCAPED) .. '"' end

local function to_list(value, name)
  check.table(value, "multipart", name)
  if value[1] ~= nil or next(value) == nil then return value end
  local names, list = {}, {}
  for key in pairs(value) do
    if type(key) ~= "string" then
      check.bad("multipart", name, ("a name is of type %s"):format(type(key)))
    end
    names[#names + 1] = key
  end
  table.sort(names)
  for _, key in ipairs(names) do
    local entry = value[key]
    local part = { name = key }
    if type(entry) == "table" and getmetatable(entry) == nil then
      for k, v in pairs(entry) do part[k] = v end
    else
      part.data = entry
    end
    list[#list + 1] = part
  end
  return list
end

local function check_part(part, i, name)
  local function bad(what) check.bad("multipart", name, ("part %d: %s"):format(i, what)) end
  if type(part) ~= "table" then bad("table expected, got " .. type(part)) end
  for key in pairs(part) do
    if not PART[key] then bad(("unknown field '%s'"):format(tostring(key))) end
  end
  if type(part.name) ~= "string" then bad("a name is missing") end
  if (part.data == nil) == (part.file == nil) then bad "one of data and file expected" end
  local data = part.data
  if data ~= nil and type(data) ~= "string" and type(data) ~= "number" then
    bad("data is of type " .. type(data))
  end
  local content_type = part.content_type
  if content_type ~= nil and (type(content_type) ~= "string" or content_type:find "[%c]") then
    bad "the content_type cannot be sent"
  end
end

local function head_of(part, mark)
  local filename = part.filename
  if filename == nil and type(part.file) == "string" then filename = part.file:match "[^/]*$" end
  if filename == nil and part.file ~= nil then filename = "file" end
  local lines = { "--", mark, "\r\nContent-Disposition: form-data; name=", quoted(part.name) }
  if filename then lines[#lines + 1] = "; filename=" .. quoted(tostring(filename)) end
  local content_type = part.content_type or filename and "application/octet-stream"
  if content_type then lines[#lines + 1] = "\r\nContent-Type: " .. content_type end
  lines[#lines + 1] = "\r\n\r\n"
  return table.concat(lines)
end

-- Gives texts as they are, and files piece by piece.
local Stream = {}
Stream.__index = Stream

local function stream(list)
  return setmetatable({ list = list, at = 0, file = nil, chunks = nil, begun = false }, Stream)
end

function Stream:next()
  self.begun = true
  while true do
    if self.chunks then
      local piece = self.chunks()
      if piece and piece ~= "" then return piece end
      self:close()
    end
    self.at = self.at + 1
    local entry = self.list[self.at]
    if entry == nil or type(entry) == "string" then return entry end
    if entry.path then
      self.file = require("rille.fs").open(entry.path, "rb")
      self.chunks = self.file:chunks(CHUNK)
    else
      self.chunks = entry.file:chunks(CHUNK)
    end
  end
end

function Stream:close()
  local chunks, file = self.chunks, self.file
  self.chunks, self.file = nil, nil
  if chunks and type(chunks) ~= "function" then chunks:close() end
  if file then file:close() end
end

-- The bytes of all entries; nil if one of them has no length.
local function measure(list)
  local size_of, size = require("rille.http.body").size_of, 0
  for _, entry in ipairs(list) do
    local n = type(entry) == "string" and #entry or type(entry) == "table"
      and size_of(entry.path or entry.file)
    if not n then return nil end
    size = size + n
  end
  return size
end

--- Reads the option `multipart`: a list of parts, `{ name =, data = | file =, filename =,
-- content_type = }`, or a map from names to data or to such tables. `file` is a path or a File.
---@param value table
---@param name string  of the function, for its errors
function M.read(value, name)
  local list, mark = {}, boundary()
  local plain, replayable = true, true
  for i, part in ipairs(to_list(value, name)) do
    check_part(part, i, name)
    list[#list + 1] = head_of(part, mark)
    if part.data ~= nil then
      list[#list + 1] = tostring(part.data)
    else
      plain = false
      if type(part.file) == "string" then
        list[#list + 1] = { path = part.file }
      else
        replayable = false
        list[#list + 1] = { file = part.file }
      end
    end
    list[#list + 1] = "\r\n"
  end
  list[#list + 1] = "--" .. mark .. "--\r\n"
  local content_type = "multipart/form-data; boundary=" .. mark
  if plain then return { data = table.concat(list), content_type = content_type } end
  return {
    stream = stream(list), content_type = content_type,
    measure = function() return measure(list) end,
    again = replayable and function() return stream(list) end or nil,
  }
end

return M
