// rille.hpp from a host's side.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <rille/rille.hpp>
#include <string>
#include <thread>
#include <vector>

#include "support/runtime_fixture.hpp"

using rille::Completion;
using rille::Error;
using rille::Options;
using rille::Runtime;
using rille::Task;
using rille::Value;

namespace {

double number(Runtime& runtime, const std::string& code) {
  return runtime.run_string(code).at(0).as<double>();
}

void poll_until(Runtime& runtime, const std::function<bool()>& done) {
  while (!done()) {
    if (!runtime.poll(0.01)) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

}  // namespace

// ---- scripts -----------------------------------------------------------------------------------

TEST_CASE("a script's results come back as values") {
  Runtime runtime;
  auto results = runtime.run_string("return nil, true, 1.5, 'a\\0b', {1, 2, x = {y = 'z'}}, print");
  REQUIRE(results.size() == 6);
  CHECK(results[0].is<std::nullptr_t>());
  CHECK(results[1].as<bool>());
  CHECK(results[2].as<double>() == 1.5);
  CHECK(!results[2].is<int>());
  CHECK(results[3].as<std::string>() == std::string("a\0b", 3));
  CHECK(results[4].size() == 2);
  CHECK(results[4][2].as<int>() == 2);
  CHECK(results[4]["x"]["y"].as<std::string>() == "z");
  CHECK(results[5].is_function());
}

TEST_CASE("a script may wait, and gives its results when it is through") {
  Runtime runtime;
  CHECK(number(runtime, "require('rille.async').sleep(0.001) return 7") == 7);
}

TEST_CASE("a script's error has its kind, its message and where it was raised") {
  Runtime runtime;
  Error e = error_of([&] {
    runtime.run_string(
        "local errors = require 'rille.errors'\n"
        "local function inner() error(errors.new('GameError', 'lost'), 0) end\n"
        "inner()",
        "=game");
  });
  CHECK(e.kind() == "GameError");
  CHECK(e.message() == "lost");
  CHECK(std::string(e.what()) == "GameError: lost");
  CHECK(e.traceback().find("game:2:") != std::string::npos);
  Error text = error_of([&] { runtime.run_string("error 'plain'", "=plain"); });
  CHECK(text.kind() == "Error");
  CHECK(text.message() == "plain:1: plain");
  CHECK(error_of([&] { runtime.run_string("x =", "=broken"); }).message().find("broken:1:") == 0);
  CHECK(error_of([&] { runtime.run_file("/nonexistent.lua"); }).kind() == "Error");
}

TEST_CASE("a file gets its arguments, and finds its neighbours") {
  Runtime runtime;
  auto dir = std::filesystem::temp_directory_path() / ("rille_host_" + std::to_string(getpid()));
  std::filesystem::create_directory(dir);
  std::ofstream(dir / "neighbour.lua") << "return 'next door'";
  std::ofstream(dir / "main.lua") << "return require 'neighbour', ..., #rille.args";
  auto results = runtime.run_file(dir / "main.lua", {"a", "b"});
  std::filesystem::remove_all(dir);
  REQUIRE(results.size() == 3);
  CHECK(results[0].as<std::string>() == "next door");
  CHECK(results[1].as<std::string>() == "a");
  CHECK(results[2].as<int>() == 2);
}

TEST_CASE("what a script starts ends with it, what the host has spawned goes on") {
  Runtime runtime;
  Task task = runtime.spawn_string("require('rille.async').sleep(0.02) mine = 'through'");
  runtime.run_string(R"lua(
    local async = require "rille.async"
    async.spawn(async.finally, function() async.sleep(1000) end, function() ended = true end)
    async.sleep(0)
  )lua");
  CHECK(runtime.get("ended").as<bool>());
  CHECK(!task.done());
  runtime.run();
  CHECK(task.done());
  CHECK(runtime.get("mine").as<std::string>() == "through");
}

TEST_CASE("what cannot be a value is an error that names it") {
  Runtime runtime;
  CHECK(error_of([&] { runtime.run_string("return coroutine.create(print)"); })
            .message()
            .find("thread") != std::string::npos);
  CHECK(error_of([&] { runtime.run_string("return io.stdout"); }).kind() == "TypeError");
  Error loop = error_of([&] { runtime.run_string("local t = {} t.t = t return t"); });
  CHECK(loop.message().find("contains itself") != std::string::npos);
  CHECK(error_of([&] { runtime.run_string("return { [{}] = 1 }"); }).kind() == "TypeError");
  CHECK(error_of([&] { Value(1).as<std::string>(); }).message() == "string expected, got number");
  CHECK(number(runtime, "return 1") == 1);  // and it goes on
  runtime.execute_string("return io.stdout");
}

// ---- functions ---------------------------------------------------------------------------------

TEST_CASE("functions of the host's take and give what their types say") {
  Runtime runtime;
  runtime.define("add", [](double a, double b) { return a + b; });
  runtime.define("game.level.name", [](std::string_view s, std::optional<int> n) {
    return std::string(s) + (n ? std::to_string(*n) : "-");
  });
  runtime.define("both", [](int a) { return std::tuple(a, std::to_string(a)); });
  runtime.define("nothing", [] {});
  runtime.define("count", [](const rille::Values& rest) { return rest.size(); });
  runtime.define("sum", [](const std::vector<int>& list) {
    int sum = 0;
    for (int n : list) sum += n;
    return sum;
  });
  runtime.define("same", [](Value v) { return v; });
  CHECK(number(runtime, "return add(1, '2')") == 3);
  CHECK(runtime.run_string("return game.level.name('x'), game.level.name(1, 2)").at(1) == "12");
  CHECK(runtime.run_string("return both(3)").size() == 2);
  CHECK(runtime.run_string("return nothing()").empty());
  CHECK(number(runtime, "return count(nil, nil, 1)") == 3);
  CHECK(number(runtime, "return sum { 1, 2, 3 }") == 6);
  CHECK(number(runtime, "return same { a = { 5 } }.a[1]") == 5);
}

TEST_CASE("a wrong argument is Lua's own error") {
  Runtime runtime;
  runtime.define("add", [](double a, double b) { return a + b; });
  runtime.define("game.move", [](int, bool) {});
  runtime.define("byte", [](std::uint8_t n) { return n; });
  auto message = [&](const std::string& code) {
    return error_of([&] { runtime.run_string(code, "=s"); }).message();
  };
  CHECK(message("add('x', 1)") == "s:1: bad argument #1 to 'add' (number expected, got string)");
  CHECK(message("add(1)") == "s:1: bad argument #2 to 'add' (number expected, got no value)");
  CHECK(message("game.move(1, 0)") ==
        "s:1: bad argument #2 to 'move' (boolean expected, got number)");
  CHECK(message("game.move(1.5, true)").find("no integer representation") != std::string::npos);
  CHECK(message("byte(256)").find("out of range") != std::string::npos);
  CHECK(message("add({}, 1)").find("number expected, got table") != std::string::npos);
}

TEST_CASE("an exception of the host's is an error of the script's, and comes back as it was") {
  Runtime runtime;
  runtime.define("plain", [] { throw std::runtime_error("it broke"); });
  runtime.define("own", []() -> int { throw Error("GameError", "lost"); });
  runtime.define("odd", [] { throw 42; });
  auto results = runtime.run_string(R"lua(
    local errors = require "rille.errors"
    local _, a = pcall(plain)
    local _, b = pcall(own)
    return a.kind, a.message, errors.is(b, "GameError"), (pcall(odd))
  )lua");
  CHECK(results.at(0) == "Error");
  CHECK(results.at(1) == "it broke");
  CHECK(results.at(2).as<bool>());
  CHECK(!results.at(3).as<bool>());
  CHECK(error_of([&] { runtime.run_string("own()"); }).kind() == "GameError");
}

TEST_CASE("globals are read and set by dotted names") {
  Runtime runtime;
  runtime.set("game.score", 3);
  runtime.set("game.names", std::vector<std::string>{"a", "b"});
  CHECK(number(runtime, "game.score = game.score + 1 return game.score") == 4);
  CHECK(runtime.get("game.names")[2] == "b");
  CHECK(runtime.get("game.nothing.there").is_nil());
  CHECK(error_of([&] { runtime.set("game.score.x", 1); }).kind() == "TypeError");
}

// ---- waiting functions -------------------------------------------------------------------------

TEST_CASE("a waiting function ends at once, later, or from another thread") {
  Runtime runtime;
  std::vector<std::thread> threads;
  std::optional<Completion> kept;
  runtime.define_async("now", [](Completion c, int n) { c.resolve(n, "now"); });
  runtime.define_async("thread", [&](Completion c, double n) {
    threads.emplace_back([c, n] { c.resolve(n + 1); });
  });
  runtime.define_async("later", [&](Completion c) {
    kept = c;
    runtime.post([&] { kept->resolve("later"); });
  });
  auto results = runtime.run_string("local a, b = now(1) return a, b, thread(1), later()");
  for (auto& t : threads) t.join();
  REQUIRE(results.size() == 4);
  CHECK(results[1] == "now");
  CHECK(results[2] == 2);
  CHECK(results[3] == "later");
}

TEST_CASE("a waiting function fails by kind, by exception, and when it is dropped") {
  Runtime runtime;
  runtime.define_async("fails", [](Completion c) { c.fail("NetError", "gone"); });
  runtime.define_async("throws", [](Completion) { throw std::runtime_error("broken"); });
  runtime.define_async("drops", [](Completion) {});
  runtime.define_async("wants", [](Completion c, double) { c.resolve(); });
  CHECK(error_of([&] { runtime.run_string("fails()"); }).kind() == "NetError");
  CHECK(error_of([&] { runtime.run_string("throws()"); }).message() == "broken");
  CHECK(error_of([&] { runtime.run_string("drops()"); }).message().find("'drops' will never end") ==
        0);
  CHECK(error_of([&] { runtime.run_string("wants 'x'", "=s"); }).message() ==
        "s:1: bad argument #1 to 'wants' (number expected, got string)");
}

TEST_CASE("the host learns of a cancellation, and its completion is ignored then") {
  Runtime runtime;
  std::optional<Completion> kept;
  int cancelled = 0;
  runtime.define_async("wait", [&](Completion c) {
    kept = c;
    c.on_cancel([&] { ++cancelled; });
  });
  runtime.run_string(R"lua(
    local async = require "rille.async"
    local t = async.spawn(wait)
    async.sleep(0)
    t:cancel()
    async.sleep(0.001)
  )lua");
  CHECK(cancelled == 1);
  CHECK(kept->cancelled());
  kept->resolve(1);
  kept->resolve(2);
  kept->on_cancel([&] { ++cancelled; });
  CHECK(cancelled == 2);
}

TEST_CASE("a completion may be taken by reference, and stand for nothing") {
  Runtime runtime;
  Completion none;
  none.resolve(1);
  none.on_cancel([] {});
  CHECK(Task().done());
  runtime.define_async("by_reference", [](Completion& c) { c.resolve(1); });
  runtime.define_async("by_const", [](const Completion& c) { c.resolve(2); });
  runtime.define_async("by_move", [&](Completion&& c) {
    none = std::move(c);
    none.resolve(3);
  });
  CHECK(number(runtime, "return by_reference() + by_const() + by_move()") == 6);
}

#ifndef NDEBUG
TEST_CASE("the second end of a wait stops a build for debugging") {
  pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    signal(SIGABRT, SIG_DFL);
    Runtime runtime;
    runtime.define_async("twice", [](Completion c) {
      c.resolve(1);
      c.resolve(2);
    });
    runtime.execute_string("twice()");
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT));
}
#else
TEST_CASE("the second end of a wait is ignored") {
  Runtime runtime;
  runtime.define_async("twice", [](Completion c) {
    c.resolve(1);
    c.resolve(2);
    c.fail("Error", "too late");
  });
  CHECK(number(runtime, "return twice()") == 1);
}
#endif

