-- A connection that begins in plain text and goes on encrypted, as mail servers do it (STARTTLS):
-- both sides agree on it first. Then the server knows its client by its certificate as well.
local async = require "rille.async"
local certificates = require "lib.certificates"
local net = require "rille.net"
local tempdir = require "lib.tempdir"

local function expect(stream, command)
  local line = stream:read_line(1000)
  assert(line == command, ("%s expected, got %s"):format(command, tostring(line)))
end

async.with(tempdir(), function(dir)
  local ca = certificates.authority(dir)
  local mail = certificates.issue(dir, ca, "mail", "DNS:localhost")
  local ann = certificates.issue(dir, ca, "ann", "email:ann@example.org")

  local function handle(stream)
    stream:write "220 ready\n"
    expect(stream, "STARTTLS")
    stream:write "220 go ahead\n"
    stream:start_tls { cert = mail.cert, key = mail.key, ca = ca.cert, verify = true }
    expect(stream, "WHOAMI")
    stream:write("250 you are ", stream:tls().peer.subject, "\n")
  end

  async.group(function(group)
    local listener = net.listen {}
    group:spawn(listener.serve, listener, handle)

    local stream = net.connect { host = "localhost", port = listener:address().port }
    async.with(stream, function()
      print("S: " .. stream:read_line())
      print "C: STARTTLS"
      stream:write "STARTTLS\n"
      print("S: " .. stream:read_line())
      stream:start_tls { ca = ca.cert, cert = ann.cert, key = ann.key }
      print(("   (%s with %s)"):format(stream:tls().version, stream:tls().peer.subject))
      print "C: WHOAMI"
      stream:write "WHOAMI\n"
      print("S: " .. stream:read_line())
    end)
    listener:close()
  end)
end)
