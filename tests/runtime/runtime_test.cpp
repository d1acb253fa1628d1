// A runtime from its opening to its close, alone and beside others.
#include <cstdio>
#include <lua.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "support/runtime_fixture.hpp"

TEST_CASE("a runtime opens and closes without running anything") {
  for (int i = 0; i < 20; ++i) rille::Runtime runtime;
}

TEST_CASE("closing twice does nothing") {
  rille::Runtime runtime;
  runtime.close();
  runtime.close();
}

TEST_CASE("a signal that comes while a runtime closes has nothing to cancel") {
  rille::Runtime runtime;
  CHECK(run_script(runtime, "return", "=test").kind == Outcome::kDone);
  uv_async_t signal;
  signal.data = &runtime;
  uv_async_init(runtime.loop(), &signal, [](uv_async_t* async) {
    static_cast<rille::Runtime*>(async->data)->cancel("SIGINT");
    uv_close(reinterpret_cast<uv_handle_t*>(async), nullptr);
  });
  uv_async_send(&signal);  // its callback runs in the loop's last turns
  runtime.close();
  CHECK(uv_is_closing(reinterpret_cast<uv_handle_t*>(&signal)));
}

TEST_CASE("what a script left asleep is cancelled, and its clean-up has run at the end") {
  rille::Runtime runtime;
  Outcome outcome = run_script(runtime, R"lua(
    local async = require "rille.async"
    cleaned = 0
    for _ = 1, 10 do
      async.spawn(async.finally, function() async.sleep(1000) end, function()
        async.sleep(0)
        cleaned = cleaned + 1
      end)
    end
    async.sleep(0)
  )lua",
                               "=test");
  CHECK(outcome.kind == Outcome::kDone);
  lua_getglobal(runtime.lua_state(), "cleaned");
  CHECK(lua_tointeger(runtime.lua_state(), -1) == 10);
  lua_pop(runtime.lua_state(), 1);
}

TEST_CASE("a runtime closes with tasks that wait for ever and ignore their cancellation") {
  rille::Runtime runtime;
  run_script(runtime, R"lua(
    local async = require "rille.async"
    async.spawn(function()
      while true do async.pcall(async.Event().wait, async.Event()) end
    end)
    async.sleep(0)
  )lua",
             "=test");
}

TEST_CASE("a failed script gives its message and where it stood") {
  rille::Runtime runtime;
  Outcome outcome = run_script(runtime, "local x = nil\nlocal y = x.field", "=broken");
  CHECK(outcome.kind == Outcome::kFailed);
  CHECK(outcome.message.find("broken:2:") != std::string::npos);
}

TEST_CASE("a script that does not parse gives its line and what was near") {
  rille::Runtime runtime;
  Outcome outcome = run_script(runtime, "local x = = 1", "=broken");
  CHECK(outcome.kind == Outcome::kFailed);
  CHECK(outcome.message.find("broken:1:") != std::string::npos);
  CHECK(outcome.message.find("near '='") != std::string::npos);
}

TEST_CASE("several scripts run in one runtime, one after another") {
  RuntimeFixture fixture;
  fixture.run("counter = (counter or 0) + 1; require('rille.async').sleep(0)");
  fixture.run("counter = counter + 1; require('rille.async').sleep(0.001)");
  fixture.run("assert(counter == 2)");
  CHECK(fixture.open_handles() == 0);
}

TEST_CASE("runtimes in threads of their own know nothing of each other") {
  std::vector<std::thread> threads;
  std::vector<int> failed(4, 1);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i, &failed] {
      rille::Options options;
      options.args = {std::to_string(i)};
      rille::Runtime runtime(options);
      Outcome outcome = run_script(runtime, R"lua(
        local async = require "rille.async"
        local sum = 0
        async.group(function(g)
          for _ = 1, 1000 do
            g:spawn(function()
              async.sleep(0)
              sum = sum + 1
            end)
          end
        end)
        async.sleep(0.002)
        assert(sum == 1000 and value == nil)
        value = ...
      )lua",
                                   "=test");
      failed[static_cast<std::size_t>(i)] = outcome.kind != Outcome::kDone;
    });
  }
  for (auto& t : threads) t.join();
  for (int f : failed) CHECK(f == 0);
}

TEST_CASE("two runtimes live side by side in one thread") {
  rille::Runtime a, b;
  CHECK(run_script(a, "x = 1; require('rille.async').sleep(0)", "=a").kind == Outcome::kDone);
  CHECK(run_script(b, "assert(x == nil); require('rille.async').sleep(0)", "=b").kind ==
        Outcome::kDone);
  CHECK(run_script(a, "assert(x == 1)", "=a").kind == Outcome::kDone);
}

// What we assume of LuaJIT: bindings keep owners in frames that a Lua error unwinds.
TEST_CASE("a Lua error runs the destructors of the C++ frames it passes") {
  static int destroyed;
  destroyed = 0;
  std::unique_ptr<lua_State, decltype(&lua_close)> L(luaL_newstate(), lua_close);
  lua_pushcfunction(L.get(), [](lua_State* l) -> int {
    struct Owner {
      ~Owner() { ++destroyed; }
    } owner;
    return luaL_error(l, "an error");
  });
  CHECK(lua_pcall(L.get(), 0, 0, 0) == LUA_ERRRUN);
  CHECK(destroyed == 1);
}

TEST_CASE("a finished coroutine can be given another function, one that failed cannot") {
  std::unique_ptr<lua_State, decltype(&lua_close)> L(luaL_newstate(), lua_close);
  lua_State* co = lua_newthread(L.get());
  for (int i = 0; i < 3; ++i) {
    lua_settop(co, 0);
    REQUIRE(luaL_loadstring(co, "return 7") == 0);
    REQUIRE(lua_resume(co, 0) == 0);
    CHECK(lua_tointeger(co, -1) == 7);
  }
  lua_settop(co, 0);
  REQUIRE(luaL_loadstring(co, "local x = nil; return x.y") == 0);
  CHECK(lua_resume(co, 0) == LUA_ERRRUN);
  luaL_loadstring(co, "return 7");
  CHECK(lua_resume(co, 0) == LUA_ERRRUN);
}

#if !defined(__SANITIZE_ADDRESS__)  // its shadow memory does not fit under a limit
TEST_CASE("memory that runs out is an error of the task that needs it, and the rest goes on") {
  std::string command = "ulimit -v 400000; " RILLE_EXECUTABLE R"sh( -e '
    local async = require "rille.async"
    local t = async.spawn(function()
      local hoard = {}
      for i = 1, 1e9 do hoard[i] = ("x"):rep(100000) .. i end
    end)
    local ok, e = pcall(t.await, t)
    assert(not ok and tostring(e):find "not enough memory", tostring(e))
    t = nil
    collectgarbage()
    print(async.spawn(function() async.sleep(0) return "goes on" end):await())
  ' 2>&1)sh";
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe);
  char text[4096] = {};
  std::size_t n = fread(text, 1, sizeof text - 1, pipe);
  int status = pclose(pipe);
  INFO(std::string(text, n));
  CHECK(status == 0);
  CHECK(std::string(text, n) == "goes on\n");
}
#endif