// ---- tasks -------------------------------------------------------------------------------------

TEST_CASE("a Lua function that the host calls is a task, with a result to wait for") {
  Runtime runtime;
  runtime.run_string(
      "function double(n, ...) require('rille.async').sleep(0) return n * 2, ... end");
  Task task = runtime.spawn(runtime.get("double"), 21, "more");
  CHECK(!task.done());
  auto results = task.result();
  CHECK(task.done());
  CHECK(results.at(0) == 42);
  CHECK(results.at(1) == "more");
  CHECK(task.result() == results);
  CHECK(error_of([&] { runtime.spawn(Value(1)); }).kind() == "TypeError");
}

TEST_CASE("the host is told when a task ends, also if it has ended") {
  Runtime runtime;
  int calls = 0;
  Task task = runtime.spawn_string("return 5");
  task.on_done([&](Task& t) { calls += t.result().at(0).as<int>(); });
  runtime.run();
  CHECK(calls == 5);
  task.on_done([&](Task&) { ++calls; });
  runtime.run();
  CHECK(calls == 6);
}

TEST_CASE("a task that the host cancels ends with a CancelledError") {
  Runtime runtime;
  Task task = runtime.spawn_string("require('rille.async').sleep(1000)");
  runtime.poll();
  task.cancel("enough");
  Error e = error_of([&] { task.result(); });
  CHECK(e.kind() == "CancelledError");
  CHECK(e.message().find("enough") != std::string::npos);
  CHECK(e.cancelled());
}

