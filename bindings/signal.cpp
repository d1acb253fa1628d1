// bindings/signal.cpp: rille.core.signal, the signals that a process gets.
#include <signal.h>

#include <atomic>
#include <cstdint>
#include <lua.hpp>
#include <mutex>
#include <rille/access.hpp>
#include <rille/builtin.hpp>
#include <rille/module.hpp>
#include <rille/rille.hpp>
#include <string>

#include "signal_names.h"

namespace {

// number(name or number) -> number, name; or nothing if there is no such signal.
int number(lua_State* L) {
  int n = 0;
  if (lua_type(L, 1) == LUA_TSTRING) {
    std::size_t size;
    const char* name = lua_tolstring(L, 1, &size);
    n = rille::signal_number(std::string(name, size));
  } else {
    lua_Number given = lua_tonumber(L, 1);
    if (given >= 1 && given < NSIG) n = static_cast<int>(given);
    if (n != given) return 0;
  }
  std::string name = rille::signal_name(n);
  if (name.empty()) return 0;
  lua_pushinteger(L, n);
  lua_pushlstring(L, name.data(), name.size());
  return 2;
}

// ---- watching ----------------------------------------------------------------------------------

// What a process does with its signals is one for all runtimes in it. libuv leaves the default
// behind when its last handle for a signal goes; what was there before its first one is put back
// here, since the executable has handlers of its own for SIGINT and SIGTERM.
class Dispositions {
 public:
  static Dispositions& of_process() {
    static Dispositions it;
    return it;
  }

  int start(uv_signal_t* handle, uv_signal_cb callback, int number) {
    std::lock_guard lock(mutex_);
    // With another handler no script would be stopped any more.
    if (number == rille::interruption_signal()) return UV_EBUSY;
    if (users_[number] == 0) sigaction(number, nullptr, &former_[number]);
    int rc = uv_signal_start(handle, callback, number);
    if (rc == 0) ++users_[number];
    return rc;
  }

  void stop(rille::Handle<uv_signal_t> handle, int number) {
    std::lock_guard lock(mutex_);
    handle.reset();
    if (--users_[number] > 0) return;
    // If there is something else than the default, another user of libuv is still there.
    struct sigaction now;
    sigaction(number, nullptr, &now);
    if (now.sa_handler == SIG_DFL) sigaction(number, &former_[number], nullptr);
  }

 private:
  std::mutex mutex_;
  int users_[NSIG] = {};
  struct sigaction former_[NSIG] = {};
};

// One signal, watched by one runtime.
struct Watch {
  static constexpr char kName[] = "rille.core.SignalWatch";

  Watch() = default;
  ~Watch() { stop(); }
  void stop() {
    if (handle) Dispositions::of_process().stop(std::move(handle), number);
  }

