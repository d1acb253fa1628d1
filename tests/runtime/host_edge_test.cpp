// rille.hpp at its edges: what outlives a runtime, what shares a process with it, what hosts get
// wrong.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <optional>
#include <rille/rille.hpp>
#include <string>
#include <thread>
#include <vector>

#include "scheduler.h"
#include "support/runtime_fixture.hpp"

using rille::Completion;
using rille::Error;
using rille::Options;
using rille::Runtime;
using rille::Task;
using rille::Value;

namespace {

std::string message_of(Runtime& runtime, const std::string& code) {
  return error_of([&] { runtime.run_string(code, "=s"); }).message();
}

// How a process ended in which f() ran, and what it printed on stderr.
struct Ended {
  int status = 0;
  std::string text;
};
template <class F>
Ended in_child(F&& f) {
  std::array<int, 2> channel{};
  REQUIRE(pipe(channel.data()) == 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(channel[1], STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    alarm(30);
    try {
      f();
    } catch (...) {
      _exit(4);
    }
    _exit(0);
  }
  close(channel[1]);
  Ended ended;
  std::array<char, 256> part{};
  for (ssize_t n; (n = read(channel[0], part.data(), part.size())) > 0;) {
    ended.text.append(part.data(), static_cast<std::size_t>(n));
  }
  close(channel[0]);
  REQUIRE(waitpid(child, &ended.status, 0) == child);
  return ended;
}

}  // namespace

// ---- options -----------------------------------------------------------------------------------

TEST_CASE("options are given by their names, in the order they are documented in") {
  std::vector<std::string> reports;
  uv_loop_t loop;
  uv_loop_init(&loop);
  {
    Runtime runtime({.loop = &loop,
                     .args = {"a", "b"},
                     .debug = true,
                     .memory_limit = 64 << 20,
                     .slice_limit = 30,
                     .modules = {"rille.async"},
                     .permissions = rille::Permissions::none(),
                     .on_report = [&](const rille::Report& r) { reports.push_back(r.text); }});
    CHECK(runtime.run_string("return ...").at(0) == "a");
    CHECK(message_of(runtime, "require 'rille.fs'").find("rille.fs") != std::string::npos);
  }
  CHECK(uv_loop_close(&loop) == 0);
}

// ---- functions ---------------------------------------------------------------------------------

TEST_CASE("what is thrown that is no std::exception is told by its type") {
  struct Odd {};
  Runtime runtime;
  runtime.define("number", [] { throw 42; });
  runtime.define("odd", [] { throw Odd(); });
  runtime.define_async("later", [](Completion) { throw "text"; });
  CHECK(message_of(runtime, "number()") == "an exception of type int");
  CHECK(message_of(runtime, "odd()").find("Odd") != std::string::npos);
  CHECK(message_of(runtime, "later()") == "an exception of type char const*");
  CHECK(runtime.run_string("return select(2, pcall(number)).kind").at(0) == "Error");
}

TEST_CASE("a Lua error passes through a function of the host's, which is cleaned up") {
  Runtime runtime;
  static int alive;
  alive = 0;
  struct Guard {
    Guard() { ++alive; }
    ~Guard() { --alive; }
  };
  auto* scheduler = rille::Scheduler::of(runtime.lua_state());
  runtime.define("raise", [&] {
    Guard guard;
    luaL_error(scheduler->current()->co, "from Lua");
  });
  runtime.define_async("raise_later", [&](Completion) {
    Guard guard;
    luaL_error(scheduler->current()->co, "from Lua too");
  });
  for (int i = 0; i < 3; ++i) {
    CHECK(message_of(runtime, "local x = raise()").find("from Lua") != std::string::npos);
    CHECK(message_of(runtime, "local x = raise_later()").find("Lua too") != std::string::npos);
    CHECK(runtime.run_string("return (pcall(raise))").at(0) == false);
  }
  CHECK(alive == 0);
}

TEST_CASE("a wrong argument is blamed on a line of the script, or on none") {
  Runtime runtime;
  runtime.define("add", [](double a, double b) { return a + b; });
  runtime.define_async("wait", [](Completion c, double) { c.resolve(); });
  const std::string bad = "bad argument #1 to 'add' (number expected, got string)";
  CHECK(message_of(runtime, "\nadd('x', 1)") == "s:2: " + bad);
  CHECK(message_of(runtime, "\nlocal ok, e = pcall(add, 'x', 1)\nerror(e, 0)") == "s:2: " + bad);
  // A tail call: the script's function has ended, and is no longer there.
  CHECK(message_of(runtime, "return add('x', 1)") == bad);
  CHECK(message_of(runtime, "local function f() return add('x') end\nlocal n = f()") ==
        "s:2: " + bad);
  CHECK(message_of(runtime, "require('rille.async').spawn(add, 'x', 1):await()") == bad);
  CHECK(message_of(runtime, "return wait('x')").find("task.lua") == std::string::npos);
}

TEST_CASE("names are defined anew, in tables, and not in what is no table") {
  Runtime runtime;
  auto number = [](int n) { return [n] { return n; }; };
  runtime.define("f", number(1));
  runtime.run_string("old = f");
  runtime.define("f", number(2));
  CHECK(runtime.run_string("return old(), f()").at(0) == 1);
  CHECK(runtime.run_string("return old(), f()").at(1) == 2);
  runtime.define("a.b.c", number(3));
  runtime.define("a.b.d", number(4));
  runtime.define("math.three", number(3));
  CHECK(runtime.run_string("return a.b.c() + a.b.d() + math.three() + math.floor(0.5)").at(0) ==
        10);
  CHECK(error_of([&] { runtime.define("f.g", number(1)); }).message() == "'f' is no table");
  runtime.define("a.b", number(5));
  CHECK(runtime.run_string("return a.b()").at(0) == 5);
  CHECK(error_of([&] { runtime.define("a.b.c", number(1)); }).kind() == "TypeError");
  runtime.set("a", nullptr);
  CHECK(runtime.get("a.b").is_nil());
  // Whatever scripts do with the tables on the way is their error.
  runtime.run_string("locked = setmetatable({}, { __newindex = function() error 'no' end })");
  CHECK(error_of([&] { runtime.define("locked.f", number(1)); }).message().find("no") !=
        std::string::npos);
}

TEST_CASE("a Lua function that is an argument can be called later") {
  Runtime runtime;
  std::vector<Value> callbacks;
  runtime.define("on_event", [&](Value callback) { callbacks.push_back(std::move(callback)); });
  runtime.run_string("sum = 0 on_event(function(n) sum = sum + n return sum end)");
  CHECK(runtime.spawn(callbacks.at(0), 2).result().at(0) == 2);
  CHECK(runtime.spawn(callbacks.at(0), 3).result().at(0) == 5);
}

TEST_CASE("a result that is no value of the runtime's fails the call, or the wait") {
  Runtime runtime, other;
  Value function = other.get("print");
  runtime.define("give", [&] { return function; });
  runtime.define_async("give_later", [&](Completion c) { c.resolve(1, function); });
  for (const char* code : {"give()", "give_later()"}) {
    INFO(code);
    CHECK(message_of(runtime, code).find("of another runtime") != std::string::npos);
  }
}

TEST_CASE("numbers are what they fit into") {
  CHECK(Value(3).is<std::uint8_t>());
  CHECK(!Value(256).is<std::uint8_t>());
  CHECK(!Value(-1).is<unsigned>());
  CHECK(!Value(std::nan("")).is<int>());
  CHECK(!Value(HUGE_VAL).is<long long>());
  CHECK(!Value(9223372036854775808.0).is<std::int64_t>());
  CHECK(Value(9223372036854775808.0).as<std::uint64_t>() == 9223372036854775808u);
  CHECK(Value(-9223372036854775808.0).as<std::int64_t>() == INT64_MIN);
  CHECK(Value(2.5f).as<float>() == 2.5f);
  CHECK(Value(nullptr).is<std::nullptr_t>());
  CHECK(Value(nullptr).as<std::nullptr_t>() == nullptr);
  CHECK(!Value(0).is<bool>());
  CHECK(!Value("1").is<double>());
  CHECK(Value(std::string_view("a\0b", 3)).as<std::string>().size() == 3);
}

// ---- tasks -------------------------------------------------------------------------------------

TEST_CASE("the host is told of the end of a task that it does not keep") {
  int told = 0;
  {
    Runtime runtime;
    runtime.spawn_string("return 5").on_done([&](Task& t) { told += t.result().at(0).as<int>(); });
    runtime.spawn_string("require('rille.async').sleep(1000)").on_done([&](Task& t) {
      CHECK(error_of([&] { t.result(); }).kind() == "CancelledError");
      ++told;
    });
    for (int i = 0; i < 3; ++i) {
      runtime.get("x");  // what nobody holds is let go of
      runtime.poll();
    }
    CHECK(told == 5);
  }
  CHECK(told == 6);
}

// ---- what outlives a runtime -------------------------------------------------------------------

TEST_CASE("values, tasks and completions may outlive their runtime") {
  std::optional<Value> function;
  std::optional<Completion> completion;
  std::shared_ptr<int> object = std::make_shared<int>(7);
  Value held;
  Task waiting, failed, done;
  {
    Runtime runtime;
    runtime.define_class<int>("Number").method("value", [](int& n) { return n; });
    runtime.define_async("wait", [&](Completion c) { completion = c; });
    runtime.set("object", object);
    held = runtime.get("object");
    waiting = runtime.spawn_string("wait()");
    failed = runtime.spawn_string("error 'on its own'");
    done = runtime.spawn_string("return function() end, { 1 }");
    runtime.poll();
    function = done.result().at(0);
    Options quiet;
    CHECK_THROWS_AS(failed.result(), Error);
  }
  CHECK(function->is_function());
  Value copy = *function;
  CHECK(done.result().at(1)[1] == 1);
  CHECK(waiting.done());
  CHECK(error_of([&] { waiting.result(); }).cancelled());
  CHECK(error_of([&] { failed.result(); }).message().find("on its own") != std::string::npos);
  waiting.cancel("too late");
  bool told = false;
  waiting.on_done([&](Task&) { told = true; });
  CHECK(told);
  CHECK(completion->cancelled());
  std::thread([&] { completion->resolve(1); }).join();
  completion.reset();
  CHECK(*held.as<std::shared_ptr<int>>() == 7);
  Runtime other;
  CHECK(error_of([&] { other.spawn(copy); }).kind() == "TypeError");
  CHECK(error_of([&] { other.set("x", held); }).kind() == "TypeError");
}

TEST_CASE("a completion may be ended by a thread after its task was cancelled") {
  Runtime runtime;
  std::vector<std::thread> threads;
  std::atomic<bool> go{false};
  std::atomic<int> told{0};
  runtime.define_async("wait", [&](Completion c) {
    c.on_cancel([&] { ++told; });
    threads.emplace_back([c, &go] {
      while (!go) std::this_thread::yield();
      c.resolve("too late");
    });
  });
  runtime.run_string(R"lua(
    local async = require "rille.async"
    local tasks = {}
    for i = 1, 10 do tasks[i] = async.spawn(wait) end
    async.sleep(0)
    for i = 1, 10 do tasks[i]:cancel() end
    async.sleep(0)
    for i = 1, 10 do assert(tasks[i]:cancelled()) end
  )lua");
  go = true;
  for (auto& t : threads) t.join();
  runtime.poll();
  CHECK(told == 10);
}

TEST_CASE("a runtime that is destroyed by what it runs stops the program, which says why") {
  Ended ended = in_child([] {
    auto* runtime = new Runtime();
    runtime->define("destroy", [&] { delete runtime; });
    runtime->execute_string("destroy()");
  });
  CHECK((WIFSIGNALED(ended.status) && WTERMSIG(ended.status) == SIGABRT));
  CHECK(ended.text.find("rille: fatal: a runtime is destroyed while it is in use") !=
        std::string::npos);
}

// ---- driving -----------------------------------------------------------------------------------

TEST_CASE("a poll comes back whatever its budget, and does what is ready") {
  Runtime runtime;
  int turns = 0;
  runtime.define("turn", [&] { ++turns; });
  Task task = runtime.spawn_string(
      "local async = require 'rille.async' while true do turn() async.sleep(0) end");
  for (double budget : {0.0, -1.0, 1e-9, 0.001, std::nan("")}) {
    int before = turns;
    CHECK(runtime.poll(budget));
    CHECK(runtime.poll(budget));
    INFO(budget);
    CHECK(turns > before);
  }
  CHECK(runtime.timeout() == 0);
  task.cancel();
  CHECK_THROWS_AS(task.result(), Error);
  CHECK(!runtime.poll());
}

TEST_CASE("a host that polls the descriptor needs nothing else for sockets and files") {
  Runtime runtime;
  Task task = runtime.spawn_string(R"lua(
    local async, net, fs = require "rille.async", require "rille.net", require "rille.fs"
    local listener = net.listen { host = "127.0.0.1", port = 0 }
    local server = async.spawn(function()
      local s = listener:accept()
      s:write(s:read_until "\n")
      s:close()
    end)
    local s = net.connect { host = "127.0.0.1", port = listener:address().port }
    async.sleep(0.002)
    s:write "hello\n"
    local answer = s:read_until "\n"
    s:close()
    server:await()
    listener:close()
    return answer, #fs.read_file "/proc/self/stat" > 0
  )lua");
  runtime.poll();
  while (!task.done()) {
    double seconds = runtime.timeout();
    struct pollfd ready = {runtime.backend_fd(), POLLIN, 0};
    // Were anything ready that the descriptor does not tell of, this would wait for ever.
    int wait = seconds < 0 ? -1 : static_cast<int>(std::ceil(seconds * 1e3));
    poll(&ready, 1, wait);
    runtime.poll();
  }
  CHECK(task.result().at(0) == "hello\n");
  CHECK(task.result().at(1) == true);
}

TEST_CASE("a host's handles on its loop go on when a runtime on it is closed") {
  uv_loop_t loop;
  uv_loop_init(&loop);
  struct Host {
    uv_timer_t timer;
    uv_async_t wakeup;
    int ticks = 0;
    int wakeups = 0;
  } host;
  uv_timer_init(&loop, &host.timer);
  uv_async_init(&loop, &host.wakeup, [](uv_async_t* a) { ++static_cast<Host*>(a->data)->wakeups; });
  host.timer.data = host.wakeup.data = &host;
  uv_timer_start(
      &host.timer, [](uv_timer_t* t) { ++static_cast<Host*>(t->data)->ticks; }, 1, 1);
  for (int i = 0; i < 3; ++i) {
    Runtime one({.loop = &loop});
    Runtime two({.loop = &loop});
    Task sum = one.spawn_string("require('rille.async').sleep(0.002) return 1");
    two.spawn_string("require('rille.net').listen { host = '127.0.0.1', port = 0 }:accept()");
    while (!sum.done()) uv_run(&loop, UV_RUN_ONCE);
    CHECK(sum.result().at(0) == 1);
    one.close();
    CHECK(two.run_string("return 2").at(0) == 2);
  }
  CHECK(uv_is_active(reinterpret_cast<uv_handle_t*>(&host.timer)));
  CHECK(!uv_is_closing(reinterpret_cast<uv_handle_t*>(&host.wakeup)));
  int ticks = host.ticks;
  uv_async_send(&host.wakeup);
  while (host.ticks < ticks + 2 || host.wakeups == 0) uv_run(&loop, UV_RUN_ONCE);
  uv_close(reinterpret_cast<uv_handle_t*>(&host.timer), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&host.wakeup), nullptr);
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
}

