local async, test = require "rille.async", require "support.test"
local process, fs = require "rille.process", require "rille.fs"
local terminal = require "support.terminal"

-- Starts a script; its streams are pipes unless `spec` says otherwise.
local function start(text, spec)
  spec = spec or {}
  local path = test.write(test.tmpdir() .. "/script.lua", text)
  spec[1], spec[2] = test.executable(), path
  spec.stdin, spec.stdout = spec.stdin or "pipe", spec.stdout or "pipe"
  local proc = process.spawn(spec)
  test.defer(function() proc:close() end)
  return proc
end

local function all_of(stream)
  local parts = {}
  for part in function() return stream:read() end do parts[#parts + 1] = part end
  return table.concat(parts)
end

-- Reading
-- ------------------------------------------------------------------------------------------

test("stdin is a stream: bytes, lines, up to a separator, the end", function()
  local proc = start [[
    io.stdout:setvbuf "no"
    local stdin = require("rille.stdio").stdin
    print(stdin:read())
    print(stdin:read_until(";"))
    print(stdin:read_exactly(3))
    for line in stdin:lines() do print("<" .. line .. ">") end
    print(stdin:read())
  ]]
  proc.stdin:write "some"
  test.eq(proc.stdout:read_line(), "some")
  proc.stdin:write "thing;abcfirst\nsecond\nlast"
  proc.stdin:close()
  test.eq(all_of(proc.stdout), "thing;\nabc\n<first>\n<second>\n<last>\nnil\n")
end)

test("stdin may be a file, nothing at all, or a socket", function()
  local script = [[
    local stdin = require("rille.stdio").stdin
    for line in stdin:lines() do print(#line) end
    print(stdin:read())
  ]]
  local path = test.write(test.tmpdir() .. "/input", ("x"):rep(200000) .. "\ny\n")
  local proc = start(script, { stdin = fs.open(path) })
  test.eq(all_of(proc.stdout), "200000\n1\nnil\n")
  proc = start(script, { stdin = "null" })
  test.eq(all_of(proc.stdout), "nil\n")
  proc = process.spawn { "python3", "-c", [[
import socket, subprocess, sys
ours, theirs = socket.socketpair()
child = subprocess.Popen(sys.argv[1:], stdin=theirs, stdout=theirs)
theirs.close()
ours.sendall(b"line\n")
ours.shutdown(socket.SHUT_WR)
data = b""
while True:
    more = ours.recv(1000)
    if not more: break
    data += more
print(data.decode(), child.wait())
]], test.executable(), test.write(test.tmpdir() .. "/script.lua", script .. [[
    local flags = io.open("/proc/self/fdinfo/0"):read("*a"):match "flags:%s*(%d+)"
    require("rille.stdio").stdout:write("O_NONBLOCK ", flags:match "4%d%d%d$" and "yes" or "no",
      "\n")
  ]]), stdout = "pipe" }
  test.eq(all_of(proc.stdout), "4\nnil\nO_NONBLOCK no\n 0\n")
  proc:close()
end)

test("a cancelled read of stdin loses no byte", function()
  local proc = start [[
    local async, stdio = require "rille.async", require "rille.stdio"
    for _ = 1, 3 do
      local task = async.spawn(stdio.stdin.read_until, stdio.stdin, "\n")
      async.sleep(0.01)
      task:cancel()
      async.wait { task }
    end
    print(async.move_on_after(0.01, function() return stdio.stdin:read() end) and "" or "nothing")
    io.stdout:flush()
    print(stdio.stdin:read_until "\n")
  ]]
  test.eq(proc.stdout:read_line(), "nothing")
  proc.stdin:write "part"
  async.sleep(0.02)
  proc.stdin:write "s\n"
  test.eq(proc.stdout:read_line(), "parts")
end)

test("bytes that come before and between cancelled reads are kept", function()
  local proc = start [[
    local async, stdio = require "rille.async", require "rille.stdio"
    local got
    repeat
      local task = async.spawn(stdio.stdin.read_exactly, stdio.stdin, 60)
      async.sleep(0.003)
      if not task:done() then task:cancel() end
      async.wait { task }
      got = not task:cancelled() and task:result()
    until got
    print(got)
  ]]
  for i = 1, 30 do
    proc.stdin:write(("%02d"):format(i))
    async.sleep(0.001)
  end
  local want = {}
  for i = 1, 30 do want[i] = ("%02d"):format(i) end
  test.eq(proc.stdout:read_line(), table.concat(want))
end)

test("other tasks run while one waits for stdin, and the program may end meanwhile", function()
  local proc = start [[
    local async, stdio = require "rille.async", require "rille.stdio"
    async.spawn(function() stdio.stdin:read() end)
    for i = 1, 3 do async.sleep(0.001) print(i) end
  ]]
  test.eq(all_of(proc.stdout), "1\n2\n3\n")
  test.eq(proc:wait().code, 0)
end)

test("in a terminal, too", function()
  local term = terminal { test.executable(), "-e", [[
    local async, stdio = require "rille.async", require "rille.stdio"
    print(stdio.stdin:read_until "\n")
    async.spawn(function() stdio.stdin:read() end)
    async.sleep(0.01)
    print "end"
  ]] }
  term:type "hello\r"
  term:expect "hello\r\nhello"
  term:expect "end"
  local _, status = term:rest()
  test.eq(status.code, 0)
  term:close()
end)

test("waiting for stdin is no deadlock, and a closed one says so", function()
  local proc = start [[
    local async, stdio = require "rille.async", require "rille.stdio"
    async.call_later(0.02, function() stdio.stdin:close() end)
    print(pcall(stdio.stdin.read, stdio.stdin))
    print(pcall(stdio.stdin.read, stdio.stdin))
  ]]
  local line = "false\tInvalidStateError: "
  local out = all_of(proc.stdout)
  test.eq(out:sub(1, #line), line)
  test.contains(out, "stdin")
end)

-- Writing
-- ------------------------------------------------------------------------------------------

local ORDER = [[
  local stdio = require "rille.stdio"
  for i = 1, 50 do
    print(i, "print")
    stdio.stdout:write(i, "\twrite\n")
    io.write(i, "\tio.write\n")
    stdio.stdout:write(i, "\twrite again\n")
    io.stdout:write(i, "\tio.stdout\n")
  end
]]

local function ordered()
  local lines = {}
  for i = 1, 50 do
    for _, what in ipairs { "print", "write", "io.write", "write again", "io.stdout" } do
      lines[#lines + 1] = i .. "\t" .. what .. "\n"
    end
  end
  return table.concat(lines)
end

test("print, io.write and the stream keep their order, in a pipe and in a file", function()
  test.eq(all_of(start(ORDER).stdout), ordered())
  test.eq(test.script(ORDER).stdout, ordered())
  local path = test.tmpdir() .. "/out"
  local file = fs.open(path, "a")
  file:write "before\n"
  test.eq(start(ORDER, { stdout = file }):wait().code, 0)
  file:close()
  test.eq(test.read(path), "before\n" .. ordered())
end)

test("they do so while the reader is slow, and what was cancelled still goes out whole", function()
  local proc = start [[
    local async, stdio = require "rille.async", require "rille.stdio"
    local task = async.spawn(stdio.stdout.write, stdio.stdout, ("x"):rep(300000), "\n")
    async.sleep(0)
    task:cancel()
    async.wait { task }
    assert(task:cancelled())
    print "printed"
    io.write "written\n"
    stdio.stdout:write "streamed\n"
  ]]
  async.sleep(0.05)
  test.eq(all_of(proc.stdout), ("x"):rep(300000) .. "\nprinted\nwritten\nstreamed\n")
end)

test("what was given up is delivered before the program ends", function()
  local proc = start [[
    local async, stdio = require "rille.async", require "rille.stdio"
    async.spawn(stdio.stdout.write, stdio.stdout, ("x"):rep(300000))
    async.sleep(0)
  ]]
  async.sleep(0.05)
  test.eq(#all_of(proc.stdout), 300000)
end)

test("a slow reader holds up the writer and nobody else", function()
  local proc = start([[
    local async, stdio = require "rille.async", require "rille.stdio"
    local writer = async.spawn(stdio.stdout.write, stdio.stdout, ("x"):rep(1000000))
    for _ = 1, 5 do async.sleep(0.002) end
    stdio.stderr:write(tostring(writer:done()), "\n")
    writer:await()
    stdio.stderr:write "done\n"
  ]], { stderr = "pipe" })
  test.eq(proc.stderr:read_line(), "false")
  test.eq(#all_of(proc.stdout), 1000000)
  test.eq(proc.stderr:read_line(), "done")
end)

test("a broken pipe is EPIPE, not a death", function()
  local proc = start([[
    local stdio = require "rille.stdio"
    local ok, err = pcall(function() while true do stdio.stdout:write(("y\n"):rep(1000)) end end)
    stdio.stderr:write(err.kind, " ", err.code, " ", err.message, "\n")
    require("rille.process").exit(3)
  ]], { stderr = "pipe" })
  test.eq(proc.stdout:read_line(), "y")
  proc.stdout:close()
  test.eq(proc.stderr:read_line(), "OSError EPIPE broken pipe: write stdout")
  test.eq(proc:wait().code, 3)
end)

test("a full disk is ENOSPC", function()
  local proc = start([[
    local stdio = require "rille.stdio"
    local ok, err = pcall(stdio.stdout.write, stdio.stdout, "x")
    stdio.stderr:write(err.code, "\n")
  ]], { stdout = fs.open("/dev/full", "w"), stderr = "pipe" })
  test.eq(proc.stderr:read_line(), "ENOSPC")
end)

test("shutdown and close end what the reader sees", function()
  for _, how in ipairs { "shutdown", "close" } do
    local proc = start(([[
      local async, stdio = require "rille.async", require "rille.stdio"
      io.write "printed "
      stdio.stdout:write "written"
      stdio.stdout:%s()
      print "lost"
      stdio.stdin:read()
    ]]):format(how))
    test.eq(all_of(proc.stdout), "printed written", how)
    proc.stdin:close()
    test.eq(proc:wait().code, 0)
  end
end)

test("the descriptors are left blocking, and as they are, for others", function()
  local proc = start [[
    local stdio = require "rille.stdio"
    local async = require "rille.async"
    async.spawn(stdio.stdin.read, stdio.stdin)
    stdio.stdout:write ""
    stdio.stderr:write ""
    async.sleep(0)
    for fd = 0, 2 do
      local info = io.open("/proc/self/fdinfo/" .. fd)
      print(info:read("*a"):match "flags:%s*(%d+)" % 10000 >= 4000)
    end
  ]]
  test.eq(all_of(proc.stdout), "false\nfalse\nfalse\n")
end)

test("a stream may be given to a child", function()
  local proc = start([[
    local stdio, process = require "rille.stdio", require "rille.process"
    process.spawn({ "sh", "-c", "cat; echo out; echo err >&2", stdin = stdio.stdin,
      stdout = stdio.stderr, stderr = stdio.stdout }):wait()
    print "end"
  ]], { stderr = "pipe" })
  proc.stdin:write "in\n"
  proc.stdin:close()
  test.eq(all_of(proc.stderr), "in\nout\n")
  test.eq(all_of(proc.stdout), "err\nend\n")
end)

-- Terminals
-- ----------------------------------------------------------------------------------------

test("isatty and size tell of the terminal", function()
  local term = terminal { test.executable(), "-e", [[
    local stdio, fs = require "rille.stdio", require "rille.fs"
    print(stdio.isatty(), stdio.isatty(stdio.stdin), stdio.isatty(stdio.stderr), stdio.size())
    print(stdio.isatty(fs.open "/dev/null"), stdio.isatty(fs.open "/dev/tty"))
    print(pcall(stdio.isatty, "x"))
  ]] }
  term:expect "true\ttrue\ttrue\t80\t24"
  term:expect "false\ttrue"
  term:expect "bad argument #1 to 'isatty' (Stream expected, got string)"
  term:rest()
  local result = test.script [[
    local stdio = require "rille.stdio"
    print(stdio.isatty(), stdio.isatty(stdio.stdin), stdio.size())
    stdio.stdin:close()
    print(pcall(stdio.isatty, stdio.stdin))
  ]]
  test.contains(result.stdout, "false\tfalse\tnil\n")
  test.contains(result.stdout, "InvalidStateError: isatty: the stream stdin is closed")
  term:close()
end)
