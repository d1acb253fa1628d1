--- What the targets have in common: bytes that arrive piece by piece while tasks run.
local async = require "rille.async"
local fuzz = require "fuzz.wire"

local M = {}

-- Lets everything happen that can.
local function settle(wire)
  repeat
    async.sleep(0)
    async.sleep(0)
  until not wire:move()
end

--- Sends all of `bytes`, cut as `seed` says, and then the end.
function M.feed(wire, bytes, seed)
  for _, piece in ipairs(fuzz.cut(bytes, seed)) do
    wire:feed(piece)
    settle(wire)
  end
  wire:finish()
  settle(wire)
end

--- Waits for a task that has got all it can get. What it is told to write is taken meanwhile.
function M.await(task, wire)
  while not task:done() and wire:move() do async.sleep(0) end
  return task:await()
end

--- What a server was told, as the bits of `mode` say: little or much of everything, no times.
function M.server_settings(mode, handler, options)
  local small = M.has(mode, 1)
  local all = {
    max_header_bytes = small and 300 or nil, max_headers = small and 6 or nil,
    max_target_bytes = small and 60 or nil, max_body_bytes = small and 50 or nil,
    max_requests = M.has(mode, 2) and 2 or nil, cancel_on_disconnect = M.has(mode, 16),
    header_timeout = 0, body_timeout = 0, idle_timeout = 0, write_timeout = 0,
  }
  for name, value in pairs(options) do all[name] = value end
  local settings = require("rille.http.server_options").read(all, "serve")
  settings.handler = handler
  settings.upgraded = function() end
  return settings
end

--- Splits an input: a number that chooses what is done, another one for the cuts, the bytes.
function M.split(input) return input:byte(1), input:byte(2), input:sub(3) end

function M.has(bits, bit) return math.floor(bits / bit) % 2 == 1 end

--- Fails, and shows both, unless they are equal.
function M.same(whole, cut)
  if whole ~= cut then
    error(("in one piece:\n%q\nin pieces:\n%q"):format(tostring(whole), tostring(cut)), 0)
  end
end

return M
