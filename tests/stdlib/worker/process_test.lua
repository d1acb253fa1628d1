--- Pools of processes: jobs, crashes, cancelling, channels, the end.
local async = require "rille.async"
local fs = require "rille.fs"
local process = require "rille.process"
local worker = require "rille.worker"
local errors = require "rille.errors"
local test = require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"

local eq = test.eq

local function new(size) return worker.Pool { size = size or 1, kind = "process" } end

local function nothing() end

local function pid() return require("rille.process").pid() end

-- Whether there is a process of that number which has not ended.
local function runs(number)
  local ok, text = pcall(fs.read_file, ("/proc/%d/stat"):format(number))
  return ok and not text:find "%) Z"
end

local function wait_for_end_of(number)
  while runs(number) do async.sleep(0.005) end
end

-- A worker that ends without a clean-up leaks: that is no fault under a sanitizer.
local function let_workers_leak()
  local before = process.getenv "ASAN_OPTIONS"
  process.setenv("ASAN_OPTIONS", "detect_leaks=0")
  test.defer(function() process.setenv("ASAN_OPTIONS", before) end)
end

test("a job runs in another process", function()
  local pool = new()
  local child = pool:run(pid)
  assert(child ~= process.pid())
  eq(pool:run(pid), child, "the next job has the same process")
  eq({ pool:run(function(a, b) return b, a, nil end, 1, { x = { 2 } }) }, { { x = { 2 } }, 1 })
  pool:close()
  assert(not runs(child))
end)