TEST_CASE("parts of a response go out before a host's loop waits, whatever has woken their task") {
  uv_loop_t loop;
  uv_loop_init(&loop);
  {
    Runtime runtime({.loop = &loop});
    for (const char* version : {"false", "true"}) {
      runtime.set("http2", std::string(version) == "true");
      Task task = runtime.spawn_string(R"lua(
        local async, http = require "rille.async", require "rille.http"
        local seen = async.Event()
        local function answer()
          local n = 0
          return http.response { stream = function()
            n = n + 1
            if n == 3 then return nil end
            -- A timer comes before all else in a turn of the loop.
            if n == 1 then async.sleep(0.001) else seen:wait() end
            return "part"
          end }
        end
        local server = http.serve { handler = answer, host = "127.0.0.1", port = 0 }
        local session = http.Session { http2 = http2 and "prior" or false }
        local text = ""
        local ok, e = pcall(async.timeout, 10, function()
          local r = session:get(("http://127.0.0.1:%d/"):format(server.port), { stream = true })
          for piece in r:chunks() do
            text = text .. piece
            seen:set()
          end
        end)
        session:close()
        server:close()
        assert(ok, e)
        return text
      )lua");
      task.on_done([&](const Task&) { uv_stop(&loop); });
      uv_run(&loop, UV_RUN_DEFAULT);
      CHECK(task.result().at(0) == "partpart");
    }
  }
  CHECK(uv_loop_close(&loop) == 0);
}

