// One Lua state and one loop: start-up, a script from beginning to end, shut-down.
#include <rille/module.h>
#include <signal.h>

#include <array>
#include <chrono>
#include <climits>
#include <cstring>
#include <lua.hpp>
#include <rille/rille.hpp>
#include <stdexcept>

#include "scheduler.h"
#include "script_limits.h"
#include "searchers.h"
#include "upvalues.h"
#include "worker_process.h"

namespace rille {

const char* version() { return RILLE_VERSION; }

struct Runtime::Impl {
  uv_loop_t loop;
  Limits limits;
  lua_State* L = nullptr;
  std::unique_ptr<Scheduler> scheduler;
  int exit_status = -1;
  bool closed = false;

  explicit Impl(const Options& options);
  Outcome run(int loaded);
  bool call_main(const char* function, int nargs, int nresults);
  void close();
};

namespace {

int open_libraries(lua_State* L) {
  luaL_openlibs(L);
  // The collector looks at every coroutine again at the end of a cycle. With LuaJIT's own 200 a
  // million new tasks kept it so long in each cycle that it took half of the time.
  lua_gc(L, LUA_GCSETSTEPMUL, 400);
  return 0;
}

void push_list(lua_State* L, const std::vector<std::string>& list) {
  lua_createtable(L, static_cast<int>(list.size()), 0);
  int i = 0;
  for (const std::string& text : list) {
    lua_pushlstring(L, text.data(), text.size());
    lua_rawseti(L, -2, ++i);
  }
}

// rille.core.program: how this program was started, and can be once more.
int set_program(lua_State* L) {
  auto* options = static_cast<const Options*>(lua_touserdata(L, 1));
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  lua_newtable(L);
  auto set = [&](const char* name, std::string_view text) {
    if (text.empty()) return;
    lua_pushlstring(L, text.data(), text.size());
    lua_setfield(L, -2, name);
  };
  set("executable", options->executable);
  set("script", options->script);
  // A script may go elsewhere before it asks.
  std::array<char, PATH_MAX> cwd;
  std::size_t size = cwd.size();
  if (uv_cwd(cwd.data(), &size) == 0) set("cwd", {cwd.data(), size});
  push_list(L, options->command);
  lua_setfield(L, -2, "command");
  push_list(L, options->args);
  lua_setfield(L, -2, "args");
  WorkerProcess own = become_worker();
  if (own.number > 0) {
    lua_pushinteger(L, own.number);
    lua_setfield(L, -2, "worker");
    lua_pushinteger(L, own.channel);
    lua_setfield(L, -2, "channel");
  }
  lua_setfield(L, -2, "rille.core.program");
  return 0;
}

// Sets the globals `rille` and `arg`, and package.path.
int set_globals(lua_State* L) {
  auto* options = static_cast<const Options*>(lua_touserdata(L, 1));
  lua_newtable(L);
  lua_pushstring(L, version());
  lua_setfield(L, -2, "version");
  lua_createtable(L, static_cast<int>(options->args.size()), 0);
  lua_createtable(L, static_cast<int>(options->args.size()), 2);
  int i = 0;
  for (const std::string& a : options->args) {
    ++i;
    lua_pushlstring(L, a.data(), a.size());
    lua_pushvalue(L, -1);
    lua_rawseti(L, -4, i);
    lua_rawseti(L, -2, i);
  }
  lua_pushlstring(L, options->script.data(), options->script.size());
  lua_rawseti(L, -2, 0);
  i = 0;
  for (auto word = options->command.rbegin(); word != options->command.rend(); ++word) {
    lua_pushlstring(L, word->data(), word->size());
    lua_rawseti(L, -2, --i);
  }
  lua_setglobal(L, "arg");
  lua_setfield(L, -2, "args");
  lua_pushvalue(L, -1);
  lua_setglobal(L, "rille");
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  lua_insert(L, -2);
  lua_setfield(L, -2, "rille");
  if (!options->script.empty() && options->script != "-") {
    std::size_t slash = options->script.rfind('/');
    std::string folder = slash == std::string::npos ? "." : options->script.substr(0, slash);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/?.lua;%s/?/init.lua;%s", folder.c_str(), folder.c_str(),
                    lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
  }
  return 0;
}

// Loads stdlib/core in its order; leaves rille.core.main in the registry.
int load_core(lua_State* L) {
  auto* s = static_cast<Scheduler*>(lua_touserdata(L, 1));
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  int loaded = lua_gettop(L);
  s->open(L);
  lua_setfield(L, loaded, "rille.core.scheduler");
  install_searchers(L);
  lua_getglobal(L, "require");
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.require");
  auto require = [&](const char* name) {
    lua_getglobal(L, "require");
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
  };
  require("rille.errors");
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.errors");
  require("rille.core.main");
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.main");
  // From here on it is one that may wait.
  lua_getglobal(L, "require");
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.require");
  return 0;
}

// Lua unloads the libraries of modules when the state is closed. Code that a thread still runs has
// to stay.
void keep_libraries(lua_State* L) {
  lua_pushnil(L);
  while (lua_next(L, LUA_REGISTRYINDEX) != 0) {
    if (lua_type(L, -2) == LUA_TSTRING && lua_isuserdata(L, -1) &&
        std::strncmp(lua_tostring(L, -2), "LOADLIB: ", 9) == 0) {
      lua_pushnil(L);
      lua_setmetatable(L, -2);
    }
    lua_pop(L, 1);
  }
}

[[noreturn]] void fail(lua_State* L) {
  const char* message = lua_tostring(L, -1);
  throw std::runtime_error(message ? message : "unknown error");
}

// A peer that has gone is an error of the write, EPIPE, not the end of the process: libuv cannot
// ask that of the system for each write. A host's own way with the signal is left alone.
void ignore_broken_pipes() {
  struct sigaction now {};
  if (sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
}

}  // namespace

Runtime::Impl::Impl(const Options& options) : limits(options) {
  ignore_broken_pipes();
  uv_loop_init(&loop);
  L = limits.new_state();
  if (!L) throw std::bad_alloc();
  scheduler = std::make_unique<Scheduler>(L, &loop);
  if (lua_cpcall(L, open_libraries, nullptr) != 0 ||
      lua_cpcall(L, load_core, scheduler.get()) != 0 ||
      lua_cpcall(L, set_globals, const_cast<Options*>(&options)) != 0 ||
      lua_cpcall(L, set_program, const_cast<Options*>(&options)) != 0) {
    fail(L);
  }
  lua_pushlightuserdata(L, &exit_status);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.exit_status");
  lua_pushlightuserdata(L, const_cast<Options*>(&limits.options()));
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.options");
  auto install = [](lua_State* l) {
    static_cast<Limits*>(lua_touserdata(l, 1))->install(l);
    return 0;
  };
  if (lua_cpcall(L, install, &limits) != 0) fail(L);
  if (options.debug) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "rille.async");
    if (lua_pcall(L, 1, 1, 0) != 0) fail(L);
    lua_getfield(L, -1, "set_debug");
    lua_pushboolean(L, 1);
    if (lua_pcall(L, 1, 0, 0) != 0) fail(L);
    lua_pop(L, 1);
  }
}

