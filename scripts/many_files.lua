-- Hundreds of small files, many at once but not all: as many are open as the limit says. One that
-- cannot be read costs only itself.
local async = require "rille.async"
local errors = require "rille.errors"
local fs = require "rille.fs"
local tempdir = require "lib.tempdir"

local FILES = 500
local AT_ONCE = 32

async.with(tempdir(), function(dir)
  local paths = {}
  for i = 1, FILES do paths[i] = ("%s/%03d.txt"):format(dir, i) end

  async.map(paths, function(path, i)
    fs.write_file(path, ("file %d\n"):format(i):rep(i))
  end, { limit = AT_ONCE })
  fs.remove(paths[13])
  fs.remove(paths[17])
  fs.mkdir(paths[17])

  local bytes, failed = 0, {}
  async.map(paths, function(path)
    local ok, result = pcall(fs.read_file, path)
    if ok then
      bytes = bytes + #result
    elseif errors.is(result, "OSError") then
      failed[#failed + 1] = ("%s: %s"):format(path:match "[^/]+$", result.code)
    else
      error(result, 0)
    end
  end, { limit = AT_ONCE })

  table.sort(failed)
  print(("%d files written, %d read, %d bytes"):format(FILES, FILES - #failed, bytes))
  for _, line in ipairs(failed) do print("not read: " .. line) end
end)
