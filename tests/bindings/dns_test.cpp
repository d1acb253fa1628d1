// Who owns what in rille.dns, and when it goes: questions, sockets, timers.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <iterator>
#include <memory>
#include <string>

#include "support/runtime_fixture.hpp"

namespace {

std::ptrdiff_t descriptors() {
  std::filesystem::directory_iterator files("/proc/self/fd");
  return std::distance(begin(files), end(files));
}

// A name server that never answers.
class SilentServer {
 public:
  SilentServer() : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    REQUIRE(bind(fd_, any, size) == 0);
    REQUIRE(getsockname(fd_, any, &size) == 0);
    address_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
  }
  ~SilentServer() { close(fd_); }

  // The beginning of scripts: `dns`, `async` and a resolver `r`, if there can be one.
  std::string prelude() const {
    return "local async, dns = require 'rille.async', require 'rille.dns'\n"
           "if not pcall(require, 'rille.core.dns') then return end  -- built without c-ares\n"
           "local r = dns.Resolver { servers = { '" +
           address_ + "' } }\n";
  }

 private:
  int fd_;
  std::string address_;
};

class DnsFixture : public RuntimeFixture {
 public:
  SilentServer server;
  void run(const std::string& code) { RuntimeFixture::run(server.prelude() + code); }
};

}  // namespace

TEST_CASE_METHOD(DnsFixture, "questions that nobody waits for any more leave nothing open",
                 "[dns][cancel]") {
  auto before = descriptors();
  run(R"lua(
    local tasks = {}
    for i = 1, 200 do tasks[i] = async.spawn(r.resolve, r, "x" .. i .. ".test") end
    async.sleep(0.01)
    for i = 1, 200 do tasks[i]:cancel() end
    async.wait(tasks)
    async.sleep(0.001)
    assert(async.stats().abandoned == 0 and async.stats().handles == 0)
  )lua");
  CHECK(descriptors() == before);
}

TEST_CASE_METHOD(DnsFixture, "a resolver that is collected takes its questions with it",
                 "[dns][cancel]") {
  auto before = descriptors();
  run(R"lua(
    local errors = require "rille.errors"
    local channel = r._channel
    local task = async.spawn(channel.query, channel, "x.test", 1)
    async.sleep(0.01)
    r:close()
    local _, code = task:await()
    assert(code == "EDESTRUCTION", code)
    for _ = 1, 10 do dns.Resolver { servers = { "127.0.0.1" } } end
    r, channel, task = nil, nil, nil
    collectgarbage()
    collectgarbage()
    async.sleep(0.001)
    assert(async.stats().handles == 0)
  )lua");
  CHECK(descriptors() == before);
}

TEST_CASE("a runtime ends while questions are open and names are looked up", "[dns]") {
  rille::Runtime().close();  // what libuv keeps for the process is there
  SilentServer server;
  auto before = descriptors();
  {
    rille::Runtime runtime;
    Outcome outcome = run_script(runtime, server.prelude() + R"lua(
      kept = r
      for i = 1, 300 do async.spawn(r.resolve, r, "x" .. i .. ".test") end
      for _ = 1, 50 do async.spawn(dns.lookup, "localhost") end
      async.sleep(0.01)
      async.spawn(async.finally, r.resolve, function()
        pcall(r.resolve, r, "in.clean-up.test")
      end)
    )lua",
                                 "=test");
    CHECK(outcome.kind == Outcome::kDone);
  }
  CHECK(descriptors() == before);
}

TEST_CASE("runtimes have resolvers of their own", "[dns]") {
  SilentServer server;
  auto one = std::make_unique<rille::Runtime>();
  rille::Runtime other;
  std::string code = server.prelude() + R"lua(
    kept = r
    local ok, e = pcall(async.wait_for, r.resolve, 0.01, r, "x.test")
    assert(not ok and require("rille.errors").is(e, "TimeoutError"), tostring(e))
  )lua";
  CHECK(run_script(*one, code, "=one").kind == Outcome::kDone);
  CHECK(run_script(other, code, "=other").kind == Outcome::kDone);
  one.reset();
  CHECK(run_script(other, code, "=again").kind == Outcome::kDone);
}
