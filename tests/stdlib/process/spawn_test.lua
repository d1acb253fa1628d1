local async, process, test = require "rille.async", require "rille.process", require "support.test"
local fs, net = require "rille.fs", require "rille.net"
local cancel_everywhere = require "support.cancel_everywhere"
local descriptors = require("support.files").descriptors

local function children()
  local list = {}
  for _, id in ipairs(fs.list "/proc/self/task") do
    local text = fs.read_file("/proc/self/task/" .. id .. "/children")
    for pid in text:gmatch "%d+" do list[#list + 1] = tonumber(pid) end
  end
  return list
end

local function is_there(pid) return (pcall(process.kill, pid, 0)) end

-- Waits until it is true; the test's limit ends it if it never is.
local function eventually(what)
  while not what() do async.sleep(0.002) end
end

-- Starts the shell script and gives what it puts out, and its status.
local function output_of(script, spec)
  spec = spec or {}
  spec[1], spec[2], spec[3], spec.stdout = "sh", "-c", script, "pipe"
  local proc = process.spawn(spec)
  local parts = {}
  for part in function() return proc.stdout:read() end do parts[#parts + 1] = part end
  proc.stdout:close()
  return table.concat(parts), proc:wait()
end

-- The end
-- ------------------------------------------------------------------------------------------

test("wait gives the code, and ok for 0", function()
  test.eq(process.spawn({ "true" }):wait(), { code = 0, ok = true })
  test.eq(process.spawn({ "sh", "-c", "exit 3" }):wait(), { code = 3, ok = false })
  test.eq(process.spawn({ "sh", "-c", "exit 255" }):wait(), { code = 255, ok = false })
end)

test("an end by a signal is told apart from a code", function()
  test.eq(process.spawn({ "sh", "-c", "kill -KILL $$" }):wait(), { signal = "SIGKILL", ok = false })
  test.eq(process.spawn({ "sh", "-c", "kill -36 $$" }):wait(), { signal = "SIGRTMIN+2",
    ok = false })
  test.eq(process.spawn({ "sh", "-c", "exit 137" }):wait(), { code = 137, ok = false })
end)

test("wait may be called again, and by several tasks at once", function()
  local proc = process.spawn { "sh", "-c", "read line; exit 4", stdin = "pipe" }
  local waiters = {}
  for i = 1, 3 do waiters[i] = async.spawn(proc.wait, proc) end
  async.sleep(0)
  proc.stdin:write "go\n"
  for i = 1, 3 do test.eq(waiters[i]:await(), { code = 4, ok = false }) end
  test.eq(proc:wait(), { code = 4, ok = false })
  proc.stdin:close()
end)

test("to cancel one wait leaves the others and the process", function()
  local proc = process.spawn { "cat", stdin = "pipe" }
  local first, second = async.spawn(proc.wait, proc), async.spawn(proc.wait, proc)
  async.sleep(0)
  first:cancel()
  test.raises("TimeoutError", async.wait_for, function() return proc:wait() end, 0.01)
  assert(first:cancelled())
  assert(is_there(proc.pid))
  proc.stdin:close()
  test.eq(second:await(), { code = 0, ok = true })
end)

test("who waits for a process is told so in a traceback of its task", function()
  local proc = process.spawn { "cat", stdin = "pipe" }
  local waiter = async.spawn(function()
    local status = proc:wait()
    return status
  end)
  async.sleep(0)
  test.contains(waiter:traceback(), "spawn_test.lua")
  proc.stdin:close()
  waiter:await()
end)

test("a process that ends leaves no zombie, whether somebody waits or not", function()
  local proc = process.spawn { "true" }
  local pid = proc.pid
  proc = nil -- luacheck: ignore 311 (nobody holds it any more)
  eventually(function()
    collectgarbage()
    return not is_there(pid)
  end)
end)

test("a dropped process runs on", function()
  local proc = process.spawn { "cat", stdin = "pipe" }
  local pid, stdin = proc.pid, proc.stdin
  proc = nil -- luacheck: ignore 311
  collectgarbage()
  collectgarbage()
  async.sleep(0.01)
  assert(is_there(pid))
  stdin:close()
  eventually(function() return not is_there(pid) end)
end)

test("os.execute and io.popen still learn how their children end", function()
  local proc = process.spawn { "cat", stdin = "pipe" }
  for _ = 1, 20 do process.spawn { "true" } end
  local first, how, code = os.execute "exit 3"
  assert(first == 768 or code == 3 and how == "exit")
  local pipe = io.popen "echo hello"
  test.eq(pipe:read "*l", "hello")
  assert(pipe:close())
  proc.stdin:close()
  proc:wait()
end)

-- kill
-- ---------------------------------------------------------------------------------------------

test("kill sends SIGTERM or what it is told, by name or number", function()
  local proc = process.spawn { "sleep", 1000 }
  test.eq(proc:kill(), true)
  test.eq(proc:wait(), { signal = "SIGTERM", ok = false })
  for _, signal in ipairs { "SIGINT", 2 } do
    proc = process.spawn { "sleep", 1000 }
    test.eq(proc:kill(signal), true)
    test.eq(proc:wait().signal, "SIGINT")
  end
end)

test("kill is false once the process has ended, even before anybody has waited", function()
  local proc = process.spawn { "true" }
  test.eq(proc:wait().code, 0)
  test.eq(proc:kill(), false)
  proc = process.spawn { "cat", stdin = "pipe", stdout = "pipe" }
  proc.stdin:close()
  test.eq(proc.stdout:read(), nil)
  eventually(function() return proc:kill "SIGCONT" == false end)
  proc.stdout:close()
end)

test("a group is killed as a whole", function()
  local proc = process.spawn { "sh", "-c", "sleep 1000 & echo $!; wait", stdout = "pipe",
    group = true }
  local inner = tonumber(proc.stdout:read_line())
  assert(is_there(inner))
  test.eq(proc:kill("SIGKILL", { group = true }), true)
  test.eq(proc:wait().signal, "SIGKILL")
  eventually(function() return not is_there(inner) end)
  test.eq(proc:kill("SIGKILL", { group = true }), false)
  proc.stdout:close()
end)

test("group makes a process group, detached a session, and without them it is ours", function()
  local function ids(spec)
    spec[1], spec[2], spec[3], spec.stdout = "sh", "-c", "exec cat /proc/self/stat", "pipe"
    local proc = process.spawn(spec)
    local group, session = proc.stdout:read_line():match "^%d+ %(.-%) %a %d+ (%d+) (%d+)"
    proc:wait()
    proc.stdout:close()
    return tonumber(group) == proc.pid, tonumber(session) == proc.pid
  end
  test.eq({ ids {} }, { false, false })
  test.eq({ ids { group = true } }, { true, false })
  test.eq({ ids { detached = true } }, { true, true })
end)

test("to kill the group of a process that has none of its own is an error", function()
  local proc = process.spawn { "cat", stdin = "pipe" }
  test.raises("bad argument 'group' to 'kill'", proc.kill, proc, "SIGTERM", { group = true })
  proc.stdin:close()
  proc:wait()
end)

test("process.kill sends to any process, and 0 asks for it", function()
  local proc = process.spawn { "sleep", 1000 }
  process.kill(proc.pid, 0)
  process.kill(proc.pid, "SIGUSR1")
  test.eq(proc:wait().signal, "SIGUSR1")
  local err = test.raises("OSError", process.kill, proc.pid, "SIGTERM")
  test.eq({ err.code, err.syscall }, { "ESRCH", "kill" })
end)

test("signals that there are not are named", function()
  local proc = process.spawn { "cat", stdin = "pipe" }
  test.raises("bad argument #1 to 'kill' %(there is no signal 'SIGFOO'%)", proc.kill, proc,
    "SIGFOO")
  test.blames_caller("bad argument #1 to 'kill'", function() proc:kill(1000) end)
  test.raises("bad argument #2 to 'kill' %(there is no signal 'TERM'%)", process.kill, 1, "TERM")
  test.raises("unknown option 'grop'", proc.kill, proc, "SIGTERM", { grop = true })
  test.raises("bad argument #1 to 'kill'", process.kill, "x", 0)
  test.raises("bad argument #1 to 'kill'", process.kill, 1.5, 0)
  proc.stdin:close()
  proc:wait()
end)

-- Streams
-- ------------------------------------------------------------------------------------------

test("pipes are streams, and there are none where none was asked for", function()
  local proc = process.spawn { "sh", "-c", "cat; echo problem >&2", stdin = "pipe", stdout = "pipe",
    stderr = "pipe" }
  proc.stdin:write("one\n", 2, "\n")
  test.eq(proc.stdout:read_until "\n", "one\n")
  proc.stdin:shutdown()
  local lines = {}
  for line in proc.stdout:lines() do lines[#lines + 1] = line end
  test.eq(lines, { "2" })
  test.eq(proc.stderr:read_line(), "problem")
  test.eq(proc.stderr:read(), nil)
  test.eq(proc:wait().code, 0)
  for _, name in ipairs { "stdin", "stdout", "stderr" } do proc[name]:close() end
  proc = process.spawn { "true" }
  test.eq({ proc.stdin, proc.stdout, proc.stderr }, {})
  proc:wait()
end)

test("to close stdin ends the child's input, also with data on its way", function()
  local text = ("x"):rep(1000000)
  local proc = process.spawn { "sh", "-c", "sleep 0.05; wc -c", stdin = "pipe", stdout = "pipe" }
  local writer = async.spawn(proc.stdin.write, proc.stdin, text)
  async.sleep(0)
  proc.stdin:close()
  test.raises("InvalidStateError", writer.await, writer)
  test.eq(tonumber(proc.stdout:read_line()), #text)
  proc.stdout:close()
  proc:wait()
end)

test("to close stdout tells a child that writes on", function()
  local proc = process.spawn { "yes", stdout = "pipe" }
  test.eq(proc.stdout:read_line(), "y")
  proc.stdout:close()
  test.eq(proc:wait().signal, "SIGPIPE")
end)

test("what a child does not read any more is EPIPE", function()
  local proc = process.spawn { "sh", "-c", "exec <&-; echo; exec sleep 1000", stdin = "pipe",
    stdout = "pipe" }
  proc.stdout:read_line()
  local err = test.raises("OSError", proc.stdin.write, proc.stdin, "x")
  test.eq({ err.code, err.syscall }, { "EPIPE", "write" })
  test.contains(err.message, "stdin of process " .. proc.pid)
  proc:close()
end)

test("a pipe that goes one way says so of the other", function()
  local proc = process.spawn { "cat", stdin = "pipe", stdout = "pipe" }
  test.eq(test.raises("OSError", proc.stdin.read, proc.stdin).code, "EBADF")
  test.eq(test.raises("OSError", proc.stdout.write, proc.stdout, "x").code, "EBADF")
  proc:close()
end)

test("null is empty to read and takes what is written", function()
  local out, status = output_of("cat; echo x >&2; echo done", { stdin = "null", stderr = "null" })
  test.eq({ out, status.code }, { "done\n", 0 })
end)

test("stderr can go where stdout goes", function()
  test.eq((output_of("echo out; echo err >&2; echo out", { stderr = "stdout" })), "out\nerr\nout\n")
end)

test("inherited streams are ours", function()
  local result = test.script([[
    local process = require "rille.process"
    io.stdout:write "before " io.stdout:flush()
    process.spawn({ "sh", "-c", "cat; echo err >&2" }):wait()
    print "after"
  ]], { stdin = "input " })
  test.eq(result.stdout, "before input after\n", result.stderr)
  test.eq(result.stderr, "err\n")
end)

test("a file may be given, and the child goes on where it stands", function()
  local dir = test.tmpdir()
  local input = fs.open(test.write(dir .. "/in", "first\nsecond\nthird\n"))
  test.eq(input:read(), "first")
  local output = fs.open(dir .. "/out", "w")
  output:write "before\n"
  test.eq(process.spawn({ "cat", stdin = input, stdout = output }):wait().code, 0)
  output:write "after\n"
  output:close()
  input:close()
  test.eq(test.read(dir .. "/out"), "before\nsecond\nthird\nafter\n")
end)

test("a FIFO that is given blocks for the child, and not for us", function()
  local path = test.tmpdir() .. "/fifo"
  process.spawn({ "mkfifo", path }):wait()
  local file = fs.open(path, "r+")
  local proc = process.spawn { "head", "-n", 1, stdin = file, stdout = "pipe" }
  async.sleep(0.02)
  file:write "line\n"
  file:flush()
  test.eq(proc.stdout:read_line(), "line")
  test.raises("TimeoutError", async.wait_for, function() return file:read() end, 0.01)
  proc:close()
  file:close()
end)

test("a process can read what another puts out", function()
  local first = process.spawn { "sh", "-c", "sleep 0.02; echo b; echo a", stdout = "pipe" }
  local second = process.spawn { "sort", stdin = first.stdout, stdout = "pipe" }
  first.stdout:close()
  test.eq({ second.stdout:read_line(), second.stdout:read_line() }, { "a", "b" })
  test.eq(second.stdout:read(), nil)
  test.eq({ first:wait().code, second:wait().code }, { 0, 0 })
  second.stdout:close()
end)

test("a connection may be given", function()
  local listener = net.listen { port = 0 }
  local client = async.spawn(net.connect, { host = "127.0.0.1", port = listener:address().port })
  local served = listener:accept()
  client = client:await()
  local proc = process.spawn { "sh", "-c", "read line; echo got $line", stdin = served,
    stdout = served }
  served:close()
  client:write "it\n"
  test.eq(client:read_line(), "got it")
  test.eq(client:read(), nil)
  proc:wait()
  client:close()
  listener:close()
end)

test("what came before a connection was given away is the child's, if ours is closed", function()
  for _ = 1, 5 do
    local listener = net.listen { port = 0 }
    local client = net.connect { host = "127.0.0.1", port = listener:address().port }
    client:write("early\n"):shutdown()
    local served = listener:accept()
    listener:close()
    -- The child takes its time to read, for as long as ours would linger.
    local proc = process.spawn { "sh", "-c", "sleep 0.05; read line; echo got $line",
      stdin = served, stdout = served }
    served:close()
    test.eq(client:read_line(), "got early")
    test.eq(client:read(), nil)
    proc:wait()
    client:close()
  end
end)

test("a closed stream or file, and one that was read ahead of, are errors", function()
  local proc = process.spawn { "sh", "-c", "echo one; echo two", stdout = "pipe" }
  proc:wait()
  test.eq(proc.stdout:read_line(), "one")
  test.raises("InvalidStateError", process.spawn, { "cat", stdin = proc.stdout })
  proc.stdout:close()
  test.raises("InvalidStateError", process.spawn, { "cat", stdin = proc.stdout })
  local file = fs.open("/dev/null")
  file:close()
  test.raises("InvalidStateError", process.spawn, { "cat", stdin = file })
end)

-- What a child gets
-- --------------------------------------------------------------------------------

test("arguments go as they are, numbers too", function()
  local proc = process.spawn { "printf", "%s|", "", " a  b", 12, 1.5, "\255'\"$x\n",
    stdout = "pipe" }
  test.eq(proc.stdout:read_until "\n|", "| a  b|12|1.5|\255'\"$x\n|")
  proc:close()
end)

test("env replaces the environment, and without it the child gets ours", function()
  local function env_of(env)
    local out = output_of("env", { env = env })
    local list = {}
    for line in out:gmatch "[^\n]+" do
      if not line:find "^PWD=" and not line:find "^_=" and not line:find "^SHLVL=" then
        list[#list + 1] = line
      end
    end
    table.sort(list)
    return list
  end
  test.eq(env_of { A = "1", B = 2, PATH = os.getenv "PATH" },
    { "A=1", "B=2", "PATH=" .. os.getenv "PATH" })
  process.setenv("RILLE_TEST_VARIABLE", "seen")
  test.contains("\n" .. table.concat(env_of(nil), "\n") .. "\n", "\nRILLE_TEST_VARIABLE=seen\n")
  process.setenv("RILLE_TEST_VARIABLE", nil)
end)

test("cwd is the child's folder", function()
  local dir = fs.realpath(test.tmpdir())
  test.eq((output_of("pwd -P", { cwd = dir })), dir .. "\n")
end)

test("a program is looked for in the child's PATH and folder", function()
  local dir = test.tmpdir()
  test.write(dir .. "/rille-test-program", "#!/bin/sh\necho found\n")
  fs.chmod(dir .. "/rille-test-program", "755")
  local function try(name, spec)
    spec[1], spec.stdout = name, "pipe"
    local proc = process.spawn(spec)
    local line = proc.stdout:read_line()
    proc.stdout:close()
    proc:wait()
    return line
  end
  test.eq(try("rille-test-program", { env = { PATH = "/nowhere:" .. dir } }), "found")
  test.eq(try("./rille-test-program", { cwd = dir }), "found")
  test.eq(try("rille-test-program", { cwd = dir, env = { PATH = "/nowhere:" } }), "found")
  test.eq(test.raises("OSError", process.spawn, { "rille-test-program" }).code, "ENOENT")
  -- Without a PATH it is the system's standard one.
  test.eq(process.spawn({ "true", env = {} }):wait().code, 0)
end)

test("a child has no descriptors but the standard ones", function()
  local file, listener = fs.open "/dev/null", net.listen { port = 0 }
  local other = process.spawn { "cat", stdin = "pipe", stdout = "pipe" }
  -- 3 is the folder that ls reads.
  test.eq((output_of "ls /proc/self/fd"), "0\n1\n2\n3\n")
  test.eq((output_of("ls /proc/self/fd", { cwd = "/", stdin = file, stderr = "null" })),
    "0\n1\n2\n3\n")
  file:close()
  listener:close()
  other:close()
end)

test("every descriptor of ours is closed in what others start", function()
  local result = test.script [[
    local process, net = require "rille.process", require "rille.net"
    local fs, stdio = require "rille.fs", require "rille.stdio"
    os.execute "ls /proc/self/fd | wc -l" -- what whoever started the test has left open counts too
    local file, listener = fs.open(arg[0]), net.listen { port = 0 }
    local proc = process.spawn { "cat", stdin = "pipe", stdout = "pipe" }
    assert(stdio.stdin and stdio.stdout)
    os.execute "ls /proc/self/fd | wc -l"
    proc:close()
  ]]
  test.matches(result.stdout, "^(%d+)\n%1\n$")
end)

test("a child has the default signals, none blocked or ignored", function()
  local result = test.script([[
    local signal = require "rille.signal"
    signal.on("SIGUSR1", print)
    require("rille.process").spawn({ "cat", "/proc/self/status" }):wait()
  ]], { prefix = [[sh -c 'trap "" HUP QUIT; exec "$@"' sh]] })
  for _, name in ipairs { "Blk", "Ign", "Cgt" } do
    test.matches(result.stdout, "Sig" .. name .. ":%s+0+\n")
  end
end)

test("children are noticed although the parent was started with SIGCHLD ignored", function()
  local result = test.script([[
    print(require("rille.process").spawn({ "sh", "-c", "exit 7" }):wait().code)
  ]], { prefix = [[sh -c 'trap "" CHLD; exec "$@"' sh]] })
  test.eq(result.stdout, "7\n", result.stderr)
end)

test("the standard descriptors may be closed", function()
  local path = test.tmpdir() .. "/line"
  local result = test.script([[
    local proc = require("rille.process").spawn { "sh", "-c", "cat; echo x", stdout = "pipe" }
    local line = proc.stdout:read_line()
    local file = io.open(arg[1], "w")
    file:write(line)
    file:close()
  ]], { prefix = [[sh -c 'exec <&- >&- 2>&-; exec "$@"' sh]], args = { path } })
  test.eq(result.code, 0)
  test.eq(test.read(path), "x")
end)

-- Errors
-- -------------------------------------------------------------------------------------------

test("a command that is not there is ENOENT and named", function()
  local err = test.raises("OSError", process.spawn, { "rille-no-such-command", "x" })
  test.eq({ err.code, err.syscall, err.path }, { "ENOENT", "spawn", "rille-no-such-command" })
  test.eq(err.message, "no such file or directory: spawn 'rille-no-such-command'")
  test.eq(test.raises("OSError", process.spawn, { "/no/such/command" }).path, "/no/such/command")
  test.eq(test.raises("OSError", process.spawn, { "" }).code, "ENOENT")
  test.eq(test.raises("OSError", process.run, { "rille-no-such-command" }).code, "ENOENT")
end)

test("what may not be run is EACCES, what cannot be run ENOEXEC", function()
  local path = test.write(test.tmpdir() .. "/file", "no program")
  local err = test.raises("OSError", process.spawn, { path })
  test.eq({ err.code, err.path }, { "EACCES", path })
  test.eq(test.raises("OSError", process.spawn, { "/tmp" }).code, "EACCES")
  test.eq(test.raises("OSError", process.spawn, { "file",
    env = { PATH = path:match "^(.*)/" } }).code,
    "EACCES")
  fs.chmod(path, "755")
  test.eq(test.raises("OSError", process.spawn, { path }).code, "ENOEXEC")
end)

test("a missing cwd is told apart by its path", function()
  local err = test.raises("OSError", process.spawn, { "true", cwd = "/no/such/folder" })
  test.eq({ err.code, err.syscall, err.path }, { "ENOENT", "chdir", "/no/such/folder" })
  err = test.raises("OSError", process.spawn, { "true", cwd = "/dev/null" })
  test.eq({ err.code, err.path }, { "ENOTDIR", "/dev/null" })
  test.eq(test.raises("OSError", process.spawn, { "true", cwd = "" }).code, "ENOENT")
end)

test("arguments that are too long are an error", function()
  local err = test.raises("OSError", process.spawn, { "true", ("x"):rep(1000000) })
  test.eq({ err.code, err.path }, { "E2BIG", "true" })
end)

test("wrong arguments are named", function()
  local spawn = process.spawn
  test.blames_caller("bad argument #1 to 'spawn' (table expected, got string)",
    function() process.spawn "true" end)
  test.raises("bad argument #1 to 'spawn' %(a command expected", spawn, {})
  test.raises("bad argument #2 to 'spawn' %(string expected, got nil", spawn, { "true", nil, "x" })
  test.raises("bad argument #2 to 'spawn' %(string expected, got boolean", spawn, { "true", true })
  test.raises("bad argument #1 to 'spawn' %(it contains a NUL byte", spawn, { "tr\0ue" })
  test.raises("bad argument #3 to 'spawn' %(it contains a NUL byte", spawn, { "true", "x", "\0" })
  test.raises("bad argument 'cwd' to 'spawn' %(it contains a NUL", spawn, { "true", cwd = "a\0b" })
  test.raises("bad argument 'cwd' to 'spawn' %(string expected", spawn, { "true", cwd = {} })
  test.raises("bad argument 'env' to 'spawn' %(table expected", spawn, { "true", env = "A=1" })
  test.raises("bad argument 'env' to 'spawn' %('A=B' is no name", spawn, { "true",
    env = { ["A=B"] = "" } })
  test.raises("bad argument 'env' to 'spawn' %('1' is no name", spawn, { "true", env = { "A=1" } })
  test.raises("'env' to 'spawn' %(it contains a NUL byte", spawn, { "true", env = { A = "\0" } })
  test.raises("'env' to 'spawn' %(string expected for 'A', got table", spawn, { "true",
    env = { A = {} } })
  test.raises("bad argument 'stdin' to 'spawn' %(there is no 'stdout'", spawn, { "true",
    stdin = "stdout" })
  test.raises("bad argument 'stdout' to 'spawn' %('inherit', 'pipe'", spawn, { "true", stdout = 1 })
  test.raises("unknown option 'sdtin'", spawn, { "true", sdtin = "pipe" })
  test.raises("unknown option 'timeout'", spawn, { "true", timeout = 1 })
end)

-- with, cancellation
-- -------------------------------------------------------------------------------

test("with closes the pipes, kills what runs and waits", function()
  local proc
  async.with(process.spawn { "sh", "-c", "trap '' TERM; echo; exec sleep 1000", stdin = "pipe",
    stdout = "pipe" },
    function(p)
      proc = p
      p.stdout:read_line()
    end)
  test.eq(proc:wait().signal, "SIGKILL")
  assert(proc.stdin:is_closed() and proc.stdout:is_closed())
  proc:close()
  async.with(process.spawn { "true" }, function(p) test.eq(p:wait().code, 0) end)
end)

test("with kills the whole group of a process that has one", function()
  local inner
  async.with(process.spawn { "sh", "-c", "sleep 1000 & echo $!; wait", stdout = "pipe",
    group = true },
    function(p) inner = tonumber(p.stdout:read_line()) end)
  eventually(function() return not is_there(inner) end)
end)

test("a spawn that is cancelled leaves no process and no descriptor", function()
  local before, list = descriptors(), children()
  for _ = 1, 20 do
    local task = async.spawn(process.spawn, { "sleep", 1000, stdin = "pipe", stdout = "pipe" })
    async.sleep(0)
    task:cancel()
    async.wait { task }
    -- A process that was there before the cancellation is the task's result.
    if not task:cancelled() then task:result():close() end
  end
  eventually(function() return #children() == #list end)
  test.eq(descriptors(), before)
end)

test("a spawn that is cancelled at the end of the program leaves no process either", function()
  local mark = ("%d.%d"):format(1000, process.pid())
  for _ = 1, 20 do
    local result = test.script(([[
      local async, process = require "rille.async", require "rille.process"
      async.spawn(process.spawn, { "sleep", "%s" })
      async.sleep(0)
    ]]):format(mark))
    test.eq(result.code, 0)
  end
  async.sleep(0.05)
  for _, name in ipairs(fs.list "/proc") do
    if name:find "^%d+$" then
      local ok, line = pcall(fs.read_file, "/proc/" .. name .. "/cmdline")
      assert(not ok or line ~= "sleep\0" .. mark .. "\0", "it still runs")
    end
  end
end)

test("spawn, the pipes and wait can be cancelled wherever they wait", function()
  local before = descriptors()
  cancel_everywhere {
    patience = 500,
    body = function()
      local proc = process.spawn { "cat", stdin = "pipe", stdout = "pipe" }
      async.with(proc, function()
        proc.stdin:write "hello\n"
        proc.stdout:read_line()
        proc.stdin:close()
        proc:wait()
      end)
    end,
    check = function()
      eventually(function() return #children() == 0 end)
    end,
  }
  test.eq(descriptors(), before)
end)

test("a thousand processes at once", { limit = 6 }, function()
  local before, n = descriptors(), math.max(50, math.floor(1000 * test.SCALE))
  local procs = {}
  for i = 1, n do procs[i] = process.spawn { "cat", stdin = "pipe" } end
  for _, proc in ipairs(procs) do proc.stdin:close() end
  for _, proc in ipairs(procs) do test.eq(proc:wait().code, 0) end
  procs = nil -- luacheck: ignore 311
  test.eq(descriptors(), before)
end)

test("the loop goes on while processes are started", function()
  local turns, done = 0, false
  local ticker = async.spawn(function()
    while not done do
      turns = turns + 1
      async.sleep(0)
    end
  end)
  process.spawn({ "true" }):wait()
  done = true
  ticker:await()
  assert(turns > 2, turns)
end)

test("a process that runs on does not hold the program up, nor keep a deadlock from being seen",
  function()
  local result = test.script [[
    local process, async = require "rille.process", require "rille.async"
    local proc = process.spawn { "sh", "-c", "sleep 1000 & echo $!", stdout = "pipe" }
    local inner = process.spawn { "sleep", 1000 }
    print(proc.stdout:read_line(), inner.pid)
    print(pcall(function() async.Event():wait() end))
  ]]
  local first, second = result.stdout:match "^(%d+)\t(%d+)\nfalse\tDeadlockError"
  assert(first, result.stdout .. result.stderr)
  process.kill(tonumber(first), "SIGKILL")
  process.kill(tonumber(second), "SIGKILL")
end)
