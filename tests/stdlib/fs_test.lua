local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local errors = require "rille.errors"
local files = require "support.files"
local shell, a_moment, descriptors = files.shell, files.a_moment, files.descriptors
local fifo, file_with, is_root = files.fifo, files.file_with, files.is_root

-- As another user: the permissions of files mean nothing to root.
local UNPRIVILEGED = "setpriv --reuid=65534 --regid=65534 --clear-groups"

-- Whole files -------------------------------------------------------------------------------------

test("read_file gives what is in a file, byte for byte", function()
  local text = "one\r\n\0two\n" .. ("x"):rep(3000)
  test.eq(fs.read_file(file_with(text)), text)
  test.eq(fs.read_file(file_with ""), "")
end)

test("read_file reads a file of several megabytes", function()
  local text = ("0123456789abcdef"):rep(200000)
  assert(fs.read_file(file_with(text)) == text)
end)

test("read_file reads files whose size is a lie to the end", function()
  local path = "/proc/self/status"
  test.eq(fs.stat(path).size, 0)
  test.matches(fs.read_file(path), "^Name:.*\nThreads:%s*%d+\n.*nonvoluntary_[%w_]+:%s*%d+\n$")
end)

test("read_file reads a FIFO until its writers are gone", function()
  local path = fifo()
  shell(("(printf 'one '; sleep 0.05; printf two) > '%s' &"):format(path))
  test.eq(fs.read_file(path), "one two")
end)

test("read_file lets other tasks run meanwhile", function()
  local path, log = fifo(), test.log()
  local reader = async.spawn(fs.read_file, path)
  local other = async.spawn(function()
    for i = 1, 3 do
      log(i)
      async.sleep(0)
    end
    fs.write_file(path, "text")
  end)
  test.eq(reader:await(), "text")
  other:await()
  test.eq(log, { "1", "2", "3" })
end)

test("an error of the system is an OSError with code, errno, syscall and path", function()
  local err = test.raises("OSError", fs.read_file, "/no/such/file")
  test.eq(tostring(err), "OSError: no such file or directory: open '/no/such/file'")
  test.eq(err.code, "ENOENT")
  test.eq(err.errno, 2)
  test.eq(err.syscall, "open")
  test.eq(err.path, "/no/such/file")
end)

test("an error's traceback names the line that called", function()
  local line = test.here(1)
  local ok, err = pcall(function() fs.read_file "/no/such/file" end)
  assert(not ok)
  test.contains(err.traceback, line)
end)

test("a folder opened as a file is an EISDIR", function()
  local dir = test.tmpdir()
  for _, fn in ipairs { fs.read_file, fs.read_lines, fs.open } do
    local err = test.raises("OSError", fn, dir)
    test.eq(err.code, "EISDIR")
    test.eq(err.path, dir)
  end
  test.eq(test.raises("OSError", fs.write_file, dir, "x").code, "EISDIR")
end)

test("a file without permission is an EACCES", function()
  local code = [[
    local fs, path = require "rille.fs", arg[1]
    for _, fn in ipairs { fs.read_file, fs.open, fs.write_file } do
      local ok, err = pcall(fn, path, fn == fs.write_file and "x" or nil)
      print(ok, err.code, err.message)
    end
  ]]
  local path = os.tmpname()
  test.defer(function() os.remove(path) end)
  shell(("chmod 000 '%s'"):format(path))
  local result = test.rille({ "-e", code, path }, { prefix = is_root() and UNPRIVILEGED or nil })
  local line = ("false\tEACCES\tpermission denied: open '%s'\n"):format(path)
  test.eq(result.stdout, line:rep(3), result.stderr)
end)

test("a path with a NUL byte is a bad argument at once", function()
  local path = "/tmp/a\0b"
  for name, fn in pairs(fs) do
    if name ~= "tempdir" and name ~= "cwd" then
      test.raises("bad argument #1 to '" .. name .. "' %(the path contains a NUL byte%)", fn, path)
    end
  end
  for _, name in ipairs { "rename", "copy", "link", "symlink" } do
    local message = ("bad argument #2 to '%s' %%(the path contains a NUL"):format(name)
    test.raises(message, fs[name], "a", path)
  end
end)

local WITHOUT_PATH = { tempdir = true, cwd = true, mkdtemp = true, mkstemp = true }

