#include <csignal>

#include "support/runtime_fixture.hpp"

TEST_CASE_METHOD(RuntimeFixture, "sockets that nobody closes go with the runtime", "[net]") {
  run(R"lua(
    local async, net = require "rille.async", require "rille.net"
    listener = net.listen {}
    local port = listener:address().port
    near = net.connect { host = "127.0.0.1", port = port }
    far = listener:accept()
    near:write "unread"
    named = net.listen { path = "@rille-net-test-" .. port }
    pipe = net.connect { path = named:address().path }
    a = net.udp { host = "127.0.0.1" }
    b = net.udp { connect = { host = "127.0.0.1", port = a:address().port } }
    b:send "unread"
    async.sleep(0)
  )lua");
}

TEST_CASE_METHOD(RuntimeFixture, "waits on sockets end with the runtime", "[net]") {
  run(R"lua(
    local async, net = require "rille.async", require "rille.net"
    local function stay(fn, ...)
      -- Nothing ends it but the end of the runtime.
      local arguments = { ... }
      tasks = tasks or {}
      tasks[#tasks + 1] = async.spawn(function() fn(unpack(arguments)) end)
    end
    listener = net.listen {}
    server = net.listen {}
    local port = listener:address().port
    local near = net.connect { host = "127.0.0.1", port = port }
    local far = listener:accept()
    local silent = net.connect { host = "127.0.0.1", port = port }
    local socket = net.udp { host = "127.0.0.1" }
    stay(listener.accept, listener)
    stay(listener.accept, listener)
    stay(server.serve, server, function(stream) stream:read() end)
    stay(near.read, near)
    stay(near.read_exactly, near, 10)
    stay(near.write, near, ("x"):rep(10000000))
    stay(near.write, near, ("y"):rep(10000000))
    stay(silent.lines(silent))
    stay(socket.recv, socket)
    stay(socket.recv, socket)
    stay(net.connect, { host = "127.0.0.1", port = server:address().port })
    stay(net.connect, { host = "127.0.0.1", port = port, timeout = 100 })
    stay(net.connect, { host = "localhost", port = port })
    for _ = 1, 3 do async.sleep(0) end
  )lua");
}

TEST_CASE_METHOD(RuntimeFixture, "a stream that lingers goes with the runtime", "[net]") {
  run(R"lua(
    local async, net = require "rille.async", require "rille.net"
    local listener = net.listen {}
    local near = net.connect { host = "127.0.0.1", port = listener:address().port }
    far = listener:accept()
    local writer = async.spawn(near.write, near, ("x"):rep(20000000))
    async.sleep(0)
    writer:cancel()
    near:close()
  )lua");
}

TEST_CASE_METHOD(RuntimeFixture, "what was handed to a task that never came for it is closed",
                 "[net]") {
  run(R"lua(
    local async, net = require "rille.async", require "rille.net"
    listener = net.listen {}
    socket = net.udp { host = "127.0.0.1" }
    local port = listener:address().port
    for _ = 1, 5 do
      async.spawn(listener.accept, listener)
      async.spawn(socket.recv, socket)
    end
    async.sleep(0)
    for _ = 1, 5 do
      net.connect { host = "127.0.0.1", port = port }
      net.udp {}:send("x", "127.0.0.1", socket:address().port)
    end
  )lua");
}

TEST_CASE("a peer that has gone is EPIPE, in a host that does nothing about SIGPIPE", "[net]") {
  auto before = std::signal(SIGPIPE, SIG_DFL);
  {
    rille::Runtime runtime;
    auto outcome = run_script(runtime, R"lua(
      local net = require "rille.net"
      local listener = net.listen {}
      local near = net.connect { host = "127.0.0.1", port = listener:address().port }
      listener:accept():abort()
      local ok, e
      repeat ok, e = pcall(near.write, near, ("x"):rep(100000)) until not ok
      ok, e = pcall(near.write, near, "x")
      assert(e.code == "EPIPE", tostring(e))
      listener:close()
    )lua",
                              "=test");
    INFO(outcome.message);
    CHECK(outcome.kind == Outcome::kDone);
  }
  std::signal(SIGPIPE, before);
}
