--- IP addresses as bytes, and the networks that they lie in.
local M = {}

local ipairs, tonumber = ipairs, tonumber
local floor = math.floor

local function bytes_of_four(ip)
  local bytes = { ip:match "^(%d+)%.(%d+)%.(%d+)%.(%d+)$" }
  if not bytes[1] then return nil end
  for i = 1, 4 do
    bytes[i] = tonumber(bytes[i])
    if bytes[i] > 255 then return nil end
  end
  return bytes
end

-- The bytes of the groups between colons.
local function bytes_of_groups(text)
  local list = {}
  for group in text:gmatch "[^:]+" do
    if group:find(".", 1, true) then
      local inner = bytes_of_four(group)
      if not inner then return nil end
      for _, byte in ipairs(inner) do list[#list + 1] = byte end
    else
      if #group > 4 then return nil end
      local n = tonumber(group, 16)
      list[#list + 1] = floor(n / 256)
      list[#list + 1] = n % 256
    end
  end
  return list
end

--- The bytes of an IP address, 4 or 16 of them, or nil.
---@param ip string
---@return integer[]?
function M.bytes(ip)
  local four = bytes_of_four(ip)
  if four then return four end
  if not ip:find(":", 1, true) or ip:find "[^%x:.]" or ip:find(":::", 1, true) then return nil end
  local head, tail = ip:match "^(.-)::(.*)$"
  local first, last = bytes_of_groups(head or ip), bytes_of_groups(tail or "")
  if not first or not last then return nil end
  if not head then return #first == 16 and first or nil end
  if #first + #last > 14 then return nil end
  while #first + #last < 16 do first[#first + 1] = 0 end
  for _, byte in ipairs(last) do first[#first + 1] = byte end
  return first
end

--- A network, or a single address, out of its text: "10.0.0.0/8", "::1".
---@param text string
---@return table?  `bytes`, `bits`; nil if it is none
function M.parse(text)
  local ip, slash, bits = text:match "^([^/]+)(/?)(%d*)$"
  local bytes = ip and M.bytes(ip)
  if not bytes or (slash == "/") ~= (bits ~= "") then return nil end
  bits = tonumber(bits) or #bytes * 8
  if bits > #bytes * 8 then return nil end
  return { bytes = bytes, bits = bits }
end

--- Whether an address, as `bytes` gives it, lies in a network.
---@param bytes integer[]
---@param net table
function M.is_within(bytes, net)
  if #bytes ~= #net.bytes then return false end
  local left = net.bits
  for i, byte in ipairs(net.bytes) do
    if left <= 0 then return true end
    local unit = left >= 8 and 1 or 2 ^ (8 - left)
    if floor(byte / unit) ~= floor(bytes[i] / unit) then return false end
    left = left - 8
  end
  return true
end

return M