// Calls rille.core.main's function with the values on top of the stack.
bool Runtime::Impl::call_main(const char* function, int nargs, int nresults) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.main");
  lua_getfield(L, -1, function);
  lua_remove(L, -2);
  lua_insert(L, -1 - nargs);
  if (lua_pcall(L, nargs, nresults, 0) == 0) return true;
  std::fprintf(stderr, "rille: %s\n", lua_tostring(L, -1));
  lua_pop(L, 1);
  return false;
}

// Runs the function on top of the stack, with the script's arguments.
Outcome Runtime::Impl::run(int loaded) {
  Outcome outcome;
  if (loaded != 0) {
    outcome.kind = Outcome::kFailed;
    outcome.message = lua_tostring(L, -1);
    lua_settop(L, 0);
    return outcome;
  }
  int nargs = 0;
  lua_getglobal(L, "rille");
  lua_getfield(L, -1, "args");
  lua_remove(L, -2);
  int args = lua_gettop(L);
  nargs = static_cast<int>(lua_objlen(L, args));
  luaL_checkstack(L, nargs + 8, "too many arguments");
  for (int i = 1; i <= nargs; ++i) lua_rawgeti(L, args, i);
  lua_remove(L, args);
  if (!call_main("start", nargs + 1, 0)) {
    outcome.kind = Outcome::kFailed;
    return outcome;
  }
  scheduler->run();

  // What the script left running may clean up, and what that leaves too.
  while (call_main("cancel_rest", 0, 1)) {
    bool any = lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (!any) break;
    if (!scheduler->run()) {
      call_main("report_destroyed", 0, 0);
      break;
    }
  }

  if (call_main("outcome", 0, 3)) {
    std::string kind = lua_tostring(L, -3);
    if (kind != "done") {
      outcome.kind = kind == "failed" ? Outcome::kFailed : Outcome::kCancelled;
      outcome.message = lua_isstring(L, -1) ? lua_tostring(L, -1) : "";
      if (kind == "cancelled" && lua_istable(L, -2)) {
        lua_getfield(L, -2, "reason");
        if (lua_isstring(L, -1)) outcome.reason = lua_tostring(L, -1);
      }
    }
    lua_settop(L, 0);
  }
  if (call_main("flush_lost", 0, 1)) {
    outcome.lost_errors = static_cast<int>(lua_tointeger(L, -1));
    lua_pop(L, 1);
  }
  return outcome;
}

