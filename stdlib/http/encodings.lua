--- Codings of contents: what a client accepts, and how it is undone.
local compress = require "rille.core.compress"

local setmetatable = setmetatable

local M = { accepted = compress.accepted }

-- A list longer than that wants to make work.
local MOST_CODINGS = 4

-- Two decoders as one: what comes out of the first goes into the second.
local Chain = {}
Chain.__index = Chain

function Chain:feed(data)
  self._first:feed(data)
  if data == nil then self._has_all = true end
end

function Chain:read()
  while true do
    local out, fault = self._second:read()
    if out ~= "" then return out, fault end
    local data
    data, fault = self._first:read()
    if not data then return nil, fault end
    if data ~= "" then
      self._second:feed(data)
    elseif not self._has_all or self._ended then
      return ""
    else
      self._ended = true
      self._second:feed(nil)
    end
  end
end

--- Gives what undoes the codings of a Content-Encoding field: `feed(data)` takes bytes, or nil at
-- the end; `read()` gives bytes, none when it needs more, or nil and what is wrong. Nil if a coding
-- is unknown, or there is none.
---@param field string
function M.decoder(field)
  local decoder, count = nil, 0
  for coding in field:gmatch "[^%s,]+" do
    coding = coding:lower()
    if coding ~= "identity" then
      local step = compress.decoder(coding)
      count = count + 1
      if not step or count > MOST_CODINGS then return nil end
      -- The last one in the list was applied last, and is undone first.
      decoder = decoder and setmetatable({ _first = step, _second = decoder }, Chain) or step
    end
  end
  return decoder
end

--- Undoes them for a whole body.
---@param decoder table
---@param body string
---@param most integer  bytes at most; 0: any
---@return string? body, string? fault
function M.decode_all(decoder, body, most)
  if body == "" then return "" end
  local parts, size = {}, 0
  decoder:feed(body)
  decoder:feed(nil)
  while true do
    local text, fault = decoder:read()
    if not text then return nil, fault end
    if text == "" then return table.concat(parts) end
    size = size + #text
    if most > 0 and size > most then
      return nil, ("the body is longer than %d bytes"):format(most)
    end
    parts[#parts + 1] = text
  end
end

return M
