--- A method that was called with a dot in place of a colon gives an error of Lua's own in the midst
-- of the standard library. Methods that run often do not check for that, so such an error is told
-- from others when it is caught, and says then what the script did, and where.
local type, byte, match, find = type, string.byte, string.match, string.find
local getinfo = debug.getinfo

local R = byte "r"

-- The line of the script, and the name of the function that it called.
local function place(co, first)
  local called
  for level = first, first + 100 do
    local info = co and getinfo(co, level, "Sln") or not co and getinfo(level, "Sln")
    if not info then return nil end
    if info.what ~= "C" and info.source:sub(1, 7) ~= "=rille/" and info.currentline > 0 then
      return ("%s:%d: "):format(info.short_src, info.currentline), called
    end
    if info.what ~= "C" then called = info.name end
  end
end

-- What the library had in the place of an object; nil if the error is another one.
local function instead(e)
  if byte(e) ~= R or not find(e, "^rille/") then return nil end
  local got = match(e, "^[^\n]-:%d+: attempt to index local 'self' %(an? (%l+) value%)$")
  if got then return got end
  -- A string may be indexed, and has nothing there.
  if find(e, "^[^\n]-:%d+: attempt to %l+ %l+ '_%w+' %(a nil value%)$") then return "string" end
end

--- The error to be raised for `e`, which was caught: mostly the same. `co` is the coroutine that
-- died of it, else what runs is looked at.
return function(e, co)
  if type(e) ~= "string" then return e end
  -- What a native function that waits says of its arguments names the place that wraps it.
  local said = byte(e) == R and match(e, "^rille/core/wrap%.lua:%d+: (.*)$")
  if said then return (place(co, co and 0 or 2) or "") .. said end
  local got = instead(e)
  if not got then return e end
  local where, name = place(co, co and 0 or 2)
  return ("%scalling '%s' on bad self (an object expected, got %s): is there a dot for a colon?")
    :format(where or "", name or "a method", got)
end
