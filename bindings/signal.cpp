// bindings/signal.cpp: rille.core.signal, the signals that a process gets.
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <rille/module.hpp>

namespace {

// ---- names -------------------------------------------------------------------------------------

struct Name {
  const char* name;
  int number;
};

#define NAME(x) \
  { #x, x }
constexpr Name kNames[] = {
    NAME(SIGHUP),  NAME(SIGINT),    NAME(SIGQUIT), NAME(SIGILL),    NAME(SIGTRAP), NAME(SIGABRT),
    NAME(SIGBUS),  NAME(SIGFPE),    NAME(SIGKILL), NAME(SIGUSR1),   NAME(SIGSEGV), NAME(SIGUSR2),
    NAME(SIGPIPE), NAME(SIGALRM),   NAME(SIGTERM), NAME(SIGSTKFLT), NAME(SIGCHLD), NAME(SIGCONT),
    NAME(SIGSTOP), NAME(SIGTSTP),   NAME(SIGTTIN), NAME(SIGTTOU),   NAME(SIGURG),  NAME(SIGXCPU),
    NAME(SIGXFSZ), NAME(SIGVTALRM), NAME(SIGPROF), NAME(SIGWINCH),  NAME(SIGIO),   NAME(SIGPWR),
    NAME(SIGSYS),
};
#undef NAME

// number(name or number) -> number, name; or nothing if there is no such signal.
int number(lua_State* L) {
  bool by_name = lua_type(L, 1) == LUA_TSTRING;
  const char* name = by_name ? lua_tostring(L, 1) : "";
  lua_Number n = by_name ? 0 : lua_tonumber(L, 1);
  for (const Name& entry : kNames) {
    if (by_name ? std::strcmp(entry.name, name) == 0 : entry.number == n) {
      lua_pushinteger(L, entry.number);
      lua_pushstring(L, entry.name);
      return 2;
    }
  }
  // The real-time ones are numbered from SIGRTMIN on, which differs from system to system.
  if (by_name && std::strncmp(name, "SIGRTMIN", 8) == 0) {
    char* end = nullptr;
    n = SIGRTMIN + (name[8] == '+' ? std::strtol(name + 9, &end, 10) : 0);
    if (name[8] != '\0' && (!end || end == name + 9 || *end != '\0')) return 0;
  }
  if (n < SIGRTMIN || n > SIGRTMAX || n != static_cast<int>(n)) return 0;
  lua_pushinteger(L, static_cast<lua_Integer>(n));
  if (n == SIGRTMIN) {
    lua_pushliteral(L, "SIGRTMIN");
  } else {
    lua_pushfstring(L, "SIGRTMIN+%d", static_cast<int>(n) - SIGRTMIN);
  }
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
  std::fprintf(stderr, "rille: signal %d: %s\n", number, lua_tostring(L, -1));
  lua_pop(L, 1);
}

// watch(number, fn) -> err, watch. `fn(number)` is called at each signal, outside of every task.
int watch(lua_State* L) {
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

const rille_reg kFunctions[] = {
    {"number", number, 0},
    {"watch", watch, 0},
    {"unwatch", unwatch, 0},
    {nullptr, nullptr, 0},
};

}  // namespace

extern "C" int luaopen_rille_core_signal(lua_State* L) {
  const rille_reg none[] = {{nullptr, nullptr, 0}};
  rille::Class<Watch>::define(L, none);
  rille_newlib(L, kFunctions);
  return 1;
}
