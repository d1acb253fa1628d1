-- serve: a task for each connection, limits, and how a server ends.
local async, test = require "rille.async", require "support.test"
local net = require "rille.net"
local support = require "stdlib.net.support"

local function connect_to(listener)
  local address = listener:address()
  return net.connect { host = address.host, port = address.port, path = address.path }
end

-- Serves in a task of its own; gives the listener and the task.
local function serving(fn, options, listen)
  local listener = net.listen(listen or {})
  local task = async.spawn(listener.serve, listener, fn, options)
  test.defer(function()
    listener:close(0)
    async.wait { task }
  end)
  return listener, task
end

local function echo(stream)
  for data in function() return stream:read() end do stream:write(data) end
end

test("each connection has a task, and its stream is closed when that ends", function()
  local tasks = {}
  local listener, server = serving(function(stream)
    tasks[async.current_task()] = true
    test.eq(async.current_task():name(), "connection from " .. tostring(stream:peer()))
    stream:write("hello ", stream:read())
  end)
  local clients = {}
  for i = 1, 3 do clients[i] = connect_to(listener) end
  for i = 3, 1, -1 do clients[i]:write(tostring(i)) end
  for i = 1, 3 do
    test.eq(support.read_all(clients[i]), "hello " .. i)
    clients[i]:close()
  end
  local n = 0
  for _ in pairs(tasks) do n = n + 1 end
  test.eq({ n, tasks[server], server:done() }, { 3, nil, false })
  listener:close()
  test.eq({ server:await() }, {})
end)

