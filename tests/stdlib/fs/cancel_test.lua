-- Every operation of rille.fs, cancelled at every point at which it waits.
local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local files = require "support.files"

-- Runs `body(dir)` with a fresh folder that has a file and a folder with a file in it. Afterwards
-- no descriptor is open, and there is nothing but what `names` are patterns of.
local function scenario(body, names)
  local before = files.descriptors()
  cancel_everywhere {
    patience = 500,
    setup = function()
      local dir = fs.mkdtemp()
      test.defer(function() fs.remove(dir, { recursive = true }) end)
      fs.write_file(dir .. "/file", "text")
      fs.mkdir(dir .. "/folder")
      fs.write_file(dir .. "/folder/in", "x")
      return { dir = dir }
    end,
    body = function(s) body(s.dir) end,
    check = function(s)
      files.await_descriptors(before)
      for _, name in ipairs(fs.list(s.dir)) do
        local known = name == "file" or name == "folder"
        for _, pattern in ipairs(names or {}) do known = known or name:find(pattern) end
        assert(known, name)
      end
    end,
  }
end

test("questions about files", { limit = 6 }, function()
  scenario(function(dir)
    fs.stat(dir)
    fs.lstat(dir)
    fs.exists(dir)
    fs.is_file(dir)
    fs.is_dir(dir)
    fs.access(dir, "r")
    fs.realpath(dir)
    fs.list(dir)
  end)
end)

test("changes of names and permissions", { limit = 6 }, function()
  scenario(function(dir)
    fs.symlink("file", dir .. "/soft")
    fs.readlink(dir .. "/soft")
    fs.link(dir .. "/file", dir .. "/hard")
    fs.rename(dir .. "/hard", dir .. "/harder")
    fs.chmod(dir .. "/file", "600")
    fs.chown(dir .. "/file")
    fs.utime(dir .. "/file")
    fs.mkdir(dir .. "/new")
    fs.remove(dir .. "/soft")
  end, { "^soft$", "^hard", "^new$" })
end)

test("whole files", { limit = 6 }, function()
  scenario(function(dir)
    fs.read_file(dir .. "/file")
    fs.read_lines(dir .. "/file")
    fs.write_file(dir .. "/new", "text")
    fs.write_file(dir .. "/atomic", "text", { atomic = true })
    fs.write_file(dir .. "/atomic", "again", { atomic = true })
    fs.copy(dir .. "/file", dir .. "/copy")
  end, { "^new$", "^atomic$", "^copy$" })
end)

test("temporary files leave nothing that nobody knows of", { limit = 6 }, function()
  scenario(function(dir)
    local path = fs.mkdtemp(dir .. "/folder/")
    async.finally(function() async.sleep(0) end, function() fs.remove(path) end)
    local file, name = fs.mkstemp(dir .. "/folder/")
    async.finally(function() async.sleep(0) end, function()
      file:close()
      fs.remove(name)
    end)
  end)
end)

test("folders", { limit = 6 }, function()
  scenario(function(dir)
    for _ in fs.scandir(dir) do async.sleep(0) end
    for _ in fs.walk(dir) do async.sleep(0) end
    fs.glob(dir .. "/**/*")
    fs.remove(dir .. "/folder", { recursive = true })
  end)
end)

test("watches", { limit = 6 }, function()
  scenario(function(dir)
    async.with(fs.watch(dir, { recursive = true }), function(watch)
      async.group(function(g)
        g:spawn(fs.mkdir, dir .. "/folder/new")
        assert(watch().name == "folder/new")
      end)
    end)
    local watch = fs.watch(dir .. "/file")
    fs.write_file(dir .. "/file", "other")
    watch()
    watch:close()
  end)
end)
