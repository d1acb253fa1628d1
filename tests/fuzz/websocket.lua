--- WebSocket frames, as a server and as a client get them: the same messages and the same end
-- however they are cut.
local async = require "rille.async"
local binding = require "rille.core.websocket"
local fuzz, drive = require "fuzz.wire", require "drive"

require "rille.net" -- makes the class of streams

local function talk(bytes, mode, seed)
  local is_server = not drive.has(mode, 1)
  local stream, wire = fuzz.wire(drive.has(mode, 4))
  local socket = binding.open(stream, "", is_server, drive.has(mode, 2),
    drive.has(mode, 8) and 50 or 100000, 0, 0, 1)
  local lines = {}
  local task = async.spawn(function()
    while true do
      local data, is_binary = binding.recv(socket)
      if not data then break end
      assert(is_binary or binding.is_utf8(data), "text that is not UTF-8")
      assert(not drive.has(mode, 8) or #data <= 50, "too long")
      lines[#lines + 1] = (is_binary and "binary " or "text ") .. data
      if drive.has(mode, 16) and not binding.state(socket) then
        binding.send(socket, data, is_binary)
      end
    end
    local _, code, reason = binding.state(socket)
    lines[#lines + 1] = code .. " " .. reason
  end)
  drive.feed(wire, bytes, seed)
  drive.await(task, wire)
  binding.cut_off(socket)
  assert(wire:is_closed())
  return table.concat(lines, "\n")
end

return function(input)
  if #input < 2 then return end
  local mode, seed, bytes = drive.split(input)
  local cut = talk(bytes, mode, seed)
  drive.same(talk(bytes, mode, 0), cut)
end
