// One Lua state and one loop: start-up, a script from beginning to end, shut-down.
#include <rille/module.h>
#include <signal.h>

#include <array>
#include <chrono>
#include <climits>
#include <cstring>
#include <lua.hpp>
#include <rille/builtin.hpp>
#include <rille/rille.hpp>

#include "host.h"
#include "searchers.h"
#include "worker_process.h"

namespace rille {

const char* version() { return RILLE_VERSION; }

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
  push_list(L, options->args);
  lua_setfield(L, -2, "args");
  lua_pushvalue(L, -1);
  lua_setglobal(L, "rille");
  lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
  lua_insert(L, -2);
  lua_setfield(L, -2, "rille");
  if (options->command.empty()) return 0;
  push_list(L, options->args);
  lua_pushlstring(L, options->script.data(), options->script.size());
  lua_rawseti(L, -2, 0);
  int i = 0;
  for (auto word = options->command.rbegin(); word != options->command.rend(); ++word) {
    lua_pushlstring(L, word->data(), word->size());
    lua_rawseti(L, -2, --i);
  }
  lua_setglobal(L, "arg");
  return 0;
}

// What rille.core.main calls at the end of a task of the host's.
int task_ended(lua_State* L) {
  static_cast<Runtime::Impl*>(lua_touserdata(L, lua_upvalueindex(1)))
      ->task_ended(lua_tonumber(L, 1));
  return 0;
}

int connect_host(lua_State* L) {
  auto* impl = static_cast<Runtime::Impl*>(lua_touserdata(L, 1));
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.main");
  lua_pushlightuserdata(L, impl);
  lua_pushcclosure(L, task_ended, 1);
  lua_setfield(L, -2, "finished");
  lua_getfield(L, -1, "describe");
  impl->describe_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  if (impl->options.on_report) {
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "rille.core.report");
    lua_getfield(L, LUA_REGISTRYINDEX, "rille.write");
    lua_setfield(L, -2, "write");
  }
  lua_pushlightuserdata(L, &impl->limits);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.limits");
  lua_pushlightuserdata(L, &impl->exit_status);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.exit_status");
  lua_pushlightuserdata(L, &impl->options);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.options");
  impl->limits.install(L);
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

int set_debug(lua_State* L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.require");
  lua_pushliteral(L, "rille.async");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "set_debug");
  lua_pushboolean(L, 1);
  lua_call(L, 1, 0);
  return 0;
}

// A peer that has gone is an error of the write, EPIPE, not the end of the process: libuv cannot
// ask that of the system for each write. A host's own way with the signal is left alone.
void ignore_broken_pipes() {
  struct sigaction now {};
  if (sigaction(SIGPIPE, nullptr, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGPIPE, SIG_IGN);
}

// Handles that are closing; their callbacks come in the loop's next turn.
bool any_closing(uv_loop_t* loop) {
  bool any = false;
  uv_walk(
      loop,
      [](uv_handle_t* h, void* found) {
        if (uv_is_closing(h)) *static_cast<bool*>(found) = true;
      },
      &any);
  return any;
}

// Workers of a script's have the host's options: its function is called on their threads too, but
// one call at a time.
Options serialize_reports(Options options) {
  if (!options.on_report) return options;
  options.on_report = [to = std::move(options.on_report),
                       mutex = std::make_shared<std::recursive_mutex>()](const Report& report) {
    std::lock_guard lock(*mutex);
    to(report);
  };
  return options;
}

}  // namespace

Runtime::Impl::Impl(Options given)
    : options(serialize_reports(std::move(given))), reporter(options.on_report), limits(options) {
  ignore_broken_pipes();
  limits.pin(&options);
  loop = options.loop;
  if (!loop) {
    loop = &own_loop;
    if (int rc = uv_loop_init(loop); rc < 0) throw Error("OSError", uv_strerror(rc));
  }
  L = limits.new_state();
  if (!L) {
    if (loop == &own_loop) uv_loop_close(loop);
    throw std::bad_alloc();
  }
  home = std::make_shared<Home>();
  install_reporter(L, &reporter);
  scheduler = std::make_unique<Scheduler>(L, loop);
  if (limits.is_needed()) scheduler->limits = &limits;
  home->mailbox = scheduler->mailbox;
  home->impl = this;
  limits.set_script([this](const std::string& reason) { return cancel_script(reason); },
                    [this] { take_kept_soon(); });
  if (options.loop) {
    scheduler->run_with_loop([this](bool begins) { turn(begins); });
  }
  auto call = [this](lua_CFunction f, void* data) {
    if (lua_cpcall(L, f, data) != 0) throw_opening_error();
  };
  try {
    call(open_libraries, nullptr);
    call(load_core, scheduler.get());
    call(set_globals, &options);
    call(set_program, &options);
    if (options.debug) call(set_debug, nullptr);
    call(connect_host, this);
    opened_well = true;
  } catch (...) {
    close();
    throw;
  }
}

