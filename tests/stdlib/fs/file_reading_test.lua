-- Files: reading.
local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local files = require "support.files"
local file_with = files.file_with

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
