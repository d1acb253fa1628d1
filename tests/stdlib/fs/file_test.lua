local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local probe = require "rille.core.probe"
local files = require "support.files"
local shell, a_moment, descriptors = files.shell, files.a_moment, files.descriptors

local function fifo()
  local path = test.tmpdir() .. "/fifo"
  shell("mkfifo '" .. path .. "'")
  return path
end

local function file_with(text)
  return test.write(test.tmpdir() .. "/file", text)
end

-- Reading through a File --------------------------------------------------------------------------

test("read takes each format of Lua's, with and without a star", function()
  local file = fs.open(file_with "first\nsecond\n12.5 0x10 -3e2\n\nrest\nof it")
  test.eq(file:read(), "first")
  test.eq(file:read "L", "second\n")
  test.eq(file:read "n", 12.5)
  test.eq(file:read "*n", 16)
  test.eq(file:read "*number", -300)
  test.eq(file:read "l", "")
  test.eq(file:read "*L", "\n")
  test.eq(file:read(2), "re")
  test.eq(file:read "*l", "st")
  test.eq(file:read "a", "of it")
  test.eq(file:read "a", "")
  test.eq(file:read "*all", "")
  test.eq(file:read "l", nil)
  test.eq(file:read(1), nil)
  test.eq(file:read(0), nil)
  test.eq(file:read "n", nil)
  file:close()
end)

test("read takes several formats, up to the first that finds nothing", function()
  local file = fs.open(file_with "1 2\nthree\nfour")
  test.eq({ file:read("n", "n", "L", "l") }, { 1, 2, "\n", "three" })
  local results = { n = select("#", file:read("l", "l", "a")), file:read("l", "l", "a") }
  test.eq(results, { n = 2 }, "the first of both reads took the rest")
  file:seek "set"
  test.eq({ file:read("n", 0, "a") }, { 1, "", " 2\nthree\nfour" })
  file:seek "set"
  test.eq(select("#", file:read("l", "n", "l")), 2)
  file:close()
end)

test("a number that is none gives nil, and what could not be one is still there", function()
  local file = fs.open(file_with "  +x 0x 1e+ 5 .5. 12abc")
  test.eq(file:read "n", nil)
  test.eq(file:read(1), "x")
  test.eq(file:read "n", nil)
  test.eq(file:read "n", nil)
  test.eq({ file:read("n", "n") }, { 5, 0.5 })
  test.eq(file:read(2), ". ")
  test.eq({ file:read("n", "a") }, { 12, "abc" })
  file:close()
end)

test("a line of several megabytes is read whole", function()
  local long = ("x"):rep(3000000)
  local file = fs.open(file_with(long .. "\nshort\n"))
  assert(file:read() == long)
  test.eq(file:read(), "short")
  test.eq(file:read(), nil)
  file:seek "set"
  assert(file:read(2999999) == long:sub(2))
  test.eq(file:read "L", "x\n")
  file:close()
end)

