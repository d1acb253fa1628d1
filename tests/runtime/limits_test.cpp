// Options::memory_limit and slice_limit, and Runtime::interrupt.
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "scheduler.h"
#include "script_limits.h"
#include "stopper.h"
#include "support/runtime_fixture.hpp"

using namespace std::chrono_literals;
using rille::Options;
using rille::Runtime;

namespace {

Options with_memory(std::size_t bytes) {
  Options options;
  options.memory_limit = bytes;
  options.on_report = [](const rille::Report&) {};
  return options;
}

// What would run for ever.
const char* const kEndless[] = {
    "while true do end",
    "for i = 1, 1e300 do end",
    "local n = 0 repeat n = n + 1 until false",
    "local function f() return f() end f()",
    "::again:: goto again",
    "while true do pcall(function() while true do end end) end",
    "local function f() while true do pcall(f) end end f()",
    "local f = function() end while true do xpcall(f, f) end",
    "while true do xpcall(error, function() while true do end end) end",
    "local co = coroutine.wrap(function() while true do coroutine.yield() end end) "
    "while true do co() end",
    "while true do coroutine.wrap(pcall)(function() while true do end end) end",
    "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
    "table.sort({3, 2, 1}, function() while true do end end)",
    "('x'):gsub('x', function() while true do end end)",
    "for i = 1, 1e300 do local t = {i} end",
    "local s = 0 for i = 1, 1e300 do s = s + math.sin(i) end",
    "require('rille.async').finally(function() while true do end end, function() "
    "  while true do end end)",
    "local async = require 'rille.async' "
    "while true do async.spawn_eager(function() while true do end end) end",
    "local async = require 'rille.async' "
    "local function f() while true do async.spawn_eager(f) end end f()",
    "local async = require 'rille.async' "
    "while true do pcall(async.spawn_eager, function() pcall(function() while true do end end) "
    "async.sleep(0) end) end",
};

}  // namespace

