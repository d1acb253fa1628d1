-- Files: opening, writing and positions.
local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local files = require "support.files"
local fifo, file_with = files.fifo, files.file_with

-- Opening -----------------------------------------------------------------------------------------

test("the modes of open are Lua's", function()
  local path = test.tmpdir() .. "/file"
  for _, mode in ipairs { "r", "r+", "rb", "r+b", "rb+" } do
    test.eq(test.raises("OSError", fs.open, path, mode).code, "ENOENT")
  end
  local function after(mode, fn)
    test.write(path, "text")
    async.with(fs.open(path, mode), fn)
    return test.read(path)
  end
  local function write(file) file:write "new" end
  test.eq(after("w", function() end), "")
  test.eq(after("wb", write), "new")
  test.eq(after("r+", write), "newt")
  test.eq(after("a", write), "textnew")
  test.eq(after("a+b", function(file)
    test.eq(file:read(2), "te")
    file:write "new"
    test.eq(file:read "a", "")
    file:seek "set"
    test.eq(file:read "a", "textnew")
  end), "textnew")
  test.eq(after("w+", function(file)
    file:write "abc"
    file:seek "set"
    test.eq(file:read "a", "abc")
  end), "abc")
end)

test("mode x makes a file that must not exist", function()
  local path = test.tmpdir() .. "/file"
  async.with(fs.open(path, "x"), function(file) file:write "made" end)
  test.eq(test.read(path), "made")
  for _, mode in ipairs { "x", "wx", "wxb" } do
    test.eq(test.raises("OSError", fs.open, path, mode).code, "EEXIST")
  end
  test.eq(test.read(path), "made")
end)

test("open gives a new file the permissions it was told, less the umask", function()
  local dir = test.tmpdir()
  fs.open(dir .. "/a", "w", "600"):close()
  fs.open(dir .. "/b", "w", tonumber("777", 8)):close()
  fs.open(dir .. "/c", "w"):close()
  test.eq(fs.stat(dir .. "/a").mode, tonumber("600", 8))
  test.eq(fs.stat(dir .. "/b").mode, tonumber("755", 8))
  test.eq(fs.stat(dir .. "/c").mode, tonumber("644", 8))
  test.raises("bad argument #3 to 'open' %(permissions expected", fs.open, dir .. "/d", "w", "rw")
end)

test("a wrong mode is a bad argument that shows it", function()
  for _, mode in ipairs { "", "q", "rw", "r++", "rbb", "+r", "wr", "bw", "rx" } do
    local shown = mode:gsub("%p", "%%%0")
    local text = ("bad argument #2 to 'open' %%(invalid mode '%s'%%)"):format(shown)
    test.raises(text, fs.open, "/tmp/none", mode)
  end
end)

test("a file shows its path", function()
  local path = file_with ""
  local file = fs.open(path)
  test.eq(file.path, path)
  test.eq(tostring(file), "File: " .. path)
  file:close()
  test.eq(tostring(file), "File: " .. path .. " (closed)")
end)

-- Writing through a File --------------------------------------------------------------------------

test("write takes strings and numbers and returns the file", function()
  local path = test.tmpdir() .. "/file"
  async.with(fs.open(path, "w"), function(file)
    test.eq(file:write("a", 1, "\0", 2.5):write(), file)
  end)
  test.eq(test.read(path), "a1\0002.5")
end)

test("what is written goes out by flush, close, seek and read", function()
  local path = test.tmpdir() .. "/file"
  local file = fs.open(path, "w+")
  file:write "one "
  test.eq(test.read(path), "", "it is in the buffer")
  test.eq(file:flush(), file)
  test.eq(test.read(path), "one ")
  file:write "two "
  file:seek()
  test.eq(test.read(path), "one two ")
  file:write "three "
  file:read(1)
  test.eq(test.read(path), "one two three ")
  file:write "four "
  file:sync()
  test.eq(test.read(path), "one two three four ")
  file:write "five"
  test.eq(file:stat().size, 23)
  file:close()
  test.eq(test.read(path), "one two three four five")
end)

