-- Files in a sandbox: what is granted is usable, and no way leads around what is not.
local test = require "support.test"
local sandbox = require "support.sandbox"

local function shell(...) assert(os.execute(string.format(...)) == 0) end

-- A script that knows `dir`, `granted` and `secret`.
local function run(code, grants, opts)
  local dir, granted, secret = sandbox.folders()
  if opts and opts.before then opts.before(dir, granted, secret) end
  local options = {}
  for word in (grants or ""):gmatch "%S+" do
    options[#options + 1] = "--allow-" .. word .. "=" .. granted
  end
  local names = ("local fs, dir, granted, secret = require 'rille.fs', %q, %q, %q "):format(dir,
    granted, secret)
  local out = sandbox.run(names .. code, options, opts)
  return out, dir, granted, secret
end

test("without a grant nothing is readable or writable; the refusal names the grant", function()
  run [[
    refused("read access to '/etc/passwd' is not granted (allow_read \"/etc\", --allow-read=/etc)",
      fs.read_file, "/etc/passwd")
    refused("write access to '" .. granted .. "/new' is not granted (allow_write \"" .. granted ..
      "\", --allow-write=" .. granted .. ")", fs.write_file, granted .. "/new", "x")
    local ok, e = pcall(fs.read_file, "/etc/passwd")
    assert(e.path == "/etc/passwd" and e.traceback)
  ]]
end)

test("a granted folder can be read, and not written", function()
  run([[
    assert(fs.read_file(granted .. "/file") == "for all")
    assert(fs.read_lines(granted .. "/file")[1] == "for all")
    local f = fs.open(granted .. "/file")
    assert(f:read "a" == "for all")
    f:close()
    assert(fs.list(granted)[1] == "file" and fs.stat(granted).type == "directory")
    assert(fs.lstat(granted .. "/file").size == 7 and fs.is_file(granted .. "/file"))
    assert(fs.exists(granted .. "/none") == false and fs.access(granted .. "/none") == false)
    assert(fs.realpath(granted .. "/../granted/file"):find "granted/file$")
    for name, kind in fs.scandir(granted) do assert(name == "file" and kind == "file") end
    for d, _, files in fs.walk(granted) do assert(d == granted and files[1] == "file") end
    assert(fs.glob(granted .. "/*")[1] == granted .. "/file")
    local p = granted .. "/file"
    for _, call in ipairs {
      { fs.write_file, p, "" }, { fs.write_file, p, "", { append = true } },
      { fs.write_file, p, "", { atomic = true } }, { fs.open, p, "w" }, { fs.open, p, "r+" },
      { fs.open, p, "a" }, { fs.open, p .. "2", "x" }, { fs.remove, p }, { fs.mkdir, p .. "d" },
      { fs.mkdir, p .. "d/e", { parents = true } }, { fs.rename, p, p .. "2" },
      { fs.copy, p, p .. "2" }, { fs.link, p, p .. "2" }, { fs.symlink, "file", p .. "2" },
      { fs.chmod, p, 420 }, { fs.chown, p }, { fs.utime, p }, { fs.mkdtemp, granted .. "/t" },
      { fs.mkstemp, granted .. "/t" }, { fs.remove, granted, { recursive = true } },
    } do
      refused("allow_write", unpack(call))
    end
    fails("no such file or directory: open '" .. granted .. "/none'", fs.read_file,
      granted .. "/none")
  ]], "read")
end)

test("a folder that may only be written gives nothing away", function()
  local _, _, granted = run([[
    fs.write_file(granted .. "/new", "written")
    fs.write_file(granted .. "/atomic", "whole", { atomic = true })
    local f = fs.open(granted .. "/opened", "w")
    f:write "opened"
    f:close()
    fs.mkdir(granted .. "/a/b/c", { parents = true })
    fs.mkdir(granted .. "/a/b/c", { parents = true })
    fs.utime(granted .. "/new", 1, 1)
    fs.chmod(granted .. "/new", "600")
    fs.remove(granted .. "/a", { recursive = true })
    fs.remove(granted .. "/gone", { missing_ok = true })
    local p = granted .. "/new"
    for _, call in ipairs {
      { fs.read_file, p }, { fs.open, p }, { fs.open, p, "w+" }, { fs.open, p, "a+" },
      { fs.stat, p }, { fs.lstat, p }, { fs.exists, p }, { fs.exists, granted .. "/none" },
      { fs.is_dir, p },
      { fs.access, p }, { fs.list, granted }, { fs.scandir, granted }, { fs.glob, granted .. "/*" },
      { fs.glob, granted .. "/new" }, { fs.readlink, p }, { fs.realpath, p }, { fs.watch, granted },
      { fs.rename, p, p .. "2" }, { fs.link, p, p .. "2" }, { fs.copy, p, p .. "2" },
      { fs.chdir, granted },
    } do
      refused("allow_read", unpack(call))
    end
  ]], "write")
  test.eq(test.read(granted .. "/new"), "written")
  test.eq(test.read(granted .. "/atomic"), "whole")
  test.eq(test.read(granted .. "/opened"), "opened")
end)

test("with both grants all works in a folder; errors show the script's paths", function()
  run([[
    local p = granted .. "/x"
    fs.write_file(p, "1")
    fs.copy(p, p .. "2")
    fs.rename(p .. "2", p .. "3")
    fs.link(p, p .. "4")
    fs.symlink("x", granted .. "/to x")
    assert(fs.readlink(granted .. "/to x") == "x" and fs.read_file(granted .. "/to x") == "1")
    fs.write_file(granted .. "/to x", "2")
    assert(fs.read_file(p) == "2" and fs.lstat(granted .. "/to x").type == "link")
    fs.write_file(granted .. "/to x", "3", { atomic = true })
    assert(fs.read_file(p) == "3" and fs.lstat(granted .. "/to x").type == "link")
    fs.symlink("later", granted .. "/dangling")
    fs.write_file(granted .. "/dangling", "4")
    assert(fs.read_file(granted .. "/later") == "4")
    local made = fs.mkdtemp(granted .. "/tmp-")
    assert(made:find(granted .. "/tmp-", 1, true) and fs.is_dir(made))
    local f, path = fs.mkstemp(granted .. "/tmp-")
    f:write "temporary"
    f:close()
    assert(path:find(granted .. "/tmp-", 1, true) and fs.read_file(path) == "temporary")
    fs.chdir(granted)
    assert(fs.cwd():find "granted$" and fs.read_file "x" == "3")
    fs.write_file("relative", "r")
    assert(fs.read_file "./relative" == "r")
    local watch = fs.watch(granted, { recursive = true })
    fs.write_file(p .. "9", "new")
    local event = watch()
    assert(event.path == p .. "9" and event.type == "create", event.path)
    watch:close()
    fs.mkdir(granted .. "/watched/inner", { parents = true })
    watch = fs.watch(granted .. "/watched", { recursive = true })
    fs.remove(granted .. "/watched", { recursive = true })
    local last
    for e in watch do last = e end
    assert(last.type == "delete" and last.path == granted .. "/watched", last.path)
    local function message(fn, ...) return tostring(select(2, pcall(fn, ...))) end
    local function says(text, ...) assert(message(...) == "OSError: " .. text, message(...)) end
    says("file already exists: mkdir '" .. p .. "'", fs.mkdir, p)
    says("no such file or directory: rename '" .. p .. "none' -> '" .. p .. "'", fs.rename,
      p .. "none", p)
    says("directory not empty: rmdir '" .. granted .. "'", fs.remove, granted)
    says("file already exists: open '" .. p .. "'", fs.open, p, "x")
    says("no such file or directory: mkstemp '" .. p .. "none/yXXXXXX'", fs.mkstemp, p .. "none/y")
    says("not a directory: scandir '" .. p .. "'", fs.list, p)
  ]], "read write")
end)

test("neither .. nor links lead out of a granted folder", function()
  run([[
    for _, path in ipairs {
      granted .. "/../secret/file", granted .. "/link", granted .. "/folder/file",
      granted .. "/up/secret/file", granted .. "/./folder/../secret/file",
      "/proc/self/root" .. secret .. "/file", "/proc/self/cwd/../../../.." .. secret .. "/file",
    } do
      refused("allow_read", fs.read_file, path)
      refused("allow_read", fs.stat, path)
      refused("allow_", fs.open, path, "r+")
      refused("allow_write", fs.write_file, path, "changed")
      refused("allow_write", fs.write_file, path, "changed", { atomic = true })
      refused("allow_write", fs.open, path, "w")
      refused("allow_write", fs.copy, granted .. "/file", path)
      refused("allow_write", fs.chmod, path, 511)
    end
    refused("allow_write", fs.write_file, granted .. "/dangling", "made")
    refused("allow_write", fs.mkdir, granted .. "/folder/new")
    refused("allow_write", fs.mkdir, granted .. "/folder/new/deep", { parents = true })
    refused("allow_write", fs.mkdir, granted .. "/none/../../secret/new", { parents = true })
    refused("allow_read", fs.list, granted .. "/folder")
    refused("allow_read", fs.watch, granted .. "/folder")
    refused("allow_read", fs.lstat, granted .. "/link/")
    refused("allow_read", fs.lstat, granted .. "/folder/")
    refused("allow_read", fs.glob, granted .. "/folder/*")
    assert(#fs.glob(granted .. "/f*/*") == 0 and #fs.glob(granted .. "/**/file") == 1)
    refused("allow_read", fs.glob, granted .. "/../secret/*")
    -- What leads away can be seen and removed.
    assert(fs.lstat(granted .. "/link").type == "link")
    fs.remove(granted .. "/link")
    fs.remove(granted .. "/folder")
    fs.remove(granted, { recursive = true })
  ]], "read write", {
    before = function(_, granted, secret)
      shell("cd '%s'; ln -s '%s/file' link; ln -s '%s' folder; ln -s .. up; ln -s '%s/new' "
        .. "dangling",
        granted, secret, secret, secret)
    end,
  })
end)

test("no link can be made to what is not granted, and nothing be moved in or out", function()
  local _, _, _, secret = run([[
    for _, target in ipairs {
      secret, secret .. "/file", "../secret/file", "none/../../secret", "/", "..", "/etc/passwd",
    } do
      refused("allow_read", fs.symlink, target, granted .. "/made")
    end
    refused("allow_", fs.symlink, "file", secret .. "/made")
    refused("allow_read", fs.link, secret .. "/file", granted .. "/made")
    refused("allow_write", fs.link, granted .. "/file", secret .. "/made")
    refused("allow_read", fs.rename, secret .. "/file", granted .. "/made")
    refused("allow_write", fs.rename, granted .. "/file", secret .. "/made")
    refused("allow_read", fs.copy, secret .. "/file", granted .. "/made")
  ]], "read write")
  test.eq(test.read(secret .. "/file"), "for none")
end)

test("descriptors that were inherited cannot be reached", function()
  run([[
    for fd = 0, 20 do
      refused("allow_read", fs.read_file, "/proc/self/fd/" .. fd)
      refused("allow_read", fs.read_file, "/dev/fd/" .. fd)
      refused("allow_write", fs.write_file, "/proc/thread-self/fd/" .. fd, "x")
    end
    refused("allow_read", fs.list, "/proc/self/fd")
    refused("allow_read", fs.read_file, "/proc/self/environ")
    refused("allow_read", fs.read_file, "/proc/self/maps")
    refused("allow_write", fs.open, "/proc/self/mem", "w")
  ]], "read write", { prefix = "bash -c 'exec 7</etc/passwd 9>/dev/null; exec \"$@\"' bash" })
end)

test("a grant of the root is not one of the kernel's folders and of devices", function()
  local out = sandbox.run([[
    local fs = require "rille.fs"
    assert(#fs.read_file "/etc/passwd" > 0)
    refused("allow_read", fs.read_file, "/proc/self/environ")
    refused("allow_read", fs.read_file, "/dev/zero")
    refused("allow_read", fs.list, "/sys")
    refused("allow_write", fs.open, "/proc/self/mem", "w")
    print "done"
  ]], { "--allow-read=/", "--allow-write=/" })
  test.eq(out, "done\n")
end)

test("a grant may be of one file, of a folder that is not there yet, and of everything", function()
  local dir, granted, secret = sandbox.folders()
  sandbox.run(([[
    local fs, dir, granted, secret = require "rille.fs", %q, %q, %q
    assert(fs.read_file(granted .. "/file") == "for all")
    refused("allow_read", fs.list, granted)
    refused("allow_read", fs.read_file, secret .. "/file")
    fs.mkdir(dir .. "/later/deep", { parents = true })
    fs.write_file(dir .. "/later/deep/file", "x")
    refused("allow_write", fs.mkdir, dir .. "/other")
    refused("allow_write", fs.write_file, dir .. "/later2", "x")
  ]]):format(dir, granted, secret),
    { "--allow-read=" .. granted .. "/file", "--allow-write=" .. dir .. "/later" })
  sandbox.run([[
    assert(#require("rille.fs").read_file "/proc/self/stat" > 0)
  ]], { "--allow-read" })
end)

test("what a folder is in is not granted with it", function()
  run([[
    fs.mkdir(granted .. "/inner")
    fs.rename(granted .. "/inner", granted .. "/moved")
    fs.write_file(granted .. "/moved/x", "1")
    refused("allow_write", fs.rename, granted .. "/moved", dir .. "/elsewhere")
    refused("allow_write", fs.remove, granted .. "/..", { recursive = true })
    refused("allow_write", fs.chmod, granted .. "/..", 511)
    refused("allow_read", fs.list, granted .. "/..")
  ]], "read write")
end)

test("what changes between the check and the use leads nowhere else", function()
  -- A name is a file and a link by turns while it is opened again and again.
  run([[
    local stop = false
    local turner = async.spawn(function()
      for i = 1, 300 do
        fs.rename(granted .. "/a", granted .. "/spare")
        fs.rename(granted .. "/b", granted .. "/a")
        fs.rename(granted .. "/spare", granted .. "/b")
      end
      stop = true
    end)
    local seen = 0
    while not stop do
      local all = {}
      for i = 1, 8 do
        all[i] = function() return select(2, pcall(fs.read_file, granted .. "/a")) end
      end
      for _, got in ipairs(async.gather(all)) do
        assert(got == "for all" or errors.is(got, "PermissionError") or got.code == "ENOENT"
          or got.code == "ELOOP", tostring(got))
        seen = seen + 1
      end
      pcall(fs.write_file, granted .. "/a", "for all")
    end
    turner:await()
    assert(seen > 0)
  ]], "read write", {
    before = function(_, granted, secret)
      shell("cp '%s/file' '%s/a'; ln -s '%s/file' '%s/b'", granted, granted, secret, granted)
    end,
  })
end)

test("io and os go through the same checks", function()
  local _, _, granted, secret = run([[
    local f = assert(io.open(granted .. "/file"))
    assert(f:read "*a" == "for all" and io.type(f) == "file")
    f:close()
    for line in io.lines(granted .. "/file") do assert(line == "for all") end
    f = assert(io.open(granted .. "/new", "w"))
    f:write("one\n", "two\n")
    f:close()
    f = assert(io.open(granted .. "/new", "a"))
    f:write "three\n"
    f:close()
    local n = 0
    for _ in io.lines(granted .. "/new") do n = n + 1 end
    assert(n == 3)
    io.output(granted .. "/out")
    io.write "redirected"
    io.close()
    io.output(io.stdout)
    io.input(granted .. "/out")
    assert(io.read "*a" == "redirected")
    local none, text, code = io.open(granted .. "/none")
    assert(none == nil and code == 2)
    assert(text == granted .. "/none: No such file or directory", text)
    assert(os.rename(granted .. "/new", granted .. "/newer") and os.remove(granted .. "/newer"))
    none, text = os.remove(granted .. "/newer")
    assert(none == nil and text == granted .. "/newer: No such file or directory", text)
    assert(loadfile(granted .. "/code.lua")() == 42 and dofile(granted .. "/code.lua") == 42)
    assert(not pcall(io.lines, granted .. "/none"))

    for _, path in ipairs { secret .. "/file", granted .. "/link", granted .. "/../secret/file" } do
      refused("allow_read", io.open, path)
      refused("allow_write", io.open, path, "w")
      refused("allow_write", io.open, path, "a")
      refused("allow_", io.open, path, "r+")
      refused("allow_read", io.lines, path)
      refused("allow_read", io.input, path)
      refused("allow_write", io.output, path)
      refused("allow_read", loadfile, path)
      refused("allow_read", dofile, path)
    end
    refused("allow_write", os.remove, secret .. "/file")
    refused("allow_read", os.rename, secret .. "/file", granted .. "/x")
    refused("allow_write", os.rename, granted .. "/file", secret .. "/x")
    for _, name in ipairs { "popen", "tmpfile" } do refused("io." .. name, io[name], "ls") end
    for _, name in ipairs { "execute", "tmpname", "setlocale" } do
      refused("os." .. name, os[name], "ls")
    end
  ]], "read write", {
    before = function(_, granted, secret)
      shell("ln -s '%s/file' '%s/link'", secret, granted)
      test.write(granted .. "/code.lua", "return 42")
    end,
  })
  test.eq(test.read(granted .. "/out"), "redirected")
  test.eq(test.read(secret .. "/file"), "for none")
end)

test("modules of the script's own are read where it may read", function()
  local _, granted = sandbox.folders()
  test.write(granted .. "/helper.lua", "local name = ... return { name = name, env = getfenv(1) }")
  test.write(granted .. "/broken.lua", "return +")
  sandbox.run(([[
    package.path = %q .. "/?.lua"
    local helper = require "helper"
    assert(helper.name == "helper" and helper.env == _G and require "helper" == helper)
    fails("error loading module 'broken'", require, "broken")
    fails("module 'none' not found", require, "none")
    package.path = "/etc/?"
    refused("allow_read", require, "passwd")
    package.preload.own = function(name) return name .. "!" end
    assert(require "own" == "own!")
  ]]):format(granted), { "--allow-read=" .. granted })
end)

test("a comma in the name of a folder does not part it", function()
  local dir, granted, secret = sandbox.folders()
  assert(os.execute(("mkdir '%s/a,b' && cp '%s/file' '%s/a,b'"):format(dir, granted, dir)) == 0)
  sandbox.run(([[
    local fs, dir, secret = require "rille.fs", %q, %q
    assert(fs.read_file(dir .. "/a,b/file") == "for all")
    fs.write_file(dir .. "/a,b/new", "x")
    refused("allow_read", fs.read_file, secret .. "/file")
  ]]):format(dir, secret), {
    "--allow-read=" .. dir .. "/a,b", "--allow-write=" .. dir .. "/a,b",
    "--allow-read=" .. granted .. "," .. secret,
  })
end)