test("an error ends its connection alone, and is reported", function()
  local listener = serving(function(stream)
    if stream:read() == "bad" then error "a bad connection" end
    stream:write "good"
  end)
  for _ = 1, 2 do
    local bad, good = connect_to(listener), connect_to(listener)
    bad:write "bad"
    test.eq(bad:read(), nil)
    good:write "good"
    test.eq(support.read_all(good), "good")
    local reports = test.reports()
    test.eq(#reports, 1)
    test.contains(reports[1].error, "a bad connection")
    test.contains(reports[1].message, tostring(listener:address()))
    test.contains(reports[1].message, tostring(bad:address()))
    test.contains(reports[1].traceback, "serve_test.lua")
    bad:close()
    good:close()
  end
end)

test("a peer that resets in the middle is an error of its connection", function()
  local listener = serving(echo)
  local near = connect_to(listener)
  near:write "x"
  test.eq(near:read(), "x")
  near:abort()
  local other = connect_to(listener)
  other:write "y"
  test.eq(other:read(), "y")
  other:close()
  support.eventually(function()
    local report = test.reports()[1]
    return report and report.error.code == "ECONNRESET"
  end)
end)

test("an error without a handler is printed, and the program goes on", function()
  local result = test.script [[
    local net, async = require "rille.net", require "rille.async"
    local listener = net.listen {}
    local server = async.spawn(listener.serve, listener, function() error "broken" end)
    local stream = net.connect { host = "127.0.0.1", port = listener:address().port }
    print(stream:read())
    listener:close()
    server:await()
  ]]
  test.eq({ result.code, result.stdout }, { 0, "nil\n" })
  test.contains(result.stderr, "error in a connection of the server on 127.0.0.1:")
  test.contains(result.stderr, "broken")
  test.contains(result.stderr, "stack traceback:")
end)

test("over the limit, connections wait in the backlog", function()
  local now, most = 0, 0
  local go = async.Event()
  local listener = serving(function(stream)
    now = now + 1
    most = math.max(most, now)
    go:wait()
    stream:write "done"
    now = now - 1
  end, { limit = 2 })
  local clients = {}
  for i = 1, 5 do clients[i] = connect_to(listener) end
  async.sleep(0.01)
  test.eq({ now, most }, { 2, 2 })
  go:set()
  for i = 1, 5 do
    test.eq(support.read_all(clients[i]), "done")
    clients[i]:close()
  end
  test.eq(most, 2)
end)

test("with a limit, a connection that ends makes room for the next", function()
  local listener = serving(echo, { limit = 1 })
  local first, second = connect_to(listener), connect_to(listener)
  second:write "2"
  first:write "1"
  test.eq(first:read(), "1")
  test.raises("TimeoutError", async.wait_for, second.read, 0.01, second)
  first:close()
  test.eq(second:read(), "2")
  second:close()
end)

test("a server that is closed while it is full ends", function()
  local listener, server = serving(echo, { limit = 1 })
  local first, second = connect_to(listener), connect_to(listener)
  first:write "1"
  test.eq(first:read(), "1")
  listener:close()
  async.sleep(0.002)
  test.eq(server:done(), false)
  first:write "2"
  test.eq(first:read(), "2")
  first:close()
  server:await()
  test.raises("OSError", second.read, second)
  second:close()
end)

test("close lets handlers finish, and serve returns when they have", function()
  local go, ended = async.Event(), false
  local listener, server = serving(function(stream)
    go:wait()
    stream:write "finished"
    ended = true
  end)
  local near = connect_to(listener)
  async.sleep(0.005)
  local port = listener:address().port
  listener:close()
  test.raises("OSError", net.connect, { host = "127.0.0.1", port = port })
  async.sleep(0.005)
  test.eq(server:done(), false)
  go:set()
  server:await()
  test.eq(ended, true)
  test.eq(support.read_all(near), "finished")
  near:close()
end)

test("handlers that take longer than the grace time are cancelled, and waited for", function()
  for _, how in ipairs { "close", "serve" } do
    local log = test.log()
    local listener, server = serving(function()
      async.finally(function() async.sleep(1000) end, function()
        async.sleep(0.002)
        log "cleaned up"
      end)
    end, how == "serve" and { grace = 0.005 } or nil)
    local near = connect_to(listener)
    async.sleep(0.005)
    if how == "close" then listener:close(0) else listener:close() end
    server:await()
    test.eq(log, { "cleaned up" })
    test.eq(near:read(), nil)
    near:close()
  end
end)

test("a connection that was accepted and not begun is closed with the server", function()
  for turns = 0, 4 do
    local listener, server = serving(function() async.sleep(1000) end)
    local near = connect_to(listener)
    test.turns(turns)
    listener:close(0)
    server:await()
    local ok, data = pcall(near.read, near)
    test.eq(ok and data or nil, nil)
    near:close()
  end
end)

test("cancelling serve stops it, and cancels the handlers and waits for them", function()
  local log = test.log()
  local listener, server = serving(function()
    async.finally(function() async.sleep(1000) end, function()
      async.sleep(0.002)
      log "cleaned up"
    end)
  end)
  local near = connect_to(listener)
  local port = listener:address().port
  async.sleep(0.005)
  server:cancel()
  async.wait { server }
  test.eq({ server:cancelled(), log[1] }, { true, "cleaned up" })
  test.eq(near:read(), nil)
  near:close()
  test.raises("OSError", net.connect, { host = "127.0.0.1", port = port })
  test.raises("InvalidStateError", listener.accept, listener)
end)

test("cancelling serve during its grace time cancels the handlers", function()
  local listener, server = serving(function() async.sleep(1000) end)
  local near = connect_to(listener)
  async.sleep(0.005)
  listener:close(1000)
  async.sleep(0.002)
  test.eq(server:done(), false)
  server:cancel()
  async.wait { server }
  test.eq({ server:cancelled(), near:read() }, { true, nil })
  near:close()
end)

test("a handler may close its own server", function()
  local listener, server
  listener, server = serving(function(stream)
    listener:close()
    stream:write "closed it"
  end)
  local near = connect_to(listener)
  test.eq(support.read_all(near), "closed it")
  server:await()
  near:close()
end)

test("handlers see the context variables of serve's caller, each its own", function()
  local variable = async.ContextVar("v", "none")
  variable:set "outer"
  local listener = serving(function(stream)
    local before = variable:get()
    variable:set(stream:read())
    async.sleep(0.002)
    stream:write(before, " ", variable:get())
  end)
  local a, b = connect_to(listener), connect_to(listener)
  a:write "a"
  b:write "b"
  test.eq({ support.read_all(a), support.read_all(b) }, { "outer a", "outer b" })
  a:close()
  b:close()
end)

test("a server out of descriptors says so once, and goes on when there are some again", function()
  local result = test.rille({ "-e", [[
    local net, async = require "rille.net", require "rille.async"
    local listener = net.listen {}
    local port = listener:address().port
    local clients, files = {}, {}
    local function talk(client)
      client:write "x"
      print(client:read())
    end
    -- Sanitizers look at what is new to them with descriptors of their own.
    local early = net.connect { host = "127.0.0.1", port = port }
    local accepted = listener:accept()
    accepted:write "early"
    talk(early)
    print(accepted:read())
    early:close()
    accepted:close()
    for i = 1, 3 do clients[i] = net.connect { host = "127.0.0.1", port = port } end
    local server = async.spawn(listener.serve, listener, function(stream)
      stream:write(stream:read())
    end)
    for file in function() return io.open "/dev/null" end do files[#files + 1] = file end
    async.sleep(0.5)
    local cpu = os.clock()
    async.sleep(0.3)
    print(os.clock() - cpu < 0.1)
    table.remove(files):close() -- enough for one of them
    talk(clients[1])
    for _, file in ipairs(files) do file:close() end
    talk(clients[2])
    talk(clients[3])
    listener:close()
    server:await()
  ]] }, { prefix = "prlimit --nofile=32" })
  test.eq({ result.code, result.stdout }, { 0, "early\nx\ntrue\nx\nx\nx\n" })
  test.matches(result.stderr, "takes no connections at present: OSError: too many open files")
  local _, count = result.stderr:gsub("takes no connections", "")
  test.eq(count, 1)
end)

test("a thousand connections at once are served, and nothing is left of them", function()
  local before = support.open_files()
  local count = math.floor(1000 * math.min(test.SCALE, 1))
  local arrived, all_there = 0, async.Event()
  local listener, server = serving(function(stream)
    arrived = arrived + 1
    if arrived == count then all_there:set() end
    all_there:wait()
    echo(stream)
  end)
  local clients = {}
  for i = 1, count do clients[i] = connect_to(listener) end
  all_there:wait()
  async.map(clients, function(client, i)
    client:write("message ", i)
    test.eq(client:read_exactly(8 + #tostring(i)), "message " .. i)
    client:close()
  end)
  listener:close()
  server:await()
  support.open_files(before)
end)

test("ten thousand connections can be open, and cost little memory", { limit = 3 }, function()
  local most = tonumber(io.popen("ulimit -n"):read "*l") or math.huge
  local count = math.floor(math.min(10000, most - 100) * math.min(test.SCALE, 1))
  local open, all_open = 0, async.Event()
  local listener, server = serving(function(stream)
    open = open + 1
    if open == count then all_open:set() end
    echo(stream)
    open = open - 1
  end)
  local before = support.resident()
  local client = support.start(([[exec %s -e '
    local net, async = require "rille.net", require "rille.async"
    local list = {}
    for i = 1, %d do list[i] = i end
    local streams = async.map(list, function()
      return net.connect { host = "127.0.0.1", port = %d }
    end, { limit = 200 })
    for i, stream in ipairs(streams) do stream:write("message ", i) end
    for i, stream in ipairs(streams) do
      assert(stream:read_exactly(8 + #tostring(i)) == "message " .. i)
    end
    io.stdout:write "all answered"
    io.stdout:flush()
    io.read "*l"
  ']]):format(test.executable(), count, listener:address().port))
  all_open:wait()
  client:wait()
  test.eq({ client:output(), client:errors() }, { "all answered", "" })
  assert((support.resident() - before) / count < 8, support.resident() - before) -- KiB
  support.eventually(function() return open == 0 end)
  listener:close()
  server:await()
end)

test("serve works over Unix sockets", function()
  local listener = serving(echo, nil, { path = "@rille-serve-" .. support.dead_port() })
  local near = connect_to(listener)
  near:write "x"
  test.eq(near:read(), "x")
  near:close()
end)

test("a function to serve with may be anything that can be called", function()
  local listener = serving(setmetatable({ reply = "called" }, {
    __call = function(self, stream) stream:write(self.reply) end,
  }))
  local near = connect_to(listener)
  test.eq(support.read_all(near), "called")
  near:close()
end)

test("wrong arguments name the option and blame the script's line", function()
  local listener = net.listen {}
  test.blames_caller("bad argument #1 to 'serve' (function expected",
    function() listener:serve() end)
  local function fn() end
  test.blames_caller("unknown option 'limits'", function() listener:serve(fn, { limits = 1 }) end)
  test.blames_caller("bad argument 'limit' to 'serve'",
    function() listener:serve(fn, { limit = 0 }) end)
  test.blames_caller("bad argument 'grace' to 'serve'",
    function() listener:serve(fn, { grace = "x" }) end)
  listener:close()
end)

test("reports say what a server waits for", function()
  local waits_for = require("rille.core.report").waits_for
  local listener, server = serving(function() async.sleep(1000) end)
  local name = tostring(listener:address())
  local near = connect_to(listener)
  async.sleep(0.005)
  test.eq(waits_for(server), "waits for connections on " .. name)
  listener:close()
  async.sleep(0.002)
  test.eq(waits_for(server), "waits for 1 connection to end")
  server:cancel()
  async.wait { server }
  near:close()
end)