TEST_CASE("an allocation over the limit is an error that a script can catch", "[limits]") {
  Runtime runtime(with_memory(16 << 20));
  Outcome outcome = run_script(runtime, R"lua(
    local function hoard()
      local t = {}
      while true do t[#t + 1] = {} end
    end
    for _ = 1, 3 do
      local ok, e = pcall(hoard)
      assert(not ok and tostring(e):find "not enough memory", tostring(e))
      collectgarbage()
    end
    assert(not pcall(string.rep, "x", 1e8))
    local s = "x"
    assert(not pcall(function() while true do s = s .. s end end))
    s = nil
    -- Garbage is no reason to fail.
    for i = 1, 300000 do local t = { i, { i } } end
    local live = {}
    for i = 1, 40000 do live[i] = { i } end
    for round = 1, 10 do
      for i = 1, 40000 do live[i] = { i, round } end
    end
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
  Outcome fails = run_script(runtime, "local t = {} while true do t[#t + 1] = {} end");
  CHECK(fails.kind == Outcome::kFailed);
  CHECK(contains(fails.message, "not enough memory"));
  CHECK(run_script(runtime, "return 1").kind == Outcome::kDone);
}

TEST_CASE("whatever uses up the memory, the host goes on", "[limits]") {
  const char* const scripts[] = {
      "local t = {} while true do t[#t + 1] = async.spawn(async.sleep, 100) async.sleep(0) end",
      "while true do async.spawn_eager(async.sleep, 100) end",
      "local function f() async.spawn(f) async.spawn(f) async.sleep(0.1) end f() error('x')",
      "local q = async.Queue() while true do q:put_nowait(('x'):rep(100) .. q:qsize()) end",
      "async.call_soon(function() local t = {} while true do t[#t + 1] = {} end end) "
      "async.sleep(0) error('x')",
      "error(setmetatable({}, {__tostring = function() local t = {} "
      "while true do t[#t + 1] = {} end end}))",
      "async.set_exception_handler(function() local t = {} while true do t[#t + 1] = {} end end) "
      "async.spawn(error, 'x') async.sleep(0) collectgarbage() collectgarbage() error('x')",
      "local list = {} for i = 1, 1e6 do list[i] = function() async.sleep(1) end end "
      "async.gather(list)",
      "local f = coroutine.wrap(function() local t = {} while true do t[#t + 1] = {} end end) f()",
      "async.timeout(10, function() local t = {} while true do t[#t + 1] = ('x'):rep(#t) end end)",
      "async.group(function(g) for i = 1, 1e6 do g:spawn(async.sleep, 10) end end)",
  };
  for (const char* script : scripts) {
    INFO(script);
    Runtime runtime(with_memory(8 << 20));
    Outcome outcome =
        run_script(runtime, std::string("local async = require 'rille.async' ") + script);
    CHECK(outcome.kind == Outcome::kFailed);
    CHECK(run_script(runtime, "collectgarbage() return {}").kind == Outcome::kDone);
  }
}

TEST_CASE("any single allocation may fail, and the runtime goes on", "[limits]") {
  const std::string script = R"lua(
    local async, fs, json = require "rille.async", require "rille.fs", require "rille.json"
    local net = require "rille.net"
    local function work()
      local q = async.Queue(1)
      local path = fs.mkdtemp()
      async.finally(function()
        async.group(function(g)
          g:spawn(function() for i = 1, 3 do q:put(i) end q:shutdown() end)
          g:spawn(function() for v in q:iter() do async.sleep(0) end end)
          g:spawn(function()
            fs.write_file(path .. "/x", json.encode { a = { 1, 2, 3 } })
            assert(json.decode(fs.read_file(path .. "/x")).a[3] == 3)
            for name in fs.scandir(path) do assert(name == "x") end
          end)
          g:spawn(function()
            local listener = net.listen { port = 0 }
            async.finally(function()
              local client = async.spawn(net.connect, { host = "127.0.0.1",
                port = listener:address().port })
              local stream = listener:accept()
              local other = client:await()
              other:write "line\n"
              assert(stream:read_until "\n" == "line\n")
              stream:close()
              other:close()
            end, function() listener:close() end)
          end)
        end)
        pcall(async.wait_for, async.sleep, 0.001, 10)
        local co = coroutine.wrap(function() async.sleep(0) coroutine.yield(1) end)
        co()
      end, function() fs.remove(path, { recursive = true }) end)
    end
    return pcall(work)
  )lua";
  // All of it is loaded first; what then fails is what the script does.
  std::size_t failures = 0;
  for (std::size_t n = 1; n < 4000; n += 3 + n / 20) {
    Options options = with_memory(64 << 20);
    Runtime runtime(options);
    run_script(runtime, "require 'rille.fs' require 'rille.json' require 'rille.net'");
    lua_State* L = runtime.lua_state();
    rille::Memory* memory = rille::Scheduler::of(L)->limits->memory();
    memory->fail_after(n);
    Outcome outcome = run_script(runtime, script);
    failures += memory->has_failed_on_purpose();
    memory->fail_after(0);
    INFO(n << ": " << outcome.message);
    CHECK(run_script(runtime, "require('rille.async').sleep(0) return {}").kind == Outcome::kDone);
    runtime.close();
  }
  CHECK(failures > 20);
}

TEST_CASE("a file that does not fit in the memory is an error", "[limits]") {
  Runtime runtime(with_memory(8 << 20));
  Outcome outcome = run_script(runtime, R"lua(
    local fs = require "rille.fs"
    local path = fs.mkdtemp() .. "/big"
    local f = fs.open(path, "w")
    f:truncate(2 ^ 40)
    f:close()
    local ok, e = pcall(fs.read_file, path)
    fs.remove(path)
    fs.remove((path:gsub("/big$", "")))
    assert(not ok and e.code == "ENOMEM", tostring(e))
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}

TEST_CASE("Lua that holds the loop up is stopped, compiled or not, and cannot go on", "[limits]") {
  for (const char* script : kEndless) {
    INFO(script);
    Runtime runtime(with_slice(0.05));
    Outcome outcome = run_script(runtime, script);
    CHECK(outcome.kind == Outcome::kFailed);
    CHECK(contains(outcome.message, "InterruptedError: the script held the loop up"));
    CHECK(run_script(runtime, "require('rille.async').sleep(0) return 1").kind == Outcome::kDone);
  }
}

TEST_CASE("a handler of xpcall does not hold the loop up either", "[limits]") {
  rille::Runtime runtime(with_slice(0.05));
  for (const char* name : {"xpcall", "require('rille.async').xpcall"}) {
    std::string code =
        std::string("local protected = ") + name +
        " protected(function() while true do end end, function() while true do end end)";
    CHECK(run_script(runtime, code).message.find("held the loop up") != std::string::npos);
    code = std::string("local protected = ") + name + R"lua(
      local ok, kind = protected(function() while true do end end, function(e) return e.kind end)
      assert(not ok and kind == "InterruptedError")
    )lua";
    CHECK(run_script(runtime, code).message.find("assert") == std::string::npos);
  }
}

TEST_CASE("only the task that holds the loop up is stopped, and it may clean up", "[limits]") {
  Runtime runtime(with_slice(0.1));
  Outcome outcome = run_script(runtime, R"lua(
    local async, errors = require "rille.async", require "rille.errors"
    local cleaned, turns = false, 0
    local other = async.spawn(function()
      for _ = 1, 50 do turns = turns + 1 async.sleep(0.001) end
    end)
    local bad = async.spawn(function()
      async.finally(function() while true do end end, function() cleaned = true end)
    end)
    local ok, e = pcall(bad.await, bad)
    assert(not ok and errors.is(e, "InterruptedError"), tostring(e))
    assert(cleaned)
    other:await()
    assert(turns == 50)
    -- Much work is no fault as long as others have their turns.
    local stop = async.time() + 0.3
    while async.time() < stop do async.sleep(0) end
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}

TEST_CASE("a task that was stopped in the turn of another is at its end, and cleans up",
          "[limits]") {
  Runtime runtime(with_slice(0.1));
  Outcome outcome = run_script(runtime, R"lua(
    local async, errors = require "rille.async", require "rille.errors"
    local cleaned = false
    local bad = async.spawn_eager(function()
      async.finally(function() while true do end end, function() async.sleep(0) cleaned = true end)
    end)
    assert(not bad:done())
    local ok, e = pcall(bad.await, bad)
    assert(not ok and errors.is(e, "InterruptedError"), tostring(e))
    assert(cleaned and bad:done())
    -- The next turn is one of its own.
    local n, stop = 0, async.time() + 0.05
    while async.time() < stop do n = n + 1 end
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}

TEST_CASE("load is stopped when it reads from a function of C", "[limits]") {
  Runtime runtime(with_slice(0.05));
  CHECK(
      contains(run_script(runtime, "while true do load(os.time) end").message, "held the loop up"));
  Outcome outcome = run_script(runtime, R"lua(
    local pieces = { "return ", "1", 2, " + 1" }
    local function next_piece() return table.remove(pieces, 1) end
    assert(load(next_piece, "=x", "t", {})() == 13)
    local fn, e = load(function() error("u", 0) end)
    assert(not fn and e == "u")
    fn, e = load(function() return {} end)
    assert(not fn and e:find "reader function must return a string", e)
    assert(type(load(function() end)) == "function")
    fn, e = load(5)
    assert(not fn and e == "[string \"5\"]:1: unexpected symbol near '5'", e)
    fn, e = load(function() return "x =" end)
    assert(not fn and e:find("=(load)", 1, true) == nil, e)
    assert(not pcall(load) and not pcall(load, {}))
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}

TEST_CASE("many runtimes of a process are stopped, each for itself", "[limits]") {
  std::vector<std::thread> threads;
  std::atomic<int> stopped{0}, went_on{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      Runtime runtime(with_slice(0.05));
      for (int round = 0; round < 3; ++round) {
        try {
          runtime.run_string("while true do end");
        } catch (const rille::Error& e) {
          stopped += e.kind() == "InterruptedError";
        }
        went_on +=
            runtime.run_string("local n = 0 for i = 1, 1e6 do n = n + i end return n").size() == 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(stopped == 12);
  CHECK(went_on == 12);
}

TEST_CASE("a runaway script is stopped from another thread", "[limits]") {
  for (const char* script : kEndless) {
    INFO(script);
    Runtime runtime;
    std::atomic<bool> ended{false};
    std::thread other([&] {
      std::this_thread::sleep_for(20ms);
      while (!ended) {
        runtime.interrupt("enough of it");
        std::this_thread::sleep_for(20ms);
      }
    });
    std::string message;
    try {
      runtime.run_string(script);
    } catch (const rille::Error& e) {
      message = e.what();
    }
    ended = true;
    other.join();
    CHECK(contains(message, "enough of it"));
  }
}

TEST_CASE("a script that waits is stopped from another thread", "[limits]") {
  for (const char* script :
       {"require('rille.async').sleep(1000)", "require('rille.async').Future():await()",
        "local async = require 'rille.async' while true do pcall(async.sleep, 1000) end",
        "local async = require 'rille.async' "
        "while true do pcall(function() while true do end end) async.sleep(0) end"}) {
    INFO(script);
    Runtime runtime;
    std::thread other([&] {
      std::this_thread::sleep_for(50ms);
      runtime.interrupt("enough of it");
    });
    std::string message;
    try {
      // A timer that is somebody else's, so that nothing is a deadlock.
      runtime.run_string(std::string("require('rille.async').call_later(1000, print) ") + script);
    } catch (const rille::Error& e) {
      message = e.what();
    }
    other.join();
    CHECK(contains(message, "enough of it"));
  }
}

TEST_CASE("an interruption that comes when nothing runs does no harm later", "[limits]") {
  Runtime runtime;
  run_script(runtime, "return 1");
  std::thread([&] { runtime.interrupt("late"); }).join();
  run_script(runtime, "require('rille.async').sleep(0)");
  CHECK(run_script(runtime, "require('rille.async').sleep(0) return 1").kind == Outcome::kDone);
}

TEST_CASE("an interruption that comes before a script begins is for that script", "[limits]") {
  Runtime runtime;
  runtime.interrupt("too early");
  CHECK(contains(run_script(runtime, "while true do end").message, "too early"));
  CHECK(run_script(runtime, "return 1").kind == Outcome::kDone);
  // Nor does it matter where in the beginning it comes.
  for (int round = 0; round < 100; ++round) {
    std::thread other([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(round * 2));
      runtime.interrupt("just now");
    });
    Outcome outcome = run_script(runtime, "while true do end");
    other.join();
    INFO(outcome.message);
    CHECK(contains(outcome.message, "just now"));
  }
  CHECK(run_script(runtime, "return 1").kind == Outcome::kDone);
}

TEST_CASE("without a script, an interruption stops what is ready, or nothing", "[limits]") {
  Runtime runtime;
  rille::Task task = runtime.spawn_string("while true do end");
  runtime.interrupt("too early");
  while (!task.done()) runtime.poll();
  CHECK_THROWS_WITH(task.result(), Catch::Contains("InterruptedError: too early"));
  runtime.interrupt("late");
  runtime.poll();
  CHECK(run_script(runtime, "return 1").kind == Outcome::kDone);
}

TEST_CASE("an interruption stops what begins, ends or cleans up", "[limits]") {
  for (const char* script :
       {"local function f() end while true do async.spawn(f) async.sleep(0) end",
        "while true do async.finally(function() end, function() end) end",
        "while true do async.finally(function() error 'x' end, function() while true do end end) "
        "end",
        "local function f() while true do local co = coroutine.create(f) coroutine.resume(co) end "
        "end f()",
        "while true do pcall(async.gather, { error, error }) end",
        "async.spawn(function() async.finally(function() async.sleep(100) end, function() "
        "while true do end end) end) async.sleep(0) error 'enough of it'",
        "while true do async.spawn_eager(function() while true do end end) end"}) {
    INFO(script);
    Options options;
    options.on_report = [](const rille::Report&) {};
    Runtime runtime(options);
    std::atomic<bool> ended{false};
    std::thread other([&] {
      for (;;) {
        std::this_thread::sleep_for(10ms);
        if (ended) break;
        runtime.interrupt("enough of it");
      }
    });
    Outcome outcome =
        run_script(runtime, std::string("local async = require 'rille.async' ") + script);
    ended = true;
    other.join();
    INFO(outcome.message);
    CHECK(outcome.kind != Outcome::kDone);  // cancelled, if it came between two turns
    CHECK(contains(outcome.message, "enough of it"));
    run_script(runtime, "return 1");  // the last one may have come at the very end
    CHECK(run_script(runtime, "require('rille.async').sleep(0) return 1").kind == Outcome::kDone);
  }
}

TEST_CASE("interruptions and the end of turns may meet at any point", "[limits]") {
  Runtime runtime;
  std::atomic<bool> ended{false};
  std::thread other([&] {
    while (!ended) runtime.interrupt("again");
  });
  for (int i = 0; i < 30; ++i) {
    try {
      runtime.run_string(
          "local async, n = require 'rille.async', 0 "
          "for i = 1, 50 do pcall(function() for k = 1, 2000 do n = n + k end end) async.sleep(0) "
          "end");
    } catch (const rille::Error&) {
    }
  }
  ended = true;
  other.join();
  for (int i = 0; i < 5; ++i) run_script(runtime, "return 1");
  CHECK(runtime.run_string("return 1").size() == 1);
}

TEST_CASE("stopping compiled code is known to work with this LuaJIT", "[limits]") {
  lua_State* L = luaL_newstate();
  rille::Stopper stopper;
  stopper.prepare(L, false);
  CHECK(stopper.is_complete());
  lua_close(L);
}

TEST_CASE("interruptions while a runtime is closed do no harm", "[limits]") {
  for (int round = 0; round < 20; ++round) {
    Options options;
    options.on_report = [](const rille::Report&) {};
    auto runtime = std::make_unique<Runtime>(options);
    std::atomic<bool> ended{false};
    std::thread other([&] {
      while (!ended) runtime->interrupt("again");
    });
    try {
      runtime->spawn_string(
          "local async = require 'rille.async' "
          "async.finally(function() async.sleep(100) end, function() async.sleep(0) end)");
      runtime->poll();
      runtime->close();
    } catch (const rille::Error&) {
    }
    ended = true;
    other.join();
  }
}
