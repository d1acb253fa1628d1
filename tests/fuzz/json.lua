--- JSON texts: refused with a position, or a value that is the same after encoding and decoding.
local errors = require "rille.errors"
local json = require "rille.json"

return function(text)
  local ok, value = pcall(json.decode, text, { depth = 50 })
  if not ok then
    if not errors.is(value, "JSONError") then error(value, 0) end
    assert(value.position >= 1 and value.position <= #text + 1, tostring(value))
    assert(value.line >= 1 and value.column >= 1)
    return
  end
  local encoded = json.encode(value, { sort_keys = true })
  local again = json.encode(json.decode(encoded), { sort_keys = true })
  if encoded ~= again then error(("%q is not %q"):format(encoded, again), 0) end
  json.decode(json.encode(value, { indent = 1 }))
end
