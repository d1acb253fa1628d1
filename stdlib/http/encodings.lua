--- Codings of contents: what a client accepts, and how it is undone.
local has_binding, compress = pcall(require, "rille.core.compress")

local M = { accepted = has_binding and compress.accepted or nil }

-- A list longer than that wants to make work.
local MOST_CODINGS = 4

-- What comes out of one goes into the other.
local function chain(first, second)
  return function(piece)
    local text, fault = first(piece)
    if not text then return nil, fault end
    local out
    if text ~= "" then
      out, fault = second(text)
      if not out then return nil, fault end
    end
    if piece then return out or "" end
    local rest
    rest, fault = second(nil)
    if not rest then return nil, fault end
    return (out or "") .. rest
  end
end

--- Gives a function that undoes the codings of a Content-Encoding field piece by piece: it takes a
-- piece, or nil at the end, and gives bytes, or nil and what is wrong. Nil if one is unknown.
---@param field string
---@return (fun(piece: string?): string?, string?)?
function M.decoder(field)
  if not has_binding then return nil end
  local decode, count = nil, 0
  for coding in field:gmatch "[^%s,]+" do
    coding = coding:lower()
    if coding ~= "identity" then
      local step = compress.decoder(coding)
      count = count + 1
      if not step or count > MOST_CODINGS then return nil end
      decode = decode and chain(step, decode) or step
    end
  end
  return decode
end

--- Undoes them for a whole body.
---@param decode function
---@param body string
---@param most integer  bytes at most; 0: any
function M.decode_all(decode, body, most)
  local parts, size = {}, 0
  for at = 1, #body, 65536 do
    local text, fault = decode(body:sub(at, at + 65535))
    if not text then return nil, fault end
    size = size + #text
    if most > 0 and size > most then
      return nil, ("the body is longer than %d bytes"):format(most)
    end
    parts[#parts + 1] = text
  end
  local text, fault = decode(nil)
  if not text then return nil, fault end
  parts[#parts + 1] = text
  return table.concat(parts)
end

return M
