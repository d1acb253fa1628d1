// module.h from a module's side: what it gets wrong, and the moments at which nothing is simple.
#include <rille/module.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <rille/module.hpp>
#include <stdexcept>
#include <thread>
#include <utility>

#include "support/runtime_fixture.hpp"

namespace {

// What the functions below share with the test. Tests run one after the other.
struct Probe {
  rille_waiter* waiter = nullptr;
  int cancels = 0;
  int pushes = 0;
  int discards = 0;
  std::atomic<int> freed{0};
  std::atomic<bool> has_begun{false}, may_end{false};
  std::thread thread;
};
Probe* probe = nullptr;

int push_answer(lua_State* L, void*) {
  if (!L) {
    ++probe->discards;
    return 0;
  }
  ++probe->pushes;
  lua_pushnil(L);
  lua_pushinteger(L, 42);
  return 2;
}

int push_many(lua_State* L, void*) {
  if (!L) return 0;
  constexpr int kMany = 1000;
  luaL_checkstack(L, kMany + 1, "too many results");
  lua_pushnil(L);
  for (int i = 1; i <= kMany; ++i) lua_pushinteger(L, i);
  return 1 + kMany;
}

int push_yields(lua_State* L, void*) { return L ? lua_yield(L, 0) : 0; }

// wait(): until complete(), complete_many() or complete_yielding().
int wait(lua_State* L) {
  probe->waiter = rille_prepare(
      L, [](rille_waiter*, void*) { ++probe->cancels; }, nullptr);
  return rille_park(L, probe->waiter);
}

template <int (*Push)(lua_State*, void*)>
int complete(lua_State*) {
  rille_complete(std::exchange(probe->waiter, nullptr), Push, nullptr);
  return 0;
}

int complete_from_thread(lua_State*) {
  probe->thread = std::thread([w = std::exchange(probe->waiter, nullptr)] {
    rille_complete_from_thread(w, push_answer, nullptr);
  });
  return 0;
}

// A wait that is completed where its cancellation is told.
int wait_ending_at_once(lua_State* L) {
  auto on_cancel = [](rille_waiter* w, void*) {
    ++probe->cancels;
    rille_complete(w, push_answer, nullptr);
  };
  return rille_park(L, rille_prepare(L, on_cancel, nullptr));
}

int prepare(lua_State* L) {
  probe->waiter = rille_prepare(L, nullptr, nullptr);
  return 0;
}

int park(lua_State* L) { return rille_park(L, probe->waiter); }

void count_freed(void*) { ++probe->freed; }

int work_raising(lua_State* L) {
  return rille_work(
      L, [](void*) {}, [](lua_State* l, void*) { return luaL_error(l, "from done"); }, count_freed,
      nullptr);
}

int work_until_told(lua_State* L) {
  return rille_work(
      L,
      [](void* p) {
        static_cast<Probe*>(p)->has_begun = true;
        while (!static_cast<Probe*>(p)->may_end) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      },
      nullptr, [](void* p) { ++static_cast<Probe*>(p)->freed; }, probe);
}

const rille_reg kFunctions[] = {{"wait", wait, RILLE_WAITS},
                                {"wait_ending_at_once", wait_ending_at_once, RILLE_WAITS},
                                {"park", park, RILLE_WAITS},
                                {"work_raising", work_raising, RILLE_WAITS},
                                {"work_until_told", work_until_told, RILLE_WAITS},
                                {"prepare", prepare, 0},
                                {"complete", complete<push_answer>, 0},
                                {"complete_many", complete<push_many>, 0},
                                {"complete_yielding", complete<push_yields>, 0},
                                {"complete_from_thread", complete_from_thread, 0},
                                {nullptr, nullptr, 0}};

int open_with(lua_State* L, const rille_reg* functions) {
  rille_newlib(L, functions);
  lua_setglobal(L, "native");
  return 0;
}

int open(lua_State* L) { return open_with(L, kFunctions); }

class ModuleFixture : public RuntimeFixture {
 public:
  Probe p;
  ModuleFixture() {
    probe = &p;
    REQUIRE(lua_cpcall(runtime.lua_state(), open, nullptr) == 0);
  }
  ~ModuleFixture() {
    if (p.thread.joinable()) p.thread.join();
  }