test("a path that is no string is a bad argument at the caller's line", function()
  for name, fn in pairs(fs) do
    if not WITHOUT_PATH[name] then
      test.raises(("bad argument #1 to '%s' %%(string expected, got nil%%)"):format(name), fn)
      test.raises(("bad argument #1 to '%s' %%(string expected, got table%%)"):format(name), fn, {})
    end
  end
  test.blames_caller("bad argument #1 to 'read_file'", function() fs.read_file(nil) end)
  test.blames_caller("bad argument #1 to 'stat'", function() fs.stat(true) end)
  test.blames_caller("bad argument #2 to 'open'", function() fs.open("/tmp/x", "rr") end)
end)

test("in a callback reading is an error that says to spawn a task", function()
  local done = async.Future()
  async.call_soon(function()
    local ok, err = pcall(fs.read_file, "/etc/passwd")
    done:set_result(ok, err)
  end)
  local ok, err = done:await()
  assert(not ok)
  test.contains(tostring(err), "spawn")
end)

test("many files are read at once, each by its own task", function()
  local dir = test.tmpdir()
  for i = 1, 200 do test.write(dir .. "/" .. i, ("%d "):format(i):rep(i)) end
  local before = descriptors()
  local texts = async.map(fs.list(dir), function(name)
    return { name, fs.read_file(dir .. "/" .. name) }
  end, { limit = 64 })
  for _, entry in ipairs(texts) do test.eq(entry[2], (entry[1] .. " "):rep(tonumber(entry[1]))) end
  test.eq(#texts, 200)
  test.eq(descriptors(), before)
end)

test("read_lines gives a list of lines without their ends", function()
  test.eq(fs.read_lines(file_with "one\ntwo\n"), { "one", "two" })
  test.eq(fs.read_lines(file_with "one\n\ntwo\r\nthree"), { "one", "", "two\r", "three" })
  test.eq(fs.read_lines(file_with "\n"), { "" })
  test.eq(fs.read_lines(file_with ""), {})
  test.eq(test.raises("OSError", fs.read_lines, "/no/such/file").code, "ENOENT")
end)

test("write_file writes a file in the place of what was in it", function()
  local path = test.tmpdir() .. "/file"
  fs.write_file(path, "a long first text")
  test.eq(test.read(path), "a long first text")
  fs.write_file(path, "short\0")
  test.eq(test.read(path), "short\0")
  fs.write_file(path, 12.5)
  test.eq(test.read(path), "12.5")
  fs.write_file(path, "")
  test.eq(test.read(path), "")
end)

test("write_file writes several megabytes", function()
  local path, text = test.tmpdir() .. "/file", ("0123456789abcdef"):rep(200000)
  fs.write_file(path, text)
  assert(test.read(path) == text)
end)

test("write_file with append writes behind what is there, or makes the file", function()
  local path = test.tmpdir() .. "/file"
  fs.write_file(path, "one ", { append = true })
  fs.write_file(path, "two", { append = true })
  test.eq(test.read(path), "one two")
end)

test("write_file gives a new file the mode it was told, less the umask", function()
  local dir = test.tmpdir()
  shell "test $(umask) = 0022"
  fs.write_file(dir .. "/default", "")
  test.eq(fs.stat(dir .. "/default").mode, tonumber("644", 8))
  fs.write_file(dir .. "/text", "", { mode = "660" })
  test.eq(fs.stat(dir .. "/text").mode, tonumber("640", 8))
  fs.write_file(dir .. "/number", "", { mode = tonumber("600", 8) })
  test.eq(fs.stat(dir .. "/number").mode, tonumber("600", 8))
  fs.write_file(dir .. "/atomic", "", { mode = "606", atomic = true })
  test.eq(fs.stat(dir .. "/atomic").mode, tonumber("604", 8))
  fs.write_file(dir .. "/number", "", { mode = "644" })
  test.eq(fs.stat(dir .. "/number").mode, tonumber("600", 8), "of a file that was there")
end)

test("write_file with atomic replaces the file and keeps its permissions", function()
  local dir = test.tmpdir()
  local path = test.write(dir .. "/file", "old")
  shell(("chmod 751 '%s'"):format(path))
  local old = io.open(path)
  local before = fs.stat(path).ino
  fs.write_file(path, "new", { atomic = true })
  test.eq(test.read(path), "new")
  test.eq(old:read "*a", "old", "who has it open sees the old file")
  old:close()
  test.eq(fs.stat(path).mode, tonumber("751", 8))
  assert(fs.stat(path).ino ~= before)
  test.eq(fs.list(dir), { "file" })
end)

test("write_file with atomic keeps the owner where that is permitted", function()
  if not is_root() then return end
  local path = test.write(test.tmpdir() .. "/file", "old")
  fs.chown(path, 1234, 4321)
  fs.chmod(path, "4750")
  fs.write_file(path, "new", { atomic = true })
  local stat = fs.stat(path)
  test.eq({ stat.uid, stat.gid, stat.mode }, { 1234, 4321, tonumber("4750", 8) })
end)

test("write_file with atomic follows a link", function()
  local dir = test.tmpdir()
  fs.mkdir(dir .. "/sub")
  test.write(dir .. "/sub/file", "old")
  shell(("ln -s sub/file '%s/link'; ln -s sub/new '%s/dangling'"):format(dir, dir))
  fs.write_file(dir .. "/link", "new", { atomic = true })
  test.eq(fs.lstat(dir .. "/link").type, "link")
  test.eq(test.read(dir .. "/sub/file"), "new")
  fs.write_file(dir .. "/dangling", "made", { atomic = true })
  test.eq(test.read(dir .. "/sub/new"), "made")
  test.eq(fs.list(dir .. "/sub"), { "file", "new" })
  shell(("ln -s round '%s/round'"):format(dir))
  local err = test.raises("OSError", fs.write_file, dir .. "/round", "", { atomic = true })
  test.eq(err.code, "ELOOP")
end)

test("write_file with atomic leaves nothing behind after an error", function()
  local dir = test.tmpdir()
  fs.mkdir(dir .. "/folder")
  local err = test.raises("OSError", fs.write_file, dir .. "/folder", "x", { atomic = true })
  test.eq(err.code, "EISDIR")
  shell(("mkfifo '%s/fifo'"):format(dir))
  err = test.raises("OSError", fs.write_file, dir .. "/fifo", "x", { atomic = true })
  test.eq(err.code, "EINVAL")
  err = test.raises("OSError", fs.write_file, dir .. "/none/file", "x", { atomic = true })
  test.eq(err.code, "ENOENT")
  test.eq(fs.list(dir), { "fifo", "folder" })
end)

test("a cancelled atomic write leaves the old file or the new, and nothing else", function()
  local dir = test.tmpdir()
  local path, new = test.write(dir .. "/file", "old"), ("new"):rep(1000000)
  for turns = 0, 10 do
    local writer = async.spawn(fs.write_file, path, new, { atomic = true })
    test.turns(turns)
    writer:cancel()
    async.wait { writer }
  end
  -- The operations end by themselves; a read that comes after them waits in the same queue.
  for _ = 1, 50 do
    if #fs.list(dir) == 1 then break end
    a_moment()
  end
  test.eq(fs.list(dir), { "file" })
  local text = test.read(path)
  assert(text == "old" or text == new)
end)

test("a full disk is an ENOSPC", function()
  local err = test.raises("OSError", fs.write_file, "/dev/full", "text")
  test.eq(tostring(err), "OSError: no space left on device: write '/dev/full'")
  test.eq(err.code, "ENOSPC")
end)

test("options of write_file are checked", function()
  local path = test.tmpdir() .. "/file"
  test.raises("bad argument #3 to 'write_file' %(unknown option 'apend'; there are: append",
    fs.write_file, path, "", { apend = true })
  test.raises("bad argument #3 to 'write_file' %(table expected, got string%)",
    fs.write_file, path, "", "append")
  test.raises("'append' and 'atomic'", fs.write_file, path, "", { append = true, atomic = true })
  test.raises("bad argument 'mode' to 'write_file' %(permissions expected, got '9'%)",
    fs.write_file, path, "", { mode = "9" })
  test.raises("bad argument 'mode' .* got table", fs.write_file, path, "", { mode = {} })
  test.raises("from 0 to 7777", fs.write_file, path, "", { mode = -1 })
  test.raises("from 0 to 7777", fs.write_file, path, "", { mode = 0 / 0 })
  test.raises("bad argument #2 to 'write_file' %(string expected, got nil%)", fs.write_file, path)
  test.raises("bad argument #2 .* got table", fs.write_file, path, {})
  test.eq(fs.exists(path), false)
end)

-- Cancellation ------------------------------------------------------------------------------------

test("a read that is cancelled ends at once, and its descriptor is closed", function()
  local path, before = fifo(), descriptors()
  local reader = async.spawn(fs.read_file, path)
  a_moment()
  assert(not reader:done())
  reader:cancel "enough"
  local ok, err = pcall(reader.await, reader)
  assert(not ok and errors.is(err, "CancelledError") and err.reason == "enough", tostring(err))
  a_moment()
  test.eq(descriptors(), before)
end)

test("a timeout around a FIFO that nobody writes to is a TimeoutError", function()
  test.raises("TimeoutError", async.wait_for, fs.read_file, 0.01, fifo())
end)

test("operations that are cancelled at every moment leave no descriptor open", function()
  local dir = test.tmpdir()
  local path, before = test.write(dir .. "/file", ("x"):rep(100000)), descriptors()
  local operations = {
    function() return fs.read_file(path) end,
    function() return fs.read_lines(path) end,
    function() return fs.open(path) end,
    function() return fs.list(dir) end,
    function() fs.write_file(dir .. "/other", "text") end,
    function() async.with(fs.open(path, "r+"), function(f)
      f:write(f:read(10))
      f:read "a"
    end) end,
  }
  for turns = 0, 8 do
    local tasks = {}
    for i, operation in ipairs(operations) do tasks[i] = async.spawn(operation) end
    test.turns(turns)
    for _, task in ipairs(tasks) do task:cancel() end
    async.wait(tasks)
  end
  test.eq(descriptors(), before)
end)

test("readers of FIFOs that nobody writes to do not hold up other files", function()
  local path, dir = file_with "text", test.tmpdir()
  local readers = {}
  for i = 1, 16 do
    shell(("mkfifo '%s/%d'"):format(dir, i))
    readers[i] = async.spawn(fs.read_file, dir .. "/" .. i)
  end
  a_moment()
  test.eq(fs.read_file(path), "text")
  for _, reader in ipairs(readers) do reader:cancel() end
  async.wait(readers)
end)

test("a FIFO that nobody writes to does not hold up the end of the program", function()
  local result = test.script([[
    local async, fs = require "rille.async", require "rille.fs"
    async.spawn(fs.read_file, arg[1])
    async.spawn(function() fs.open(arg[1]):read() end)
    async.sleep(0.02)
    print "end"
  ]], { args = { fifo() } })
  test.eq(result.stdout, "end\n", result.stderr)
  test.eq(result.code, 0)
end)

test("writing to a FIFO waits for its reader", function()
  local path, log = fifo(), test.log()
  local writer = async.spawn(function()
    fs.write_file(path, ("x"):rep(200000))
    log "written"
  end)
  a_moment()
  log "reading"
  test.eq(#fs.read_file(path), 200000)
  writer:await()
  test.eq(log, { "reading", "written" })
end)

test("writing to a FIFO that nobody reads can be cancelled", function()
  local path = fifo()
  test.raises("TimeoutError", async.wait_for, fs.write_file, 0.03, path, "text")
  test.raises("TimeoutError", async.wait_for, fs.open, 0.03, path, "w")
end)

test("a task that waits for a file is in no deadlock", function()
  local result = test.script([[
    local fs = require "rille.fs"
    io.popen("sleep 0.05; echo text > " .. arg[1])
    print(fs.read_file(arg[1]))
  ]], { args = { fifo() } })
  test.eq(result.stdout, "text\n\n", result.stderr)
end)

test("a write that the end of the program cancels is whole", function()
  local dir = test.tmpdir()
  for turns = 0, 3 do
    local path = dir .. "/" .. turns
    local result = test.script([[
      local async, fs = require "rille.async", require "rille.fs"
      fs.write_file(arg[1], "old")
      async.spawn(fs.write_file, arg[1], ("x"):rep(5000000), { atomic = true })
      for _ = 1, tonumber(arg[2]) do async.sleep(0) end
    ]], { args = { path, turns } })
    test.eq(result.code, 0, result.stderr)
    local size = fs.stat(path).size
    assert(size == 3 or size == 5000000, size)
  end
  test.eq(#fs.list(dir), 4)
end)

-- Folders -----------------------------------------------------------------------------------------

test("list gives the names in a folder, sorted", function()
  local dir = test.tmpdir()
  test.eq(fs.list(dir), {})
  for _, name in ipairs { "b", "a", ".hidden", "c d", "B", "\195\164" } do
    test.write(dir .. "/" .. name, "")
  end
  test.eq(fs.list(dir), { ".hidden", "B", "a", "b", "c d", "\195\164" })
  test.eq(test.raises("OSError", fs.list, dir .. "/none").code, "ENOENT")
  test.eq(test.raises("OSError", fs.list, dir .. "/a").code, "ENOTDIR")
end)

test("stat tells what the system knows of a file", function()
  local dir = test.tmpdir()
  local path = test.write(dir .. "/file", "12345")
  shell(("chmod 1640 '%s'; touch -m -d @1000000000.25 '%s'"):format(path, path))
  local stat = fs.stat(path)
  test.eq(stat.type, "file")
  test.eq(stat.size, 5)
  test.eq(stat.mode, tonumber("1640", 8))
  test.eq(stat.mtime, 1000000000.25)
  test.eq(stat.nlink, 1)
  for _, name in ipairs {
    "uid", "gid", "ino", "dev", "rdev", "blocks", "blksize", "atime", "ctime", "birthtime",
  } do
    test.eq(type(stat[name]), "number", name)
  end
  assert(stat.ctime > 1600000000)
  test.eq(fs.open(path):stat().ino, stat.ino)
end)

test("stat follows links and lstat does not", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; echo > file; mkdir folder; mkfifo fifo; ln -s file link; ln -s none dangling")
    :format(dir))
  test.eq(fs.stat(dir .. "/link").type, "file")
  test.eq(fs.lstat(dir .. "/link").type, "link")
  test.eq(fs.stat(dir .. "/folder").type, "directory")
  test.eq(fs.stat(dir .. "/fifo").type, "fifo")
  test.eq(fs.stat("/dev/null").type, "char")
  test.eq(fs.lstat(dir .. "/dangling").type, "link")
  local err = test.raises("OSError", fs.stat, dir .. "/dangling")
  test.eq(err.message, ("no such file or directory: stat '%s/dangling'"):format(dir))
  test.eq(test.raises("OSError", fs.lstat, dir .. "/none").syscall, "lstat")
end)

test("exists, is_file and is_dir follow links and never raise", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; echo > file; mkdir folder"):format(dir))
  shell(("cd '%s'; ln -s file link; ln -s folder way; ln -s none dangling"):format(dir))
  local function answers(name)
    local path = dir .. "/" .. name
    return { fs.exists(path), fs.is_file(path), fs.is_dir(path) }
  end
  test.eq(answers "file", { true, true, false })
  test.eq(answers "link", { true, true, false })
  test.eq(answers "folder", { true, false, true })
  test.eq(answers "way", { true, false, true })
  test.eq(answers "dangling", { false, false, false })
  test.eq(answers "none", { false, false, false })
  test.eq(answers "file/under", { false, false, false })
end)

test("remove removes a file, a link and an empty folder", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; echo > file; mkdir folder; ln -s file link; ln -s folder way"):format(dir))
  fs.remove(dir .. "/way")
  fs.remove(dir .. "/link")
  test.eq(fs.list(dir), { "file", "folder" })
  fs.remove(dir .. "/file")
  fs.remove(dir .. "/folder")
  test.eq(fs.list(dir), {})
  local err = test.raises("OSError", fs.remove, dir .. "/file")
  test.eq(tostring(err), ("OSError: no such file or directory: unlink '%s/file'"):format(dir))
  fs.remove(dir .. "/file", { missing_ok = true })
end)

test("remove of a folder that is not empty is an ENOTEMPTY unless it is recursive", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; mkdir -p a/b/c a/d keep; touch a/b/c/file kept keep/file"):format(dir))
  shell(("cd '%s'; ln -s ../keep a/link; ln -s ../../kept a/b/link; ln -s none a/b/dangling")
    :format(dir))
  test.eq(test.raises("OSError", fs.remove, dir .. "/a").code, "ENOTEMPTY")
  fs.remove(dir .. "/a", { recursive = true })
  test.eq(fs.list(dir), { "keep", "kept" })
  test.eq(fs.list(dir .. "/keep"), { "file" }, "links are not followed")
  fs.remove(dir .. "/kept", { recursive = true })
  test.eq(test.raises("OSError", fs.remove, dir .. "/a", { recursive = true }).code, "ENOENT")
  fs.remove(dir .. "/a", { recursive = true, missing_ok = true })
  test.raises("unknown option 'recurse'", fs.remove, dir, { recurse = true })
  test.eq(fs.list(dir), { "keep" })
end)

test("mkdir makes a folder", function()
  local dir = test.tmpdir()
  fs.mkdir(dir .. "/a")
  test.eq(fs.stat(dir .. "/a").mode, tonumber("755", 8))
  fs.mkdir(dir .. "/b", { mode = "711" })
  test.eq(fs.stat(dir .. "/b").mode, tonumber("711", 8))
  local err = test.raises("OSError", fs.mkdir, dir .. "/a")
  test.eq(err.code, "EEXIST")
  test.eq(err.syscall, "mkdir")
  test.eq(test.raises("OSError", fs.mkdir, dir .. "/none/c").code, "ENOENT")
  test.raises("unknown option 'parent'", fs.mkdir, dir .. "/c", { parent = true })
end)

test("mkdir with parents makes those above and accepts a folder that is there", function()
  local dir = test.tmpdir()
  fs.mkdir(dir .. "/a/b//c/", { parents = true, mode = "700" })
  test.eq(fs.stat(dir .. "/a/b").mode, tonumber("755", 8))
  test.eq(fs.stat(dir .. "/a/b/c").mode, tonumber("700", 8))
  fs.mkdir(dir .. "/a/b/c", { parents = true })
  fs.mkdir("/", { parents = true })
  test.write(dir .. "/file", "")
  test.eq(test.raises("OSError", fs.mkdir, dir .. "/file", { parents = true }).code, "EEXIST")
  test.eq(test.raises("OSError", fs.mkdir, dir .. "/file/a", { parents = true }).code, "ENOTDIR")
end)

test("rename gives another name and replaces what had it", function()
  local dir = test.tmpdir()
  test.write(dir .. "/a", "a")
  test.write(dir .. "/b", "b")
  fs.rename(dir .. "/a", dir .. "/b")
  test.eq(fs.list(dir), { "b" })
  test.eq(test.read(dir .. "/b"), "a")
  local err = test.raises("OSError", fs.rename, dir .. "/none", dir .. "/c")
  test.eq(err.message,
    ("no such file or directory: rename '%s/none' -> '%s/c'"):format(dir, dir))
  test.eq(err.dest, dir .. "/c")
end)

test("mkdtemp makes a new folder for this user alone", function()
  local path = fs.mkdtemp()
  test.defer(function() os.remove(path) end)
  test.eq(path:match "^(.*)/[^/]+$", fs.tempdir())
  test.eq(fs.stat(path).type, "directory")
  test.eq(fs.stat(path).mode, tonumber("700", 8))
  local inner = fs.mkdtemp(path .. "/some-")
  test.matches(inner, "/some%-......$")
  fs.remove(inner)
  local named = fs.mkdtemp "name-"
  test.defer(function() os.remove(named) end)
  test.matches(named, "^" .. fs.tempdir():gsub("%p", "%%%0") .. "/name%-......$")
  assert(test.raises("OSError", fs.mkdtemp, path .. "/none/x").code == "ENOENT")
end)

test("tempdir is TMPDIR where that is set", function()
  local code = [[print(require("rille.fs").tempdir())]]
  test.eq(test.rille({ "-e", code }, { env = { TMPDIR = "/var/tmp/" } }).stdout, "/var/tmp\n")
  test.eq(test.rille({ "-e", code }, {
    env = { TMPDIR = false, TMP = false, TEMP = false, TEMPDIR = false },
  }).stdout, "/tmp\n")
end)

-- What waits says for what ------------------------------------------------------------------------

test("a deadlock report says what a task waits for in a file", function()
  local result = test.script([[
    local async, fs = require "rille.async", require "rille.fs"
    local report = require "rille.core.report"
    local reader = async.spawn(fs.read_file, arg[1])
    local file = fs.open(arg[1])
    local other = async.spawn(function() file:read() end)
    async.sleep(0.02)
    print(report.waits_for(reader))
    print(report.waits_for(other))
  ]], { args = { fifo() } })
  test.matches(result.stdout, "^waits for fs.read_file of '/.*/fifo'\nwaits for read of '/")
end)
