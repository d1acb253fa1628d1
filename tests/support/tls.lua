--- What the tests of TLS share: a folder with certificates for as long as the file runs, servers
-- and clients that trust them.
local async = require "rille.async"
local net = require "rille.net"
local certificates = require "support.certificates"
local test = require "support.test"

local M = {}

local pipe = io.popen "mktemp -d"
M.dir = pipe:read "*l"
pipe:close()

-- The end of the script cancels it, as support.test's own.
M._end = async.Future()
M._cleanup = async.spawn(async.finally, function() M._end:await() end, function()
  os.execute("rm -rf -- '" .. M.dir .. "'")
end)

M.ca = certificates.authority(M.dir)
--- For localhost and 127.0.0.1.
M.server = M.ca:issue("localhost", { names = "DNS:localhost,IP:127.0.0.1,IP:::1" })

local function merged(...)
  local all = {}
  for _, t in ipairs { ... } do
    for key, value in pairs(t) do all[key] = value end
  end
  return all
end
M.merged = merged

--- The server's options, with others on top.
function M.server_options(options)
  return merged({ cert = M.server.cert, key = M.server.key }, options or {})
end

--- The client's: it trusts the authority.
function M.client_options(options) return merged({ ca = M.ca.path }, options or {}) end

--- Serves until the test is over.
---@return integer port, table listener
function M.serve(options, fn)
  local tls = type(options) == "table" and getmetatable(options) and options
    or M.server_options(options)
  local listener = net.listen { tls = tls }
  local server = async.spawn(listener.serve, listener, fn, { grace = 0 })
  test.defer(function()
    listener:close(0)
    server:await()
  end)
  return listener:address().port, listener
end

--- Sends back what comes.
function M.echo(stream)
  while true do
    local data = stream:read()
    if not data then return end
    stream:write(data)
  end
end

function M.connect(port, options, host)
  local tls = type(options) == "table" and getmetatable(options) and options
    or M.client_options(options)
  local stream = net.connect { host = host or "localhost", port = port, tls = tls }
  test.defer(function() stream:close() end)
  return stream
end

--- Both ends of a plain connection: the client's, the server's.
function M.pair()
  local listener = net.listen {}
  local accepted = async.spawn(listener.accept, listener)
  local client = net.connect { host = "127.0.0.1", port = listener:address().port }
  local server = accepted:await()
  listener:close()
  test.defer(function()
    client:close()
    server:close()
  end)
  return client, server
end

--- The same, in TLS.
function M.tls_pair(server_options, client_options)
  local client, server = M.pair()
  local upgraded = async.spawn(server.start_tls, server, M.server_options(server_options))
  client:start_tls(M.client_options(client_options))
  upgraded:await()
  return client, server
end

return M
