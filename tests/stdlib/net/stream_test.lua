-- Streams: what reads and writes give, and what they leave, over real sockets.
local async, test = require "rille.async", require "support.test"
local net, errors = require "rille.net", require "rille.errors"
local support = require "stdlib.net.support"

local pair, read_all = support.pair, support.read_all

test("bytes go both ways, and the end is nil, again and again", function()
  local near, far = pair()
  near:write "ping"
  test.eq(far:read(), "ping")
  far:write("po", "ng", 1, 2.5)
  far:shutdown()
  test.eq(read_all(near), "pong12.5")
  test.eq({ near:read(), near:read() }, {})
  near:write "still"
  test.eq(far:read(), "still")
  near:shutdown()
  test.eq(far:read(), nil)
end)

test("read gives at most what was asked for, and the rest later", function()
  local near, far = pair()
  near:write "abcde"
  test.eq({ far:read(2), far:read(2), far:read(2) }, { "ab", "cd", "e" })
  near:write(("x"):rep(200000))
  near:shutdown()
  local most, total = 0, 0
  for data in function() return far:read() end do
    most, total = math.max(most, #data), total + #data
  end
  test.eq(total, 200000)
  assert(most <= 65536, most)
end)

-- Sends `text` in two pieces, cut at every position, and calls read(stream) for each cut.
local function at_every_cut(text, read)
  local near, far = pair()
  for cut = 0, #text do
    local writer = async.spawn(function()
      near:write(text:sub(1, cut))
      async.sleep(0.0005) -- the second piece is mostly a packet of its own
      near:write(text:sub(cut + 1))
    end)
    read(far, cut)
    writer:await()
  end
end

test("read_exactly gives just so much wherever the bytes are cut", function()
  at_every_cut("0123456789", function(stream)
    test.eq({ stream:read_exactly(0), stream:read_exactly(3), stream:read_exactly(7) },
      { "", "012", "3456789" })
  end)
end)

test("read_until finds its separator wherever the bytes are cut", function()
  at_every_cut("a\r\rb\r\n--\r\n\r\nend.", function(stream)
    test.eq({ stream:read_until "\r\n", stream:read_until "\r\n\r\n", stream:read_until "." },
      { "a\r\rb\r\n", "--\r\n\r\n", "end." })
  end)
  at_every_cut("aaabaab", function(stream)
    test.eq({ stream:read_until "aab", stream:read_until "aab" }, { "aaab", "aab" })
  end)
end)

test("lines come without their end wherever the bytes are cut", function()
  at_every_cut("one\n\ntwo\r\nthree\n", function(stream)
    local lines = stream:lines()
    test.eq({ lines(), lines(), lines(), lines() }, { "one", "", "two\r", "three" })
  end)
end)

test("a last line without an end is a line, and an empty one is none", function()
  for _, text in ipairs { "a\nb", "a\nb\n" } do
    local near, far = pair()
    near:write(text)
    near:shutdown()
    local got = {}
    for line in far:lines() do got[#got + 1] = line end
    test.eq(got, { "a", "b" })
    test.eq(far:read_line(), nil)
  end
end)

test("a loop over lines that is broken off leaves what follows", function()
  local near, far = pair()
  near:write "a\nb\nc\n"
  for line in far:lines() do
    test.eq(line, "a")
    break
  end
  local lines = far:lines()
  test.eq(async.with(lines, function(l) return l() end), "b")
  test.eq(lines(), nil)
  test.eq(far:read(), "c\n")
end)

test("a read that is cut short says what there was", function()
  local near, far = pair()
  near:write "abc"
  near:shutdown()
  local e = test.raises("IncompleteReadError", far.read_exactly, far, 5)
  test.eq({ e.partial, e.expected }, { "abc", 5 })
  test.eq(far:read(), nil)

  near, far = pair()
  near:write "abc"
  near:shutdown()
  e = test.raises("IncompleteReadError", far.read_until, far, "\n")
  test.eq({ e.partial, e.expected }, { "abc", nil })
  e = test.raises("IncompleteReadError", far.read_exactly, far, 1)
  test.eq({ e.partial, e.expected }, { "", 1 })
end)

test("what is too long is an error that consumes nothing", function()
  local near, far = pair()
  near:write "0123456789\nabc"
  test.raises("LimitOverrunError", far.read_until, far, "\n", 10)
  test.raises("LimitOverrunError", far.read_line, far, 9)
  test.raises("LimitOverrunError", far:lines(9))
  test.eq(far:read_until("\n", 11), "0123456789\n")
  test.eq(far:read(), "abc")
  near:write(("x"):rep(20), "\n")
  test.raises("LimitOverrunError", far.read_until, far, "\n", 10)
  test.eq(far:read_line(20), ("x"):rep(20))
end)

test("the limit of a separator that never comes is a megabyte", function()
  local near, far = pair()
  local writer = async.spawn(near.write, near, ("x"):rep(3000000))
  for _, method in ipairs { "read_until", "read_line" } do
    test.raises("LimitOverrunError", far[method], far, method == "read_until" and "\n" or nil)
  end
  test.eq(#far:read_exactly(3000000), 3000000)
  writer:await()
  writer = async.spawn(near.write, near, ("y"):rep(1048576), "\n")
  test.eq(#far:read_line(), 1048576)
  writer:await()
end)

test("tasks that read queue up, and each gets all of its own", function()
  local near, far = pair()
  local first = async.spawn(far.read_exactly, far, 4)
  local second = async.spawn(far.read_until, far, "\n")
  local third = async.spawn(far.read, far, 2)
  test.turns()
  near:write "ab"
  async.sleep(0.002)
  test.eq({ first:done(), second:done(), third:done() }, { false, false, false })
  near:write "cdef\ngh"
  test.eq({ first:await(), second:await(), third:await() }, { "abcd", "ef\n", "gh" })
end)

test("a cancelled reader makes room for the next, and loses no byte", function()
  for turns = 0, 4 do
    local near, far = pair()
    local first = async.spawn(far.read_exactly, far, 3)
    local second = async.spawn(far.read_exactly, far, 3)
    test.turns(turns)
    near:write "abcdef"
    first:cancel()
    async.wait { first }
    local got = first:cancelled() and "" or first:result()
    got = got .. second:await()
    near:shutdown()
    test.eq(got .. read_all(far), "abcdef")
  end
end)

test("a read that times out in the middle leaves all it has seen", function()
  local near, far = pair()
  near:write "half"
  test.raises("TimeoutError", async.wait_for, far.read_until, 0.01, far, "\n")
  test.raises("TimeoutError", async.wait_for, far.read_exactly, 0.01, far, 100)
  near:write " a line\n"
  test.eq(far:read_line(), "half a line")
end)

test("a write waits for a slow peer, and one that is cancelled still goes out whole", function()
  local near, far = pair()
  local data = ("x"):rep(10000000)
  local writer = async.spawn(near.write, near, data)
  test.turns()
  test.eq(writer:done(), false)
  writer:cancel()
  async.wait { writer }
  test.eq(writer:cancelled(), true)
  near:shutdown()
  test.eq(#read_all(far), #data)
end)

test("writes of several tasks do not interleave", function()
  local near, far = pair()
  local size = 3000000
  local writers = {}
  for i = 1, 4 do
    local letter = string.char(96 + i)
    writers[i] = async.spawn(near.write, near, letter:rep(size), letter:rep(10), letter)
  end
  test.turns()
  writers[2]:cancel()
  async.spawn(function()
    async.wait(writers)
    near:shutdown()
  end)
  local text = read_all(far)
  local order = {}
  for i = 1, #text, size + 11 do
    local letter = text:sub(i, i)
    order[#order + 1] = letter
    test.eq(text:sub(i, i + size + 10) == letter:rep(size + 11), true)
  end
  test.eq(order, { "a", "b", "c", "d" })
end)

test("a peer that takes whatever comes does not keep other tasks waiting", function()
  local listener = net.listen {}
  local sink = support.start(("exec nc -d 127.0.0.1 %d > /dev/null"):format(
    listener:address().port))
  local stream = listener:accept()
  local turns = 0
  local other = async.spawn(function()
    while true do
      turns = turns + 1
      async.sleep(0)
    end
  end)
  test.turns()
  turns = 0
  local chunk = ("x"):rep(65536)
  for _ = 1, 20 do
    stream:write(chunk)
    os.execute "sleep 0.005" -- nothing here goes on meanwhile, but the peer does
  end
  assert(turns >= 1, turns)
  other:cancel()
  async.wait { other }
  stream:close()
  sink:wait()
  listener:close()
end)

test("a callback may write any amount, as long as the peer takes it", function()
  local near, far = pair()
  local piece, failure = ("x"):rep(8192), nil
  for _ = 1, 200 do
    async.call_soon(function()
      local ok, e = pcall(near.write, near, piece)
      if not ok then failure = e end
    end)
    far:read_exactly(#piece)
  end
  test.eq(failure, nil)
end)

test("write gives the stream, and takes nothing too", function()
  local near, far = pair()
  test.eq(near:write("a"):write():write("", ""):write "b", near)
  near:shutdown()
  test.eq(read_all(far), "ab")
end)

test("many pieces are one message", function()
  local near, far = pair()
  local pieces, whole = {}, {}
  for i = 1, 100 do pieces[i] = ("piece %d "):format(i) end
  for i = 1, 100 do whole[i] = pieces[i] end
  near:write(unpack(pieces))
  near:shutdown()
  test.eq(read_all(far), table.concat(whole))
end)

test("after shutdown a write is an error, and reading goes on", function()
  local near, far = pair()
  near:write "question"
  near:shutdown()
  near:shutdown()
  local e = test.raises("InvalidStateError", near.write, near, "more")
  test.contains(e.message, far:address().host .. ":" .. far:address().port)
  test.eq(read_all(far), "question")
  far:write "answer"
  far:close()
  test.eq(read_all(near), "answer")
end)

test("a reader that never reads stops the writer, and memory stays bounded", function()
  local near, far = pair()
  local before = support.resident()
  local chunk, written = ("x"):rep(65536), 0
  local writer = async.spawn(function()
    while true do
      near:write(chunk)
      written = written + #chunk
    end
  end)
  support.eventually(function()
    local so_far = written
    async.sleep(0.05)
    return so_far == written
  end)
  -- What the system's buffers hold, and little more.
  assert(written < 30000000, written)
  assert(support.resident() - before < 20000, support.resident() - before)
  writer:cancel()
  async.wait { writer }
  far:abort()
end)

test("closing wakes whoever reads and writes, with an error that names the peer", function()
  local near, far = pair()
  local tasks = {
    async.spawn(near.read, near), async.spawn(near.read_exactly, near, 5),
    async.spawn(near.write, near, ("x"):rep(20000000)), async.spawn(near.write, near, "y"),
  }
  test.turns()
  near:close()
  for _, task in ipairs(tasks) do
    local e = test.raises("InvalidStateError", task.await, task)
    test.contains(e.message, tostring(far:address()))
  end
  -- What was written is on its way all the same.
  test.eq(#read_all(far), 20000001)
end)

test("a closed stream says so, and to close it again is nothing", function()
  local near, far = pair()
  near:write "x"
  near:close()
  near:close()
  near:abort()
  test.eq(near:is_closed(), true)
  for _, method in ipairs { "read", "read_line", "write", "shutdown", "lines", "address", "peer",
    "set_nodelay", "set_keepalive", "start_tls", "tls" } do
    local e = test.raises("InvalidStateError", near[method], near, nil)
    test.contains(e.message, tostring(far:address()))
  end
  test.raises("InvalidStateError", near.read_exactly, near, 1)
  test.raises("InvalidStateError", near.read_until, near, "x")
end)

test("close delivers megabytes to a slow peer", function()
  local near, far = pair()
  local writer = async.spawn(near.write, near, ("x"):rep(5000000))
  test.turns()
  writer:cancel()
  near:close()
  local total = 0
  while true do
    local data = far:read()
    if not data then break end
    total = total + #data
    if total % 7 == 0 then async.sleep(0.001) end
  end
  test.eq(total, 5000000)
end)

test("close delivers although the peer has sent what nobody read", function()
  local near, far = pair()
  far:write(("unread"):rep(1000))
  async.sleep(0.005)
  near:write "goodbye"
  near:close()
  test.eq(read_all(far), "goodbye")
end)

test("what was closed is delivered before the program ends", function()
  local listener = net.listen {}
  local got = async.spawn(function() return #read_all(listener:accept()) end)
  local program = support.start(([[%s -e '
    local net, async = require "rille.net", require "rille.async"
    local stream = net.connect { host = "127.0.0.1", port = %d }
    local writer = async.spawn(stream.write, stream, ("x"):rep(8000000))
    async.sleep(0)
    stream:close()
    pcall(writer.await, writer)
  ' > $DIR/out 2>&1]]):format(test.executable(), listener:address().port))
  test.eq(got:await(), 8000000)
  program:wait()
  test.eq(program:output(), "")
  listener:close()
end)

test("a reset is an error with the peer's address, at every wait", function()
  for _, method in ipairs { "read", "read_exactly", "read_until", "read_line" } do
    local near, far = pair()
    local argument = method == "read_until" and "\n" or 10
    near:write "ab" -- abort resets also with this unread
    local reader = async.spawn(near[method], near, argument)
    test.turns()
    far:abort()
    local e = test.raises("OSError", reader.await, reader)
    test.eq({ e.code, e.syscall, e.address }, { "ECONNRESET", "read", tostring(near:peer()) })
    test.contains(tostring(e), "OSError: connection reset by peer: read 127.0.0.1:")
  end
end)

test("writing to a peer that has gone is EPIPE or ECONNRESET, and no signal", function()
  local near, far = pair()
  far:abort()
  local e = test.raises("OSError", function()
    while true do
      near:write "x"
      async.sleep(0.001)
    end
  end)
  assert(e.code == "EPIPE" or e.code == "ECONNRESET", e.code)
  test.eq({ e.syscall, e.address }, { "write", tostring(near:peer()) })

  near, far = pair()
  local writer = async.spawn(near.write, near, ("x"):rep(20000000))
  test.turns()
  far:abort()
  e = test.raises("OSError", writer.await, writer)
  assert(e.code == "EPIPE" or e.code == "ECONNRESET", e.code)
end)

test("what came before a reset can still be read", function()
  local near, far = pair()
  far:write "last words\n"
  async.sleep(0.002)
  test.eq(near:read_line(), "last words")
  far:abort()
  test.raises("OSError", near.read, near)
  test.raises("OSError", near.read, near)
end)

test("addresses are tables that are texts too", function()
  local near, far = pair()
  local a, b = near:address(), far:peer()
  test.eq({ a.host, a.family, a.path }, { "127.0.0.1", "inet", nil })
  test.eq({ a.host, a.port, a.family }, { b.host, b.port, b.family })
  test.eq(tostring(a), "127.0.0.1:" .. a.port)
  test.eq(tostring(near:peer()), tostring(far:address()))
  test.eq(tostring(near), "Stream: " .. tostring(near:peer()))

  near, far = pair { host = "::1" }
  a, b = near:address(), far:peer()
  test.eq({ a.host, a.port, a.family }, { "::1", b.port, "inet6" })
  test.eq(tostring(a), "[::1]:" .. a.port)

  local path = test.tmpdir() .. "/socket"
  near, far = pair { path = path }
  test.eq({ near:peer().path, near:peer().family, near:peer().host }, { path, "unix", nil })
  test.eq({ tostring(near:peer()), tostring(far:address()), far:peer().path }, { path, path, "" })
  near:close()
  test.eq(tostring(near), "Stream: " .. path .. " (closed)")
end)

test("options of TCP can be set, and elsewhere do no harm", function()
  for _, options in ipairs { {}, { path = "@rille-options-" .. support.dead_port() } } do
    local near = pair(options)
    test.eq(near:set_nodelay(false):set_nodelay():set_nodelay(true), near)
    test.eq(near:set_keepalive(true):set_keepalive(30):set_keepalive(false), near)
  end
end)

test("a small message goes out at once, without a turn of the loop", function()
  local near, far = pair()
  local done = false
  async.call_soon(function() done = true end)
  near:write "now"
  test.eq(done, false)
  test.eq(far:read(), "now")
end)

test("async.with closes the stream", function()
  local near, far = pair()
  test.raises("boom", async.with, near, function(stream)
    stream:write "x"
    error "boom"
  end)
  test.eq(near:is_closed(), true)
  test.eq(read_all(far), "x")
end)

test("a stream that nobody holds is closed", function()
  local before = support.open_files()
  local listener = net.listen {}
  async.spawn(net.connect, { host = "127.0.0.1", port = listener:address().port }):await()
  local accepted = listener:accept()
  collectgarbage()
  collectgarbage()
  test.eq(accepted:read(), nil)
  accepted:close()
  listener:close()
  support.open_files(before)
end)

test("what was written is delivered although nobody holds the stream any more", function()
  local listener = net.listen {}
  local writer = async.spawn(function()
    local stream = net.connect { host = "127.0.0.1", port = listener:address().port }
    stream:write(("x"):rep(10000000))
  end)
  local far = listener:accept()
  listener:close()
  test.turns()
  writer:cancel()
  async.wait { writer }
  writer = nil -- luacheck: ignore 311 (it would hold the stream)
  collectgarbage()
  collectgarbage()
  test.eq(#read_all(far), 10000000)
  far:close()
end)

test("wrong arguments blame the script's line", function()
  local near = pair()
  test.blames_caller("bad argument #1 to 'write'", function() near:write({}) end)
  test.blames_caller("bad argument #2 to 'write'", function() near:write("x", nil, "y") end)
  test.blames_caller("bad argument #1 to 'read'", function() near:read(0) end)
  test.blames_caller("bad argument #1 to 'read'", function() near:read "many" end)
  test.blames_caller("bad argument #1 to 'read_exactly'", function() near:read_exactly() end)
  test.blames_caller("bad argument #1 to 'read_exactly'", function() near:read_exactly(-1) end)
  test.blames_caller("bad argument #1 to 'read_exactly'", function() near:read_exactly(1.5) end)
  test.blames_caller("bad argument #1 to 'read_until'", function() near:read_until "" end)
  test.blames_caller("bad argument #2 to 'read_until'", function() near:read_until("x", 0) end)
  test.blames_caller("bad argument #1 to 'lines'", function() near:lines(0) end)
  test.blames_caller("bad argument #1 to 'set_keepalive'", function() near:set_keepalive(0) end)
end)

test("reports say what a task waits for", function()
  local waits_for = require("rille.core.report").waits_for
  local near = pair()
  local name = tostring(near:peer())
  local reader = async.spawn(near.read, near)
  local writer = async.spawn(near.write, near, ("x"):rep(20000000))
  test.turns()
  test.eq(waits_for(reader), "waits for a read of " .. name)
  test.eq(waits_for(writer), "waits for " .. name .. " to take what is written")
  near:abort()
  for _, task in ipairs { reader, writer } do
    async.wait { task }
    assert(errors.is(task:error(), "InvalidStateError"))
  end
end)
