-- Replaces a file so that readers see the old content or the new one, and never half of it, even if
-- the program dies meanwhile. A plain write shows what is there so far.
local async = require "rille.async"
local fs = require "rille.fs"
local tempdir = require "lib.tempdir"

local SIZE = 2 ^ 20
local ROUNDS = 20

local function is_whole(text)
  return #text == SIZE and text == text:sub(1, 1):rep(SIZE)
end

-- Reads the file again and again, until it is told to stop.
local function watch(path, state)
  while not state.stop do
    state.reads = state.reads + 1
    if not is_whole(fs.read_file(path)) then state.broken = state.broken + 1 end
  end
end

local function try(path, options)
  local state = { reads = 0, broken = 0 }
  async.group(function(group)
    group:spawn(watch, path, state)
    for round = 1, ROUNDS do
      fs.write_file(path, string.char(64 + round):rep(SIZE), options)
    end
    state.stop = true
  end)
  return state
end

async.with(tempdir(), function(dir)
  local path = dir .. "/settings"
  fs.write_file(path, ("x"):rep(SIZE))
  fs.chmod(path, "640")

  local state = try(path, { atomic = true })
  assert(state.reads > 0)
  print(("Atomic writes: %d readers saw half a file"):format(state.broken))
  print(("The mode is still %o, and the folder contains: %s"):format(fs.stat(path).mode,
    table.concat(fs.list(dir), " ")))
end)