TEST_CASE("a task that nothing can wake ends with a DeadlockError") {
  Runtime runtime;
  Task task = runtime.spawn_string("require('rille.async').Event():wait()");
  runtime.run();
  CHECK(error_of([&] { task.result(); }).kind() == "DeadlockError");
}

TEST_CASE("an error that the host does not ask for is reported, one it asks for is not") {
  std::vector<std::string> reports;
  Options options;
  options.on_report = [&](const rille::Report& r) { reports.push_back(r.text); };
  {
    Runtime runtime(options);
    Task taken = runtime.spawn_string("error 'taken'");
    Task lost = runtime.spawn_string("error 'lost'");
    runtime.run();
    CHECK_THROWS_AS(taken.result(), Error);
    runtime.run_string("return 1");
    CHECK(reports.empty());
    CHECK(runtime.lost_errors() == 0);
  }
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].find("lost") != std::string::npos);
}

TEST_CASE("what would go to stderr goes to the host") {
  std::vector<rille::Report> reports;
  Options options;
  options.on_report = [&](const rille::Report& r) { reports.push_back(r); };
  Runtime runtime(options);
  runtime.run_string(R"lua(
    require("rille.async").call_soon(function() error "in a callback" end)
    require("rille.async").sleep(0)
  )lua");
  REQUIRE(reports.size() == 1);
  CHECK(reports[0].message.find("error in a callback: ") == 0);
  CHECK(reports[0].error.find("in a callback") != std::string::npos);
  CHECK(reports[0].traceback.find("stack traceback") != std::string::npos);
}

