local async, process, test = require "rille.async", require "rille.process", require "support.test"
local fs = require "rille.fs"
local cancel_everywhere = require "support.cancel_everywhere"
local descriptors = require("support.files").descriptors

local run = process.run

local function is_there(pid) return (pcall(process.kill, pid, 0)) end

test("run gives the code and what the command puts out", function()
  test.eq(run { "sh", "-c", "echo out; echo err >&2; exit 3" },
    { code = 3, ok = false, stdout = "out\n", stderr = "err\n" })
  test.eq(run { "true" }, { code = 0, ok = true, stdout = "", stderr = "" })
  test.eq(run { "sh", "-c", "printf part; kill -KILL $$" },
    { signal = "SIGKILL", ok = false, stdout = "part", stderr = "" })
end)

test("the input is read to its end, and is empty without any", function()
  test.eq(run({ "cat", input = "some\0text" }).stdout, "some\0text")
  test.eq(run({ "cat", input = "" }).stdout, "")
  test.eq(run({ "cat", input = 12 }).stdout, "12")
  test.eq(run({ "cat" }).stdout, "")
end)

test("a command that reads no more is no error", function()
  local text = ("x"):rep(1000000)
  test.eq(run { "true", input = text }, { code = 0, ok = true, stdout = "", stderr = "" })
  test.eq(run({ "head", "-c", 5, input = text }).stdout, "xxxxx")
  test.eq(run({ "sh", "-c", "exec <&-; sleep 0.02; echo x", input = text }).stdout, "x\n")
end)