  // The functions as the global `native`.
  void use(const rille_reg* functions) {
    auto call = [](lua_State* L) {
      return open_with(L, static_cast<const rille_reg*>(lua_touserdata(L, 1)));
    };
    REQUIRE(lua_cpcall(runtime.lua_state(), call, const_cast<rille_reg*>(functions)) == 0);
  }
};

}  // namespace

// ---- what is pushed ----------------------------------------------------------------------------

TEST_CASE_METHOD(ModuleFixture, "a wait may give a thousand results") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(function()
      local all = { native.wait() }
      assert(#all == 1000 and all[1] == 1 and all[1000] == 1000)
    end)
    async.sleep(0)
    native.complete_many()
    t:await()
  )lua");
}

TEST_CASE_METHOD(ModuleFixture, "a push that yields is the error of its task alone") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    native.complete_yielding()
    local ok, e = pcall(t.await, t)
    assert(not ok and tostring(e):find "yield", tostring(e))
    async.sleep(0)
  )lua");
}

TEST_CASE_METHOD(ModuleFixture, "what the end of some work raises is the error of its task") {
  run(R"lua(
    local ok, e = pcall(native.work_raising)
    assert(not ok and tostring(e):find "from done", tostring(e))
  )lua");
  CHECK(p.freed == 1);
}

TEST_CASE_METHOD(ModuleFixture, "exceptions of an operation in C++ are errors of its task") {
  struct Throwing : rille::Waiting {
    using Waiting::Waiting;
    int push(lua_State*) override { throw std::runtime_error("from C++"); }
  };
  auto throwing = [](lua_State* L) {
    auto operation = std::make_unique<Throwing>(rille::Operation{"nothing", {}, {}, {}});
    operation->prepare(L);
    return rille::fail(L, std::move(operation), 0);
  };
  const rille_reg functions[] = {{"throwing", throwing, RILLE_WAITS}, {nullptr, nullptr, 0}};
  use(functions);
  run(R"lua(
    local ok, e = pcall(native.throwing)
    assert(not ok and e.kind == "Error" and e.message == "from C++", tostring(e))
  )lua");
}

// ---- cancellation and the end ------------------------------------------------------------------

TEST_CASE_METHOD(ModuleFixture, "a wait may be completed right where its cancellation is told") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait_ending_at_once)
    async.sleep(0)
    t:cancel()
    async.sleep(0)
    assert(t:cancelled() and async.stats().abandoned == 0)
  )lua");
  CHECK(p.cancels == 1);
  CHECK(p.discards == 1);
  CHECK(p.pushes == 0);
}

TEST_CASE_METHOD(ModuleFixture, "another thread may complete what was cancelled long ago") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    t:cancel()
    async.sleep(0)
    native.complete_from_thread()
    while async.stats().abandoned > 0 do async.sleep(0) end
  )lua");
  CHECK(p.cancels == 1);
  CHECK(p.discards == 1);
  CHECK(p.pushes == 0);
}

TEST_CASE("another thread may complete what its runtime has not outlived") {
  Probe p;
  probe = &p;
  rille_waiter* left = nullptr;
  {
    rille::Runtime runtime;
    REQUIRE(lua_cpcall(runtime.lua_state(), open, nullptr) == 0);
    runtime.spawn_string("native.wait()");
    runtime.poll();
    left = p.waiter;
  }
  REQUIRE(left);
  CHECK(p.cancels == 1);
  std::thread([left] { rille_complete_from_thread(left, push_answer, nullptr); }).join();
  CHECK(p.discards == 1);
}

