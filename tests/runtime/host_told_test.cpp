// rille.hpp: when a host is told what, and in which words.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <optional>
#include <rille/rille.hpp>
#include <string>
#include <vector>

using rille::Completion;
using rille::Error;
using rille::Options;
using rille::Report;
using rille::Runtime;
using rille::Task;
using rille::Value;

namespace {

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.message();
  }
  return "nothing was thrown";
}

// A function of a script's that waits for ever, and counts how often it was cancelled.
struct Forever {
  explicit Forever(Runtime& runtime) {
    runtime.define_async("forever", [this](Completion c) {
      c.on_cancel([this] { ++cancelled; });
      kept = c;
    });
  }
  int cancelled = 0;
  Completion kept;
};

}  // namespace

TEST_CASE("the host has learned of a cancellation when the script's end comes back to it") {
  Runtime runtime;
  Forever forever(runtime);
  CHECK_THROWS_AS(runtime.run_string("require('rille.async').timeout(0.001, forever)"), Error);
  CHECK(forever.cancelled == 1);
  runtime.execute_string("require('rille.async').spawn(forever)");  // which ends with the script
  CHECK(forever.cancelled == 1);                                    // it has not begun
  runtime.execute_string(R"(
    local async = require "rille.async"
    async.spawn(forever)
    async.sleep(0)
  )");
  CHECK(forever.cancelled == 2);
}

TEST_CASE("the host has learned of a task's end, and of its cancellation, when it has the result") {
  Runtime runtime;
  Forever forever(runtime);
  int done = 0;
  Task task = runtime.spawn_string("forever()");
  task.on_done([&](Task& t) {
    CHECK(t.done());
    ++done;
  });
  runtime.poll();
  task.cancel();
  CHECK_THROWS_AS(task.result(), Error);
  CHECK(forever.cancelled == 1);
  CHECK(done == 1);

  Task last = runtime.spawn_string("return 1");
  last.on_done([&](Task&) { ++done; });
  runtime.run();
  CHECK(done == 2);
}

TEST_CASE("the error of a task that the host does not keep is reported at once") {
  std::vector<std::string> reports;
  Options options;
  options.on_report = [&](const Report& r) { reports.push_back(r.error); };
  Runtime runtime(std::move(options));
  runtime.spawn_string("error('dropped before', 0)");
  runtime.run();
  CHECK(reports == std::vector<std::string>{"dropped before"});

  Task kept = runtime.spawn_string("error('dropped after', 0)");
  runtime.run();
  CHECK(reports.size() == 1);
  kept = Task();
  runtime.poll();
  CHECK(reports == std::vector<std::string>{"dropped before", "dropped after"});

  Task asked = runtime.spawn_string("error('asked for', 0)");
  CHECK_THROWS_AS(asked.result(), Error);
  asked = Task();
  runtime.spawn_string("error('taken', 0)").on_done([](Task& t) {
    CHECK_THROWS_AS(t.result(), Error);
  });
  runtime.run();
  runtime.close();
  CHECK(reports.size() == 2);
}

TEST_CASE("a table that does not fit is blamed on what is in it") {
  Runtime runtime;
  runtime.define("list", [](const std::vector<int>& list) { return list.size(); });
  runtime.define("map",
                 [](const std::map<std::string, std::vector<bool>>& map) { return map.size(); });
  auto message = [&](const std::string& code) {
    return message_of([&] { runtime.execute_string(code, "=s"); });
  };
  CHECK(message("list(1)") == "s:1: bad argument #1 to 'list' (table expected, got number)");
  CHECK(message("list()") == "s:1: bad argument #1 to 'list' (table expected, got no value)");
  CHECK(message("list {1, 'x'}") ==
        "s:1: bad argument #1 to 'list' (item 2: number expected, got string)");
  CHECK(message("list {1, 2, 2.5}") ==
        "s:1: bad argument #1 to 'list' (item 3: number has no integer representation)");
  CHECK(message("list {x = 1}") ==
        "s:1: bad argument #1 to 'list' (list expected, got a table with other keys)");
  CHECK(message("map {a = {true}, b = {true, 1}}") ==
        "s:1: bad argument #1 to 'map' (field 'b': item 2: boolean expected, got number)");
  CHECK(message("map {1}") ==
        "s:1: bad argument #1 to 'map' (table with strings as its keys expected, got one with "
        "others)");

  CHECK(message_of([] { Value(-1).as<unsigned>(); }) == "number out of range");
  CHECK(message_of([] { Value(2.5).as<int>(); }) == "number has no integer representation");
  CHECK(message_of([] { Value("x").as<int>(); }) == "number expected, got string");
  CHECK(message_of([] { Value("x").as<std::optional<bool>>(); }) == "boolean expected, got string");
  CHECK(message_of([] { Value(1).as<std::vector<int>>(); }) == "table expected, got number");
}

TEST_CASE("a function for scripts need not be one that can be copied") {
  struct Counter {
    std::unique_ptr<int> count = std::make_unique<int>(0);
    int operator()(int by) { return *count += by; }
    int next() { return ++*count; }
  };
  Runtime runtime;
  runtime.define("add", Counter{});
  runtime.define_async("later",
                       [own = std::make_unique<int>(4)](Completion c) { c.resolve(*own); });
  runtime.define_class<Counter>("Counter")
      .factory([own = std::make_unique<int>(7)] {
        auto counter = std::make_shared<Counter>();
        *counter->count = *own;
        return counter;
      })
      .method("next", &Counter::next)
      .method("plus", [own = std::make_unique<int>(10)](Counter& c) { return *c.count + *own; });
  std::vector<Value> all =
      runtime.run_string("add(1) local c = Counter() return add(2), later(), c:next(), c:plus()");
  CHECK(all == std::vector<Value>{3, 4, 8, 18});
}

TEST_CASE("a name is one of a global, or of a field") {
  Runtime runtime;
  for (const char* name : {"", ".", ".a", "a.", "a..b"}) {
    CAPTURE(name);
    CHECK_THROWS_AS(runtime.set(name, 1), Error);
    CHECK_THROWS_AS(runtime.get(name), Error);
    CHECK_THROWS_AS(runtime.define(name, [] {}), Error);
    CHECK_THROWS_AS(runtime.define_async(name, [](Completion) {}), Error);
  }
  CHECK(message_of([&] { runtime.set("a..b", 1); }) ==
        "bad argument #1 to 'set' ('a..b' is no name, and no names with dots between them)");
}

#ifndef NDEBUG
namespace {

// What a process prints on stderr that f() ends by abort().
template <class F>
std::string last_words(F&& f) {
  std::array<int, 2> channel{};
  REQUIRE(pipe(channel.data()) == 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(channel[1], STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    alarm(30);
    f();
    _exit(0);
  }
  close(channel[1]);
  std::string text;
  std::array<char, 256> part{};
  for (ssize_t n; (n = read(channel[0], part.data(), part.size())) > 0;) {
    text.append(part.data(), static_cast<std::size_t>(n));
  }
  close(channel[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
  return text;
}

}  // namespace

TEST_CASE("a runtime that is closed in a callback of its loop stops a build for debugging") {
  std::string text = last_words([] {
    uv_loop_t loop;
    uv_loop_init(&loop);
    Runtime runtime(Options{.loop = &loop});
    uv_async_t async;
    uv_async_init(&loop, &async, [](uv_async_t* h) { static_cast<Runtime*>(h->data)->close(); });
    async.data = &runtime;
    uv_async_send(&async);
    uv_run(&loop, UV_RUN_ONCE);
  });
  CHECK(text == "rille: fatal: close: this is a callback of the host's loop\n");
}
#endif