test("read gives as many bytes as asked for unless the end comes first", function()
  local file = fs.open(file_with(("0123456789"):rep(30000)))
  test.eq(#file:read(299990), 299990)
  test.eq(file:read(4), "0123")
  test.eq(file:read(0), "")
  test.eq(file:read(100), "456789")
  test.eq(file:read(100), nil)
  file:close()
end)

test("a file that grows can be read on after its end", function()
  local path = file_with "one\n"
  local file = fs.open(path)
  test.eq(file:read(), "one")
  test.eq(file:read(), nil)
  fs.write_file(path, "two\n", { append = true })
  test.eq(file:read(), "two")
  fs.write_file(path, "three", { append = true })
  test.eq(file:read "a", "three")
  file:close()
end)

test("lines goes over the lines of a file", function()
  local file, lines = fs.open(file_with "one\n\nthree\r\nfour"), {}
  for line in file:lines() do lines[#lines + 1] = line end
  test.eq(lines, { "one", "", "three\r", "four" })
  file:seek "set"
  lines = {}
  for line in file:lines "L" do lines[#lines + 1] = line end
  test.eq(lines, { "one\n", "\n", "three\r\n", "four" })
  file:close()
end)

test("lines takes the formats of read, several too", function()
  local file, got = fs.open(file_with "1 one\n2 two\n3"), {}
  for number, text in file:lines("n", "l") do got[#got + 1] = { number, text } end
  test.eq(got, { { 1, " one" }, { 2, " two" }, { 3 } })
  file:seek "set"
  got = {}
  for piece in file:lines(4) do got[#got + 1] = piece end
  test.eq(got, { "1 on", "e\n2 ", "two\n", "3" })
  file:close()
end)

test("after a broken-off loop the file stands behind what was handed out", function()
  local file = fs.open(file_with "one\ntwo\nthree\n")
  for line in file:lines() do
    if line == "two" then break end
  end
  test.eq(file:seek(), 8)
  test.eq(file:read(), "three")
  file:close()
end)

test("chunks goes over a file in pieces", function()
  local file, pieces = fs.open(file_with "0123456789"), {}
  for piece in file:chunks(4) do pieces[#pieces + 1] = piece end
  test.eq(pieces, { "0123", "4567", "89" })
  file:close()

  file = fs.open(file_with(("x"):rep(200000)))
  local sizes = {}
  for piece in file:chunks() do sizes[#sizes + 1] = #piece end
  test.eq(sizes, { 65536, 65536, 65536, 3392 })
  test.raises("bad argument #1 to 'chunks' %(at least 1 expected, got 0%)", file.chunks, file, 0)
  file:close()
end)

test("who reads a long file lets others run now and then", function()
  local path, turns, done = file_with "", 0, false
  fs.open(path, "r+"):truncate(100 * 2 ^ 20)
  local other = async.spawn(function()
    while not done do
      turns = turns + 1
      async.sleep(0)
    end
  end)
  local size = 0
  for chunk in fs.open(path):chunks() do size = size + #chunk end
  done = true
  other:await()
  test.eq(size, 100 * 2 ^ 20)
  assert(turns >= 10, turns)
end)

test("a file is read as well when the system does not have it in memory", function()
  local lines = {}
  for i = 1, 400000 do lines[i] = ("%09d"):format(i) end
  local path = file_with(table.concat(lines, "\n"))
  -- The second command makes the system forget it, as far as it can.
  for _, command in ipairs { "true", "sync '%s'; dd if='%s' iflag=nocache count=0 2>/dev/null" } do
    assert(os.execute(command:format(path, path)) == 0)
    local n = 0
    for line in fs.open(path):lines() do
      n = n + 1
      assert(line == lines[n])
    end
    test.eq(n, #lines)
    assert(os.execute(command:format(path, path)) == 0)
    local file, parts = fs.open(path), {}
    for chunk in file:chunks(100000) do parts[#parts + 1] = chunk end
    assert(table.concat(parts) == table.concat(lines, "\n"))
    test.eq(file:seek("set", 10), 10)
    test.eq(file:read(9), "000000002")
    test.eq(file:seek(), 19)
  end
end)

test("whatever is done to a long file while it is read ahead, its position holds", function()
  local parts = {}
  for i = 1, 300000 do parts[i] = ("%09d"):format(i) end
  local first = table.concat(parts, "\n") .. "\n"
  for seed = 1, 12 do
    math.randomseed(seed)
    local random = math.random
    local model, at = first, 0
    local file = fs.open(file_with(model), "r+")
    local function read(n)
      local want = model:sub(at + 1, at + n)
      local got = file:read(n) or ""
      assert(got == want, ("seed %d: %d bytes at %d"):format(seed, n, at))
      at = at + #got
    end
    local actions = {
      function() -- far enough to be read ahead
        for _ = 1, random(20, 40) do read(random(1, 2) * 65536) end
      end,
      function() for _ = 1, random(1, 5) do read(random(1, 300000)) end end,
      function()
        at = random(0, #model)
        test.eq(file:seek("set", at), at)
      end,
      function()
        local text = ("w"):rep(random(1, 100000))
        model = model:sub(1, at) .. text .. model:sub(at + #text + 1)
        at = at + #text
        file:write(text)
      end,
      function()
        local size = random(math.floor(#model / 2), #model)
        file:truncate(size)
        model = model:sub(1, size)
        at = math.min(at, size)
        test.eq(file:seek("set", at), at)
      end,
      function() test.eq(file:stat().size, #model) end,
      function() async.move_on_after(0, function() file:read(1, "a") end) end,
      function() test.eq(file:seek(), at) end,
    }
    for _ = 1, 40 do
      actions[random(2) == 1 and 1 or random(#actions)]()
      if at >= #model then
        at = 0
        file:seek "set"
      end
      -- A read of several things that was broken off has taken nothing, or all.
      local now = file:seek()
      if now ~= at then
        test.eq(now, #model)
        at = now
      end
    end
    file:close()
    test.eq(#test.read(file.path), #model)
    assert(test.read(file.path) == model)
  end
end)

test("an iterator over a file has close, after which it gives nothing", function()
  local file = fs.open(file_with "one\ntwo\n")
  local lines, chunks = file:lines(), file:chunks(2)
  test.eq(lines(), "one")
  lines:close()
  test.eq(lines(), nil)
  async.with(chunks, function(it) test.eq(it(), "tw") end)
  test.eq(chunks(), nil)
  test.eq(file:read "a", "o\n", "the file itself stays open")
  file:close()
end)

test("wrong formats are bad arguments at the caller's line", function()
  local file = fs.open(file_with "text")
  test.blames_caller("bad argument #1 to 'read' (invalid format 'x')", function() file:read "x" end)
  test.blames_caller("bad argument #2 to 'read' (invalid format '*q')",
    function() file:read("l", "*q") end)
  test.raises("bad argument #1 to 'read' %(string expected, got table%)", file.read, file, {})
  test.raises("bad argument #1 to 'read' %(a size expected, got %-1%)", file.read, file, -1)
  test.raises("a size expected, got 1.5", file.read, file, 1.5)
  test.raises("a size expected, got nan", file.read, file, 0 / 0)
  test.raises("bad argument #1 to 'lines' %(invalid format 'x'%)", file.lines, file, "x")
  test.raises("bad argument #1 to 'read' %(File expected, got nil%)", file.read)
  test.raises("bad argument #1 to 'close' %(File expected, got table%)", file.close, {})
  test.eq(file:read "a", "text")
  file:close()
end)

test("reading a file opened for writing is an EBADF", function()
  local path = file_with "text"
  async.with(fs.open(path, "a"), function(file)
    local err = test.raises("OSError", file.read, file)
    test.eq(err.code, "EBADF")
    test.eq(err.path, path)
  end)
end)

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

test("an error of a write that was cancelled comes up at the next call", function()
  local file = fs.open("/dev/full", "w")
  local writer = async.spawn(file.write, file, ("x"):rep(100000))
  async.sleep(0)
  writer:cancel()
  async.wait { writer }
  -- A quick pool may have been through with it before.
  if not writer:cancelled() then
    test.eq(writer:error().code, "ENOSPC")
    pcall(file.close, file)
    return
  end
  a_moment()
  test.eq(test.raises("OSError", file.write, file, "x").code, "ENOSPC")
  file:close()
end)

test("a write that is cancelled is written nevertheless", function()
  local path = test.tmpdir() .. "/file"
  local file = fs.open(path, "w")
  local writer = async.spawn(function() file:write(("x"):rep(100000)) end)
  async.sleep(0)
  writer:cancel()
  async.wait { writer } -- it may have been through before
  file:write "y"
  file:close()
  assert(test.read(path) == ("x"):rep(100000) .. "y")
end)

-- Several tasks, closing --------------------------------------------------------------------------

test("two tasks that read one file get their results whole and in turn", function()
  local path, log = fifo(), test.log()
  local file = fs.open(path)
  local readers = {}
  for i = 1, 3 do
    readers[i] = async.spawn(function() log(i, file:read("l", 3)) end)
  end
  a_moment()
  fs.write_file(path, "one\n111two\n222three\n333")
  async.wait(readers)
  test.eq(log, { "1 one 111", "2 two 222", "3 three 333" })
  file:close()
end)

test("writes of several tasks never interleave", function()
  local path, tasks = test.tmpdir() .. "/file", {}
  local file = fs.open(path, "w")
  for i = 0, 9 do
    tasks[i + 1] = async.spawn(function()
      for _ = 1, 5 do file:write(tostring(i):rep(30000), "\n") end
    end)
  end
  async.wait(tasks)
  for _, task in ipairs(tasks) do task:await() end
  file:close()
  local count = 0
  for line in io.lines(path) do
    count = count + 1
    assert(line == line:sub(1, 1):rep(30000))
  end
  test.eq(count, 50)
end)

test("a cancelled read loses no byte", function()
  local path = fifo()
  local file = fs.open(path, "r+")
  for _, read in ipairs {
    function() return file:read(8) end,
    function() return file:read("n", "l", "l", "l") end,
    function() return file:read("L", "n", "a") end,
    function() for _ in file:lines() do end end,
  } do
    file:write "1 one\n"
    file:flush()
    local reader = async.spawn(read)
    a_moment()
    reader:cancel()
    async.wait { reader }
    assert(reader:cancelled())
    file:write "23\n"
    file:flush()
    if _ < 4 then test.eq(file:read(), "1 one") end
    test.eq(file:read(), "23")
  end
  file:close()
end)

test("a read that is cancelled while the pool reads loses no byte", function()
  local text = {}
  for i = 1, 3000 do text[i] = ("line %d %s\n"):format(i, ("x"):rep(60)) end
  local path, n = file_with(table.concat(text)), 0
  local file = fs.open(path)
  for turns = 0, 20000 do
    local reader = async.spawn(function()
      while true do
        local line = file:read()
        if not line then return true end
        n = n + 1
        assert(line .. "\n" == text[n])
        if n % 20 == 0 then async.sleep(0) end
      end
    end)
    test.turns(turns % 7)
    if turns % 10 == 0 then async.sleep(0.001) end -- or the pool never gets to it
    reader:cancel()
    async.wait { reader }
    if not reader:cancelled() and reader:result() then break end
  end
  test.eq(n, 3000)
  file:close()
end)

-- Starts a read, and gives it up when the pool is through with it and the loop does not know yet.
local function give_up_late(read, ...)
  local reader = async.spawn(read, ...)
  async.sleep(0)
  local start = async.time()
  while async.time() - start < 0.002 do end
  reader:cancel()
  return reader
end

test("what a cancelled read still brings is there for the next one", function()
  local file = fs.open(fifo(), "r+")
  for i = 1, 20 do
    file:write(i, "\n"):flush()
    local reader = give_up_late(file.read, file)
    -- The one that is cancelled takes nothing; it may have been faster than we are.
    async.wait { reader }
    test.eq(reader:cancelled() and file:read() or reader:result(), tostring(i))
  end
  file:close()
end)

test("what is written after a cancelled read goes to where that read began", function()
  local text = ("text"):rep(25)
  local path = file_with(text)
  for i = 1, 20 do
    test.write(path, text)
    local file = fs.open(path, "r+")
    file:seek("set", i)
    local reader = give_up_late(file.read, file)
    file:write "X"
    file:close()
    local cancelled = text:sub(1, i) .. "X" .. text:sub(i + 2)
    test.eq(test.read(path), reader:cancelled() and cancelled or text .. "X")
  end
end)

test("a task that is cancelled at any of its waits leaves the file to others", function()
  local path = file_with(("text\n"):rep(40000))
  local before = descriptors()
  local function work(file)
    for _ in file:lines(50000) do end
    file:seek("set", 10)
    file:read("l", 100000)
    file:write(("x"):rep(70000)):flush()
    file:truncate(100000)
    file:sync()
    file:stat()
    file:seek "set"
    file:read "a"
  end
  for hops = 0, 1 do
    local waits, point = nil, 0
    repeat
      point, waits = point + 1, 0
      local file = fs.open(path, "r+")
      local worker, other = async.spawn(work, file), async.spawn(work, file)
      probe.on_wait(function(task)
        if task ~= worker then return end
        waits = waits + 1
        if waits ~= point then return end
        if hops == 0 then return worker:cancel() end
        async.call_soon(worker.cancel, worker)
      end)
      async.wait { worker, other }
      probe.on_wait(nil)
      other:await()
      assert(worker:cancelled() or hops == 1 or waits < point)
      test.eq(async.wait_for(file.seek, 5, file, "set", 0), 0)
      test.eq(file:read(), "text")
      file:close()
    until waits < point
    assert(point > 10, point)
  end
  test.eq(descriptors(), before)
end)

test("a closed file used again is an InvalidStateError that names it", function()
  local path = file_with "text"
  local file = fs.open(path, "r+")
  local lines = file:lines()
  file:close()
  file:close()
  for _, name in ipairs { "read", "write", "lines", "chunks", "seek", "flush", "sync", "stat" } do
    local err = test.raises("InvalidStateError", file[name], file)
    test.eq(err.message, ("%s: the file '%s' is closed"):format(name, path))
  end
  test.raises("InvalidStateError", file.truncate, file, 0)
  test.raises("InvalidStateError", lines)
  test.blames_caller("InvalidStateError", function() file:read() end)
end)

test("closing a file wakes those who wait in it with an InvalidStateError", function()
  local path, before = fifo(), descriptors()
  local file = fs.open(path)
  local first, second = async.spawn(file.read, file), async.spawn(file.read, file)
  local third = async.spawn(file.lines(file))
  a_moment()
  file:close()
  for _, task in ipairs { first, second, third } do
    local err = test.raises("InvalidStateError", task.await, task)
    test.contains(err.message, path)
  end
  test.eq(descriptors(), before)
end)

test("async.with closes a file, whatever happens", function()
  local path, before = file_with "text", descriptors()
  local file
  test.eq(async.with(fs.open(path), function(f)
    file = f
    return f:read "a"
  end), "text")
  test.raises("InvalidStateError", file.read, file)
  test.raises("oops", async.with, fs.open(path), function(f)
    file = f
    error "oops"
  end)
  test.raises("InvalidStateError", file.read, file)
  local task = async.spawn(async.with, fs.open(fifo()), function(f)
    file = f
    f:read()
  end)
  a_moment()
  task:cancel()
  async.wait { task }
  test.raises("InvalidStateError", file.read, file)
  test.eq(descriptors(), before)
end)

test("a close whose task is cancelled closes the file all the same", function()
  local path, before = test.tmpdir() .. "/file", descriptors()
  local file = fs.open(path, "w")
  file:write "text"
  local task = async.spawn(function()
    async.current_task():cancel()
    file:close()
  end)
  async.wait { task }
  assert(task:cancelled())
  a_moment()
  test.eq(test.read(path), "text")
  test.eq(descriptors(), before)
end)

test("close where waiting is impossible leaves the file as it is", function()
  local file, done = fs.open(file_with "text"), async.Future()
  async.call_soon(function() done:set_result(pcall(file.close, file)) end)
  assert(not done:await())
  test.eq(file:read(), "text")
  file:close()
end)

test("a file that is collected closes its descriptor and puts out what was written", function()
  local path, before = test.tmpdir() .. "/file", descriptors()
  local function drop()
    fs.open(path, "w"):write "text"
    fs.open(path)
  end
  drop()
  test.eq(descriptors(), before)
  test.eq(test.read(path), "text")
end)

test("what was written goes out at the end of the program", function()
  local path = test.tmpdir() .. "/file"
  local function ends(code)
    os.remove(path)
    local result = test.script([[
      local async, fs = require "rille.async", require "rille.fs"
      file = fs.open(arg[1], "w"):write "text"
    ]] .. code, { args = { path } })
    test.eq(test.read(path), "text", result.stderr)
    return result
  end
  test.eq(ends("").code, 0)
  test.eq(ends("error 'oops'").code, 1)
  test.eq(ends("require('rille.process').exit(3)").code, 3)
  test.eq(ends("async.spawn(function() async.sleep(1000) end) async.sleep(0)").code, 0)
end)

test("what cannot be put out at the end of the program is reported", function()
  local result = test.script [[file = require("rille.fs").open("/dev/full", "w"):write "text"]]
  test.contains(result.stderr, "OSError: no space left on device: write '/dev/full'")
  test.eq(result.code, 1)
end)

test("at the end of the program a pipe whose reader is slow gets all", function()
  local path = fifo()
  local count = test.tmpdir() .. "/count"
  shell(("(sleep 0.1; wc -c) < '%s' > '%s' &"):format(path, count))
  local result = test.script([[
    local async, fs = require "rille.async", require "rille.fs"
    file = fs.open(arg[1], "w")
    local writer = async.spawn(file.write, file, ("x"):rep(100000))
    async.sleep(0.02)
    writer:cancel()
    async.wait { writer }
    file:write "more"
  ]], { args = { path } })
  test.eq(result.stderr, "")
  test.eq(result.code, 0)
  a_moment()
  test.eq(tonumber(test.read(count)), 100004)
end)
