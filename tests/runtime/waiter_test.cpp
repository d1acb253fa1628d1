// module.h from a module's side: completions at every moment of a wait's life.
#include "waiter.h"

#include <rille/module.h>

#include <atomic>
#include <rille/module.hpp>
#include <thread>

#include "scheduler.h"
#include "support/runtime_fixture.hpp"

namespace {

// What the functions below share with the test that installed them.
struct Probe {
  rille_waiter* waiter = nullptr;
  int cancels = 0;
  int pushes = 0;    // with a state
  int discards = 0;  // without
  std::vector<std::thread> threads;
};
const char kProbe[] = "test.probe";

Probe* probe(lua_State* L) {
  lua_getfield(L, LUA_REGISTRYINDEX, kProbe);
  auto* p = static_cast<Probe*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return p;
}

int push_answer(lua_State* L, void* data) {
  auto* p = static_cast<Probe*>(data);
  if (!L) {
    ++p->discards;
    return 0;
  }
  ++p->pushes;
  lua_pushnil(L);
  lua_pushinteger(L, 42);
  return 2;
}

int push_raises(lua_State* L, void* data) {
  auto* p = static_cast<Probe*>(data);
  if (!L) return 0;
  ++p->pushes;
  return luaL_error(L, "from push");
}

void on_cancel(rille_waiter*, void* data) { ++static_cast<Probe*>(data)->cancels; }

int wait(lua_State* L) {
  Probe* p = probe(L);
  p->waiter = rille_prepare(L, on_cancel, p);
  return rille_park(L, p->waiter);
}

int wait_for_nothing(lua_State* L) {
  Probe* p = probe(L);
  rille_waiter* w = rille_prepare(L, on_cancel, p);
  rille_complete(w, push_answer, p);
  return rille_park(L, w);
}

int complete(lua_State* L) {
  Probe* p = probe(L);
  rille_complete(std::exchange(p->waiter, nullptr), push_answer, p);
  return 0;
}

int complete_raising(lua_State* L) {
  Probe* p = probe(L);
  rille_complete(std::exchange(p->waiter, nullptr), push_raises, p);
  return 0;
}

int fail(lua_State* L) {
  Probe* p = probe(L);
  rille_fail(std::exchange(p->waiter, nullptr), "TestError", "ECODE", "what went wrong");
  return 0;
}

// Until all threads have done what they were started for.
int join(lua_State* L) {
  for (auto& thread : probe(L)->threads) thread.join();
  probe(L)->threads.clear();
  return 0;
}

int complete_from_thread(lua_State* L) {
  Probe* p = probe(L);
  rille_waiter* w = std::exchange(p->waiter, nullptr);
  p->threads.emplace_back([w, p] { rille_complete_from_thread(w, push_answer, p); });
  return 0;
}

struct Job {
  int n;
  std::atomic<int>* freed;
};

int work(lua_State* L) {
  static std::atomic<int> freed;
  auto* job = new Job{static_cast<int>(luaL_checkinteger(L, 1)), &freed};
  return rille_work(
      L, [](void* data) { static_cast<Job*>(data)->n *= 2; },
      [](lua_State* l, void* data) {
        lua_pushnil(l);
        lua_pushinteger(l, static_cast<Job*>(data)->n);
        return 2;
      },
      [](void* data) {
        ++*static_cast<Job*>(data)->freed;
        delete static_cast<Job*>(data);
      },
      job);
}

// Prepares a wait and raises an error instead of parking it.
int never_parks(lua_State* L) {
  Probe* p = probe(L);
  p->waiter = rille_prepare(L, on_cancel, p);
  return luaL_error(L, "changed its mind");
}

// The same, with the wait completed as it has to be.
int gives_up(lua_State* L) {
  Probe* p = probe(L);
  rille_complete(rille_prepare(L, on_cancel, p), push_answer, p);
  return luaL_error(L, "changed its mind");
}

const rille_reg kFunctions[] = {{"wait", wait, RILLE_WAITS},
                                {"never_parks", never_parks, RILLE_WAITS},
                                {"gives_up", gives_up, RILLE_WAITS},
                                {"wait_for_nothing", wait_for_nothing, RILLE_WAITS},
                                {"work", work, RILLE_WAITS},
                                {"complete", complete, 0},
                                {"complete_raising", complete_raising, 0},
                                {"complete_from_thread", complete_from_thread, 0},
                                {"join", join, 0},
                                {"fail", fail, 0},
                                {nullptr, nullptr, 0}};

int open(lua_State* L) {
  rille_newlib(L, kFunctions);
  lua_setglobal(L, "native");
  return 0;
}

class NativeFixture : public RuntimeFixture {
 public:
  Probe p;
  NativeFixture() {
    lua_State* L = runtime.lua_state();
    lua_pushlightuserdata(L, &p);
    lua_setfield(L, LUA_REGISTRYINDEX, kProbe);
    REQUIRE(lua_cpcall(L, open, nullptr) == 0);
  }
  ~NativeFixture() {
    for (auto& t : p.threads) t.join();
  }
};

}  // namespace