// Around what runs in a host's loop. Posted functions are called in polls of ours too.
void Runtime::Impl::turn(bool begins) {
  if (begins && turns++ == 0) {
    try {
      turning = std::make_unique<Inside>(this);
    } catch (const Error& e) {  // a callback of C's loop cannot throw
      std::fprintf(stderr, "rille: fatal: %s\n", e.message().c_str());
      std::abort();
    }
    ran_before = std::exchange(running, true);
  } else if (!begins && --turns == 0) {
    running = ran_before;
    turning.reset();
  }
}

void Runtime::Impl::throw_opening_error() {
  const char* message = lua_tostring(L, -1);
  throw Error("Error", std::string("the runtime does not open: ") +
                           (message ? message : "not enough memory"));
}

Runtime::Impl::~Impl() = default;

// Until every task has ended and cleaned up.
void Runtime::Impl::finish() {
  constexpr double kPatience = 10;
  collect();
  limits.drop_kept();
  scheduler->turn(0);  // what was posted
  cancel_rest(true, kPatience);
  finished = true;
  call_main_with("at_the_end", true);
  count_lost(true);
}

void Runtime::Impl::close() {
  if (closed) return;
  if (opened_well && !finished) finish();
  finished = closed = true;
  // What the host still holds of tasks is taken out of Lua.
  std::vector<std::shared_ptr<Task::State>> left;
  for (auto& [id, weak] : tasks) {
    if (auto task = weak.lock()) left.push_back(std::move(task));
  }
  for (auto& task : left) {
    if (task->fetched) continue;
    if (task->done) {
      fetch(task.get());
    } else {
      task->error.emplace("CancelledError", "the task was cancelled: the runtime is closed");
      task->error->set_cancelled(true);
      task->done = task->fetched = true;
    }
  }
  {
    std::lock_guard lock(home->mutex);
    home->impl = nullptr;
  }
  // A thread that a broken disk or name server holds up is left to itself in the end.
  constexpr std::chrono::seconds kPatience(10);
  auto deadline = Pools::Clock::now() + kPatience;
  Pools& pools = *scheduler->pools;
  scheduler->close();
  pools.wait_for_all(deadline);
  // Code of theirs is still to run: callbacks of handles that close, and whatever their threads do.
  had_libraries = each_library([](lua_State* l) {
    lua_pushnil(l);  // Lua would unload it with the state
    lua_setmetatable(l, -2);
  });
  lua_close(L);
  // Handles of objects that the state owned are closing now; let their callbacks free them.
  do {
    run_dry();
  } while (pools.outstanding() > 0 && pools.wait_for_all(deadline));
  pools.close();
  run_dry();
  if (loop == &own_loop) uv_loop_close(loop);
  for (auto& task : left) {
    task->itself.reset();
    Task handle = TaskAccess::make(task);
    for (auto& callback : std::exchange(task->callbacks, {})) {
      try {
        callback(handle);
      } catch (const std::exception& e) {
        reporter.report(std::string("error in a function of the host: ") + e.what());
      } catch (...) {
        reporter.report("error in a function of the host: an exception that is no std::exception");
      }
    }
  }
}

const Options& options_of(lua_State* L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.options");
  auto* options = static_cast<const Options*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return *options;
}

bool Runtime::Impl::each_library(void (*f)(lua_State*)) const {
  bool any = false;
  lua_pushnil(L);
  while (lua_next(L, LUA_REGISTRYINDEX) != 0) {
    if (lua_type(L, -2) == LUA_TSTRING && lua_isuserdata(L, -1) &&
        std::strncmp(lua_tostring(L, -2), "LOADLIB: ", 9) == 0) {
      f(L);
      any = true;
    }
    lua_pop(L, 1);
  }
  return any;
}

// Runs the loop until what was ours has gone. On a host's, that is all that is closing.
void Runtime::Impl::run_dry() {
  if (loop == &own_loop) {
    uv_run(loop, UV_RUN_DEFAULT);
    return;
  }
  while (any_closing(loop)) uv_run(loop, UV_RUN_NOWAIT);
}

}  // namespace rille
