--- Multipart bodies: the same parts however the body is cut, and an answer with a status if it is
-- malformed.
local async = require "rille.async"
local errors = require "rille.errors"
local multipart = require "rille.http.parts"
local fuzz, drive = require "fuzz.wire", require "drive"

local function source_of(bytes, seed)
  local pieces, at = fuzz.cut(bytes, seed), 0
  return setmetatable({ close = function() end }, { __call = function()
    at = at + 1
    return pieces[at]
  end })
end

local function read(lines, bytes, mode, seed)
  local boundary = drive.has(mode, 1) and "-" or "b"
  for part in multipart.read(source_of(bytes, seed), boundary, 100) do
    lines[#lines + 1] = ("%s %s %s"):format(part.name, part.filename, part.content_type)
    for name, value in part.headers:iter() do lines[#lines + 1] = name .. "=" .. value end
    if drive.has(mode, 2) then
      lines[#lines + 1] = part:text()
    elseif not drive.has(mode, 4) then
      local chunks = {}
      for chunk in part:chunks() do
        assert(chunk ~= "", "an empty chunk")
        chunks[#chunks + 1] = chunk
      end
      lines[#lines + 1] = table.concat(chunks)
    end
  end
end

local function result(bytes, mode, seed)
  local lines = {}
  local ok, e = async.pcall(read, lines, bytes, mode, seed)
  if not ok then
    if not errors.is(e, "HTTPError") then error(e, 0) end
    lines[#lines + 1] = tostring(e)
  end
  return table.concat(lines, "\n")
end

return function(input)
  if #input < 2 then return end
  local mode, seed, bytes = drive.split(input)
  local whole = result(bytes, mode, 0)
  drive.same(whole, result(bytes, mode, seed))
  drive.same(whole, result(bytes, mode, 1))
end
