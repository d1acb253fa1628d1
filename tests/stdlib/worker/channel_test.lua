--- Channels: between tasks, between threads.
local async = require "rille.async"
local worker = require "rille.worker"
local test = require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"

local eq = test.eq

test("a channel gives values in the order in which they were sent", function()
  local ch = worker.Channel()
  for i = 1, 5 do ch:send(i) end
  eq(ch:size(), 5)
  for i = 1, 5 do eq(ch:recv(), i) end
end)

test("send waits while the channel is full", function()
  local ch, log = worker.Channel(2), test.log()
  local t = async.spawn(function()
    for i = 1, 4 do
      ch:send(i)
      log("sent", i)
    end
  end)
  test.turns()
  eq(log, { "sent 1", "sent 2" })
  eq(ch:recv(), 1)
  test.turns()
  eq(log, { "sent 1", "sent 2", "sent 3" })
  for i = 2, 4 do eq(ch:recv(), i) end
  t:await()
end)

test("a channel of capacity 0 hands over", function()
  local ch, log = worker.Channel(0), test.log()
  local t = async.spawn(function()
    ch:send "x"
    log "sent"
  end)
  test.turns()
  eq(log, {})
  eq(ch:recv(), "x")
  t:await()
  eq(log, { "sent" })
  local r = async.spawn(ch.recv, ch)
  async.sleep(0)
  ch:send "y" -- does not wait
  eq(r:await(), "y")
end)

test("values are copies, and nil is one", function()
  local ch, t = worker.Channel(), { { 1 } }
  ch:send(t)
  local copy = ch:recv()
  eq(copy, t)
  assert(copy ~= t)
  ch:send(nil)
  eq({ n = select("#", ch:recv()) }, { n = 1 })
  local e = test.raises("CopyError", ch.send, ch, { x = coroutine.create(print) })
  eq(e.path, "the value.x")
end)

test("what is no channel is named, at the script's line", function()
  local ch = worker.Channel()
  test.blames_caller("bad argument #1 to 'recv' (Channel expected, got nil)",
    function() ch.recv() end)
  test.blames_caller("bad argument #1 to 'send' (Channel expected, got table)",
    function() ch.send({}, 1) end)
end)

test("receivers and senders are served first come, first served", function()
  local ch, log = worker.Channel(1), test.log()
  local tasks = {}
  for i = 1, 3 do tasks[i] = async.spawn(function() log(i, ch:recv()) end) end
  async.sleep(0)
  for _, v in ipairs { "a", "b", "c" } do ch:send(v) end
  async.wait(tasks)
  eq(log, { "1 a", "2 b", "3 c" })
  for i = 1, 4 do tasks[i] = async.spawn(function() ch:send(i) end) end
  async.sleep(0)
  for i = 1, 4 do eq(ch:recv(), i) end
  async.wait(tasks)
end)

test("a closed channel gives what is in it, then nil", function()
  local ch = worker.Channel()
  ch:send(1)
  ch:close()
  ch:close()
  local e = test.raises("InvalidStateError", ch.send, ch, 2)
  test.contains(e.message, "the channel is closed")
  eq({ ch:recv(), ch:recv(), ch:recv() }, { 1, nil, nil })
end)

test("close wakes those who wait", function()
  local full, empty = worker.Channel(1), worker.Channel()
  full:send(1)
  local sender, receiver = async.spawn(full.send, full, 2), async.spawn(empty.recv, empty)
  async.sleep(0)
  full:close()
  empty:close()
  test.raises("InvalidStateError", sender.await, sender)
  eq(receiver:await(), nil)
  eq({ full:recv(), full:recv() }, { 1, nil })
end)