// ---- classes -----------------------------------------------------------------------------------

namespace {

struct Counter {
  static inline std::atomic<int> alive = 0;
  explicit Counter(int start) : n(start) { ++alive; }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  ~Counter() { --alive; }
  int add(int by) { return n += by; }
  int value() const { return n; }
  void later(Completion c, int by) { c.resolve(n += by); }
  int n;
};

}  // namespace

TEST_CASE("a class of the host's has methods, and its objects an owner on both sides") {
  {
    Runtime runtime;
    runtime.define_class<Counter>("game.Counter")
        .constructor<int>()
        .method("add", &Counter::add)
        .method("value", &Counter::value)
        .method("twice", [](Counter& c) { return c.n * 2; })
        .waiting("later", &Counter::later)
        .waiting("later_still", [](Completion c, Counter& self) { c.resolve(self.n); })
        .method("__len", [](const std::shared_ptr<Counter>& c) { return c->n; });
    std::shared_ptr<Counter> seen;
    runtime.define("keep", [&](std::shared_ptr<Counter> c) { seen = c; });
    runtime.define("kept", [&] { return seen; });
    CHECK(number(runtime, "c = game.Counter(1) c:add(2) return c:twice() + c:later(10)") == 19);
    CHECK(number(runtime, "keep(c) return c:later_still()") == 13);
    CHECK(runtime.run_string("return kept() == c, tostring(c):find('^Counter: ') ~= nil").at(0) ==
          true);
    CHECK(runtime.get("c").as<std::shared_ptr<Counter>>() == seen);
    CHECK(error_of([&] { runtime.run_string("c.add({}, 1)", "=s"); }).message() ==
          "s:1: calling 'add' on bad self (Counter expected, got table)");
    CHECK(error_of([&] { runtime.run_string("keep(1)", "=s"); })
              .message()
              .find("object expected, got number") != std::string::npos);
    CHECK(error_of([&] { runtime.run_string("c:add('x')", "=s"); }).message() ==
          "s:1: bad argument #1 to 'add' (number expected, got string)");
    runtime.close();
    CHECK(Counter::alive == 1);
    CHECK(seen->n == 13);
  }
  CHECK(Counter::alive == 0);
}

// ---- driving -----------------------------------------------------------------------------------

