local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local files = require "support.files"

local shell, all, descriptors = files.shell, files.all, files.descriptors

-- As another user: the permissions of files mean nothing to root.
local UNPRIVILEGED = "setpriv --reuid=65534 --regid=65534 --clear-groups"

local MANY = math.floor(100000 * test.SCALE)

local function sorted(list)
  table.sort(list, function(a, b) return a[1] < b[1] end)
  return list
end

-- scandir -----------------------------------------------------------------------------------------

test("scandir gives each entry of a folder with its type", function()
  local dir, found = test.tmpdir(), {}
  shell(("cd '%s'; echo > file; mkdir folder; mkfifo fifo; ln -s file link; echo > .hidden")
    :format(dir))
  for name, kind in fs.scandir(dir) do found[#found + 1] = { name, kind } end
  test.eq(sorted(found), {
    { ".hidden", "file" }, { "fifo", "fifo" }, { "file", "file" }, { "folder", "directory" },
    { "link", "link" },
  })
  test.eq(all(fs.scandir(dir .. "/folder")), {})
end)

test("scandir of what is no folder is an error at once", function()
  local dir = test.tmpdir()
  test.write(dir .. "/file", "")
  local err = test.raises("OSError", fs.scandir, dir .. "/none")
  test.eq({ err.code, err.syscall, err.path }, { "ENOENT", "scandir", dir .. "/none" })
  test.eq(test.raises("OSError", fs.scandir, dir .. "/file").code, "ENOTDIR")
end)

test("a folder of many entries is read in batches while others run", { limit = 3 }, function()
  local dir = files.roomy_tmpdir()
  files.make_many(dir, MANY)
  local turns, done = 0, false
  local other = async.spawn(function()
    while not done do
      turns = turns + 1
      async.sleep(0)
    end
  end)
  local seen, count = {}, 0
  for name, kind in fs.scandir(dir) do
    assert(kind == "file" and not seen[name])
    seen[name], count = true, count + 1
  end
  done = true
  other:await()
  test.eq(count, MANY)
  assert(turns > MANY / 5000, turns)
  local names = fs.list(dir)
  test.eq(#names, MANY)
  for i = 2, #names do assert(names[i - 1] < names[i]) end
  local _, dirs, rest = fs.walk(dir)()
  test.eq({ #dirs, #rest }, { 0, MANY })
  test.eq(#fs.glob(dir .. "/*"), MANY)
  test.eq(#fs.glob(dir .. "/**/*7"), MANY / 10)
  fs.remove(dir, { recursive = true })
  test.eq(fs.exists(dir), false)
end)

test("the memory that scandir takes does not grow with the folder", { limit = 3 }, function()
  local dir = files.roomy_tmpdir()
  files.make_many(dir, MANY)
  local code = [[
    local fs, path = require "rille.fs", arg[1]
    local function peak()
      return tonumber(fs.read_file("/proc/self/status"):match "VmHWM:%s*(%d+)")
    end
    jit.off()
    for _ = 1, 2 do
      local n = 0
      for name in fs.scandir(path) do
        n = n + 1
        if n == 10000 then first = first or peak() end
      end
    end
    print(peak() - first)
  ]]
  local result = test.rille { "-e", code, dir }
  assert(tonumber(result.stdout) < 8000 / test.SCALE, result.stdout .. result.stderr)
end)

test("an iterator that is closed, ended or dropped holds no descriptor", function()
  local dir = files.roomy_tmpdir()
  files.make_many(dir, 9000)
  local before = descriptors(true)
  local scan = fs.scandir(dir)
  scan()
  test.eq(descriptors(true), before + 1)
  scan:close()
  scan:close()
  files.await_descriptors(before, true)
  test.eq(scan(), nil)
  test.eq(#all(fs.scandir(dir)), 9000)
  files.await_descriptors(before, true)
  fs.scandir(dir)()
  files.await_descriptors(before)
  async.with(fs.scandir(dir), function(it) assert(it()) end)
  files.await_descriptors(before, true)
  test.raises("stop", async.with, fs.scandir(dir), function() error "stop" end)
  files.await_descriptors(before, true)
end)

test("an iterator of a task that fails or is cancelled holds no descriptor", function()
  local dir = files.roomy_tmpdir()
  files.make_many(dir, 9000)
  local before = descriptors(true)
  local kept = {}
  local function body(how)
    for _ in fs.scandir(dir) do
      if how == "fail" then error "stop" end
      async.sleep(how)
    end
  end
  local function iterate(how)
    kept[#kept + 1] = fs.scandir(dir) -- not collected, and released all the same
    body(how)
  end
  local failing = async.spawn(iterate, "fail")
  test.raises("stop", failing.await, failing)
  files.await_descriptors(before, true)
  local sleeping = async.spawn(iterate, 1000)
  files.a_moment()
  test.eq(descriptors(true), before + 2)
  sleeping:cancel()
  async.wait { sleeping }
  files.await_descriptors(before, true)
  for turns = 0, 5 do
    local cancelled = async.spawn(iterate, 0)
    test.turns(turns)
    cancelled:cancel()
    async.wait { cancelled }
  end
  files.await_descriptors(before, true)
end)

test("an iterator outlives the task that made it, if that ends well", function()
  local dir = test.tmpdir()
  test.write(dir .. "/a", "")
  local scan = async.spawn(fs.scandir, dir):await()
  test.eq({ scan() }, { "a", "file" })
end)

test("several tasks share an iterator, and each entry comes once", function()
  local dir, seen, count = files.roomy_tmpdir(), {}, 0
  files.make_many(dir, 9000)
  local scan = fs.scandir(dir)
  async.map({ 1, 2, 3, 4 }, function()
    for name in scan do
      assert(not seen[name])
      seen[name], count = true, count + 1
    end
  end)
  test.eq(count, 9000)
end)

test("a task that is cancelled in a shared iterator takes nothing from the others", function()
  local dir = files.roomy_tmpdir()
  files.make_many(dir, 9000)
  fs.mkdir(dir .. "/0")
  fs.mkdir(dir .. "/0/00")
  for _, make in ipairs { fs.scandir, fs.walk } do
    for turns = 0, 7 do
      local iterator, seen, count = make(dir), {}, 0
      local function work()
        for name in iterator do
          assert(not seen[name])
          seen[name], count = true, count + 1
        end
      end
      local victim = async.spawn(work)
      local others = { async.spawn(work), async.spawn(work) }
      test.turns(turns)
      victim:cancel()
      async.wait { victim }
      for _, other in ipairs(others) do other:await() end
      test.eq(count, make == fs.scandir and 9001 or 3)
    end
  end
end)

test("a scan that is cancelled anywhere leaves nothing", function()
  local dir = files.roomy_tmpdir()
  files.make_many(dir, 5000)
  test.reports() -- debug mode has told of the blocking call
  cancel_everywhere {
    patience = 200,
    setup = function() return { before = descriptors() } end,
    body = function()
      async.with(fs.scandir(dir), function(scan) for _ in scan do end end)
      for _ in fs.walk(dir) do end
      fs.glob(dir .. "/1*")
    end,
    check = function(s) files.await_descriptors(s.before, true) end,
  }
end)

test("entries that come and go meanwhile do not disturb a scan", { limit = 3 }, function()
  local dir = files.roomy_tmpdir()
  files.make_many(dir, 20000)
  local busy = true
  local other = async.spawn(function()
    for i = 1, 2000 do
      if not busy then break end
      fs.remove(dir .. "/" .. i)
      fs.write_file(dir .. "/new" .. i, "")
    end
  end)
  local kept = 0
  for name in fs.scandir(dir) do
    local number = tonumber(name)
    if number and number > 2000 then kept = kept + 1 end
  end
  busy = false
  other:await()
  test.eq(kept, 18000, "what was there all the time is found, once")
end)

-- walk --------------------------------------------------------------------------------------------

local function tree()
  local dir = files.roomy_tmpdir()
  shell(("cd '%s'; mkdir -p b/y b/x a/.h c; touch f b/g b/x/i a/.h/j .k; ln -s b link; "
    .. "ln -s none dangling"):format(dir))
  return dir
end

test("walk goes through all below a folder, top down and sorted", function()
  local dir = tree()
  test.eq(all(fs.walk(dir)), {
    { dir, { "a", "b", "c" }, { ".k", "dangling", "f", "link" } },
    { dir .. "/a", { ".h" }, {} },
    { dir .. "/a/.h", {}, { "j" } },
    { dir .. "/b", { "x", "y" }, { "g" } },
    { dir .. "/b/x", {}, { "i" } },
    { dir .. "/b/y", {}, {} },
    { dir .. "/c", {}, {} },
  })
  test.eq(all(fs.walk(dir .. "/link/"))[2], { dir .. "/link/x", {}, { "i" } })
end)

test("what is taken out of a walk's dirs is not entered", function()
  local dir, seen = tree(), {}
  for folder, dirs in fs.walk(dir) do
    seen[#seen + 1] = folder:sub(#dir + 2)
    for i = #dirs, 1, -1 do
      if dirs[i] == "a" or dirs[i] == "x" then table.remove(dirs, i) end
    end
  end
  test.eq(seen, { "", "b", "b/y", "c" })
end)

test("walk of what is no folder is an error at once", function()
  local dir = tree()
  test.eq(test.raises("OSError", fs.walk, dir .. "/none").code, "ENOENT")
  test.eq(test.raises("OSError", fs.walk, dir .. "/f").code, "ENOTDIR")
  test.raises("unknown option 'topdown'", fs.walk, dir, { topdown = true })
end)

test("folders that go, or become links, during a walk are left out", function()
  local dir, seen = tree(), {}
  for folder in fs.walk(dir) do
    seen[#seen + 1] = folder:sub(#dir + 2)
    if folder == dir .. "/a" then
      fs.remove(dir .. "/a/.h", { recursive = true })
      fs.remove(dir .. "/b", { recursive = true })
      fs.symlink("c", dir .. "/b")
    end
  end
  test.eq(seen, { "", "a", "c" })
end)

test("a folder that may not be read ends a walk with its error, or is told to on_error", function()
  if not files.is_root() then return end
  local dir = tree()
  shell(("chmod -R a+rX '%s'; chmod 000 '%s/b'"):format(dir, dir))
  local result = test.rille({ "-e", [[
    local fs, dir = require "rille.fs", arg[1]
    local function list(options)
      for folder in fs.walk(dir, options) do io.write(folder:sub(#dir + 2), " ") end
    end
    local ok, err = pcall(list)
    print(err.code, err.path:sub(#dir + 2))
    list { on_error = function(e) io.write("(", e.code, ") ") end }
    print()
    print(pcall(list, { on_error = function(e) error("mine", 0) end }))
  ]], dir }, { prefix = UNPRIVILEGED })
  test.eq(result.stdout,
    " a a/.h EACCES\tb\n a a/.h (EACCES) c \n a a/.h false\tmine\n", result.stderr)
end)

test("a walk that is closed gives nothing more", function()
  local walk = fs.walk(tree())
  walk()
  walk:close()
  test.eq(walk(), nil)
end)

test("names that are no UTF-8 are found as they are", function()
  local dir = test.tmpdir()
  fs.mkdir(dir .. "/\255")
  test.write(dir .. "/\255/\200\n", "")
  test.eq(all(fs.scandir(dir)), { { "\255", "directory" } })
  test.eq(all(fs.walk(dir))[2], { dir .. "/\255", {}, { "\200\n" } })
  test.eq(fs.glob(dir .. "/?/*"), { dir .. "/\255/\200\n" })
  test.eq(fs.glob(dir .. "/[\200-\255]/?\n"), { dir .. "/\255/\200\n" })
end)

-- glob --------------------------------------------------------------------------------------------

local function globbing()
  local dir = test.tmpdir()
  shell(("cd '%s'; mkdir -p src/core/deep src/.git 'x[1]'; touch a.lua b.lua ab.lua B.lua c.txt "
    .. ".hidden.lua src/m.lua src/core/n.lua src/core/deep/o.lua src/.git/p.lua 'x[1]/q' ä.lua "
    .. "'*'; ln -s src/core link; ln -s . src/round; ln -s none dangling.lua"):format(dir))
  return dir
end

test("glob finds what a pattern fits, sorted", function()
  local dir = globbing()
  local function glob(pattern)
    local found = {}
    for i, path in ipairs(fs.glob(dir .. "/" .. pattern)) do found[i] = path:sub(#dir + 2) end
    return table.concat(found, " ")
  end
  test.eq(glob "*.lua", "B.lua a.lua ab.lua b.lua dangling.lua ä.lua")
  test.eq(glob "?.lua", "B.lua a.lua b.lua ä.lua", "a character may be several bytes")
  test.eq(glob "[ab].lua", "a.lua b.lua")
  test.eq(glob "[a-z].lua", "a.lua b.lua")
  test.eq(glob "[!a].lua", "B.lua b.lua ä.lua")
  test.eq(glob "[^a].lua", "B.lua b.lua ä.lua")
  test.eq(glob "[ä]*", "ä.lua")
  test.eq(glob "[]a].lua", "a.lua")
  test.eq(glob "a*b*a", "ab.lua")
  test.eq(glob "*.*.lua", "")
  test.eq(glob ".*.lua", ".hidden.lua")
  test.eq(glob "src/*.lua", "src/m.lua")
  test.eq(glob "*/*.lua", "link/n.lua src/m.lua")
  test.eq(glob "src/**/*.lua", "src/core/deep/o.lua src/core/n.lua src/m.lua")
  test.eq(glob "**/n.lua", "src/core/n.lua")
  test.eq(glob "**/core/**/*.lua", "src/core/deep/o.lua src/core/n.lua")
  test.eq(glob "**/**/o.lua", "src/core/deep/o.lua")
  test.eq(glob "src/core/**", "src/core/deep src/core/deep/o.lua src/core/n.lua")
  test.eq(glob "src/.git/*", "src/.git/p.lua")
  test.eq(glob "*/", "link/ src/ x[1]/")
  test.eq(glob "x[[]1]/*", "x[1]/q")
  test.eq(glob "x\\[1]/q", "x[1]/q")
  test.eq(glob "\\*", "*")
  test.eq(glob "a.lua", "a.lua")
  test.eq(glob "dangling.lua", "dangling.lua")
  test.eq(glob "none", "")
  test.eq(glob "a.lua/*", "")
  test.eq(glob "src//core/./n.*", "src/core/./n.lua")
  test.eq(glob "[a", "")
  test.eq(fs.glob "/", { "/" })
  test.eq(fs.glob "", {})
end)

test("glob of a relative pattern gives relative paths", function()
  local dir, former = globbing(), fs.cwd()
  test.defer(function() fs.chdir(former) end)
  fs.chdir(dir .. "/src")
  test.eq(fs.glob "*.lua", { "m.lua" })
  test.eq(fs.glob "./*.lua", { "./m.lua" })
  test.eq(fs.glob "../?.lua", { "../B.lua", "../a.lua", "../b.lua", "../ä.lua" })
  test.eq(fs.glob "**", { "core", "core/deep", "core/deep/o.lua", "core/n.lua", "m.lua", "round" })
end)

test("what glob gives can be gone over as a list or called", function()
  local dir = globbing()
  local found, names = fs.glob(dir .. "/[ab].lua"), {}
  test.eq(#found, 2)
  for path in found do names[#names + 1] = path end
  test.eq(names, { dir .. "/a.lua", dir .. "/b.lua" })
  test.eq(found(), nil)
  async.with(fs.glob(dir .. "/*"), function(list) assert(list()) end)
  local closed = fs.glob(dir .. "/*")
  closed:close()
  test.eq(closed(), nil)
end)

test("a pattern with many stars is matched in no time", function()
  local dir = test.tmpdir()
  test.write(dir .. "/" .. ("a"):rep(200), "")
  test.eq(fs.glob(dir .. "/" .. ("*a"):rep(50) .. "b"), {})
  test.eq(#fs.glob(dir .. "/" .. ("*a"):rep(50)), 1)
end)

-- remove ------------------------------------------------------------------------------------------

-- Makes folders within each other, deeper than a path can say.
local function deep_tree(dir, depth)
  test.script([[
    local fs, depth = require "rille.fs", tonumber(arg[2])
    fs.chdir(arg[1])
    for i = 1, depth do
      fs.mkdir "d"
      if i % 100 == 0 then fs.write_file("file", "") end
      fs.chdir "d"
    end
  ]], { args = { dir, depth } })
end

test("a tree deeper than any path is removed with few descriptors", { limit = 3 }, function()
  local dir, depth = files.roomy_tmpdir(), math.max(2100, math.floor(2500 * test.SCALE))
  fs.mkdir(dir .. "/top")
  deep_tree(dir .. "/top", depth)
  local result = test.script([[
    require("rille.fs").remove(arg[1], { recursive = true })
  ]], { args = { dir .. "/top" }, prefix = "prlimit --nofile=64" })
  test.eq(result.stderr, "")
  test.eq(fs.list(dir), {})
end)

test("removing a tree never follows links", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; mkdir -p tree/a keep; echo > keep/file; ln -s ../keep tree/l; "
    .. "ln -s ../../keep tree/a/l; ln -s / tree/a/root"):format(dir))
  fs.remove(dir .. "/tree", { recursive = true })
  test.eq(fs.list(dir .. "/keep"), { "file" })
  shell(("ln -s keep '%s/link'"):format(dir))
  fs.remove(dir .. "/link", { recursive = true })
  test.eq(fs.list(dir), { "keep" })
  test.eq(fs.list(dir .. "/keep"), { "file" })
end)

test("a tree that others change meanwhile is removed, and nothing besides", function()
  local dir = test.tmpdir()
  local keep = dir .. "/keep"
  shell(("cd '%s'; mkdir -p keep tree; touch keep/1 keep/2; cd tree; "
    .. "for i in $(seq 300); do mkdir -p $i/a/b; touch $i/a/f $i/a/b/g; done"):format(dir))
  local stop = false
  local others = async.spawn(function()
    -- Folders are turned into links and back, and filled again.
    for round = 1, 1000 do
      if stop then break end
      local name = ("%s/tree/%d"):format(dir, round % 300 + 1)
      pcall(fs.rename, name .. "/a", name .. "/c")
      pcall(fs.symlink, keep, name .. "/a")
      pcall(fs.write_file, name .. "/new", "")
    end
  end)
  async.sleep(0)
  fs.remove(dir .. "/tree", { recursive = true })
  stop = true
  others:await()
  fs.remove(dir .. "/tree", { recursive = true, missing_ok = true })
  test.eq(fs.list(keep), { "1", "2" })
  test.eq(fs.list(dir), { "keep" })
end)

test("the root and the folder one stands in are not emptied", function()
  local dir, former = test.tmpdir(), fs.cwd()
  test.write(dir .. "/file", "")
  test.defer(function() fs.chdir(former) end)
  fs.chdir(dir)
  test.eq(test.raises("OSError", fs.remove, ".", { recursive = true }).code, "EINVAL")
  test.eq(test.raises("OSError", fs.remove, dir .. "/..", { recursive = true }).code, "EINVAL")
  test.eq(fs.list(dir), { "file" })
end)

test("an error within a tree names the path", function()
  if not files.is_root() then return end
  local dir = test.tmpdir()
  shell(("cd '%s'; mkdir -p tree/a/b; touch tree/a/b/f; chown -R 65534 .; chmod 755 .; "
    .. "chown 0 tree/a/b; chmod 755 tree/a/b"):format(dir))
  local result = test.rille({ "-e", [[
    local ok, err = pcall(require("rille.fs").remove, arg[1], { recursive = true })
    print(err.code, err.syscall, err.path)
  ]], dir .. "/tree" }, { prefix = UNPRIVILEGED })
  test.eq(result.stdout, ("EACCES\tunlink\t%s/tree/a/b/f\n"):format(dir), result.stderr)
end)

test("a removal that is cancelled ends soon, and can be done again", function()
  local dir = files.roomy_tmpdir()
  fs.mkdir(dir .. "/tree")
  files.make_many(dir .. "/tree", 20000)
  local before = descriptors()
  for turns = 0, 5 do
    local remover = async.spawn(fs.remove, dir .. "/tree", { recursive = true, missing_ok = true })
    test.turns(turns)
    remover:cancel()
    async.wait { remover }
  end
  files.await_descriptors(before)
  fs.remove(dir .. "/tree", { recursive = true, missing_ok = true })
  test.eq(fs.list(dir), {})
end)
