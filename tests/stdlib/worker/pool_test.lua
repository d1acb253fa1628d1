--- Pools of threads: what runs where, waiting, cancelling, closing.
local async = require "rille.async"
local process = require "rille.process"
local worker = require "rille.worker"
local test = require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"

local eq = test.eq

local function nothing() end

test("a job runs beside the loop", function()
  local log = test.log()
  local free = worker.Channel()
  local job = async.spawn(worker.run, function() return free:recv() end)
  async.sleep(0)
  log "the loop goes on"
  free:send "done"
  log(job:await())
  eq(log, { "the loop goes on", "done" })
end)

test("jobs run on several threads at once", function()
  local pool = worker.Pool { size = 3 }
  local met, go = worker.Channel(), worker.Channel()
  local jobs = {}
  for i = 1, 3 do
    jobs[i] = async.spawn(pool.run, pool, function()
      met:send(true)
      return go:recv()
    end)
  end
  for _ = 1, 3 do met:recv() end -- would hang if they came one after another
  for i = 1, 3 do go:send(i) end
  local sum = 0
  for i = 1, 3 do sum = sum + jobs[i]:await() end
  eq(sum, 6)
  pool:close()
end)

test("a pool has no more workers than its size, and jobs come in order", function()
  local pool = worker.Pool { size = 1 }
  local order = worker.Channel()
  local jobs = {}
  for i = 1, 20 do jobs[i] = async.spawn(pool.run, pool, function(n) order:send(n) end, i) end
  async.wait(jobs)
  for i = 1, 20 do eq(order:recv(), i) end
  pool:close()
end)

test("map gives the results in order, with n", function()
  local pool = worker.Pool { size = 2 }
  local r = pool:map({ 3, 1, 2 }, function(x, i) return x * 10 + i end)
  eq(r, { 31, 12, 23, n = 3 })
  eq(pool:map({}, nothing), { n = 0 })
  local holes = pool:map({ 1, 2, 3 }, function(x) if x ~= 2 then return x end end, { limit = 1 })
  eq(holes, { 1, nil, 3, n = 3 })
  local many = {}
  for i = 1, 500 do many[i] = i end
  eq(pool:map(many, function(x) return x end).n, 500)
  test.blames_caller("unknown option 'limt'", function() pool:map({}, nothing, { limt = 1 }) end)
  pool:close()
end)

test("the first error of a map cancels the rest", function()
  local pool = worker.Pool { size = 2 }
  local started = worker.Channel()
  local ok, e = pcall(pool.map, pool, { 1, 2, 3, 4, 5, 6, 7, 8 }, function(x)
    started:send(x)
    if x == 1 then error("first", 0) end
    require("rille.async").sleep(1000)
  end, { limit = 2 })
  eq({ ok, e }, { false, "first" })
  pool:close()
  assert(started:size() <= 3, "the rest was started")
end)

test("a job may use async, and what it leaves behind is cancelled and cleaned up", function()
  local events = worker.Channel()
  eq(worker.run(function()
    local a = require "rille.async"
    a.spawn(a.finally, function() a.Event():wait() end, function() events:send "cleaned up" end)
    local r = a.gather { function() a.sleep(0) return 1 end, function() return 2 end }
    return r[1] + r[2]
  end), 3)
  eq(events:recv(), "cleaned up")
end)

test("a worker may use workers", function()
  eq(worker.run(function()
    local w = require "rille.worker"
    return w.run(function(x) return w.run(function(y) return y + 1 end, x) end, 1)
  end), 2)
end)

test("a job that nothing can wake fails with a DeadlockError", function()
  local e = test.raises("DeadlockError", worker.run, function()
    require("rille.async").Event():wait()
  end)
  test.contains(e.message, "job waits for an event")
  eq(worker.run(function() return "the worker goes on" end), "the worker goes on")
end)

test("a cancelled waiter is freed at once, and its job stopped at its next wait", function()
  local pool = worker.Pool { size = 1 }
  local events = worker.Channel()
  local waiter = async.spawn(pool.run, pool, function()
    local a = require "rille.async"
    a.finally(function()
      events:send "begun"
      a.sleep(1000)
      events:send "goes on"
    end, function() events:send "cleaned up" end)
  end)
  eq(events:recv(), "begun")
  waiter:cancel()
  async.sleep(0)
  assert(waiter:cancelled())
  eq(events:recv(), "cleaned up")
  pool:close()
end)

