-- Every wait of rille.net, cancelled at every point: no byte, connection or descriptor is lost.
local async, test = require "rille.async", require "support.test"
local cancel_everywhere = require "support.cancel_everywhere"
local errors = require "rille.errors"
local net, connect = require "rille.net", require "rille.net.connect"
local support = require "stdlib.net.support"

local function pair(path)
  local listener = net.listen { path = path }
  local address = listener:address()
  local near = net.connect { host = address.host, port = address.port, path = path }
  local far = listener:accept()
  listener:close()
  return { near = near, far = far }
end

local function close(state)
  for _, name in ipairs { "near", "far", "listener", "a", "b" } do
    if state[name] then state[name]:close() end
  end
end

-- Fails unless the scenario loses nothing, descriptors included.
local function everywhere(scenario)
  local before = support.open_files()
  local points = cancel_everywhere(scenario)
  collectgarbage()
  collectgarbage()
  support.open_files(before)
  return points
end

test("a cancelled read of any kind loses no byte", function()
  everywhere {
    setup = function()
      local state = pair()
      state.got = {}
      return state
    end,
    body = function(state)
      local function take(method, argument)
        table.insert(state.got, (state.far[method](state.far, argument)))
      end
      local readers = {
        async.spawn(take, "read", 2), async.spawn(take, "read_exactly", 3),
        async.spawn(take, "read_until", "."), async.spawn(take, "read_exactly", 2),
      }
      async.sleep(0)
      state.near:write "ab"
      async.sleep(0)
      state.near:write "cde"
      async.sleep(0)
      state.near:write "fg.hi"
      async.wait(readers)
    end,
    check = function(state)
      -- Whoever was cancelled had not written, perhaps.
      state.near:shutdown()
      local sent = "abcdefg.hi"
      local got = table.concat(state.got) .. support.read_all(state.far)
      test.eq(got, sent:sub(1, #got))
      close(state)
    end,
  }
end)

test("a cancelled write goes out whole or not at all", function()
  -- Two of them are more than the buffers of a Unix socket take.
  local size = 150000
  local name = "@rille-cancel-" .. support.dead_port()
  everywhere {
    setup = function() return pair(name) end,
    body = function(state)
      local writers = {}
      for i = 1, 3 do
        writers[i] = async.spawn(state.near.write, state.near, string.char(96 + i):rep(size))
      end
      async.sleep(0)
      local reader = async.spawn(function()
        state.got = state.far:read_exactly(3 * size)
      end)
      async.wait(writers)
      async.wait { reader }
    end,
    check = function(state)
      state.near:shutdown()
      local got = (state.got or "") .. support.read_all(state.far)
      for i = 1, #got, size do
        test.eq(got:sub(i, i + size - 1) == got:sub(i, i):rep(size), true)
      end
      test.eq(#got % size, 0)
      close(state)
    end,
  }
end)

test("a cancelled accept loses no connection, a cancelled connect leaves none", function()
  everywhere {
    setup = function() return { listener = net.listen {}, accepted = {}, connected = {} } end,
    body = function(state)
      local address = { host = "127.0.0.1", port = state.listener:address().port, timeout = 100 }
      local tasks = {}
      for i = 1, 2 do
        tasks[i] = async.spawn(function()
          table.insert(state.accepted, state.listener:accept())
        end)
      end
      for i = 3, 4 do
        tasks[i] = async.spawn(function()
          table.insert(state.connected, net.connect(address))
        end)
      end
      async.wait(tasks)
    end,
    check = function(state)
      -- Each client that is connected is at the other end of one that can be accepted.
      for _, stream in ipairs(state.connected) do
        stream:write "x"
        stream:close()
      end
      local served = 0
      while served < #state.connected do
        local stream = table.remove(state.accepted) or state.listener:accept()
        if stream:read() == "x" then served = served + 1 end
        stream:close()
      end
      for _, stream in ipairs(state.accepted) do stream:close() end
      close(state)
    end,
  }
end)

test("a race of addresses that is cancelled leaves nothing behind", function()
  everywhere {
    setup = function() return { listener = net.listen {} } end,
    body = function(state)
      state.near = connect.any({ "::1", "127.0.0.2", "127.0.0.1" }, state.listener:address().port)
    end,
    check = close,
  }
end)

test("a server of which any task is cancelled loses no connection", function()
  everywhere {
    setup = function() return { listener = net.listen {}, answers = {} } end,
    body = function(state)
      local port = state.listener:address().port
      local server = async.spawn(state.listener.serve, state.listener, function(stream)
        stream:write("re: ", stream:read() or "nothing")
      end, { limit = 1, grace = 100 })
      local clients = {}
      for i = 1, 2 do
        clients[i] = async.spawn(function()
          -- A server that is cancelled resets what it has not accepted.
          local ok, e = pcall(function()
            async.with(net.connect { host = "127.0.0.1", port = port }, function(stream)
              stream:write(tostring(i))
              state.answers[i] = support.read_all(stream)
            end)
          end)
          if not ok and not errors.is(e, "OSError") then error(e, 0) end
        end)
      end
      async.wait(clients)
      state.listener:close()
      server:await()
    end,
    check = function(state)
      for i, answer in pairs(state.answers) do
        if answer ~= "" then test.eq(answer, "re: " .. i) end
      end
      close(state)
    end,
  }
  test.reports() -- a handler whose client was cancelled may have found a reset
end)

test("a cancelled receive loses no datagram", function()
  everywhere {
    setup = function()
      local state = { a = net.udp { host = "127.0.0.1" }, b = net.udp { host = "127.0.0.1" },
        sent = 0, got = {} }
      return state
    end,
    body = function(state)
      local tasks = {}
      for i = 1, 2 do
        tasks[i] = async.spawn(function() table.insert(state.got, (state.a:recv())) end)
      end
      async.sleep(0)
      for i = 1, 2 do
        state.b:send(tostring(i), "127.0.0.1", state.a:address().port)
        state.sent = i
        async.sleep(0)
      end
      async.wait(tasks)
    end,
    check = function(state)
      while #state.got < state.sent do table.insert(state.got, (state.a:recv())) end
      table.sort(state.got)
      test.eq(table.concat(state.got), ("12"):sub(1, state.sent))
      close(state)
    end,
  }
end)

test("a lookup that is cancelled leaves nothing behind", function()
  everywhere {
    patience = 200, -- the system's own lookup takes its time
    setup = function() return { listener = net.listen {} } end,
    body = function(state)
      local options = { host = "localhost", port = state.listener:address().port, timeout = 100 }
      state.near = net.connect(options)
    end,
    check = close,
  }
end)
