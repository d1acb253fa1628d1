-- Files: several tasks, and those that are cancelled.
local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local probe = require "rille.core.probe"
local files = require "support.files"
local a_moment, descriptors = files.a_moment, files.descriptors
local fifo, file_with = files.fifo, files.file_with

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