test("upvalues, modules, sharing and large values arrive", function()
  local pool = new()
  local path, t = require "rille.path", { list = {} }
  t.self = t
  local text = ("x"):rep(3000000)
  eq({ pool:run(function(a, s)
    return a == t, t.self == t, path.join("a", "b"), #s, s
  end, t, text) }, { true, true, "a/b", #text, text })
  local e = test.raises("CopyError", pool.run, pool, nothing, { io.stdout })
  eq(e.path, "argument #1[1]")
  e = test.raises("CopyError", pool.run, pool, function() return io.stdout end)
  eq(e.path, "result #1")
  pool:close()
end)

test("errors have the worker's traceback", function()
  local pool = new()
  local e = test.raises("Broken", pool.run, pool, function()
    error(errors.new("Broken", "it is", { code = 7 }), 0)
  end)
  eq(e.code, 7)
  test.contains(e.traceback, "in a worker:")
  test.contains(e.traceback, "process_test.lua")
  test.raises("process_test.lua:%d+: text", pool.run, pool, function() error "text" end)
  pool:close()
end)

test("map uses all processes and gives the results in order", function()
  local pool = new(2)
  local r = pool:map({ 1, 2, 3, 4, 5 }, function(x, i) return x * i end)
  eq(r, { 1, 4, 9, 16, 25, n = 5 })
  pool:close()
end)

test("a process that crashes fails only its job", function()
  let_workers_leak()
  local pool = new(2)
  local go = worker.Channel()
  local other = async.spawn(pool.run, pool, function() return go:recv() end)
  local e = test.raises("WorkerError", pool.run, pool, function()
    os.execute("kill -ABRT " .. require("rille.process").pid())
    while true do end
  end)
  eq({ e.signal, e.code }, { "SIGABRT", nil })
  e = test.raises("WorkerError", pool.run, pool, function() os.exit(3) end)
  eq({ e.signal, e.code }, { nil, 3 })
  test.contains(e.message, "status 3")
  e = test.raises("WorkerError", pool.run, pool, function() require("rille.process").exit(4) end)
  eq(e.code, 4)
  go:send "still here"
  eq(other:await(), "still here")
  eq(pool:run(function() return "replaced" end), "replaced")
  pool:close()
end)

test("a process that is told to end by SIGTERM cleans up, and its job fails", function()
  let_workers_leak()
  local pool, events = new(), worker.Channel()
  local e = test.raises("WorkerError", pool.run, pool, function()
    local a, p = require "rille.async", require "rille.process"
    a.finally(function()
      p.kill(p.pid(), "SIGTERM")
      a.sleep(1000)
    end, function() events:send "cleaned up" end)
  end)
  eq({ e.signal, e.code }, { "SIGTERM", nil })
  eq(events:size(), 1)
  eq(pool:run(function() return "replaced" end), "replaced")
  pool:close()
end)

test("a process that accesses what is not its own fails only its job", function()
  let_workers_leak()
  local pool = new()
  local e = test.raises("WorkerError", pool.run, pool, function()
    return require("ffi").cast("int *", 8)[0]
  end)
  assert(e.signal == "SIGSEGV" or (e.code or 0) > 0, e.message) -- sanitizers have their own
  eq(pool:run(function() return "replaced" end), "replaced")
  pool:close()
end)

test("a process that writes what is no message fails only its job, at once", function()
  let_workers_leak()
  for _, garbage in ipairs { "what is this? ", "\240RZ\0\0\0\0\0\0\0\0",
    "\240RS\1\0\0\0\2\0\0\0xx", "\240RB\77\0\0\0\2\0\0\0;x", "\240RA\1\0\0\0\1\0\0\0x",
    "\240RA\1\0\0\0\4\0\0\0|;\255\255", "\240RA\1\0\0\0\4\0\0\0|xxx" } do
    local pool, begun = new(), worker.Channel()
    local job = async.spawn(pool.run, pool, function(text)
      local ffi, f = require "ffi", require "rille.fs"
      ffi.cdef "long write(int fd, const void *data, size_t size);"
      begun:send(true)
      for _, name in ipairs(f.list "/proc/self/fd") do
        local ok, target = pcall(f.readlink, "/proc/self/fd/" .. name)
        if ok and tonumber(name) > 2 and target:find "^socket" then
          ffi.C.write(tonumber(name), text, #text)
        end
      end
      require("rille.async").sleep(1000)
    end, garbage)
    begun:recv()
    local e = test.raises("WorkerError", job.await, job)
    test.contains(e.message, "message of a worker")
    eq(pool:run(function() return "goes on" end), "goes on")
    pool:close()
  end
end)

test("a pool in a process has processes of its own, which end with it", function()
  local pool = new()
  local kind, inner, own = pool:run(function()
    local w, p = require "rille.worker", require "rille.process"
    local function number() return require("rille.process").pid() end
    local nested = w.Pool { size = 1, kind = "process" }
    local a = nested:run(number)
    assert(w.run(number) == p.pid(), "a thread is in the same process")
    return "process", a, p.pid()
  end)
  eq(kind, "process")
  assert(inner ~= own)
  pool:close()
  wait_for_end_of(inner)
end)

test("what processes print on stdout and stderr comes out", function()
  local result = test.rille { "-e", [[
    local pool = require("rille.worker").Pool { size = 1, kind = "process" }
    pool:run(function()
      print "printed"
      io.stdout:write "written\n"
      io.stderr:write "complained\n"
    end)
    pool:close()
  ]] }
  eq({ result.code, result.stdout, result.stderr }, { 0, "printed\nwritten\n", "complained\n" })
end)

test("a process that died while it was idle is replaced", function()
  local pool = new()
  local child = pool:run(pid)
  process.kill(child, "SIGKILL")
  -- Until its parent knows.
  while fs.exists(("/proc/%d"):format(child)) do async.sleep(0.005) end
  assert(pool:run(pid) ~= child)
  pool:close()
end)

test("cancelling a job kills its process, and what that has started, whatever it does", function()
  local pool, begun = new(), worker.Channel()
  local waiter = async.spawn(pool.run, pool, function()
    local p = require "rille.process"
    local grandchild = p.spawn { "sleep", "1000" }
    begun:send { p.pid(), grandchild.pid }
    while true do end
  end)
  local pids = begun:recv()
  waiter:cancel()
  async.sleep(0)
  assert(waiter:cancelled(), "the waiter is freed at once")
  wait_for_end_of(pids[1])
  wait_for_end_of(pids[2])
  local another = pool:run(pid)
  assert(another ~= pids[1])
  pool:close()
end)

test("a job that nothing can wake fails with a DeadlockError", function()
  local pool = new()
  test.raises("DeadlockError", pool.run, pool, function() require("rille.async").Event():wait() end)
  pool:close()
end)

test("what a job leaves behind is cancelled and cleaned up", function()
  local pool, events = new(), worker.Channel()
  eq(pool:run(function()
    local a = require "rille.async"
    a.spawn(a.finally, function() a.sleep(1000) end, function() events:send "cleaned up" end)
    a.sleep(0)
    return 1
  end), 1)
  eq(events:size(), 1)
  pool:close()
end)

test("channels lead into processes and back", function()
  local pool = new(2)
  local to, from = worker.Channel(2), worker.Channel(1)
  local jobs = {}
  for i = 1, 2 do
    jobs[i] = async.spawn(pool.run, pool, function()
      local n = 0
      for v in to:iter() do
        n = n + 1
        from:send { v * 2 }
      end
      return n
    end)
  end
  local got = {}
  local reader = async.spawn(function()
    for v in from:iter() do got[v[1]] = true end
  end)
  for i = 1, 50 do to:send(i) end
  to:close()
  eq(jobs[1]:await() + jobs[2]:await(), 50)
  from:close()
  reader:await()
  for i = 1, 50 do assert(got[i * 2]) end
  pool:close()
end)

test("a channel in a process knows its end, its size and its like", function()
  local pool = new()
  local ch, ways = worker.Channel(), worker.Channel()
  ch:send(1)
  ways:send(ch)
  eq({ pool:run(function()
    local same = ways:recv()
    local size, first = same:size(), ch:recv()
    ch:close()
    local ok, e = pcall(ch.send, ch, 2)
    return size, first, same == ch, ok, e.kind, ch:recv()
  end) }, { 1, 1, true, false, "InvalidStateError", nil })
  local e = test.raises("CopyError", pool.run, pool, function()
    return require("rille.worker").Channel()
  end)
  test.contains(e.message, "made in a worker's process")
  pool:close()
end)

test("a value that comes for a wait which was given up in a process is not lost", function()
  local pool, ch = new(), worker.Channel()
  eq(pool:run(function()
    local a = require "rille.async"
    local t = a.spawn(ch.recv, ch)
    a.sleep(0)
    t:cancel()
    a.wait { t }
    ch:send "kept"
    return ch:size()
  end), 1)
  eq(ch:recv(), "kept")
  pool:close()
end)

test("a pool lets go of channels that its processes have dropped", function()
  local pool, weak = new(), setmetatable({}, { __mode = "k" })
  for _ = 1, 20 do
    local ch = worker.Channel()
    weak[ch] = true
    pool:run(function()
      ch:send(1)
      collectgarbage()
    end)
    eq(ch:recv(), 1)
  end
  pool:run(collectgarbage)
  pool:run(nothing)
  collectgarbage()
  collectgarbage() -- what has a finalizer is a key until the second time
  local n = 0
  for _ in pairs(weak) do n = n + 1 end
  assert(n <= 2, n .. " channels are still there")
  pool:close()
end)

test("close waits for the work in progress and for what stands in the queue", function()
  local pool, done = new(), worker.Channel()
  for i = 1, 3 do async.spawn(pool.run, pool, function() done:send(i) end) end
  async.sleep(0)
  pool:close()
  eq(done:size(), 3)
  test.raises("InvalidStateError", pool.run, pool, nothing)
  pool:close()
end)

test("a worker has an empty standard input, and no descriptor of its parent", function()
  local pool = new()
  local file = fs.open("/dev/null")
  local kept = io.open "/dev/null"
  eq(pool:run(function() return (io.read "*a") end), "")
  local targets = pool:run(function()
    local f = require "rille.fs"
    local list = {}
    for _, name in ipairs(f.list "/proc/self/fd") do
      local ok, target = pcall(f.readlink, "/proc/self/fd/" .. name)
      if ok and tonumber(name) > 2 and not target:find "^anon_inode" then
        list[#list + 1] = target:match "^%a+"
      end
    end
    table.sort(list)
    return table.concat(list, " ")
  end)
  -- Its loop has a pipe, its pool a socket; the folder is the one that is being read.
  for word in targets:gmatch "%a+" do
    assert(word == "pipe" or word == "socket" or word == "proc", targets)
  end
  file:close()
  kept:close()
  pool:close()
end)

test("workers end when their parent is killed, whatever they do", function()
  local dir = test.tmpdir()
  test.write(dir .. "/parent.lua", [[
    local async, worker = require "rille.async", require "rille.worker"
    local pool = worker.Pool { size = 2, kind = "process" }
    local pids = worker.Channel()
    async.spawn(pool.run, pool, function()
      pids:send(require("rille.process").pid())
      while true do end
    end)
    async.spawn(pool.run, pool, function()
      pids:send(require("rille.process").pid())
      require("rille.async").sleep(1000)
    end)
    print(pids:recv(), pids:recv())
    io.stdout:flush()
    os.execute("kill -KILL " .. require("rille.process").pid())
  ]])
  local result = test.rille { dir .. "/parent.lua" }
  eq(result.signal, 9)
  local a, b = result.stdout:match "(%d+)%s+(%d+)"
  wait_for_end_of(tonumber(a))
  wait_for_end_of(tonumber(b))
end)

test("idle workers end at once when their parent is killed", function()
  local dir = test.tmpdir()
  test.write(dir .. "/parent.lua", [[
    local pool = require("rille.worker").Pool { size = 1, kind = "process" }
    print(pool:run(function() return require("rille.process").pid() end))
    io.stdout:flush()
    os.execute("kill -KILL " .. require("rille.process").pid())
  ]])
  local result = test.rille { dir .. "/parent.lua" }
  eq(result.signal, 9)
  wait_for_end_of(tonumber(result.stdout))
end)

test("a script that ends with jobs under way leaves no process behind", function()
  local dir = test.tmpdir()
  test.write(dir .. "/script.lua", [[
    local async, worker = require "rille.async", require "rille.worker"
    local pool = worker.Pool { size = 2, kind = "process" }
    local pids = worker.Channel()
    for i = 1, 2 do
      async.spawn(pool.run, pool, function()
        pids:send(require("rille.process").pid())
        while true do end
      end)
    end
    print(pids:recv(), pids:recv())
  ]])
  local result = test.rille { dir .. "/script.lua" }
  eq({ result.code, result.stderr }, { 0, "" })
  local a, b = result.stdout:match "(%d+)%s+(%d+)"
  wait_for_end_of(tonumber(a))
  wait_for_end_of(tonumber(b))
end)

test("SIGINT is for the program alone, whose clean-up may still use its workers", function()
  local result = test.rille { "-e", [[
    local async, worker = require "rille.async", require "rille.worker"
    local pool = worker.Pool { size = 1, kind = "process" }
    pool:run(function() end)
    async.finally(function()
      require("rille.process").kill(require("rille.process").pid(), "SIGINT")
      async.sleep(10)
    end, function() print(pool:run(function() return "works" end)) end)
  ]] }
  eq(result.stdout, "works\n")
end)

test("no descriptor is left behind", function()
  let_workers_leak()
  local function count() return #fs.list "/proc/self/fd" end
  local function use()
    local pool = new(2)
    pool:map({ 1, 2, 3 }, function(x) return x end)
    pcall(pool.run, pool, function() os.exit(1) end)
    local t = async.spawn(pool.run, pool, function() while true do end end)
    async.sleep(0.01)
    t:cancel()
    pool:close()
  end
  use()
  collectgarbage()
  local before = count()
  for _ = 1, 3 do use() end
  collectgarbage()
  async.sleep(0.02)
  assert(count() <= before, "descriptors: " .. before .. " became " .. count())
end)

test("nothing is lost when any wait is cancelled", function()
  local pool = new()
  pool:run(nothing)
  cancel_everywhere {
    patience = 5000,
    setup = function() return { ch = worker.Channel(1) } end,
    body = function(s)
      local ch = s.ch
      async.gather {
        function() pool:run(function() ch:send(1) end) end,
        function() ch:recv() end,
      }
    end,
    check = function(s)
      s.ch:close()
      assert(pool:run(function() return true end))
    end,
  }
  pool:close()
end)
