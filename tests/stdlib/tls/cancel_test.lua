-- Whoever is cancelled at any wait leaves no connection, no handle and no descriptor behind.
local async = require "rille.async"
local errors = require "rille.errors"
local net = require "rille.net"
local tls = require "rille.tls"
local cancel_everywhere = require "support.cancel_everywhere"
local support = require "support.tls"
local test = require "support.test"

local server_context = tls.context(support.server_options())
local client_context = tls.context(support.client_options())

-- Sockets alone: pipes come and go with the pool.
local function descriptors()
  local pipe = io.popen "ls -l /proc/$PPID/fd"
  local _, n = pipe:read("*a"):gsub("socket:", "")
  pipe:close()
  return n
end

-- Whose peer was cancelled fails; that is not what is looked for here.
local function tolerant(fn)
  return function()
    local ok, e = pcall(fn)
    if not ok and not errors.is(e, "TLSError") and not errors.is(e, "OSError") then error(e, 0) end
  end
end

local function check(name, scenario)
  test(name, function()
    scenario.patience = 50
    local before = descriptors()
    cancel_everywhere(scenario)
    for _ = 1, 20 do async.sleep(0.001) end
    collectgarbage()
    collectgarbage()
    async.sleep(0.001)
    test.eq(descriptors(), before)
  end)
end

check("connecting, talking and closing", {
  setup = function() return { listener = net.listen { tls = server_context } } end,
  body = function(state)
    local port = state.listener:address().port
    async.group(function(group)
      group:spawn(tolerant(function()
        state.server = state.listener:accept()
        state.server:tls()
        state.server:write(state.server:read())
        state.server:close()
      end))
      tolerant(function()
        state.client = net.connect { host = "127.0.0.1", port = port, tls = client_context }
        state.client:write(("x"):rep(100000))
        state.client:read()
        state.client:close()
      end)()
    end)
  end,
  check = function(state)
    state.listener:close()
    for _, stream in pairs { state.client, state.server } do stream:close() end
  end,
})

check("serving", {
  setup = function() return { listener = net.listen { tls = server_context } } end,
  body = function(state)
    local listener = state.listener
    local port = listener:address().port
    async.group(function(group)
      group:spawn(listener.serve, listener, function(stream) pcall(support.echo, stream) end,
        { grace = 0 })
      tolerant(function()
        local client = net.connect { host = "127.0.0.1", port = port, tls = client_context }
        state.client = client
        client:write "x"
        client:read()
        client:close()
      end)()
      listener:close(0)
    end)
  end,
  check = function(state)
    state.listener:close(0)
    if state.client then state.client:close() end
  end,
})

check("upgrading both ends of a plain connection", {
  setup = function() return { listener = net.listen {} } end,
  body = function(state)
    async.group(function(group)
      group:spawn(tolerant(function()
        state.server = state.listener:accept()
        state.server:start_tls(support.server_options())
        state.server:write "x"
        state.server:close()
      end))
      tolerant(function()
        state.client = net.connect { host = "127.0.0.1", port = state.listener:address().port }
        state.client:start_tls(support.client_options())
        state.client:read()
        state.client:close()
      end)()
    end)
  end,
  check = function(state)
    state.listener:close()
    for _, stream in pairs { state.client, state.server } do stream:close() end
  end,
})

check("reading certificates", {
  body = function() tls.context(support.server_options { ca = support.ca.path }) end,
  check = function() end,
})

test("a connect that is cancelled in its handshake closes its connection", function()
  local listener = net.listen {}
  local accepted = async.spawn(listener.accept, listener)
  local connecting = async.spawn(net.connect, { host = "127.0.0.1",
    port = listener:address().port, tls = client_context })
  local server = accepted:await()
  server:read() -- its hello has come, and is not answered
  connecting:cancel()
  async.wait { connecting }
  assert(connecting:cancelled())
  test.eq(server:read(), nil)
  server:close()
  listener:close()
end)
