local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local files = require "support.files"

local shell, a_moment, descriptors = files.shell, files.a_moment, files.descriptors

local function octal(text) return tonumber(text, 8) end

-- As another user: the permissions of files mean nothing to root.
local UNPRIVILEGED = "setpriv --reuid=65534 --regid=65534 --clear-groups"

-- access ------------------------------------------------------------------------------------------

test("access tells what may be done with a file", function()
  local dir = test.tmpdir()
  shell(("chmod 755 '%s'; cd '%s'; echo > plain; chmod 644 plain; echo > run; chmod 755 run; "
    .. "ln -s none dangling"):format(dir, dir))
  test.eq(fs.access(dir .. "/plain"), true)
  test.eq(fs.access(dir .. "/plain", ""), true)
  test.eq(fs.access(dir .. "/plain", "r"), true)
  test.eq(fs.access(dir .. "/plain", "x"), false, "not even for root")
  test.eq(fs.access(dir .. "/run", "rwx"), true)
  test.eq(fs.access(dir, "rx"), true)
  for _, name in ipairs { "/none", "/dangling", "/plain/under" } do
    test.eq(fs.access(dir .. name), false)
    test.eq(fs.access(dir .. name, "r"), false)
  end
  local code = ([[
    local fs, dir = require "rille.fs", arg[1]
    print(fs.access(dir .. "/plain", "r"), fs.access(dir .. "/plain", "w"),
      fs.access(dir .. "/plain", "rw"), fs.access(dir .. "/run", "x"))
  ]])
  local result = test.rille({ "-e", code, dir }, { prefix = files.is_root() and UNPRIVILEGED })
  if files.is_root() then
    test.eq(result.stdout, "true\tfalse\tfalse\ttrue\n", result.stderr)
  end
  test.raises("bad argument #2 to 'access' %(letters of 'rwx' expected, got 'rq'%)",
    fs.access, dir, "rq")
  test.raises("bad argument #2 to 'access' %(string expected, got boolean%)", fs.access, dir, true)
end)

-- copy --------------------------------------------------------------------------------------------

test("copy copies the content and the permissions of a file", function()
  local dir = test.tmpdir()
  local text = ("0123456789abcdef"):rep(100000)
  local from = test.write(dir .. "/from", text)
  fs.chmod(from, "640")
  fs.copy(from, dir .. "/to")
  assert(test.read(dir .. "/to") == text)
  test.eq(fs.stat(dir .. "/to").mode, octal "640")
  test.write(dir .. "/empty", "")
  fs.copy(dir .. "/empty", dir .. "/to")
  test.eq(test.read(dir .. "/to"), "")
  test.eq(fs.stat(dir .. "/to").mode, octal "644")
  test.eq(fs.list(dir), { "empty", "from", "to" })
end)

test("copy follows links on both sides", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; printf one > one; printf two > two; ln -s one l1; ln -s two l2; ln -s new l3")
    :format(dir))
  fs.copy(dir .. "/l1", dir .. "/l2")
  test.eq(test.read(dir .. "/two"), "one")
  test.eq(fs.readlink(dir .. "/l2"), "two")
  fs.copy(dir .. "/l1", dir .. "/l3")
  test.eq(test.read(dir .. "/new"), "one")
end)

test("copy of a file onto itself is an error, and the file is as it was", function()
  local dir = test.tmpdir()
  local path = test.write(dir .. "/file", "text")
  shell(("cd '%s'; ln file hard; ln -s file soft"):format(dir))
  for _, to in ipairs { "/file", "/hard", "/soft", "/./file" } do
    local err = test.raises("OSError", fs.copy, path, dir .. to)
    test.eq({ err.code, err.syscall, err.path, err.dest },
      { "EINVAL", "copyfile", path, dir .. to })
  end
  test.eq(test.read(path), "text")
end)

test("copy copies files only", function()
  local dir = test.tmpdir()
  shell(("cd '%s'; mkdir folder; mkfifo fifo; echo > file"):format(dir))
  local function code(from, to)
    return test.raises("OSError", fs.copy, dir .. "/" .. from, dir .. "/" .. to).code
  end
  test.eq(code("folder", "new"), "EISDIR")
  test.eq(code("file", "folder"), "EISDIR")
  test.eq(code("fifo", "new"), "EINVAL")
  test.eq(code("none", "new"), "ENOENT")
  test.eq(code("file", "none/new"), "ENOENT")
  test.eq(fs.list(dir), { "fifo", "file", "folder" })
  local err = test.raises("OSError", fs.copy, dir .. "/none", dir .. "/new")
  test.eq(err.message,
    ("no such file or directory: copyfile '%s/none' -> '%s/new'"):format(dir, dir))
end)