// ---- threads and processes ---------------------------------------------------------------------

TEST_CASE("a runtime may go from thread to thread, as long as it is in one at a time") {
  std::unique_ptr<Runtime> runtime;
  std::thread([&] { runtime = std::make_unique<Runtime>(); }).join();
  std::thread([&] {
    runtime->run_string("n = #require('rille.fs').read_file '/proc/self/stat'");
  }).join();
  Task task = runtime->spawn_string("require('rille.async').sleep(0.001) return n");
  std::thread([&] { CHECK(task.result().at(0).as<int>() > 0); }).join();
  std::thread([&] { runtime.reset(); }).join();
}

TEST_CASE("eight runtimes on eight threads send each other values") {
  constexpr int kThreads = 8;
  constexpr int kMessages = 20;
  struct Member {
    Runtime runtime;
    int received = 0;
  };
  std::vector<std::unique_ptr<Member>> members;
  for (int i = 0; i < kThreads; ++i) {
    members.push_back(std::make_unique<Member>());
    Member& member = *members.back();
    member.runtime.define("received", [&member] { ++member.received; });
    member.runtime.run_string(R"lua(
      function receive(message)
        assert(message.list[1] == message.from and message.text == "message")
        received()
      end
    )lua");
  }
  std::atomic<int> through{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      Member& self = *members[static_cast<std::size_t>(i)];
      self.runtime.define("send", [&](int to, Value message) {
        Member& other = *members[static_cast<std::size_t>(to)];
        other.runtime.post([&other, message = std::move(message)] {
          other.runtime.spawn(other.runtime.get("receive"), message);
        });
      });
      std::vector<std::thread> helpers;
      self.runtime.define_async("compute", [&](Completion c, int n) {
        helpers.emplace_back([c, n] { c.resolve(n * 2); });
      });
      self.runtime.set("me", i);
      self.runtime.set("count", kMessages);
      Task task = self.runtime.spawn_string(R"lua(
        for k = 1, count do
          send((me + k) % 8, { list = { me }, from = me, text = "message" })
          require("rille.async").sleep(0)
        end
        assert(compute(me) == me * 2)
      )lua");
      while (!task.done() || self.received < kMessages) {
        self.runtime.poll(0.001);
        std::this_thread::yield();
      }
      task.result();
      for (auto& t : helpers) t.join();
      for (++through; through < kThreads;) std::this_thread::yield();  // others may still post
      self.runtime.close();
    });
  }
  for (auto& t : threads) t.join();
  for (auto& member : members) CHECK(member->received == kMessages);
}

#ifndef __SANITIZE_THREAD__  // it allows no new threads then
TEST_CASE("a host that has a runtime may fork, and the child may have one of its own") {
  Runtime runtime;
  Task task = runtime.spawn_string(R"lua(
    local async = require "rille.async"
    async.sleep(0.01)
    return #require("rille.fs").read_file "/proc/self/stat" > 0
  )lua");
  runtime.poll();
  Ended ended = in_child([] {
    Runtime own;
    auto results = own.run_string(R"lua(
      require("rille.async").sleep(0.001)
      return #require("rille.fs").read_file "/proc/self/stat" > 0
    )lua");
    if (!(results.at(0) == true)) _exit(3);
  });
  INFO(ended.text);
  CHECK(ended.status == 0);
  CHECK(task.result().at(0) == true);
}
#endif