TEST_CASE("a host with a main loop of its own polls the runtime") {
  Runtime runtime;
  Task task = runtime.spawn_string(R"lua(
    local async = require "rille.async"
    for _ = 1, 5 do async.sleep(0.001) end
    return async.spawn(function() return 3 end):await()
  )lua");
  CHECK(runtime.timeout() == 0);
  int polls = 0;
  while (runtime.poll()) {
    ++polls;
    double seconds = runtime.timeout();
    if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
  CHECK(task.done());
  CHECK(task.result().at(0) == 3);
  CHECK(runtime.timeout() < 0);
}

TEST_CASE("a poll with a budget gives the host its turn although tasks go on") {
  Runtime runtime;
  Task task = runtime.spawn_string("while true do require('rille.async').sleep(0) end");
  for (int i = 0; i < 10; ++i) CHECK(runtime.poll(0.001));
  task.cancel();
  CHECK_THROWS_AS(task.result(), Error);
}

TEST_CASE("a descriptor tells a host that polls when there is something to do") {
  Runtime runtime;
  Task task =
      runtime.spawn_string("got = nil while not got do require('rille.async').sleep(0.001) end");
  std::atomic<bool> posted{false};
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    posted = true;
    runtime.post([&] { runtime.set("got", true); });
  });
  while (!task.done()) {
    double seconds = runtime.timeout();
    struct timeval wait = {0, seconds < 0 ? 900000 : static_cast<suseconds_t>(seconds * 1e6)};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(runtime.backend_fd(), &set);
    select(runtime.backend_fd() + 1, &set, nullptr, nullptr, &wait);
    runtime.poll();
  }
  other.join();
  CHECK(posted);
}

TEST_CASE("a loop of the host's runs the tasks, and is left empty") {
  uv_loop_t loop;
  uv_loop_init(&loop);
  {
    Options options;
    options.loop = &loop;
    Runtime runtime(options);
    CHECK(runtime.loop() == &loop);
    uv_timer_t timer;
    uv_timer_init(&loop, &timer);
    timer.data = &runtime;
    Task task = runtime.spawn_string(R"lua(
      local async, fs = require "rille.async", require "rille.fs"
      function ring() rung:set() end
      rung = async.Event()
      async.sleep(0.001)
      local children = {}
      for i = 1, 10 do children[i] = async.spawn(function() async.sleep(0) return fs.exists "/" end) end
      for _, t in ipairs(children) do assert(t:await()) end
      rung:wait()
      return "rung"
    )lua");
    uv_timer_start(
        &timer,
        [](uv_timer_t* t) {
          auto* r = static_cast<Runtime*>(t->data);
          r->spawn(r->get("ring"));
          uv_close(reinterpret_cast<uv_handle_t*>(t), nullptr);
        },
        20, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(task.done());
    CHECK(task.result().at(0) == "rung");
    CHECK(number(runtime, "require('rille.async').sleep(0.001) return 1") == 1);
    runtime.spawn_string("require('rille.async').sleep(1000)");
    uv_run(&loop, UV_RUN_NOWAIT);
  }
  CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE("posts come in order, from any thread, outside of every task") {
  Runtime runtime;
  std::vector<int> order;
  for (int i = 0; i < 3; ++i) runtime.post([&, i] { order.push_back(i); });
  runtime.post([] { throw std::runtime_error("is reported"); });
  runtime.run();
  CHECK(order == std::vector<int>{0, 1, 2});
  std::atomic<int> seen = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 100; ++n) runtime.post([&] { ++seen; });
    });
  }
  poll_until(runtime, [&] { return seen == 400; });
  for (auto& t : threads) t.join();
}

TEST_CASE("values go from one runtime to another, functions do not") {
  Runtime one, two;
  Value table = one.run_string("return { 1, 2, name = 'x' }").at(0);
  two.set("t", table);
  CHECK(two.run_string("return t.name .. #t").at(0) == "x2");
  Value function = one.get("print");
  CHECK(error_of([&] { two.set("f", function); }).kind() == "TypeError");
  CHECK(error_of([&] { two.spawn(function); }).kind() == "TypeError");
}

TEST_CASE("a value that was moved from is nil") {
  Runtime runtime;
  for (const char* code : {"return {}", "return print", "return 'text'", "return 1"}) {
    Value value = runtime.run_string(code).at(0);
    Value taken = std::move(value);
    CHECK(!taken.is_nil());
    CHECK(value.is_nil());  // NOLINT
    value = std::move(taken);
    Value copy = taken;  // NOLINT
    CHECK(copy.is_nil());
    runtime.set("x", taken);
    CHECK(error_of([&] { taken["x"] = 1; }).kind() == "TypeError");
    CHECK(!value.is_nil());
  }
}

