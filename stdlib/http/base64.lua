--- Base64, as authentication writes it.
local bit = require "bit"

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function letter(n) return ALPHABET:sub(n + 1, n + 1) end

--- Encodes bytes.
---@param text string
---@return string
-- Source: RFC 4648, section 4.
return function(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = bit.bor(bit.lshift(a, 16), bit.lshift(b or 0, 8), c or 0)
    out[#out + 1] = letter(bit.rshift(n, 18)) .. letter(bit.band(bit.rshift(n, 12), 63))
      .. (b and letter(bit.band(bit.rshift(n, 6), 63)) or "=")
      .. (c and letter(bit.band(n, 63)) or "=")
  end
  return table.concat(out)
end
