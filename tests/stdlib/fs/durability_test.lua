-- What is left of files when a process is killed, or when others change them meanwhile.
local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local files = require "support.files"

local ROUNDS = math.max(5, math.floor(30 * test.SCALE))
local BLOCKS = 50000

-- Contents that say of each of their blocks which one they are.
local WRITER = [[
  local fs, path, blocks = require "rille.fs", arg[1], tonumber(arg[2])
  local versions = {}
  for i = 1, 4 do versions[i] = ("%07d\n"):format(i):rep(blocks) end
  fs.write_file(path, versions[1], { atomic = true })
  io.write "ready\n"
  io.flush()
  local i = 1
  while true do
    i = i % 4 + 1
    fs.write_file(path, versions[i], { atomic = true })
  end
]]

local function assert_whole(path, what)
  local text = test.read(path)
  test.eq(#text, BLOCKS * 8, what)
  assert(text == text:sub(1, 8):rep(BLOCKS), what .. " is torn")
end

test("a kill during an atomic write leaves the old content or the new", { limit = 6 }, function()
  local dir = test.tmpdir()
  local path = dir .. "/file"
  local script = test.write(test.tmpdir() .. "/script.lua", WRITER)
  for round = 1, ROUNDS do
    local child = assert(io.popen(("echo $$; exec '%s' '%s' '%s' %d"):format(
      test.executable(), script, path, BLOCKS)))
    local pid = child:read "*l"
    test.eq(child:read "*l", "ready")
    async.sleep(math.random() * 0.01)
    files.shell("kill -9 " .. pid)
    child:close()
    assert_whole(path, "round " .. round)
    -- Killed between its last two steps, it leaves a second file, which is whole as well.
    for _, name in ipairs(fs.list(dir)) do assert_whole(dir .. "/" .. name, name) end
  end
end)

test("where a file needs a name to be replaced, it is as whole", function()
  local result = files.without_proc [[
    local async, fs, dir = require "rille.async", require "rille.fs", arg[1]
    fs.write_file(dir .. "/a", "one", { atomic = true })
    fs.write_file(dir .. "/a", "two", { atomic = true })
    fs.copy(dir .. "/a", dir .. "/b")
    print(fs.read_file(dir .. "/a"), fs.read_file(dir .. "/b"))
    for turns = 0, 8 do
      local writer = async.spawn(fs.write_file, dir .. "/a", ("x"):rep(1000000), { atomic = true })
      for _ = 1, turns do async.sleep(0) end
      writer:cancel()
      async.wait { writer }
    end
    -- What is still going on ends before the process does.
    repeat async.sleep(0.01) until #fs.list(dir) == 2
    print(table.concat(fs.list(dir), " "))
  ]]
  if result then test.eq(result.stdout, "two\ttwo\na b\n", result.stderr) end
end)

test("a file that shrinks and grows meanwhile is read as far as it goes", function()
  local path = test.write(test.tmpdir() .. "/file", ("x"):rep(300000))
  local stop = false
  local other = async.spawn(function()
    local file = fs.open(path, "r+")
    for i = 1, 100000 do
      if stop then break end
      file:truncate(i * 7919 % 300000)
      file:seek "end"
      file:write(("x"):rep(i * 104729 % 100000)):flush()
    end
    file:close()
  end)
  local function check(text)
    assert(#text <= 400000 and not text:find "[^x%z]", #text)
  end
  for _ = 1, 40 do
    check(fs.read_file(path))
    check(table.concat(fs.read_lines(path)))
    for chunk in fs.open(path):chunks(50000) do check(chunk) end
    local file = fs.open(path)
    check(file:read "a")
    file:seek("set", 100)
    check(file:read(100000) or "")
    file:close()
    fs.copy(path, path .. ".copy")
    check(fs.read_file(path .. ".copy"))
  end
  stop = true
  other:await()
end)

test("what is added while a file is gone through is found, and what is cut off is not", function()
  local path = test.write(test.tmpdir() .. "/file", ("line\n"):rep(50000))
  local file, n = fs.open(path), 0
  for _ in file:lines() do
    n = n + 1
    if n == 10 then fs.write_file(path, ("more\n"):rep(50000), { append = true }) end
  end
  test.eq(n, 100000)
  file:seek "set"
  local size = 0
  for chunk in file:chunks(1000) do
    if size == 0 then fs.open(path, "r+"):truncate(10) end
    size = size + #chunk
  end
  assert(size < 500000, size)
  test.eq(file:read "a", "")
  file:close()
end)
