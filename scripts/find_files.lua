-- Finds files: by pattern, and by walking through folders, some of which are passed over. Names are
-- sorted, and links are not followed, so there is no way round in circles.
local async = require "rille.async"
local fs = require "rille.fs"
local path = require "rille.path"
local tempdir = require "lib.tempdir"

local TREE = {
  ["README.md"] = 300,
  ["src/main.lua"] = 2000,
  ["src/net/http.lua"] = 9000,
  ["src/net/tcp.lua"] = 4000,
  ["test/net/http_test.lua"] = 5000,
  [".git/objects/12/3456"] = 70000,
  ["build/cache/main.luac"] = 40000,
}

local function make_tree(root)
  for name, size in pairs(TREE) do
    local file = path.join(root, name)
    fs.mkdir(path.dirname(file), { parents = true })
    fs.write_file(file, ("x"):rep(size))
  end
  fs.symlink("..", path.join(root, "src/up"))
end

local function print_folders(root)
  for dir, dirs, files in fs.walk(root) do
    for i = #dirs, 1, -1 do -- what is taken out here is not walked into
      if dirs[i] == "build" or dirs[i]:find "^%." then table.remove(dirs, i) end
    end
    local bytes = 0
    for _, name in ipairs(files) do bytes = bytes + fs.lstat(path.join(dir, name)).size end
    print(("%-9s %d files, %5d bytes"):format("./" .. path.relative(root, dir), #files, bytes))
  end
end

local function print_matches(root, pattern)
  local names = {}
  for i, name in ipairs(fs.glob(path.join(root, pattern))) do
    names[i] = path.relative(root, name)
  end
  print(("%-14s %s"):format(pattern, table.concat(names, " ")))
end

async.with(tempdir(), function(root)
  make_tree(root)
  print_folders(root)
  print()
  for _, pattern in ipairs { "*", "*/*.lua", "**/*.lua", "**/[!m]*.lua", "src/net/????.lua" } do
    print_matches(root, pattern)
  end
end)