void Runtime::Impl::close() {
  if (closed) return;
  closed = true;
  // A thread that a broken disk or name server holds up is left to itself in the end.
  constexpr std::chrono::seconds kPatience(10);
  auto deadline = Pools::Clock::now() + kPatience;
  Pools& pools = *scheduler->pools;
  scheduler->close();
  if (!pools.wait_for_all(deadline)) keep_libraries(L);
  lua_close(L);
  // Handles of objects that the state owned are closing now; let their callbacks free them.
  do {
    uv_run(&loop, UV_RUN_DEFAULT);
  } while (pools.outstanding() > 0 && pools.wait_for_all(deadline));
  pools.close();
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
}

const Options& options_of(lua_State* L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.options");
  auto* options = static_cast<const Options*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return *options;
}

Runtime::Runtime(Options options) : impl_(std::make_unique<Impl>(options)) {}

Runtime::~Runtime() { close(); }

Outcome Runtime::run_file(const std::string& path) {
  return impl_->run(luaL_loadfile(impl_->L, path == "-" ? nullptr : path.c_str()));
}

Outcome Runtime::run_string(std::string_view code, const std::string& chunk_name) {
  return impl_->run(luaL_loadbuffer(impl_->L, code.data(), code.size(), chunk_name.c_str()));
}

void Runtime::cancel_main(std::string_view reason) {
  if (impl_->closed) return;  // the loop still runs then, and so do the host's callbacks
  // A callback of the loop has no protected call around it.
  int status = lua_cpcall(
      impl_->L,
      [](lua_State* L) {
        auto* text = static_cast<std::string_view*>(lua_touserdata(L, 1));
        lua_getfield(L, LUA_REGISTRYINDEX, "rille.main");
        lua_getfield(L, -1, "cancel");
        lua_pushlstring(L, text->data(), text->size());
        lua_call(L, 1, 0);
        return 0;
      },
      &reason);
  if (status != 0) lua_pop(impl_->L, 1);
}

uv_loop_t* Runtime::loop() const { return &impl_->loop; }

lua_State* Runtime::lua_state() const { return impl_->L; }

int Runtime::exit_status() const { return impl_->exit_status; }

void Runtime::close() { impl_->close(); }

}  // namespace rille