TEST_CASE("a table may be replaced by what stands in it") {
  Runtime runtime;
  Value value =
      runtime.run_string("return { name = { list = { 'text of some length, for the heap' } } }")
          .at(0);
  value = std::move(value["name"]);
  value = value["list"];
  value = std::move(value[1]);
  CHECK(value == "text of some length, for the heap");
}

TEST_CASE("whatever functions of the host throw outside of scripts is reported") {
  std::vector<std::string> reports;
  Options options;
  options.on_report = [&](const rille::Report& report) { reports.push_back(report.message); };
  uv_loop_t loop;
  uv_loop_init(&loop);
  for (bool borrowed : {false, true}) {
    reports.clear();
    options.loop = borrowed ? &loop : nullptr;
    Runtime runtime(options);
    runtime.define_async("wait", [](Completion c) {
      c.on_cancel([] { throw 1; });
      static std::optional<Completion> kept;
      kept = c;
    });
    runtime.post([] { throw 2; });
    Task task = runtime.spawn_string("wait()");
    runtime.poll(0.01);
    task.on_done([](Task&) { throw 3; });
    task.cancel();
    runtime.poll(0.01);
    CHECK(reports.size() == 3);
    CHECK(number(runtime, "require('rille.async').sleep(0) return 4") == 4);
    Task last = runtime.spawn_string("wait()");
    last.on_done([](Task&) { throw 5; });
    runtime.poll(0.01);
    runtime.close();
    CHECK(reports.size() == 5);
  }
  CHECK(uv_loop_close(&loop) == 0);
  options.loop = nullptr;
  options.on_report = [](const rille::Report&) { throw 6; };
  Runtime runtime(options);
  runtime.post([] { throw 7; });
  runtime.poll(0.01);
  CHECK(number(runtime, "return 8") == 8);
}

// ---- the wrong moment --------------------------------------------------------------------------

TEST_CASE("what runs the runtime cannot be called from inside it") {
  Runtime runtime;
  std::vector<std::string> kinds;
  auto note = [&](auto&& f) { kinds.push_back(error_of(f).kind()); };
  Task sleeper = runtime.spawn_string("require('rille.async').sleep(1000)");
  runtime.define("inside", [&] {
    note([&] { runtime.run_string("return 1"); });
    note([&] { runtime.run(); });
    note([&] { runtime.poll(); });
    note([&] { runtime.close(); });
    note([&] { sleeper.result(); });
    runtime.set("x", 5);
    CHECK(runtime.get("x") == 5);
    runtime.spawn_string("y = x");
  });
  runtime.run_string("inside() require('rille.async').sleep(0)");
  CHECK(kinds == std::vector<std::string>(5, "InvalidStateError"));
  CHECK(runtime.get("y") == 5);
  runtime.post([&] { note([&] { runtime.close(); }); });
  runtime.poll();
  CHECK(kinds.size() == 6);
}

TEST_CASE("two threads at once are an error") {
  Runtime runtime;
  std::atomic<bool> inside{false}, tried{false};
  runtime.define("block", [&] {
    inside = true;
    while (!tried) std::this_thread::yield();
  });
  std::thread other([&] {
    while (!inside) std::this_thread::yield();
    CHECK(error_of([&] { runtime.get("x"); }).message().find("two threads") != std::string::npos);
    tried = true;
  });
  runtime.run_string("block()");
  other.join();
}

TEST_CASE("a closed runtime says so, and what is left of it is harmless") {
  std::optional<Completion> kept;
  Runtime runtime;
  int told = 0;
  runtime.define_async("wait", [&](Completion c) {
    c.on_cancel([&] { ++told; });
    kept = c;
  });
  Task asleep = runtime.spawn_string("wait()");
  Task through = runtime.spawn_string("return 8");
  asleep.on_done([&](Task&) { ++told; });
  Value function = runtime.get("print");
  runtime.poll(0.01);
  runtime.close();
  runtime.close();
  CHECK(told == 2);
  kept->resolve(1);
  CHECK(through.result().at(0) == 8);
  CHECK(error_of([&] { asleep.result(); }).kind() == "CancelledError");
  CHECK(error_of([&] { runtime.run_string("return 1"); }).kind() == "InvalidStateError");
  CHECK(error_of([&] { runtime.get("x"); }).kind() == "InvalidStateError");
  runtime.post([] {});
  runtime.interrupt("too late");
  CHECK(runtime.backend_fd() == -1);
}
