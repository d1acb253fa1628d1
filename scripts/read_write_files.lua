-- Opens files, writes and reads through them, and closes them whatever happens: async.with takes a
-- file like any other resource.
-- From "Complete Guide to Asynchronous Programming" (aiofiles). The list is printed as Lua writes
-- it.
local async = require "rille.async"
local fs = require "rille.fs"
local show = require "lib.show"
local tempdir = require "lib.tempdir"

local function write_file(filename, content)
  async.with(fs.open(filename, "w"), function(file) file:write(content) end)
end

local function read_file(filename)
  return async.with(fs.open(filename), function(file) return file:read "a" end)
end

async.with(tempdir(), function(dir)
  async.gather {
    function() write_file(dir .. "/file1.txt", "Content 1") end,
    function() write_file(dir .. "/file2.txt", "Content 2") end,
    function() write_file(dir .. "/file3.txt", "Content 3") end,
  }

  local contents = async.gather {
    function() return read_file(dir .. "/file1.txt") end,
    function() return read_file(dir .. "/file2.txt") end,
    function() return read_file(dir .. "/file3.txt") end,
  }
  contents.n = nil
  print(show(contents))
end)
