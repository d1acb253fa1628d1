-- A TLS server, and a client that does not talk to everybody: it checks who has signed the server's
-- certificate, and for whom, and says what is wrong with it.
local async = require "rille.async"
local certificates = require "lib.certificates"
local errors = require "rille.errors"
local net = require "rille.net"
local tempdir = require "lib.tempdir"

local function greet(stream)
  local name = stream:read_line()
  if name then stream:write("Hello, ", name, "!\n") end
end

local function talk(stream)
  local tls = stream:tls()
  print(("Connected by %s; the peer is %s, signed by %s"):format(tls.version, tls.peer.subject,
    tls.peer.issuer))
  stream:write "Ann\n"
  print(stream:read_line())
end

async.with(tempdir(), function(dir)
  local ca = certificates.authority(dir)
  local own = certificates.issue(dir, ca, "server", "DNS:localhost")

  async.group(function(group)
    local listener = net.listen { tls = { cert = own.cert, key = own.key } }
    group:spawn(listener.serve, listener, greet)
    local port = listener:address().port

    local function connect(host, tls)
      local ok, result = pcall(net.connect, { host = host, port = port, tls = tls, timeout = 10 })
      if ok then
        async.with(result, talk)
      elseif errors.is(result, "TLSError") then
        print(result.code .. "\n  " .. result.message)
      else
        error(result, 0)
      end
    end

    print "- With our own authority:"
    connect("localhost", { ca = ca.cert })
    print "- With the authorities that the system knows:"
    connect("localhost", true)
    print "- With the address, which is not in the certificate:"
    connect("127.0.0.1", { ca = ca.cert })
    print "- The same, if the name to look for is given:"
    connect("127.0.0.1", { ca = ca.cert, server_name = "localhost" })

    listener:close()
  end)
end)
