// What rille.signal does to a process, in which there may be several runtimes.
#include <signal.h>
#include <unistd.h>

#include "support/runtime_fixture.hpp"

namespace {

void of_the_host(int) {}

void (*handler_of(int number))(int) {
  struct sigaction now;
  sigaction(number, nullptr, &now);
  return now.sa_handler;
}

}  // namespace

TEST_CASE_METHOD(RuntimeFixture, "a signal's handle keeps the loop alive and is closed",
                 "[signal]") {
  run(R"lua(
    handle = require("rille.signal").on("SIGUSR1", print)
  )lua");
  CHECK(open_handles() == 1);
  run("handle:close()");
  CHECK(open_handles() == 0);
}

TEST_CASE_METHOD(RuntimeFixture, "after the last handle the host's own handler is back",
                 "[signal]") {
  signal(SIGUSR1, of_the_host);
  run(R"lua(
    local signal = require "rille.signal"
    a, b = signal.on("SIGUSR1", print), signal.on("SIGUSR1", print)
    a:close()
  )lua");
  CHECK(handler_of(SIGUSR1) != of_the_host);
  run("b:close()");
  CHECK(handler_of(SIGUSR1) == of_the_host);
  signal(SIGUSR1, SIG_DFL);
}

TEST_CASE_METHOD(RuntimeFixture, "a runtime that ends gives its signals back", "[signal]") {
  signal(SIGUSR1, of_the_host);
  run(R"lua(
    require("rille.signal").on("SIGUSR1", print)
  )lua");
  runtime.close();
  CHECK(handler_of(SIGUSR1) == of_the_host);
  signal(SIGUSR1, SIG_DFL);
}

TEST_CASE_METHOD(RuntimeFixture, "two runtimes in a process both get a signal", "[signal]") {
  signal(SIGUSR1, of_the_host);
  rille::Runtime other;
  const char* watch = R"lua(
    local signal = require "rille.signal"
    handle = signal.on("SIGUSR1", function() got = true end)
  )lua";
  const char* look = R"lua(
    local async = require "rille.async"
    for _ = 1, 100 do
      if got then break end
      async.sleep(0.01)
    end
    assert(got)
    handle:close()
  )lua";
  run(watch);
  CHECK(run_script(other, watch, "=other").kind == Outcome::kDone);
  raise(SIGUSR1);
  run(look);
  CHECK(handler_of(SIGUSR1) != of_the_host);
  CHECK(run_script(other, look, "=other").kind == Outcome::kDone);
  CHECK(handler_of(SIGUSR1) == of_the_host);
  signal(SIGUSR1, SIG_DFL);
}