test("much input and much output on both streams do not lock one another up", function()
  local text = ("line of text\n"):rep(math.floor(400000 * test.SCALE))
  local result = run { "sh", "-c", "tee /dev/stderr", input = text }
  assert(result.stdout == text and result.stderr == text)
  result = run { "sh", "-c", "head -c 3000000 /dev/zero >&2; head -c 3000000 /dev/zero; wc -c",
    input = text }
  test.eq(#result.stderr, 3000000)
  test.eq(tonumber(result.stdout:sub(3000001)), #text)
end)

test("hundreds of megabytes are collected", { limit = 6 }, function()
  local size = math.floor(300e6 * test.SCALE)
  local result = run { "head", "-c", size, "/dev/zero" }
  test.eq(#result.stdout, size)
end)

test("other streams than the collected ones may be given", function()
  local path = test.tmpdir() .. "/out"
  local file = fs.open(path, "w")
  test.eq(run { "sh", "-c", "echo out; echo err >&2", stdout = file, stderr = "stdout" },
    { code = 0, ok = true })
  file:close()
  test.eq(test.read(path), "out\nerr\n")
  test.eq(run({ "sh", "-c", "echo out; echo err >&2; echo out", stderr = "stdout" }).stdout,
    "out\nerr\nout\n")
  test.eq(run({ "cat", stdin = fs.open(path) }).stdout, "out\nerr\n")
  test.eq(run({ "sh", "-c", "echo x", stdout = "null" }).stdout, nil)
end)

test("cwd and env are as for spawn", function()
  local dir = fs.realpath(test.tmpdir())
  test.eq(run({ "sh", "-c", "pwd -P; echo $A", cwd = dir, env = { A = 1 } }).stdout, dir .. "\n1\n")
end)

test("check makes anything but code 0 an error", function()
  test.eq(run({ "true", check = true }).code, 0)
  local err = test.raises("ProcessError", run, { "sh", "-c", "echo out; echo err >&2; exit 2",
    check = true })
  test.eq({ err.code, err.signal, err.stdout, err.stderr, err.cmd },
    { 2, nil, "out\n", "err\n", "sh" })
  test.eq(err.message, "the command 'sh' exited with code 2")
  err = test.raises("ProcessError", run, { "sh", "-c", "kill -TERM $$", check = true })
  test.eq({ err.code, err.signal, err.cmd }, { nil, "SIGTERM", "sh" })
  test.eq(err.message, "the command 'sh' was ended by SIGTERM")
end)

test("a timeout kills the whole group and brings what was put out so far", function()
  local before = descriptors()
  local err = test.raises("TimeoutError", run, { "sh", "-c",
    "trap '' TERM; sleep 1000 & echo $!; echo problem >&2; sleep 1000", timeout = 0.1 })
  local inner = tonumber(err.stdout)
  test.eq(err.stderr, "problem\n")
  test.eq(err.cmd, "sh")
  test.eq(err.message, "the command 'sh' timed out after 0.1 s")
  assert(not is_there(inner), "a member of the group is still there")
  test.eq(descriptors(), before)
  err = test.raises("TimeoutError", run, { "cat", timeout = 0, input = ("x"):rep(1000000) })
  test.eq(err.cmd, "cat")
end)

test("a command that ends in time is not disturbed by its timeout", function()
  test.eq(run({ "echo", "x", timeout = 1000 }).stdout, "x\n")
end)

test("the time runs on while somebody else holds the output open", function()
  local err = test.raises("TimeoutError", run, { "sh", "-c", "sleep 1000 & echo $!",
    timeout = 0.1 })
  -- Its parent has long died, so it is for the system to reap it.
  local ok, stat = pcall(fs.read_file, "/proc/" .. tonumber(err.stdout) .. "/stat")
  assert(not ok or stat:find "%) Z ", stat)
end)

test("what the command has left behind is waited for as long as it may still write", function()
  test.eq(run({ "sh", "-c", "(sleep 0.05; echo late) & echo early" }).stdout, "early\nlate\n")
end)

test("a cancellation kills the whole group before it goes on", function()
  local path = test.tmpdir() .. "/pids"
  local task = async.spawn(run, { "sh", "-c", "sleep 1000 & echo $! > $0; echo $$ >> $0; wait",
    path })
  while not fs.exists(path) or #fs.read_lines(path) < 2 do async.sleep(0.005) end
  task:cancel()
  async.wait { task }
  assert(task:cancelled())
  for _, pid in ipairs(fs.read_lines(path)) do assert(not is_there(tonumber(pid)), pid) end
end)

test("an outer timeout does so too", function()
  local path = test.tmpdir() .. "/pid"
  local err = test.raises("TimeoutError", async.timeout, 0.1, function()
    run { "sh", "-c", "echo $$ > $0; sleep 1000", path }
  end)
  test.eq(err.stdout, nil)
  assert(not is_there(tonumber(test.read(path))))
end)

test("the commands stand in groups of their own, in our session", function()
  local out = run({ "cat", "/proc/self/stat" }).stdout
  local pid, group, session = out:match "^(%d+) %(cat%) %a %d+ (%d+) (%d+)"
  test.eq(group, pid)
  assert(session ~= pid)
end)

test("errors of spawn are those of run, and leave nothing", function()
  local before = descriptors()
  local err = test.raises("OSError", run, { "rille-no-such-command", input = "x", timeout = 5 })
  test.eq({ err.code, err.path }, { "ENOENT", "rille-no-such-command" })
  test.eq(test.raises("OSError", run, { "true", cwd = "/no/such" }).path, "/no/such")
  test.blames_caller("bad argument #1 to 'run' (table expected, got string)",
    function() run "true" end)
  test.raises("unknown option 'inpt'", run, { "cat", inpt = "" })
  test.raises("bad argument 'input' to 'run' %(string expected, got table", run,
    { "cat", input = {} })
  test.raises("bad argument 'input' to 'run' %(there is a 'stdin'", run,
    { "cat", input = "", stdin = "null" })
  test.raises("bad argument 'stdin' to 'run'", run, { "cat", stdin = "pipe" })
  test.raises("bad argument 'timeout' to 'run'", run, { "cat", timeout = "soon" })
  test.raises("bad argument #2 to 'run' %(it contains a NUL", run, { "cat", "\0" })
  test.eq(descriptors(), before)
end)

test("hundreds of commands, many at once", function()
  local list = {}
  for i = 1, math.floor(300 * test.SCALE) do list[i] = i end
  local results = async.map(list, function(i) return run({ "echo", i }).stdout end, { limit = 20 })
  for i = 1, #list do test.eq(results[i], i .. "\n") end
end)

test("run can be cancelled wherever it waits, and leaves no process and no descriptor", function()
  local before = descriptors()
  cancel_everywhere {
    patience = 500,
    body = function()
      local result = run { "sh", "-c", "cat; echo err >&2", input = ("x"):rep(100000),
        timeout = 100 }
      test.eq({ #result.stdout, result.stderr }, { 100000, "err\n" })
    end,
    check = function()
      for _, id in ipairs(fs.list "/proc/self/task") do
        test.eq(fs.read_file("/proc/self/task/" .. id .. "/children"), "")
      end
    end,
  }
  test.eq(descriptors(), before)
end)

test("what others leave behind while a group is put down does not stay as a zombie", function()
  local function children()
    return fs.read_file(("/proc/self/task/%d/children"):format(process.pid()))
  end
  local adopt = require("rille.core.child").adopt
  adopt(true) -- as while a command is killed with its group
  test.defer(function() adopt(false) end)
  local command = "sleep 0.05 >/dev/null 2>&1 & echo $!"
  local pid = tonumber(run({ "sh", "-c", command, stderr = "null" }).stdout)
  while children():find(pid, 1, true) do
    async.sleep(0.01)
    run { "true" }
  end
  assert(not is_there(pid))
end)