test("copy reads a file whose size is a lie to its end", function()
  local path = test.tmpdir() .. "/copy"
  fs.copy("/proc/self/status", path)
  test.matches(test.read(path), "^Name:.*\nThreads:%s*%d+\n.*nonvoluntary_[%w_]+:%s*%d+\n$")
end)

test("copy to a device or a FIFO writes there", function()
  local dir = test.tmpdir()
  local from = test.write(dir .. "/from", ("x"):rep(300000))
  fs.copy(from, "/dev/null")
  test.eq(fs.stat("/dev/null").type, "char")
  test.eq(test.raises("OSError", fs.copy, from, "/dev/full").code, "ENOSPC")
  shell(("mkfifo '%s/fifo'"):format(dir))
  local reader = async.spawn(fs.read_file, dir .. "/fifo")
  a_moment()
  fs.copy(from, dir .. "/fifo")
  test.eq(#reader:await(), 300000)
end)

test("copy between file systems copies all", function()
  local dir = test.tmpdir()
  local there = fs.is_dir "/dev/shm" and "/dev/shm" or "/var/tmp"
  local text = ("0123456789abcdef"):rep(200000)
  local from = test.write(dir .. "/from", text)
  local to = there .. "/rille-test-" .. fs.stat("/proc/self").ino .. os.time()
  test.defer(function() os.remove(to) end)
  fs.copy(from, to)
  assert(test.read(to) == text)
end)

test("a cancelled copy leaves what was there before, and nothing else", function()
  local dir = test.tmpdir()
  local from, to = dir .. "/from", test.write(dir .. "/to", "old")
  shell(("truncate -s 300M '%s'"):format(from))
  local before = descriptors()
  for turns = 0, 6 do
    local copier = async.spawn(fs.copy, from, to)
    test.turns(turns)
    copier:cancel()
    async.wait { copier }
    test.eq(copier:cancelled(), true)
  end
  test.raises("TimeoutError", async.wait_for, fs.copy, 0.002, from, to)
  files.await_descriptors(before)
  test.eq(fs.list(dir), { "from", "to" })
  test.eq(test.read(to), "old")
end)

test("a program that ends while it copies leaves no half file", function()
  local dir = test.tmpdir()
  shell(("truncate -s 200M '%s/from'"):format(dir))
  for turns = 0, 3 do
    local result = test.script([[
      local async, fs = require "rille.async", require "rille.fs"
      async.spawn(fs.copy, arg[1] .. "/from", arg[1] .. "/to")
      for _ = 1, tonumber(arg[2]) do async.sleep(0) end
    ]], { args = { dir, turns } })
    test.eq(result.code, 0, result.stderr)
    test.eq(fs.list(dir), { "from" })
  end
end)

-- links -------------------------------------------------------------------------------------------

test("link gives a file one more name", function()
  local dir = test.tmpdir()
  test.write(dir .. "/old", "text")
  fs.link(dir .. "/old", dir .. "/new")
  test.eq(fs.stat(dir .. "/new").ino, fs.stat(dir .. "/old").ino)
  test.eq(fs.stat(dir .. "/new").nlink, 2)
  local err = test.raises("OSError", fs.link, dir .. "/old", dir .. "/new")
  test.eq({ err.code, err.syscall, err.path, err.dest },
    { "EEXIST", "link", dir .. "/old", dir .. "/new" })
  test.eq(test.raises("OSError", fs.link, dir .. "/none", dir .. "/x").code, "ENOENT")
end)

test("symlink makes a link, and readlink tells where it leads", function()
  local dir = test.tmpdir()
  fs.symlink("some/where", dir .. "/link")
  test.eq(fs.readlink(dir .. "/link"), "some/where")
  test.eq(fs.lstat(dir .. "/link").type, "link")
  local long = ("x/"):rep(1000)
  fs.symlink(long, dir .. "/long")
  test.eq(fs.readlink(dir .. "/long"), long)
  local err = test.raises("OSError", fs.symlink, "a", dir .. "/link")
  test.eq({ err.code, err.syscall, err.path, err.dest },
    { "EEXIST", "symlink", "a", dir .. "/link" })
  test.eq(test.raises("OSError", fs.readlink, dir).code, "EINVAL")
  test.eq(test.raises("OSError", fs.readlink, dir .. "/none").syscall, "readlink")
  test.matches(fs.readlink "/proc/self/exe", "^/")
end)

test("realpath gives the path without links and dots", function()
  local dir = fs.realpath(test.tmpdir())
  shell(("cd '%s'; mkdir a; echo > a/file; ln -s a b; ln -s round round"):format(dir))
  test.eq(fs.realpath(dir .. "/b/../b//./file"), dir .. "/a/file")
  test.eq(fs.realpath "/..", "/")
  test.eq(test.raises("OSError", fs.realpath, dir .. "/none").code, "ENOENT")
  test.eq(test.raises("OSError", fs.realpath, dir .. "/round").code, "ELOOP")
end)

-- what the system knows ---------------------------------------------------------------------------

test("chmod sets permissions", function()
  local path = test.write(test.tmpdir() .. "/file", "")
  fs.chmod(path, "4750")
  test.eq(fs.stat(path).mode, octal "4750")
  fs.chmod(path, octal "600")
  test.eq(fs.stat(path).mode, octal "600")
  local err = test.raises("OSError", fs.chmod, path .. "/none", "600")
  test.eq({ err.code, err.syscall }, { "ENOTDIR", "chmod" })
  test.raises("bad argument #2 to 'chmod' %(permissions expected", fs.chmod, path)
  test.raises("bad argument #2 to 'chmod' %(permissions expected, got '8'%)", fs.chmod, path, "8")
end)

test("chown sets owner and group, and nil leaves them", function()
  local path = test.write(test.tmpdir() .. "/file", "")
  local before = fs.stat(path)
  fs.chown(path)
  fs.chown(path, before.uid, nil)
  fs.chown(path, nil, before.gid)
  if files.is_root() then
    fs.chown(path, 1234, nil)
    test.eq({ fs.stat(path).uid, fs.stat(path).gid }, { 1234, before.gid })
    fs.chown(path, nil, 4321)
    test.eq({ fs.stat(path).uid, fs.stat(path).gid }, { 1234, 4321 })
    fs.chown(path, 4000000000, 0)
    test.eq({ fs.stat(path).uid, fs.stat(path).gid }, { 4000000000, 0 })
  end
  test.eq(test.raises("OSError", fs.chown, path .. "x", 0, 0).syscall, "chown")
  test.raises("bad argument #2 to 'chown' %(at least 0 expected, got %-1%)", fs.chown, path, -1)
  test.raises("bad argument #3 to 'chown'", fs.chown, path, 0, "root")
  test.raises("bad argument #3 to 'chown'", fs.chown, path, 0, 2 ^ 32 - 1)
end)

test("utime sets the times, and nil is now", function()
  local path = test.write(test.tmpdir() .. "/file", "")
  fs.utime(path, 1000000000.25, 1100000000.5)
  local stat = fs.stat(path)
  test.eq({ stat.atime, stat.mtime }, { 1000000000.25, 1100000000.5 })
  fs.utime(path, -1.5, 0)
  stat = fs.stat(path)
  test.eq({ stat.atime, stat.mtime }, { -1.5, 0 })
  local before = os.time()
  fs.utime(path, 5, nil)
  stat = fs.stat(path)
  test.eq(stat.atime, 5)
  assert(stat.mtime >= before - 1 and stat.mtime < before + 60)
  fs.utime(path)
  assert(fs.stat(path).atime >= before - 1)
  local err = test.raises("OSError", fs.utime, path .. "x", 0, 0)
  test.eq({ err.code, err.syscall }, { "ENOENT", "utime" })
  for _, wrong in ipairs { 0 / 0, 1 / 0, "now", {} } do
    test.raises("bad argument #2 to 'utime'", fs.utime, path, wrong)
  end
end)

-- temporary files ---------------------------------------------------------------------------------

test("mkstemp makes a new file for this user alone, and opens it", function()
  local dir = test.tmpdir()
  local file, path = fs.mkstemp(dir .. "/some-")
  test.matches(path, "^" .. dir:gsub("%p", "%%%0") .. "/some%-......$")
  test.eq(file.path, path)
  test.eq(fs.stat(path).mode, octal "600")
  file:write("one", 2)
  file:seek "set"
  test.eq(file:read "a", "one2")
  file:close()
  test.eq(test.read(path), "one2")
  local other, elsewhere = fs.mkstemp()
  test.defer(function() os.remove(elsewhere) end)
  test.eq(elsewhere:match "^(.*)/[^/]+$", fs.tempdir())
  other:close()
  local named, third = fs.mkstemp "name-"
  test.defer(function() os.remove(third) end)
  named:close()
  test.matches(third, "/name%-......$")
  local err = test.raises("OSError", fs.mkstemp, dir .. "/none/x")
  test.eq({ err.code, err.syscall }, { "ENOENT", "mkstemp" })
end)

test("a cancelled mkstemp leaves no file", function()
  local dir = test.tmpdir()
  local before = descriptors()
  for turns = 0, 8 do
    local maker = async.spawn(fs.mkstemp, dir .. "/x")
    test.turns(turns)
    maker:cancel()
    async.wait { maker }
    if not maker:cancelled() then fs.remove((select(2, maker:result()))) end
  end
  files.await_descriptors(before)
  test.eq(fs.list(dir), {})
end)

-- the working directory ---------------------------------------------------------------------------

test("chdir changes the working directory, where relative paths begin", function()
  local dir, former = fs.realpath(test.tmpdir()), fs.cwd()
  fs.mkdir(dir .. "/sub")
  test.defer(function() fs.chdir(former) end)
  fs.chdir(dir)
  test.eq(fs.cwd(), dir)
  fs.write_file("file", "text")
  test.eq(test.read(dir .. "/file"), "text")
  fs.chdir "sub"
  test.eq(fs.cwd(), dir .. "/sub")
  local err = test.raises("OSError", fs.chdir, "none")
  test.eq({ err.code, err.syscall, err.path }, { "ENOENT", "chdir", "none" })
  test.eq(test.raises("OSError", fs.chdir, "../file").code, "ENOTDIR")
  fs.remove(dir .. "/sub")
  test.eq(test.raises("OSError", fs.cwd).code, "ENOENT")
end)

-- names -------------------------------------------------------------------------------------------

test("names that are no UTF-8 pass through every call as they are", function()
  local dir = test.tmpdir()
  local odd = dir .. "/\255\254 \128\n'\"%s"
  fs.mkdir(odd)
  fs.write_file(odd .. "/\240", "text")
  fs.copy(odd .. "/\240", odd .. "/\241")
  fs.rename(odd .. "/\241", odd .. "/\242")
  fs.link(odd .. "/\240", odd .. "/\243")
  fs.symlink("\240", odd .. "/\244")
  test.eq(fs.readlink(odd .. "/\244"), "\240")
  test.eq(fs.realpath(odd .. "/\244"), fs.realpath(odd) .. "/\240")
  test.eq(fs.read_file(odd .. "/\244"), "text")
  fs.open(odd .. "/\245", "w"):close()
  test.eq(fs.list(odd), { "\240", "\242", "\243", "\244", "\245" })
  local err = test.raises("OSError", fs.stat, odd .. "/\250")
  test.eq(err.path, odd .. "/\250")
  fs.remove(odd, { recursive = true })
  test.eq(fs.list(dir), {})
end)

-- a full disk -------------------------------------------------------------------------------------

test("on a full disk every way to write is an ENOSPC that leaves nothing half", function()
  local result = files.on_small_disk([[
    local fs, dir = require "rille.fs", arg[1]
    local function code(fn, ...)
      local ok, err = pcall(fn, ...)
      return ok and "ok" or err.code .. " " .. err.syscall
    end
    local big = ("x"):rep(3000000)
    fs.write_file(dir .. "/../big", big)
    fs.write_file(dir .. "/old", "old")
    print(code(fs.write_file, dir .. "/new", big))
    fs.remove(dir .. "/new")
    print(code(fs.write_file, dir .. "/old", big, { atomic = true }), fs.read_file(dir .. "/old"))
    print(code(fs.copy, dir .. "/../big", dir .. "/old"), fs.read_file(dir .. "/old"))
    print(code(fs.copy, dir .. "/../big", dir .. "/copy"))
    print(table.concat(fs.list(dir), " "))
    local file = fs.open(dir .. "/file", "w")
    print(code(function()
      for _ = 1, 100 do file:write(("y"):rep(50000)) end
    end))
    print(code(file.close, file), code(file.close, file))
    fs.remove(dir .. "/file")
    -- And no descriptors are left but what the process began with.
    collectgarbage()
    print(code(function()
      for i = 1, 200 do fs.mkdir(dir .. "/" .. i) end
    end))
    print(code(fs.mkstemp, dir .. "/"), code(fs.mkdtemp, dir .. "/"),
      code(fs.symlink, "a", dir .. "/s"))
  ]], 1000000)
  if not result then return end
  test.eq(result.stdout, table.concat({
    "ENOSPC write", "ENOSPC write\told", "ENOSPC copyfile\told", "ENOSPC copyfile", "old",
    "ENOSPC write", "ok\tok", "ENOSPC mkdir",
    "ENOSPC mkstemp\tENOSPC mkdtemp\tENOSPC symlink\n",
  }, "\n"), result.stderr)
end)

test("a limit on the size of files is an EFBIG, and the process lives on", function()
  local dir = test.tmpdir()
  local result = test.script([[
    local fs = require "rille.fs"
    local ok, err = pcall(fs.write_file, arg[1] .. "/f", ("x"):rep(200000), { atomic = true })
    print(ok, err.code, #fs.list(arg[1]))
  ]], { args = { dir }, prefix = "prlimit --fsize=100000" })
  test.eq(result.stdout, "false\tEFBIG\t0\n", result.stderr)
end)