TEST_CASE_METHOD(NativeFixture, "a completed wait gives its results") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    native.complete()
    assert(t:await() == 42)
  )lua");
  CHECK(p.pushes == 1);
  CHECK(p.discards == 0);
}

TEST_CASE_METHOD(NativeFixture, "a wait that is completed before it begins returns at once") {
  run("assert(native.wait_for_nothing() == 42)");
  CHECK(p.pushes == 1);
}

TEST_CASE_METHOD(NativeFixture, "a failed wait raises an error object in its caller") {
  run(R"lua(
    local async, errors = require "rille.async", require "rille.errors"
    local t = async.spawn(function()
      local ok, e = pcall(native.wait)
      assert(not ok and errors.is(e, "TestError") and e.code == "ECODE", tostring(e))
      assert(e.message == "what went wrong")
    end)
    async.sleep(0)
    native.fail()
    t:await()
  )lua");
}

TEST_CASE_METHOD(NativeFixture,
                 "an error that push raises is the error of the waiting task alone") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    native.complete_raising()
    local ok, e = pcall(t.await, t)
    assert(not ok and tostring(e):find "from push", tostring(e))
  )lua");
}

TEST_CASE_METHOD(NativeFixture,
                 "a cancelled wait tells the module once, and its result is dropped") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    t:cancel()
    t:cancel()
    async.sleep(0)
    assert(t:cancelled())
    assert(async.stats().abandoned == 1)
    native.complete()
    assert(async.stats().abandoned == 0)
  )lua");
  CHECK(p.cancels == 1);
  CHECK(p.pushes == 0);
  CHECK(p.discards == 1);
}

TEST_CASE_METHOD(NativeFixture, "a completion beats a cancellation that comes after it") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    native.complete()
    t:cancel()
    assert(t:await() == 42)
  )lua");
  CHECK(p.cancels == 0);
  CHECK(p.pushes == 1);
}

TEST_CASE_METHOD(NativeFixture, "a completion from another thread wakes the loop") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    native.complete_from_thread()
    local timer = async.call_later(60, function() end) -- a mailbox alone does not keep the loop up
    assert(t:await() == 42)
    timer:cancel()
  )lua");
  CHECK(p.pushes == 1);
}

TEST_CASE_METHOD(NativeFixture,
                 "a completion from another thread beats a cancellation that comes after it") {
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    native.complete_from_thread()
    native.join()
    t:cancel()  -- before the loop is polled
    assert(t:await() == 42)
  )lua");
  CHECK(p.cancels == 0);
  CHECK(p.pushes == 1);
}

TEST_CASE_METHOD(NativeFixture, "work runs on the pool, and its data is freed when nobody waits") {
  run(R"lua(
    local async = require "rille.async"
    assert(native.work(21) == 42)
    local tasks = {}
    for i = 1, 50 do tasks[i] = async.spawn(native.work, i) end
    async.sleep(0)
    for i = 1, 50, 2 do tasks[i]:cancel() end
    for i = 2, 50, 2 do assert(tasks[i]:await() == i * 2) end
  )lua");
}

TEST_CASE_METHOD(NativeFixture, "a wrong argument of a native function names the function") {
  run(R"lua(
    local ok, e = pcall(native.work, {})
    assert(not ok and e:find("bad argument #1 to 'work' (number expected, got table)", 1, true), e)
  )lua");
}

TEST_CASE("a wait that is completed after its runtime was closed discards its result") {
  Probe p;
  rille_waiter* left = nullptr;
  {
    rille::Runtime runtime;
    lua_State* L = runtime.lua_state();
    lua_pushlightuserdata(L, &p);
    lua_setfield(L, LUA_REGISTRYINDEX, kProbe);
    REQUIRE(lua_cpcall(L, open, nullptr) == 0);
    run_script(runtime, R"lua(
      local async = require "rille.async"
      async.spawn(native.wait)
      async.sleep(0)
    )lua",
               "=test");
    left = p.waiter;
  }
  CHECK(p.cancels == 1);
  REQUIRE(left);
  rille_complete(left, push_answer, &p);
  CHECK(p.discards == 1);
}