TEST_CASE("a runtime that is closed waits for work that comes to an end") {
  Probe p;
  probe = &p;
  std::thread late;
  {
    rille::Runtime runtime;
    REQUIRE(lua_cpcall(runtime.lua_state(), open, nullptr) == 0);
    runtime.define("closing", [&] {
      late = std::thread([&p] {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        p.may_end = true;
      });
    });
    runtime.spawn_string("require('rille.async').finally(native.work_until_told, closing)");
    while (!p.has_begun) runtime.poll();
  }
  CHECK(p.freed == 1);
  late.join();
}

TEST_CASE("a runtime that is closed gives up on work that never ends", "[slow]") {
  Probe p;
  probe = &p;
  {
    rille::Runtime runtime;
    REQUIRE(lua_cpcall(runtime.lua_state(), open, nullptr) == 0);
    runtime.spawn_string("native.work_until_told()");
    while (!p.has_begun) runtime.poll();
  }
  CHECK(p.freed == 0);
  p.may_end = true;
  while (p.freed == 0) std::this_thread::yield();  // on that thread
}

// ---- two runtimes ------------------------------------------------------------------------------

TEST_CASE("a module keeps data of its own for each runtime of a program") {
  static int alive;
  alive = 0;
  struct Count {
    Count() { ++alive; }
    ~Count() { --alive; }
    int n = 0;
  };
  static const char kName = 0;
  lua_CFunction open_counter = [](lua_State* L) {
    rille_set_data(L, &kName, new Count, [](void* data) { delete static_cast<Count*>(data); });
    lua_register(L, "count", [](lua_State* l) {
      lua_pushinteger(l, ++static_cast<Count*>(rille_get_data(l, &kName))->n);
      return 1;
    });
    return 0;
  };
  rille::Runtime one;
  REQUIRE(lua_cpcall(one.lua_state(), open_counter, nullptr) == 0);
  {
    rille::Runtime two;
    REQUIRE(lua_cpcall(two.lua_state(), open_counter, nullptr) == 0);
    CHECK(alive == 2);
    CHECK(one.run_string("return count() + count()").at(0) == 3);
    CHECK(two.run_string("return count()").at(0) == 1);
    CHECK(rille_loop(one.lua_state()) == one.loop());
    CHECK(rille_loop(two.lua_state()) == two.loop());
  }
  CHECK(alive == 1);
  CHECK(one.run_string("return count()").at(0) == 3);
  one.close();
  CHECK(alive == 0);
}

// ---- a module's mistakes -----------------------------------------------------------------------

TEST_CASE_METHOD(ModuleFixture, "waiting where it is impossible is an error that says so") {
  run(R"lua(
    local ok, e = pcall(table.sort, { 2, 1 }, function() native.wait() end)
    assert(not ok and tostring(e):find("cannot wait inside table.sort", 1, true), tostring(e))
    local async = require "rille.async"
    async.call_soon(function() ok, e = pcall(native.wait) end)
    async.sleep(0)
    assert(not ok and tostring(e):find "wait", tostring(e))
  )lua");
  lua_State* L = runtime.lua_state();
  lua_CFunction outside = [](lua_State* l) {
    rille_prepare(l, nullptr, nullptr);
    return 0;
  };
  REQUIRE(lua_cpcall(L, outside, nullptr) != 0);
  lua_pop(L, 1);
  REQUIRE(lua_cpcall(L, work_raising, nullptr) != 0);
  lua_pop(L, 1);
  CHECK(p.freed == 1);
}

TEST_CASE_METHOD(ModuleFixture, "a waiter is parked by the task that has prepared it") {
  run(R"lua(
    local async = require "rille.async"
    async.spawn(function()
      native.prepare()
      async.sleep(0.001)
    end)
    async.sleep(0)
    local ok, e = pcall(native.park)
    assert(not ok and tostring(e):find("another task", 1, true), tostring(e))
    native.complete()
  )lua");
  CHECK(p.discards == 1);
}

