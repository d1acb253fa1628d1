-- Files: their end.
local async, fs, test = require "rille.async", require "rille.fs", require "support.test"
local files = require "support.files"
local shell, a_moment, descriptors = files.shell, files.a_moment, files.descriptors
local fifo, file_with = files.fifo, files.file_with

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
