-- Without OpenSSL: whoever wants TLS is told what is missing, and all else works.
local test = require "support.test"

test("a build without OpenSSL says so wherever TLS is asked for", function()
  local done = test.rille { "-e", [[
    package.preload["rille.core.tls"] = function() error("module 'rille.core.tls' not found", 0) end
    local async, net = require "rille.async", require "rille.net"
    local listener = net.listen {}
    local accepted = async.spawn(listener.accept, listener)
    local client = net.connect { host = "127.0.0.1", port = listener:address().port }
    local server = accepted:await()
    assert(client:tls() == nil)
    for _, call in ipairs {
      function() require "rille.tls" end,
      function() net.connect { host = "127.0.0.1", port = 1, tls = true } end,
      function() net.listen { tls = { cert = "x" } } end,
      function() client:start_tls() end,
    } do
      local ok, e = pcall(call)
      print(ok, e)
    end
    client:close()
    server:close()
    listener:close()
  ]] }
  local lines = 0
  for line in done.stdout:gmatch "[^\n]+" do
    lines = lines + 1
    test.contains(line, "false\t")
    test.contains(line, "made without OpenSSL 3 (on Debian the package libssl-dev)")
  end
  test.eq({ lines, done.code }, { 4, 0 }, done.stderr)
end)
