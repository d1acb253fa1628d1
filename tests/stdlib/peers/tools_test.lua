-- Processes, pipes, sockets and files in the hands of the tools that everybody has: what they make
-- of ours and we of theirs, when much flows, when it stops in the middle, when they are killed.
local async = require "rille.async"
local fs = require "rille.fs"
local net = require "rille.net"
local process = require "rille.process"
local test = require "support.test"

local MEGABYTES = math.max(4, 64 * test.SCALE)

local function has(command)
  return process.run({ "sh", "-c", 'command -v "$1"', "sh", command }).ok
end

local function tool_test(commands, name, ...)
  for command in commands:gmatch "%S+" do
    if not has(command) then return print("# skipped: " .. command .. " is not there: " .. name) end
  end
  test(name, ...)
end

local function spawn(command)
  local child = process.spawn(command)
  test.defer(function() child:close() end)
  return child
end

local function read_all(stream)
  local parts = {}
  for data in function() return stream:read() end do parts[#parts + 1] = data end
  return table.concat(parts)
end

-- A megabyte that is another for each number, and repeats itself at odd places.
local lines = {}
for i = 1, 999 do lines[i] = ("%064d"):format(i * 2654435761 % 2 ^ 40) end
local base = table.concat(lines):rep(17)
local function block(number) return number .. base:sub(1, 2 ^ 20 - #tostring(number)) end

local function open_files() return #fs.list "/proc/self/fd" end

tool_test("gzip sha256sum", "what goes through gzip and back arrives whole, all at once", function()
  local zip = spawn { "gzip", "-1", stdin = "pipe", stdout = "pipe" }
  local unzip = spawn { "gzip", "-d", stdin = zip.stdout, stdout = "pipe" }
  zip.stdout:close()
  local sent = spawn { "sha256sum", stdin = "pipe", stdout = "pipe" }
  local got = spawn { "sha256sum", stdin = "pipe", stdout = "pipe" }

  async.gather {
    function()
      for number = 1, MEGABYTES do
        local data = block(number)
        async.gather {
          function() zip.stdin:write(data) end,
          function() sent.stdin:write(data) end,
        }
      end
      zip.stdin:close()
      sent.stdin:close()
    end,
    function()
      for data in function() return unzip.stdout:read() end do got.stdin:write(data) end
      got.stdin:close()
    end,
  }
  local sum = read_all(got.stdout)
  test.matches(sum, "^%x+  %-\n$")
  test.eq(sum, read_all(sent.stdout))
  test.eq({ zip:wait().code, unzip:wait().code }, { 0, 0 })
end)

tool_test("tar", "tar's archive is read from its pipe, and what we feed it is unpacked", function()
  local from, to = test.tmpdir(), test.tmpdir()
  for i = 1, 200 do fs.write_file(("%s/%d"):format(from, i), ("file %d\n"):format(i):rep(i)) end
  fs.mkdir(from .. "/inner")
  fs.symlink("../1", from .. "/inner/link")

  local archive = process.run { "tar", "-c", ".", cwd = from, check = true }.stdout
  process.run { "tar", "-x", cwd = to, input = archive, check = true }
  local names = fs.list(to)
  test.eq(names, fs.list(from))
  for i = 1, 200 do
    test.eq(fs.read_file(("%s/%d"):format(to, i)), fs.read_file(("%s/%d"):format(from, i)))
  end
  test.eq(fs.readlink(to .. "/inner/link"), "../1")
end)

tool_test("tar", "a watch sees every file that tar unpacks", function()
  local from, to = test.tmpdir(), test.tmpdir()
  for i = 1, 100 do fs.write_file(("%s/%d"):format(from, i), "x") end
  local archive = process.run { "tar", "-c", ".", cwd = from, check = true }.stdout

  async.with(fs.watch(to), function(events)
    process.run { "tar", "-x", cwd = to, input = archive, check = true }
    local seen, count = {}, 0
    for event in events do
      if event.type == "create" and not seen[event.name] then
        seen[event.name] = true
        count = count + 1
        if count == 100 then break end
      end
    end
    for i = 1, 100 do assert(seen[tostring(i)], i) end
  end)
end)

tool_test("yes head", "who writes to a pipeline that has seen enough gets EPIPE", function()
  local head = spawn { "head", "-c", 100000, stdin = "pipe", stdout = "pipe" }
  local count = async.spawn(read_all, head.stdout)
  local err = test.raises("OSError", function()
    while true do head.stdin:write(("x"):rep(65536)) end
  end)
  test.eq(err.code, "EPIPE")
  test.eq(#count:await(), 100000)
  test.eq(head:wait().code, 0)

  -- And of two tools of which the second has seen enough, the first is ended by SIGPIPE.
  local yes = spawn { "yes", stdout = "pipe" }
  local few = spawn { "head", "-n", 2, stdin = yes.stdout, stdout = "pipe" }
  yes.stdout:close()
  test.eq(read_all(few.stdout), "y\ny\n")
  test.eq(yes:wait().signal, "SIGPIPE")
end)

tool_test("cat", "a tool that is killed while we write to it is EPIPE, and the end of its output",
  function()
    local cat = spawn { "cat", stdin = "pipe", stdout = "pipe" }
    cat.stdin:write "a line\n"
    test.eq(cat.stdout:read_line(), "a line")

    -- Nobody reads its output, so it reads no more of its input, and the writer waits.
    local writer = async.spawn(function()
      while true do cat.stdin:write(("x"):rep(2 ^ 20)) end
    end)
    async.sleep(0)
    cat:kill "SIGKILL"
    local err = test.raises("OSError", writer.await, writer)
    test.eq(err.code, "EPIPE")
    read_all(cat.stdout) -- ends
    test.eq(cat:wait(), { signal = "SIGKILL", ok = false })
  end)

tool_test("cat", "a connection that a tool has inherited lives on without us", function()
  local listener = net.listen {}
  local client = net.connect { host = "127.0.0.1", port = listener:address().port }
  local stream = listener:accept()
  listener:close()
  local cat = spawn { "cat", stdin = stream, stdout = stream }
  stream:close()

  client:write "there and back"
  test.eq(client:read_exactly(14), "there and back")
  client:write(("x"):rep(2 ^ 20)):shutdown()
  test.eq(#read_all(client), 2 ^ 20)
  client:close()
  test.eq(cat:wait().code, 0)
end)

tool_test("tr", "what a client sent before its connection was given away is the tool's", function()
  for _ = 1, 20 do
    local listener = net.listen {}
    local client = net.connect { host = "127.0.0.1", port = listener:address().port }
    client:write("early bytes"):shutdown()
    local stream = listener:accept()
    listener:close()
    local tr = spawn { "tr", "a-z", "A-Z", stdin = stream, stdout = stream }
    stream:close()
    test.eq(read_all(client), "EARLY BYTES")
    client:close()
    tr:wait()
  end
end)

tool_test("python3", "what an editor does when it saves is seen, the file never half", function()
  local dir = test.tmpdir()
  local path = dir .. "/text"
  fs.write_file(path, "version 0")
  local editor = spawn {
    "python3", "-c", [[
import os, sys
for line in sys.stdin:
    with open("text~", "w") as f:
        f.write("version " + line.strip())
        f.flush()
        os.fsync(f.fileno())
    os.rename("text~", "text")
]], cwd = dir, stdin = "pipe",
  }
  async.with(fs.watch(dir), function(events)
    for version = 1, 20 do
      editor.stdin:write(version, "\n")
      for event in events do
        if event.name == "text" and event.type ~= "delete" then
          local content = fs.read_file(path)
          test.matches(content, "^version %d+$")
          if content == "version " .. version then break end
        end
      end
    end
  end)
  editor.stdin:close()
  test.eq(editor:wait().code, 0)
end)

test("shells that start more shells leave nothing when their time is over", function()
  local before = open_files()
  local errs = async.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function()
    local _, err = pcall(process.run, {
      "sh", "-c", "for i in 1 2 3; do sh -c 'echo $$; exec sleep 60' & done; wait",
      timeout = 0.3,
    })
    return err
  end)
  for _, err in ipairs(errs) do
    test.eq(err.kind, "TimeoutError")
    for pid in err.stdout:gmatch "%d+" do
      local ok, stat = pcall(fs.read_file, "/proc/" .. pid .. "/stat")
      assert(not ok or stat:find "%) [ZX]", stat)
    end
  end
  test.eq(open_files(), before)
end)
