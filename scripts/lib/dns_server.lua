--- A small name server: dns_server { ["www.example"] = { A = { "192.0.2.1" } } } gives a UDP socket
-- that answers for these names until it is closed.
-- Types: A, MX ({ priority, name }) and TXT. Source: RFC 1035.
local async = require "rille.async"
local bit = require "bit"
local net = require "rille.net"

local TYPES = { [1] = "A", [15] = "MX", [16] = "TXT" }
local CODES = { A = 1, MX = 15, TXT = 16 }
local NO_ERROR, NO_SUCH_NAME = 0, 3

local function u16(n) return string.char(bit.rshift(n, 8), bit.band(n, 255)) end

local function encode_name(name)
  return (name:gsub("([^.]+)%.?", function(label)
    return string.char(#label) .. label
  end)) .. "\0"
end

local ENCODERS = {
  A = function(ip) return (ip:gsub("(%d+)%.?", function(part) return string.char(part) end)) end,
  MX = function(mx) return u16(mx[1]) .. encode_name(mx[2]) end,
  TXT = function(text) return string.char(#text) .. text end,
}

-- The name and the type that are asked for, and the question as it came.
local function parse(message)
  local labels, at = {}, 13
  while true do
    local length = message:byte(at)
    if length == 0 then break end
    labels[#labels + 1] = message:sub(at + 1, at + length)
    at = at + 1 + length
  end
  local high, low = message:byte(at + 1, at + 2)
  return table.concat(labels, "."):lower(), TYPES[high * 256 + low], message:sub(13, at + 4)
end

local function answer(zone, message)
  local name, kind, question = parse(message)
  local records = zone[name]
  local list = records and records[kind] or {}
  local parts = {}
  for i, record in ipairs(list) do
    local data = ENCODERS[kind](record)
    -- The name is where the question has it, at byte 12; to be kept for a minute.
    parts[i] = "\192\12" .. u16(CODES[kind]) .. u16(1) .. u16(0) .. u16(60) .. u16(#data) .. data
  end
  local flags = 0x8180 + (records and NO_ERROR or NO_SUCH_NAME)
  local header = message:sub(1, 2) .. u16(flags) .. u16(1) .. u16(#list) .. u16(0) .. u16(0)
  return header .. question .. table.concat(parts)
end

return function(zone)
  local socket = net.udp { host = "127.0.0.1" }
  async.spawn(function()
    while true do
      local ok, message, from = pcall(socket.recv, socket)
      if not ok then break end -- it is closed
      local understood, reply = pcall(answer, zone, message)
      if understood then socket:send(reply, from.host, from.port) end
    end
  end)
  return socket
end
