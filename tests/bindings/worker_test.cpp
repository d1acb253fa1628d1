// Workers at the end of their runtime, and messages that are none.
#include <chrono>
#include <cstdlib>
#include <functional>
#include <lua.hpp>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../../bindings/worker_codec.h"
#include "support/runtime_fixture.hpp"

namespace {

double seconds(const std::function<void()>& work) {
  auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// A runtime's state with the codec in it.
struct CodecFixture {
  rille::Runtime runtime;
  lua_State* L = runtime.lua_state();

  CodecFixture() {
    Outcome outcome = run_script(runtime, "require 'rille.worker'", "=test");
    REQUIRE(outcome.kind == Outcome::kDone);
  }

  // The bytes of what a piece of Lua returns.
  std::string encode(const char* code) {
    REQUIRE(luaL_loadstring(L, code) == 0);
    REQUIRE(lua_pcall(L, 0, LUA_MULTRET, 0) == 0);
    rille::worker::Message message;
    rille::worker::encode(L, 1, rille::worker::Values::kValue, &message);
    lua_settop(L, 0);
    return message.bytes;
  }

  // Whether bytes are taken for a message. They must not do any harm either way.
  bool decodes(const std::string& bytes) {
    rille::worker::Message message;
    message.bytes = bytes;
    lua_pushcfunction(L, [](lua_State* l) {
      auto* m = static_cast<rille::worker::Message*>(lua_touserdata(l, 1));
      lua_settop(l, 0);
      return rille::worker::decode(l, *m);
    });
    lua_pushlightuserdata(L, &message);
    bool ok = lua_pcall(L, 1, LUA_MULTRET, 0) == 0;
    lua_settop(L, 0);
    return ok;
  }
};

}  // namespace

TEST_CASE_METHOD(CodecFixture, "a message that is cut short or changed is refused, or is another",
                 "[worker]") {
  // Without functions: LuaJIT trusts their bytecode.
  std::string bytes = encode(R"lua(
    local t = { 1, "two", { 3.5, x = { y = "z" } }, [2.5] = true, n = -7, big = 123456789012LL }
    t.self = t
    return t, nil, false, { t }
  )lua");
  CHECK(decodes(bytes));
  for (std::size_t n = 0; n < bytes.size(); ++n) CHECK_FALSE(decodes(bytes.substr(0, n)));
  CHECK_FALSE(decodes(bytes + "x"));
  std::mt19937 random(1);
  int taken = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string changed = bytes;
    for (unsigned n = random() % 4 + 1; n > 0; --n) {
      changed[random() % changed.size()] = static_cast<char>(random());
    }
    // A kind of object that says function would load what follows as bytecode.
    if (changed.find("\x1bLJ") == std::string::npos) taken += decodes(changed);
  }
  CHECK(taken > 0);
  CHECK(lua_gettop(L) == 0);
}

TEST_CASE_METHOD(CodecFixture, "sizes that are lies do not take memory", "[worker]") {
  std::string huge = "\xff\xff\xff\xff\xff\xff\xff\xff\x7f";
  for (std::size_t at = 0; at < 6; ++at) CHECK_FALSE(decodes(std::string(at, '\0') + huge));
  CHECK_FALSE(decodes(std::string("\0\0\1\0", 4) + huge + std::string(100, '\0')));
}

TEST_CASE("a runtime may be closed while its workers are at work", "[worker]") {
  for (const char* code : {
           // busy with waiting, with others waiting in the queue
           R"lua(
             local async, worker = require "rille.async", require "rille.worker"
             pool = worker.Pool { size = 2 }
             local begun = worker.Channel()
             tasks = {}
             for i = 1, 5 do
               tasks[i] = async.spawn(pool.run, pool, function()
                 begun:send(true)
                 require("rille.async").sleep(1000)
               end)
             end
             begun:recv()
           )lua",
           // idle
           R"lua(
             pool = require("rille.worker").Pool { size = 2 }
             pool:map({ 1, 2, 3, 4 }, function(x) return x end)
           )lua",
           // in the middle of coming and going
           R"lua(
             local async, worker = require "rille.async", require "rille.worker"
             tasks = {}
             for i = 1, 50 do
               tasks[i] = async.spawn(worker.run, function(x) return x end, i)
             end
             async.sleep(0)
             async.sleep(0)
           )lua",
           // in a channel that both sides hold
           R"lua(
             local async, worker = require "rille.async", require "rille.worker"
             local channel, back = worker.Channel(1), worker.Channel()
             tasks = { async.spawn(worker.run, function()
               back:send(true)
               for v in channel:iter() do back:send(v) end
             end), async.spawn(channel.send, channel, 1), async.spawn(channel.send, channel, 2),
               async.spawn(channel.send, channel, 3) }
             back:recv()
           )lua",
           // with cancelled jobs that do not wait
           R"lua(
             local async, worker = require "rille.async", require "rille.worker"
             pool = worker.Pool { size = 2 }
             local begun = worker.Channel()
             for i = 1, 2 do
               local task = async.spawn(pool.run, pool, function()
                 begun:send(true)
                 local stop = os.time() + 2 -- the thread sanitizer holds signals back
                 while os.time() < stop do end
               end)
               begun:recv()
               task:cancel()
             end
           )lua",
           // a worker with workers of its own
           R"lua(
             local async, worker = require "rille.async", require "rille.worker"
             local begun = worker.Channel()
             task = async.spawn(worker.run, function()
               require("rille.worker").run(function()
                 begun:send(true)
                 require("rille.async").sleep(1000)
               end)
             end)
             begun:recv()
           )lua",
       }) {
    for (int i = 0; i < 3; ++i) {
      rille::Runtime runtime;
      Outcome outcome = run_script(runtime, code);
      INFO(outcome.message);
      CHECK(outcome.kind == Outcome::kDone);
      CHECK(seconds([&] { runtime.close(); }) < 3);
    }
  }
}