test("iter ends when the channel is closed and empty", function()
  local ch, got = worker.Channel(), {}
  local t = async.spawn(function()
    for v in ch:iter() do got[#got + 1] = v end
  end)
  for i = 1, 3 do ch:send(i) end
  ch:close()
  t:await()
  eq(got, { 1, 2, 3 })
end)

test("a channel leads to a worker and back", function()
  local to, from = worker.Channel(4), worker.Channel(1)
  local job = async.spawn(worker.run, function()
    local sum = 0
    for v in to:iter() do
      sum = sum + v
      from:send(v * 2)
    end
    from:close()
    return sum
  end)
  local reader = async.spawn(function()
    local list = {}
    for v in from:iter() do list[#list + 1] = v end
    return list
  end)
  for i = 1, 100 do to:send(i) end
  to:close()
  eq(job:await(), 5050)
  local list = reader:await()
  eq({ #list, list[1], list[100] }, { 100, 2, 200 })
end)

test("channels travel through channels, as the same one", function()
  local ways = worker.Channel()
  local reply = worker.Channel()
  ways:send { reply = reply, again = reply }
  eq({ worker.run(function()
    local m = ways:recv()
    m.reply:send(m.reply:size())
    return m.again:size(), m.again == reply
  end) }, { 1, true })
  eq(reply:recv(), 0)
end)

test("workers speak to each other through a channel", function()
  local pool = worker.Pool { size = 2 }
  local ch = worker.Channel(1)
  local sums = async.gather {
    function()
      pool:run(function()
        for i = 1, 200 do ch:send(i) end
        ch:close()
      end)
    end,
    function()
      return pool:run(function()
        local sum = 0
        for v in ch:iter() do sum = sum + v end
        return sum
      end)
    end,
  }
  eq(sums[2], 20100)
  pool:close()
end)

test("many senders and receivers on many threads lose nothing and double nothing", function()
  local pool = worker.Pool { size = 4 }
  local ch, seen = worker.Channel(3), worker.Channel()
  local n = math.floor(500 * test.SCALE) + 10
  local senders, receivers = {}, {}
  for s = 1, 2 do
    senders[s] = async.spawn(pool.run, pool, function()
      for i = 1, n do ch:send(s * 1000000 + i) end
    end)
    receivers[s] = async.spawn(pool.run, pool, function()
      for v in ch:iter() do seen:send(v) end
    end)
  end
  async.wait(senders)
  ch:close()
  async.wait(receivers)
  pool:close()
  local set = {}
  eq(seen:size(), 2 * n)
  seen:close()
  for v in seen:iter() do
    assert(not set[v])
    set[v] = true
  end
end)

test("functions with modules go through a channel", function()
  local ch = worker.Channel()
  local path = require "rille.path"
  ch:send(function(x) return path.join("a", x) end)
  eq(ch:recv()("b"), "a/b")
  ch:send(function(x) return path.join("a", x) end)
  eq(worker.run(function() return ch:recv()("c") end), "a/c")
end)

test("a wait in a channel that only this program holds can be a deadlock", function()
  local result = test.rille { "-e", "require('rille.worker').Channel():recv()" }
  eq(result.code, 1)
  test.contains(result.stderr, "DeadlockError")
  test.contains(result.stderr, "waits for a value of a channel")
end)

test("a value that comes for a task which is cancelled goes to the next one", function()
  local ch = worker.Channel()
  local first, second = async.spawn(ch.recv, ch), async.spawn(ch.recv, ch)
  async.sleep(0)
  ch:send "x"
  first:cancel() -- too late: it has been given the value
  eq(first:await(), "x")
  second:cancel()
  async.sleep(0)
  ch:send "y"
  eq(ch:recv(), "y")
end)

test("a cancelled send leaves nothing in the channel", function()
  local ch = worker.Channel(1)
  ch:send(1)
  local t = async.spawn(ch.send, ch, 2)
  async.sleep(0)
  t:cancel()
  async.sleep(0)
  eq(ch:recv(), 1)
  eq(ch:size(), 0)
end)

test("one of several channels can be waited for, and the others lose nothing", function()
  local channels, tasks = {}, {}
  for i = 1, 3 do channels[i] = worker.Channel() end
  for i, ch in ipairs(channels) do tasks[i] = async.spawn(ch.recv, ch) end
  worker.run(function(ch) ch:send "second" end, channels[2])
  local done, pending = async.wait(tasks, { return_when = "FIRST_COMPLETED" })
  eq({ #done, done[1]:result() }, { 1, "second" })
  for _, t in ipairs(pending) do t:cancel() end
  async.wait(pending)
  for i = 1, 3 do channels[i]:send(i) end
  for i = 1, 3 do eq(channels[i]:recv(), i) end
end)

test("a worker that ends while it holds a channel leaves it to the others", function()
  local ch = worker.Channel(1)
  local pool = worker.Pool { size = 1 }
  test.raises("WorkerError", pool.run, pool, function()
    ch:send "before"
    require("rille.async").spawn(ch.send, ch, "never")
    require("rille.async").sleep(0)
    require("rille.process").exit(0)
  end)
  eq(ch:recv(), "before")
  eq(ch:size(), 0)
  ch:send "after"
  eq(pool:run(function() return ch:recv() end), "after")
  pool:close()
end)

test("a thousand channels are each for themselves", function()
  local n = math.max(100, math.floor(1000 * test.SCALE))
  local channels = {}
  for i = 1, n do channels[i] = worker.Channel(1) end
  local job = async.spawn(worker.run, function()
    for i = 1, n do channels[i]:send(i * 2) end
    return #channels
  end)
  for i = n, 1, -1 do eq(channels[i]:recv(), i * 2) end
  eq(job:await(), n)
end)

test("channels that lie in each other can be taken out again", function()
  local a, b = worker.Channel(), worker.Channel()
  a:send { "self", a }
  a:send(b)
  b:send(a)
  a = nil -- luacheck: ignore
  collectgarbage()
  collectgarbage()
  local again = b:recv()
  local first = again:recv()
  eq(first[1], "self")
  assert(first[2] == again and again:recv() == b)
end)

test("a wait in a channel can be limited in time, and loses nothing", function()
  local ch = worker.Channel(1)
  test.raises("TimeoutError", async.wait_for, ch.recv, 0.01, ch)
  ch:send(1)
  test.raises("TimeoutError", async.timeout, 0.01, function() ch:send(2) end)
  eq({ ch:recv(), ch:size() }, { 1, 0 })
end)

test("waiting in a channel can be cancelled everywhere", function()
  cancel_everywhere {
    setup = function()
      local state = { ch = worker.Channel(1), got = {}, sent = {} }
      return state
    end,
    body = function(s)
      async.gather {
        function()
          for i = 1, 4 do
            s.ch:send(i)
            s.sent[#s.sent + 1] = i
          end
          s.ch:close()
        end,
        function()
          for v in s.ch:iter() do s.got[#s.got + 1] = v end
        end,
      }
    end,
    check = function(s)
      s.ch:close()
      for v in s.ch:iter() do s.got[#s.got + 1] = v end
      assert(#s.got >= #s.sent, "a value was lost")
      for i, v in ipairs(s.got) do eq(v, i) end
    end,
  }
end)

test("waiting in a channel of another thread can be cancelled everywhere", function()
  local pool = worker.Pool { size = 2 }
  cancel_everywhere {
    patience = 5000,
    setup = function() return { to = worker.Channel(1), from = worker.Channel(1) } end,
    body = function(s)
      local to, from = s.to, s.from
      async.gather {
        function()
          pool:run(function()
            for v in to:iter() do from:send(v) end
            from:close()
          end)
        end,
        function()
          for i = 1, 3 do to:send(i) end
          to:close()
        end,
        function()
          for _ in from:iter() do end -- luacheck: ignore
        end,
      }
    end,
    check = function(s)
      s.to:close()
      s.from:close()
      assert(pool:run(function() return true end))
    end,
  }
  pool:close()
end)