TEST_CASE_METHOD(NativeFixture, "a module built for another version of the interface is refused") {
  lua_State* L = runtime.lua_state();
  int status = lua_cpcall(
      L,
      [](lua_State* l) {
        rille_newlib_abi(l, kFunctions, RILLE_ABI_VERSION + 1);
        return 0;
      },
      nullptr);
  REQUIRE(status != 0);
  CHECK(std::string(lua_tostring(L, -1)).find("version") != std::string::npos);
  lua_pop(L, 1);
}

TEST_CASE_METHOD(NativeFixture, "a waiter that was never parked is freed by its completion") {
  run(R"lua(
    local async = require "rille.async"
    assert(not pcall(native.never_parks))
    async.sleep(0)
    native.complete()
    assert(not pcall(native.never_parks))
    native.complete()  -- its task could still park it, until it waits or ends
  )lua");
  CHECK(p.discards == 2);
  CHECK(p.pushes == 0);
}

TEST_CASE_METHOD(NativeFixture,
                 "what was completed and never parked is freed when the task waits") {
  run(R"lua(
    local async = require "rille.async"
    for _ = 1, 10 do assert(not pcall(native.gives_up)) end
    async.sleep(0)
    async.sleep(0)
    assert(native.wait_for_nothing() == 42)
  )lua");
  CHECK(p.discards == 10);
  CHECK(p.pushes == 1);
}

#ifdef NDEBUG
TEST_CASE_METHOD(NativeFixture, "a second completion before the task goes on is ignored") {
  lua_State* L = runtime.lua_state();
  auto twice = [](lua_State* l) {
    Probe* q = probe(l);
    rille_complete(q->waiter, push_answer, q);
    rille_complete(q->waiter, push_answer, q);
    return 0;
  };
  lua_register(L, "twice", twice);
  run(R"lua(
    local async = require "rille.async"
    local t = async.spawn(native.wait)
    async.sleep(0)
    twice()
    assert(t:await() == 42)
  )lua");
  CHECK(p.pushes == 1);
  CHECK(p.discards == 1);
}
#endif

TEST_CASE("a module's data is freed with the runtime, and its clean-up may wait") {
  static int freed, closed;
  static const char kName = 0;
  freed = closed = 0;
  std::string order;
  {
    rille::Runtime runtime;
    runtime.define("note", [&](std::string_view what) { order += what; });
    lua_State* L = runtime.lua_state();
    auto set_up = [](lua_State* l) {
      auto free_data = [](void* data) { freed += *static_cast<int*>(data); };
      static int one = 1, two = 2;
      CHECK(rille_get_data(l, &kName) == nullptr);
      rille_set_data(l, &kName, &one, free_data);
      rille_set_data(l, &kName, &two, free_data);
      CHECK(rille_get_data(l, &kName) == &two);
      lua_CFunction note_last = [](lua_State* s) {
        lua_getglobal(s, "note");
        lua_pushliteral(s, "last ");
        lua_call(s, 1, 0);
        CHECK(lua_touserdata(s, 1) == &closed);
        ++closed;
        return 0;
      };
      lua_CFunction wait_first = [](lua_State* s) {
        lua_getglobal(s, "note");
        lua_pushliteral(s, "first ");
        lua_call(s, 1, 0);
        return rille_work(
            s, [](void* data) { ++*static_cast<int*>(data); },
            [](lua_State* t, void*) {
              lua_getglobal(t, "note");
              lua_pushliteral(t, "worked ");
              lua_call(t, 1, 0);
              return 0;
            },
            nullptr, lua_touserdata(s, 1));
      };
      rille_at_close(l, note_last, 0, &closed);
      rille_at_close(l, wait_first, RILLE_WAITS, &closed);
      return 0;
    };
    REQUIRE(lua_cpcall(L, set_up, nullptr) == 0);
    CHECK(freed == 1);
    runtime.run_string("note 'script '");
    CHECK(closed == 0);
  }
  CHECK(order == "script first worked last ");
  CHECK(closed == 2);
  CHECK(freed == 3);
}