TEST_CASE("a worker that never waits does not hold the end of its runtime up for long",
          "[worker][slow]") {
  rille::Runtime runtime;
  Outcome outcome = run_script(runtime, R"lua(
    local async, worker = require "rille.async", require "rille.worker"
    local begun = worker.Channel()
    task = async.spawn(worker.run, function()
      begun:send(true)
      local stop = os.time() + 5
      while os.time() < stop do end
    end)
    begun:recv()
  )lua");
  CHECK(outcome.kind == Outcome::kDone);
  CHECK(seconds([&] { runtime.close(); }) < 5);
  // Left to itself, it ends by itself, and frees what it has.
  std::this_thread::sleep_for(std::chrono::seconds(3));
}

TEST_CASE("runtimes of several threads have their own workers", "[worker]") {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      rille::Runtime runtime;
      Outcome outcome = run_script(runtime, R"lua(
        local worker = require "rille.worker"
        for i = 1, 20 do assert(worker.run(function(x) return x * 2 end, i) == i * 2) end
      )lua",
                                   "=test");
      if (outcome.kind != Outcome::kDone) std::abort();
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_CASE("workers need no FFI", "[worker]") {
  for (int i = 0; i < 5; ++i) {  // what LuaJIT has freed too early is there now and then
    rille::Runtime runtime;
    Outcome outcome = run_script(runtime, R"lua(
    -- The parser has opened it, for `5LL` below, and LuaJIT needs it at the end of the state.
    kept, package.loaded.ffi, package.preload.ffi = package.loaded.ffi, nil, nil
    local worker = require "rille.worker"
    local v = worker.run(function(x) return x end, 5LL)
    assert(tostring(v) == "5LL")
    assert(package.loaded.ffi == nil)
    for i = 1, 5 do
      worker.run(function() for _ = 1, 3 do collectgarbage() end end)
      collectgarbage()
    end
    local t = {}
    for i = 1, 10000 do t[i] = { i } end
  )lua",
                                 "=test");
    INFO(outcome.message);
    CHECK(outcome.kind == Outcome::kDone);
  }
}

TEST_CASE("what a script has under way counts as its memory", "[worker]") {
  rille::Options options;
  options.memory_limit = 64 << 20;
  rille::Runtime runtime(options);
  Outcome outcome = run_script(runtime, R"lua(
    local worker = require "rille.worker"
    local megabyte = ("x"):rep(1000000)
    local ch = worker.Channel()
    local ok, e
    for i = 1, 100 do
      ok, e = pcall(ch.send, ch, megabyte)
      if not ok then break end
    end
    assert(not ok and tostring(e):find("not enough memory", 1, true), tostring(e))
    assert(ch:size() > 50)
    for i = 1, 10 do ch:recv() end
    for i = 1, 5 do ch:send(megabyte) end
    for i = 1, 100 do assert(#worker.run(function(x) return x end, megabyte) == #megabyte) end
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}

TEST_CASE("channels that lie only in each other are freed with what is in them", "[worker]") {
  rille::Options options;
  options.memory_limit = 64 << 20;
  rille::Runtime runtime(options);
  Outcome outcome = run_script(runtime, R"lua(
    local worker = require "rille.worker"
    local megabyte = ("x"):rep(1000000)
    local function collect()
      collectgarbage()
      collectgarbage()
    end
    for i = 1, 150 do
      local a, b, c = worker.Channel(), worker.Channel(), worker.Channel()
      a:send { a, megabyte }
      b:send(c)
      c:send { b, megabyte }
      a, b, c = nil, nil, nil
      collect()
    end
    -- What can still be reached stays.
    local first, last = worker.Channel(), worker.Channel()
    last:send "here"
    first:send { last, first }
    last = nil
    collect()
    assert(first:recv()[1]:recv() == "here")
  )lua");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}

TEST_CASE("channels may lie in each other as deeply as they like", "[worker]") {
  for (bool dropped : {true, false}) {
    rille::Runtime runtime;
    Outcome outcome = run_script(runtime, R"lua(
      local worker = require "rille.worker"
      local ch = worker.Channel()
      for i = 1, 20000 do
        local outer = worker.Channel()
        outer:send(ch)
        ch = outer
      end
      channel = ch
    )lua");
    INFO(outcome.message);
    CHECK(outcome.kind == Outcome::kDone);
    if (dropped)
      CHECK(run_script(runtime, "channel = nil collectgarbage()").kind == Outcome::kDone);
  }
}

TEST_CASE("a host without an executable has no pools of processes", "[worker]") {
  rille::Runtime runtime;
  Outcome outcome = run_script(runtime, R"lua(
    local ok, e = pcall(require("rille.worker").Pool, { kind = "process" })
    assert(not ok and e.kind == "WorkerError" and e.message:find("executable", 1, true))
  )lua",
                               "=test");
  INFO(outcome.message);
  CHECK(outcome.kind == Outcome::kDone);
}