TEST_CASE_METHOD(ModuleFixture, "what is missing is an error, or nothing") {
  const rille_reg functions[] = {
      {"nothing",
       [](lua_State* L) {
         rille_waiter* w = rille_prepare(L, nullptr, nullptr);
         rille_complete(w, nullptr, nullptr);
         return rille_park(L, w);
       },
       RILLE_WAITS},
      {"failed",
       [](lua_State* L) {
         rille_waiter* w = rille_prepare(L, nullptr, nullptr);
         rille_fail(w, nullptr, nullptr, nullptr);
         return rille_park(L, w);
       },
       RILLE_WAITS},
      {"no_work",
       [](lua_State* L) { return rille_work(L, nullptr, nullptr, count_freed, nullptr); },
       RILLE_WAITS},
      {"no_done",
       [](lua_State* L) {
         return rille_work(
             L, [](void*) {}, nullptr, nullptr, nullptr);
       },
       RILLE_WAITS},
      {"raise", [](lua_State* L) { return rille_error(L, nullptr, nullptr, nullptr); }, 0},
      {"os",
       [](lua_State* L) {
         rille_push_os_error(L, UV_ENOENT, nullptr, nullptr, nullptr, nullptr);
         return 1;
       },
       0},
      {"at_close",
       [](lua_State* L) {
         rille_at_close(L, nullptr, 0, nullptr);
         return 0;
       },
       0},
      {"data",
       [](lua_State* L) {
         static const char kName = 0;
         rille_set_data(L, &kName, nullptr, nullptr);
         lua_pushboolean(L, rille_get_data(L, &kName) == nullptr);
         return 1;
       },
       0},
      {"empty",
       [](lua_State* L) {
         rille_newlib(L, nullptr);
         return 1;
       },
       0},
      {nullptr, nullptr, 0}};
  use(functions);
  run(R"lua(
    assert(select("#", native.nothing()) == 0)
    local function raised(fn)
      local ok, e = pcall(fn)
      assert(not ok)
      return e
    end
    local e = raised(native.failed)
    assert(e.kind == "Error" and e.message == "" and e.code == nil)
    assert(tostring(raised(native.no_work)):find("expected, got NULL", 1, true))
    assert(select("#", native.no_done()) == 0)
    e = raised(native.raise)
    assert(e.kind == "Error" and e.message == "")
    assert(native.os().code == "ENOENT")
    assert(tostring(raised(native.at_close)):find("expected, got NULL", 1, true))
    assert(native.data() and next(native.empty()) == nil)
  )lua");
  CHECK(p.freed == 1);
}

TEST_CASE_METHOD(ModuleFixture, "a module for another version is named, with both versions") {
  lua_CFunction luaopen_other = [](lua_State* L) {
    rille_newlib_abi(L, kFunctions, RILLE_ABI_VERSION + 1);
    return 1;
  };
  lua_State* L = runtime.lua_state();
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, luaopen_other);
  lua_setfield(L, -2, "other");
  lua_pop(L, 2);
  run(R"lua(
    local ok, e = pcall(require, "other")
    e = tostring(e)
    assert(not ok and e:find("module 'other' was built for version 2 of rille/module.h", 1, true), e)
    assert(e:find("has version 1", 1, true) and e:find("build it again", 1, true), e)
    assert(package.loaded.other == nil)
  )lua");
}

#ifndef NDEBUG
TEST_CASE("a waiter that is completed twice stops a build for debugging, which says why") {
  std::array<int, 2> channel{};
  REQUIRE(pipe(channel.data()) == 0);
  pid_t child = fork();
  if (child == 0) {
    dup2(channel[1], STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    Probe p;
    probe = &p;
    rille::Runtime runtime;
    lua_cpcall(runtime.lua_state(), open, nullptr);
    runtime.spawn_string("native.wait()");
    runtime.poll();
    rille_complete(p.waiter, push_answer, nullptr);
    rille_complete(p.waiter, push_answer, nullptr);
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
  CHECK(text.find("rille: fatal: a waiter was completed twice") != std::string::npos);
}
#endif