test("a job that was not begun is never run if its waiter is cancelled", function()
  local pool = worker.Pool { size = 1 }
  local events, free = worker.Channel(), worker.Channel()
  local first = async.spawn(pool.run, pool, function()
    events:send "first"
    free:recv()
  end)
  eq(events:recv(), "first")
  local second = async.spawn(pool.run, pool, function() events:send "second" end)
  async.sleep(0)
  second:cancel()
  free:send(true)
  first:await()
  pool:close()
  eq(events:size(), 0)
end)

test("worker.check stops a job that never waits", function()
  local begun = worker.Channel()
  local pool = worker.Pool { size = 1 }
  local waiter = async.spawn(pool.run, pool, function()
    local check = require("rille.worker").check
    begun:send(true)
    while true do check() end
  end)
  begun:recv()
  waiter:cancel()
  eq(pool:run(function() return "free again" end), "free again")
  pool:close()
  worker.check() -- outside of a job it does nothing
end)

-- In a program of its own: under the thread sanitizer, which holds signals back, nothing stops a
-- compiled loop, and the thread is given up.
test("a cancelled job that loops without a wait is stopped, and the pool goes on and is closed",
  function()
    local result = test.rille({ "-e", [[
      local async, worker = require "rille.async", require "rille.worker"
      local pool, begun = worker.Pool { size = 1 }, worker.Channel()
      for _, job in ipairs {
        function()
          begun:send()
          while true do end
        end,
        function()
          begun:send()
          while true do pcall(function() while true do end end) end
        end,
        function()
          local n = 0
          begun:send()
          while true do n = n + math.sin(n) % 3 end
        end,
      } do
        local waiter = async.spawn(pool.run, pool, job)
        begun:recv()
        waiter:cancel()
        async.sleep(0)
        assert(waiter:cancelled())
        print(pool:run(function() return "free again" end))
      end
      local waiter = async.spawn(pool.run, pool, function()
        begun:send()
        while true do end
      end)
      begun:recv()
      waiter:cancel()
      pool:close()
      print "closed"
    ]] }, { env = { ASAN_OPTIONS = "detect_leaks=0" } })
    eq({ result.code, result.stdout, result.stderr },
      { 0, ("free again\n"):rep(3) .. "closed\n", "" })
  end)

test("a cancelled job that decided to live on may wait for as long as it likes", function()
  local pool, events = worker.Pool { size = 1 }, worker.Channel()
  local waiter = async.spawn(pool.run, pool, function()
    local a = require "rille.async"
    events:send "begun"
    a.pcall(a.sleep, 1000)
    for _ = 1, 25 do a.sleep(0.1) end
    events:send "lived on"
  end)
  eq(events:recv(), "begun")
  waiter:cancel()
  eq(events:recv(), "lived on")
  pool:close()
end)

test("a thread that cannot be stopped is given up for another one when its job is cancelled",
  function()
    local result = test.rille({ "-e", [[
      local async, worker = require "rille.async", require "rille.worker"
      local pool, begun = worker.Pool { size = 1 }, worker.Channel()
      local waiter = async.spawn(pool.run, pool, function()
        begun:send(true)
        os.execute "exec sleep 30"
      end)
      begun:recv()
      waiter:cancel()
      print(pool:run(function() return "another one" end))
      pool:close()
      pool = nil
      collectgarbage()
      async.sleep(2.5) -- nobody sees to that job once more
      print "closed"
    ]] }, { env = { ASAN_OPTIONS = "detect_leaks=0" } })
    eq({ result.code, result.stdout, result.stderr }, { 0, "another one\nclosed\n", "" })
  end)

test("a job that swallows its cancellation does not disturb the next one", function()
  local pool = worker.Pool { size = 1 }
  local begun = worker.Channel()
  local waiter = async.spawn(pool.run, pool, function()
    local a = require "rille.async"
    begun:send(true)
    a.pcall(a.sleep, 1000)
    return "late"
  end)
  begun:recv()
  waiter:cancel()
  for i = 1, 10 do eq(pool:run(function(x) return x end, i), i) end
  pool:close()
end)

test("close waits for the work in progress, and for what stands in the queue", function()
  local pool = worker.Pool { size = 1 }
  local done = worker.Channel()
  for i = 1, 5 do async.spawn(pool.run, pool, function() done:send(i) end) end
  async.sleep(0)
  pool:close()
  eq(done:size(), 5)
  local e = test.raises("InvalidStateError", pool.run, pool, nothing)
  test.contains(e.message, "the pool is closed")
  test.raises("InvalidStateError", pool.map, pool, { 1 }, nothing)
  pool:close()
end)