test("much that is written goes out by itself, in order", function()
  local path, parts = test.tmpdir() .. "/file", {}
  local file = fs.open(path, "w")
  for i = 1, 5000 do
    parts[i] = ("line %d %s\n"):format(i, ("x"):rep(60))
    file:write(parts[i])
  end
  assert(fs.stat(path).size > 200000)
  file:write(("x"):rep(1000000))
  file:close()
  assert(test.read(path) == table.concat(parts) .. ("x"):rep(1000000))
end)

test("reading and writing take turns at one position", function()
  local path = file_with "one\ntwo\nthree\nfour\n"
  local file = fs.open(path, "r+")
  test.eq(file:read(), "one")
  file:write "TWO"
  test.eq(file:read(), "")
  test.eq(file:read(2), "th")
  file:write("R", "E")
  test.eq(file:seek(), 12)
  test.eq(file:read "a", "e\nfour\n")
  file:write "five"
  test.eq(file:seek("cur", -9), 14)
  test.eq(file:read "a", "four\nfive")
  file:close()
  test.eq(test.read(path), "one\nTWO\nthREe\nfour\nfive")
end)

test("seek moves the position and gives it", function()
  local file = fs.open(file_with "0123456789")
  test.eq(file:seek(), 0)
  test.eq(file:read(3), "012")
  test.eq(file:seek(), 3)
  test.eq(file:seek("cur", 2), 5)
  test.eq(file:read(1), "5")
  test.eq(file:seek("set", 1), 1)
  test.eq(file:read(1), "1")
  test.eq(file:seek("end", -2), 8)
  test.eq(file:read "a", "89")
  test.eq(file:seek "end", 10)
  local err = test.raises("OSError", file.seek, file, "set", -1)
  test.eq(err.code, "EINVAL")
  test.eq(err.syscall, "lseek")
  test.raises("bad argument #1 to 'seek' %(invalid option 'middle'%)", file.seek, file, "middle")
  test.raises("bad argument #2 to 'seek' %(number expected, got table", file.seek, file, "set", {})
  test.eq(file:seek(), 10)
  file:close()
end)

test("seek in a FIFO is an ESPIPE", function()
  local path = fifo()
  local file = fs.open(path, "r+")
  file:write "text\n"
  test.eq(file:read(), "text")
  test.eq(test.raises("OSError", file.seek, file).code, "ESPIPE")
  file:close()
end)

test("truncate cuts a file off or lengthens it, and the position stays", function()
  local path = file_with "0123456789"
  local file = fs.open(path, "r+")
  test.eq(file:read(2), "01")
  file:truncate(5)
  test.eq(file:read "a", "234")
  file:truncate(7)
  test.eq(file:read "a", "\0\0")
  test.raises("at least 0 expected", file.truncate, file, -1)
  file:close()
  test.eq(test.read(path), "01234\0\0")
end)

test("what is no text is a bad argument of write, and nothing of the call is written", function()
  local path = test.tmpdir() .. "/file"
  local file = fs.open(path, "w")
  test.blames_caller("bad argument #2 to 'write' (string expected, got table)",
    function() file:write("a", {}) end)
  test.raises("bad argument #1 to 'write' %(string expected, got nil%)", file.write, file, nil)
  test.raises("bad argument #3 to 'write' .* got boolean", file.write, file, "a", "b", true)
  file:close()
  test.eq(test.read(path), "")
end)

test("writing to a file opened for reading is an EBADF at once", function()
  local path = file_with "text"
  async.with(fs.open(path), function(file)
    local err = test.raises("OSError", file.write, file, "x")
    test.eq(err.code, "EBADF")
    test.eq(err.path, path)
  end)
end)

test("a full disk is an ENOSPC when the buffer goes out", function()
  local file = fs.open("/dev/full", "w")
  file:write "text"
  local err = test.raises("OSError", file.flush, file)
  test.eq(err.code, "ENOSPC")
  test.eq(err.path, "/dev/full")
  file:write "text"
  err = test.raises("OSError", file.close, file)
  test.eq(err.code, "ENOSPC")
  test.raises("InvalidStateError", file.flush, file)
  file:close()
  file = fs.open("/dev/full", "w")
  test.eq(test.raises("OSError", file.write, file, ("x"):rep(100000)).code, "ENOSPC")
  file:close()
end)