  rille::Handle<uv_signal_t> handle;
  int number = 0;
  // A coroutine that only lends its stack, with the function to call at its bottom: a callback of
  // the loop has no running one.
  lua_State* stack = nullptr;
  int stack_ref = LUA_NOREF;
};

void on_signal(uv_signal_t* handle, int number) {
  lua_State* L = static_cast<Watch*>(handle->data)->stack;
  lua_pushvalue(L, 1);
  lua_pushinteger(L, number);
  if (lua_pcall(L, 1, 0, 0) == 0) return;
  const char* text = lua_tostring(L, -1);
  rille::report_text(L, "signal " + std::to_string(number) + ": " + (text ? text : "an error"));
  lua_pop(L, 1);
}

// watch(number, fn) -> err, watch. `fn(number)` is called at each signal, outside of every task.
int watch(lua_State* L) {
  rille::Refusal refusal;
  rille::Access* access = rille::Access::of(L);
  if (access && !access->may_steer_process("taking signals of the process", &refusal)) {
    return rille::push_refusal(L, refusal);
  }
  int number = static_cast<int>(lua_tointeger(L, 1));
  lua_pushnil(L);
  auto* w = rille::Class<Watch>::push(L);
  w->number = number;
  w->stack = lua_newthread(L);
  lua_pushvalue(L, 2);
  lua_xmove(L, w->stack, 1);
  w->stack_ref = luaL_ref(L, LUA_REGISTRYINDEX);

  rille::Handle<uv_signal_t> handle(new uv_signal_t);
  uv_signal_init(rille_loop(L), handle.get());
  handle->data = w;
  int rc = Dispositions::of_process().start(handle.get(), on_signal, number);
  if (rc < 0) {
    luaL_unref(L, LUA_REGISTRYINDEX, w->stack_ref);
    rille_push_os_error(L, rc, "signal", nullptr, nullptr, nullptr);
    return 1;
  }
  w->handle = std::move(handle);
  return 2;
}

// unwatch(watch)
int unwatch(lua_State* L) {
  auto* w = rille::Class<Watch>::check(L, 1);
  w->stop();
  luaL_unref(L, LUA_REGISTRYINDEX, w->stack_ref);
  w->stack_ref = LUA_NOREF;
  return 0;
}

// ---- code that does not wait -------------------------------------------------------------------
// The loop does not learn of a SIGINT while Lua code runs on and on. At a prompt that would be a
// process to kill, so there the handler itself sees to it that such code ends with an error.

lua_State* guarded = nullptr;
struct sigaction unguarded_action;

constexpr std::uint64_t kPatience = 200000000;  // ns that the loop has to learn of it by itself
std::atomic<std::uint64_t> interrupted_at = 0;

// Called at each instruction that is interpreted. Code that is compiled is taken out of its trace
// only now and then, by the profiler's tick, so the instructions cannot be what counts.
void stop_code(lua_State* L, lua_Debug*) {
  if (uv_hrtime() - interrupted_at < kPatience) return;
  lua_sethook(L, nullptr, 0, 0);
  interrupted_at = 0;
  luaL_error(L, "interrupted");
}

void on_guarded_interrupt(int number) {
  interrupted_at = uv_hrtime();
  lua_sethook(guarded, stop_code, LUA_MASKCOUNT, 1);
  unguarded_action.sa_handler(number);
}

bool is_stopped_by_host(lua_State* L) {
  const rille::Options& options = rille::options_of(L);
  return options.interruptible || options.slice_limit > 0;
}

// guard(on). REQUIRES: SIGINT is watched.
int guard(lua_State* L) {
  bool on = lua_toboolean(L, 1);
  if (on && !guarded) {
    guarded = L;
    // Compiled code looks for hooks only where the profiler wants to know of lines. Where the host
    // stops code, the profiler is at work for that.
    if (!is_stopped_by_host(L)) {
      luaJIT_profile_start(
          L, "li100", [](void*, lua_State*, int, int) {}, nullptr);
    }
    sigaction(SIGINT, nullptr, &unguarded_action);
    struct sigaction action = unguarded_action;
    action.sa_handler = on_guarded_interrupt;
    sigaction(SIGINT, &action, nullptr);
  } else if (!on && guarded) {
    sigaction(SIGINT, &unguarded_action, nullptr);
    if (!is_stopped_by_host(L)) luaJIT_profile_stop(L);
    guarded = nullptr;
  }
  return 0;
}

// calm() -> true if the loop has learned of the signal before code had to be stopped
int calm(lua_State* L) {
  lua_sethook(L, nullptr, 0, 0);
  lua_pushboolean(L, interrupted_at.exchange(0) != 0);
  return 1;
}

const rille_reg kFunctions[] = {
    {"number", number, 0}, {"watch", watch, 0}, {"unwatch", unwatch, 0},
    {"guard", guard, 0},   {"calm", calm, 0},   {nullptr, nullptr, 0},
};

}  // namespace

extern "C" int luaopen_rille_core_signal(lua_State* L) {
  const rille_reg none[] = {{nullptr, nullptr, 0}};
  rille::Class<Watch>::define(L, none);
  rille_newlib(L, kFunctions);
  return 1;
}