test("a pool that was never used closes, and async.with closes one", function()
  worker.Pool({ size = 2 }):close()
  local pool = worker.Pool { size = 2 }
  eq(async.with(pool, function(p) return p:run(function() return "in" end) end), "in")
  test.raises("InvalidStateError", pool.run, pool, nothing)
end)

test("a pool that is dropped ends by itself", function()
  local function use() return worker.Pool({ size = 2 }):run(function() return 1 end) end
  for _ = 1, 5 do use() end
  collectgarbage()
  collectgarbage()
end)

test("process.exit in a worker ends only that worker", function()
  local pool = worker.Pool { size = 1 }
  local e = test.raises("WorkerError", pool.run, pool, function()
    require("rille.process").exit(3)
  end)
  eq(e.code, 3)
  eq(pool:run(function() return "another one" end), "another one")
  pool:close()
end)

test("a program ends although a worker of its own does not", function()
  for _, job in ipairs { "while true do end", "os.execute 'exec sleep 20'",
    "io.popen('exec sleep 20'):read '*a'" } do
    local start = async.time()
    local result = test.rille({ "-e", ([[
      local async, worker = require "rille.async", require "rille.worker"
      local begun = worker.Channel()
      async.spawn(worker.run, function()
        begun:send(true)
        %s
      end)
      begun:recv()
      print "the end"
    ]]):format(job) }, -- what the thread holds cannot be given back
      { env = { ASAN_OPTIONS = "detect_leaks=0" } })
    eq({ result.code, result.stdout, result.stderr }, { 0, "the end\n", "" })
    -- The thread sanitizer holds the signal back that ends the wait for a file's lock.
    assert(async.time() - start < (test.SCALE < 1 and 40 or 10), "it waited for the worker")
  end
end)

test("workers use files, processes and the network at the same time", function()
  local pool = worker.Pool { size = 3 }
  local dir = test.tmpdir()
  local n = math.max(2, math.floor(10 * test.SCALE))
  local results = pool:map({ 1, 2, 3, 4, 5, 6 }, function(id)
    local a, fs, net = require "rille.async", require "rille.fs", require "rille.net"
    local run, http = require("rille.process").run, require "rille.http"
    local name = ("%s/%d"):format(dir, id)
    fs.write_file(name, ("x"):rep(id))
    local server = http.serve { handler = function(req) return req.path end }
    local listener = net.listen {}
    local echo = a.spawn(listener.serve, listener, function(stream) stream:write(stream:read()) end)
    local sum = #fs.read_file(name)
    for i = 1, n do
      local stream = net.connect { host = "127.0.0.1", port = listener:address().port }
      stream:write(tostring(i))
      sum = sum + tonumber(stream:read())
      stream:close()
      assert(http.get(("http://127.0.0.1:%d/%d"):format(server.port, i)):text() == "/" .. i)
    end
    sum = sum + tonumber(run({ "echo", id }).stdout)
    listener:close()
    echo:await()
    server:close()
    return sum
  end)
  for id = 1, 6 do eq(results[id], id * 2 + n * (n + 1) / 2) end
  pool:close()
end)

test("what a worker starts blocks no signals", function()
  local blocked = worker.run(function()
    local pipe = io.popen "grep SigBlk /proc/self/status"
    local text = pipe:read "*a"
    pipe:close()
    os.execute "true"
    return text
  end)
  test.matches(blocked, "0000000000000000")
end)

