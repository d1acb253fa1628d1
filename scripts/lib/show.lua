--- Writes a value as Lua would: show { b = 1, a = "x" } gives { a = "x", b = 1 }, keys in order.
local function show(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" then return tostring(value) end

  local parts, names = {}, {}
  for i, item in ipairs(value) do parts[i] = show(item) end
  for key in pairs(value) do
    if type(key) == "string" then names[#names + 1] = key end
  end
  table.sort(names)
  for _, name in ipairs(names) do parts[#parts + 1] = name .. " = " .. show(value[name]) end
  return #parts == 0 and "{}" or "{ " .. table.concat(parts, ", ") .. " }"
end

return show
