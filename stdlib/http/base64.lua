--- Base64, as authentication writes it.
local bit = require "bit"

local ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local LETTERS = {}
for i = 1, #ALPHABET do LETTERS[i - 1] = ALPHABET:byte(i) end
local END = 61 -- '='

local band, rshift = bit.band, bit.rshift
local char, concat = string.char, table.concat

--- Encodes bytes.
---@param text string
---@return string
-- Source: RFC 4648, section 4.
return function(text)
  local out = {}
  for i = 1, #text, 3 do
    local a, b, c = text:byte(i, i + 2)
    local n = a * 65536 + (b or 0) * 256 + (c or 0)
    out[#out + 1] = char(LETTERS[rshift(n, 18)], LETTERS[band(rshift(n, 12), 63)],
      b and LETTERS[band(rshift(n, 6), 63)] or END, c and LETTERS[band(n, 63)] or END)
  end
  return concat(out)
end