test("what workers print comes out, and once", function()
  local result = test.rille { "-e", [[
    local worker = require "rille.worker"
    for i = 1, 3 do worker.run(print, i) end
    print "main"
    worker.Pool { size = 1, kind = "process" }:run(print, "process")
  ]] }
  eq({ result.code, result.stderr }, { 0, "" })
  local lines = {}
  for line in result.stdout:gmatch "[^\n]+" do lines[#lines + 1] = line end
  table.sort(lines)
  eq(lines, { "1", "2", "3", "main", "process" })
end)

test("an error that a worker's task loses is reported, and the program's status is 1", function()
  for _, kind in ipairs { "thread", "process" } do
    local result = test.rille { "-e", ([[
      local pool = require("rille.worker").Pool { size = 1, kind = "%s" }
      pool:run(function()
        local async = require "rille.async"
        async.spawn(function() error "nobody takes me" end)
        async.sleep(0)
      end)
    ]]):format(kind) }
    test.contains(result.stderr, "nobody takes me")
    eq(result.code, 1)
  end
end)

test("a task with a cancellation pending starts no job", function()
  local ran = worker.Channel()
  local t = async.spawn(function()
    async.current_task():cancel()
    worker.run(function() ran:send(true) end)
  end)
  async.wait { t }
  assert(t:cancelled())
  worker.run(nothing)
  eq(ran:size(), 0)
end)

test("a timeout frees who waits for a worker", function()
  test.raises("TimeoutError", async.timeout, 0.01, function()
    worker.run(function() require("rille.async").sleep(1000) end)
  end)
end)

test("a thousand jobs may be under way at once", function()
  for _, kind in ipairs { "thread", "process" } do
    local pool, tasks = worker.Pool { size = 2, kind = kind }, {}
    for i = 1, math.max(100, 1000 * test.SCALE) do
      tasks[i] = async.spawn(pool.run, pool, function(x) return x + 1 end, i)
    end
    async.wait(tasks)
    for i, t in ipairs(tasks) do eq(t:result(), i + 1) end
    pool:close()
  end
end)

test("a pool has as many workers as the machine has cores, or as RILLE_POOL_SIZE says", function()
  local pool = worker.Pool()
  eq(pool:size(), tonumber(process.run({ "nproc" }).stdout))
  eq(tostring(pool), ("worker.Pool: open, of %d"):format(pool:size()))
  pool:close()
  local result = test.rille({ "-e", "print(require('rille.worker').Pool():size())" },
    { env = { RILLE_POOL_SIZE = "7" } })
  eq(result.stdout, "7\n")
end)

test("a map begins with some items and takes the next one when one is done", function()
  local pool = worker.Pool { size = 2 }
  local begun, free, list = worker.Channel(), worker.Channel(), {}
  for i = 1, 40 do list[i] = i end
  local map = async.spawn(pool.map, pool, list, function(x)
    begun:send(x)
    free:recv()
    return x
  end)
  for _ = 1, 2 do begun:recv() end
  for _ = 1, 40 do free:send(true) end
  eq(map:await().n, 40)
  map = async.spawn(pool.map, pool, list, function(x)
    begun:send(x)
    free:recv()
  end)
  begun:recv()
  map:cancel()
  async.wait { map }
  assert(map:cancelled())
  pool:close()
  assert(begun:size() < 80, "a cancelled map went on")
end)

test("closing wakes nobody's job, and a closed pool refuses tasks of all kinds", function()
  local pool, free, log = worker.Pool { size = 1 }, worker.Channel(), test.log()
  local job = async.spawn(function() log(pool:run(function() return free:recv() end)) end)
  async.sleep(0)
  local closer = async.spawn(pool.close, pool)
  async.sleep(0)
  test.raises("InvalidStateError", pool.run, pool, nothing)
  test.raises("InvalidStateError", pool.map, pool, { 1 }, nothing)
  pool:close() -- the second one does not wait
  free:send "done"
  job:await()
  closer:await()
  eq(log, { "done" })
end)

test("context variables stay with their program", function()
  local var = async.ContextVar("var", "default")
  var:set "here"
  local e = test.raises("CopyError", worker.run, function() return var:get() end)
  test.contains(e.message, "a ContextVar")
  eq(worker.run(function(v) return v end, var:get()), "here")
end)

test("signals come to those who listen for them in a worker", function()
  for _, kind in ipairs { "thread", "process" } do
    local pool = worker.Pool { size = 1, kind = kind }
    eq(pool:run(function()
      local a, signal, p = require "rille.async", require "rille.signal", require "rille.process"
      local t = a.spawn(signal.wait, "SIGUSR2")
      a.sleep(0)
      a.sleep(0)
      p.kill(p.pid(), "SIGUSR2")
      return t:await()
    end), "SIGUSR2")
    pool:close()
  end
end)

test("a hundred tasks share a pool", function()
  local pool = worker.Pool { size = 4 }
  local tasks = {}
  for i = 1, 100 do
    tasks[i] = function()
      local sum = 0
      for j = 1, 20 do sum = sum + pool:run(function(a, b) return a * b end, i, j) end
      return sum
    end
  end
  local r = async.gather(tasks)
  for i = 1, 100 do eq(r[i], i * 210) end
  pool:close()
end)

test("nothing is lost when any wait is cancelled", function()
  local pool = worker.Pool { size = 2 }
  cancel_everywhere {
    patience = 5000,
    body = function()
      async.gather {
        function() pool:run(function() require("rille.async").sleep(0) end) end,
        function() pool:map({ 1, 2, 3 }, function(x) return x end) end,
      }
    end,
    check = function() assert(pool:run(function() return true end)) end,
  }
  pool:close()
end)
