// rille.hpp: scripts that run, functions that scripts call, the loop.
#include "host.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "host_class.h"
#include "host_function.h"
#include "waiter.h"

namespace rille {

namespace {

[[noreturn]] void fail_state(const std::string& what) { throw Error("InvalidStateError", what); }

void check_open(const Runtime::Impl* impl, const char* what) {
  if (impl->closed) fail_state(std::string(what) + ": the runtime is closed");
}

// Nothing can be started any more either.
void check_usable(const Runtime::Impl* impl, const char* what) {
  check_open(impl, what);
  if (impl->finished) fail_state(std::string(what) + ": the runtime has come to its end");
}

void check_name(std::string_view name, const char* what) {
  if (!name.empty() && name.front() != '.' && name.back() != '.' &&
      name.find("..") == std::string_view::npos) {
    return;
  }
  throw Error("TypeError", std::string("bad argument #1 to '") + what + "' ('" + std::string(name) +
                               "' is no name, and no names with dots between them)");
}

// Leaves the table that holds the last part of a dotted name, and returns that part. Without
// `make` it is nil if there is none.
std::string push_place(lua_State* L, std::string_view name, bool make) {
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  for (;;) {
    std::size_t dot = name.find('.');
    if (dot == std::string_view::npos) return std::string(name);
    std::string_view part = name.substr(0, dot);
    name.remove_prefix(dot + 1);
    lua_pushlstring(L, part.data(), part.size());
    lua_gettable(L, -2);
    if (!lua_istable(L, -1)) {
      bool nothing = lua_isnil(L, -1);
      lua_pop(L, 1);
      if (!make || !nothing) {
        if (make) throw Error("TypeError", "'" + std::string(part) + "' is no table");
        lua_pushnil(L);
        return {};
      }
      lua_newtable(L);
      lua_pushlstring(L, part.data(), part.size());
      lua_pushvalue(L, -2);
      lua_settable(L, -4);
    }
    lua_remove(L, -2);
  }
}

// Sets the global to the value that push(L) leaves.
template <class Push>
void set_global(Runtime::Impl* impl, std::string_view name, Push&& push) {
  impl->protect([&](lua_State* L) {
    std::string last = push_place(L, name, true);
    lua_pushlstring(L, last.data(), last.size());
    push(L);
    lua_settable(L, -3);
  });
}

std::string last_part(std::string_view name) {
  return std::string(name.substr(name.rfind('.') + 1));  // npos + 1 is 0
}

// Pushes the compiled script. Throws an Error if it does not compile, or cannot be read.
void load(Runtime::Impl* impl, lua_State* L, int status) {
  if (status != 0) throw impl->take_error(L);
}

std::string text_at(lua_State* L, int index) {
  std::size_t size = 0;
  const char* text = lua_tolstring(L, index, &size);
  return text ? std::string(text, size) : std::string();
}

// The error that five values describe, from `index` on: see rille.core.main.
Error error_at(lua_State* L, int index) {
  Error error(text_at(L, index), text_at(L, index + 1), text_at(L, index + 2));
  if (lua_isstring(L, index + 3)) error.set_text(text_at(L, index + 3));
  error.set_code(text_at(L, index + 4));
  return error;
}

}  // namespace

void push_main(lua_State* L, const char* function) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.main");
  lua_getfield(L, -1, function);
  lua_remove(L, -2);
}

// ---- guards ------------------------------------------------------------------------------------

Inside::Inside(Runtime::Impl* impl) {
  std::thread::id former{};
  std::thread::id me = std::this_thread::get_id();
  if (impl->home->user.compare_exchange_strong(former, me)) {
    user_ = &impl->home->user;
  } else if (former != me) {
    fail_state("the runtime is used by two threads at once");
  }
}

Inside::~Inside() {
  if (user_) user_->store(std::thread::id());
}

Running::Running(Runtime::Impl* impl, const char* what) : impl_(impl) {
  if (impl->running || impl->active) {
    fail_state(std::string(what) + ": the runtime runs already, and this is inside of it");
  }
#ifndef NDEBUG
  // libuv's loop cannot run inside of itself, which nobody else would notice.
  if (impl->scheduler->is_in_callback()) {
    std::fprintf(stderr, "rille: fatal: %s: this is a callback of the host's loop\n", what);
    std::abort();
  }
#endif
  impl->running = true;
}

Running::~Running() { impl_->running = false; }

// ---- what is shared ----------------------------------------------------------------------------

void Home::drop_function(int reference) {
  std::lock_guard lock(mutex);
  if (impl) functions.push_back(reference);
}

void Home::drop_task(double id) {
  std::lock_guard lock(mutex);
  if (impl) tasks.push_back(id);
}

void Runtime::Impl::collect() {
  std::vector<int> functions;
  std::vector<double> ids;
  {
    std::lock_guard lock(home->mutex);
    functions.swap(home->functions);
    ids.swap(home->tasks);
  }
  if (functions.empty() && ids.empty()) return;
  for (double id : ids) tasks.erase(id);
  protect([&](lua_State* l) {
    for (int reference : functions) luaL_unref(l, LUA_REGISTRYINDEX, reference);
    for (double id : ids) {
      push_main(l, "release");
      lua_pushnumber(l, id);
      lua_call(l, 1, 0);
    }
  });
}

Error Runtime::Impl::take_error(lua_State* l) {
  int top = lua_gettop(l);
  // There may be no memory for anything: what is pushed here exists, and the rest is protected.
  lua_rawgeti(l, LUA_REGISTRYINDEX, describe_ref);
  lua_pushvalue(l, top);
  bool ok = lua_pcall(l, 1, 5, 0) == 0;
  Error error = ok ? error_at(l, top + 1) : Error("Error", "not enough memory");
  lua_settop(l, top - 1);
  return error;
}

// ---- tasks -------------------------------------------------------------------------------------

template <class Push>
std::shared_ptr<Task::State> Runtime::Impl::start(bool is_main, Push&& push) {
  collect();
  auto task = std::make_shared<Task::State>(home, ++task_numbers);
  protect([&](lua_State* l) {
    push_main(l, "start");
    lua_pushnumber(l, task->id);
    lua_pushboolean(l, is_main);
    push(l);
    lua_call(l, lua_gettop(l) - 1, 0);
  });
  tasks[task->id] = task;
  scheduler->nudge();
  return task;
}

// Called by Lua, so it calls nobody.
void Runtime::Impl::task_ended(double id) {
  if (id == awaited) scheduler->stop();
  auto found = tasks.find(id);
  std::shared_ptr<Task::State> task = found == tasks.end() ? nullptr : found->second.lock();
  if (!task) return;
  task->done = true;
  task->itself.reset();
  for (auto& callback : task->callbacks) {
    post_letter(
        home->mailbox,
        [task, fn = std::move(callback)] {
          Task handle = TaskAccess::make(task);
          fn(handle);
        },
        true);
  }
  task->callbacks.clear();
}

// Takes a task's results, or its error, out of Lua.
void Runtime::Impl::fetch(Task::State* task, bool wants_results) {
  if (task->fetched) return;
  try {
    protect([&](lua_State* l) {
      push_main(l, "outcome");
      lua_pushnumber(l, task->id);
      task->fetched = true;  // what follows takes it from Lua
      lua_call(l, 1, LUA_MULTRET);
      std::string how = text_at(l, 1);
      if (how == "done") {
        int n = wants_results ? lua_gettop(l) : 0;
        for (int i = 2; i <= n; ++i) task->results.push_back(ValueAccess::read(l, this, i));
        return;
      }
      lua_settop(l, 6);
      task->error = error_at(l, 2);
      task->error->set_cancelled(how == "cancelled");
    });
  } catch (const Error& e) {
    task->results.clear();
    task->error = e;
  }
}

void Runtime::Impl::run_until(Task::State* task) {
  call_main_with("host_waits", true);
  awaited = task->id;
  while (!task->done && scheduler->run()) {
  }
  awaited = 0;
  call_main_with("host_waits", false);
  tell_host();
  if (!task->done) throw Error("DeadlockError", "nothing is left that could wake the task");
}

// What was to be called when something ended, or was given up, is called before the host goes on.
void Runtime::Impl::tell_host() {
  if (scheduler->has_mail()) deliver_letters(scheduler.get());
}

void Runtime::Impl::call_main_with(const char* function, bool value) {
  lua_pushboolean(L, value);
  call_main(function, 1, 0);
}

bool Runtime::Impl::call_main(const char* function, int nargs, int nresults) {
  push_main(L, function);
  lua_insert(L, -1 - nargs);
  if (lua_pcall(L, nargs, nresults, 0) == 0) return true;
  const char* text = lua_tostring(L, -1);
  reporter.report(text ? text : "an error in the runtime");
  lua_pop(L, 1);
  return false;
}

// Cancels what still runs, and lets it clean up; for at most `patience` seconds, if that is not 0.
void Runtime::Impl::cancel_rest(bool everything, double patience) {
  struct Limit {
    explicit Limit(Scheduler* of) : scheduler(of) {}
    Limit(const Limit&) = delete;
    Limit& operator=(const Limit&) = delete;
    Scheduler* scheduler;
    bool over = false;
    uv_timer_t* timer = new uv_timer_t;
    ~Limit() {
      uv_close(reinterpret_cast<uv_handle_t*>(timer),
               [](uv_handle_t* h) { delete reinterpret_cast<uv_timer_t*>(h); });
    }
  };
  std::optional<Limit> limit;
  if (patience > 0) {
    limit.emplace(scheduler.get());
    uv_timer_init(loop, limit->timer);
    limit->timer->data = &*limit;
    uv_update_time(loop);
    uv_timer_start(
        limit->timer,
        [](uv_timer_t* t) {
          auto* l = static_cast<Limit*>(t->data);
          l->over = true;
          l->scheduler->stop();
        },
        static_cast<std::uint64_t>(patience * 1e3), 0);
    uv_unref(reinterpret_cast<uv_handle_t*>(limit->timer));
  }
  for (;;) {
    if (everything) {
      lua_pushliteral(L, "closed");
    } else {
      lua_pushboolean(L, 0);
    }
    if (!call_main("cancel_rest", 1, 1)) return;
    bool any = lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (!any && everything && call_main("start_closer", 0, 1)) {
      any = lua_toboolean(L, -1);
      lua_pop(L, 1);
    }
    if (!any) return;
    if (!scheduler->run() || (limit && limit->over)) {
      call_main("report_destroyed", 0, 0);
      return;
    }
  }
}

std::vector<Value> Runtime::Impl::run_main(const std::shared_ptr<Task::State>& main,
                                           bool wants_results) {
  awaited = main->id;
  while (!main->done && scheduler->run()) {
  }
  awaited = 0;
  // What the script left running may clean up, and what that leaves too.
  cancel_rest(false, 0);
  call_main_with("at_the_end", false);
  tell_host();
  if (main->done) {
    fetch(main.get(), wants_results);
  } else {
    main->error.emplace("DeadlockError", "nothing is left that could wake the script");
  }
  count_lost(false);
  if (main->error) throw *main->error;
  return std::move(main->results);
}

void Runtime::Impl::count_lost(bool everything) {
  Limits::Stretch stretch(scheduler->limits);  // for what a script is asked about its errors
  lua_pushboolean(L, everything);
  if (!call_main("flush_lost", 1, 1)) return;
  lost = static_cast<int>(lua_tointeger(L, -1));
  lua_pop(L, 1);
}

// ---- scripts -----------------------------------------------------------------------------------

// Pushes what a script gets as `...`. Its own arguments become rille.args.
void Runtime::Impl::push_script_arguments(lua_State* l, const std::vector<std::string>& own) {
  const std::vector<std::string>& args = own.empty() ? options.args : own;
  luaL_checkstack(l, static_cast<int>(args.size()) + 8, "too many arguments");
  if (!own.empty()) {
    lua_getfield(l, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(l, -1, "rille");
    lua_createtable(l, static_cast<int>(own.size()), 0);
    int i = 0;
    for (const std::string& arg : own) {
      lua_pushlstring(l, arg.data(), arg.size());
      lua_rawseti(l, -2, ++i);
    }
    lua_setfield(l, -2, "args");
    lua_pop(l, 2);
  }
  for (const std::string& arg : args) lua_pushlstring(l, arg.data(), arg.size());
}

namespace {

// Puts the folder of a script in front of package.path, if it is not there.
void add_folder(lua_State* L, const std::string& path) {
  if (path == "-") return;
  std::size_t slash = path.rfind('/');
  std::string folder = slash == std::string::npos ? "." : path.substr(0, slash);
  std::string both = folder + "/?.lua;" + folder + "/?/init.lua;";
  lua_getglobal(L, "package");
  if (!lua_istable(L, -1)) return lua_pop(L, 1);
  lua_getfield(L, -1, "path");
  std::string now = text_at(L, -1);
  if (now.compare(0, both.size(), both) != 0) {
    now.insert(0, both);
    lua_pushlstring(L, now.data(), now.size());
    lua_setfield(L, -3, "path");
  }
  lua_pop(L, 2);
}

}  // namespace

std::shared_ptr<Task::State> Runtime::Impl::start_file(bool is_main, const std::string& path,
                                                       const std::vector<std::string>& args) {
  return start(is_main, [&](lua_State* l) {
    load(this, l, luaL_loadfilex(l, path == "-" ? nullptr : path.c_str(), limits.load_mode()));
    add_folder(l, path);
    push_script_arguments(l, args);
  });
}

std::shared_ptr<Task::State> Runtime::Impl::start_string(bool is_main, std::string_view code,
                                                         std::string_view name) {
  return start(is_main, [&](lua_State* l) {
    load(this, l,
         luaL_loadbufferx(l, code.data(), code.size(), std::string(name).c_str(),
                          limits.load_mode()));
    push_script_arguments(l, {});
  });
}

std::vector<Value> Runtime::run_file(const std::filesystem::path& path,
                                     std::vector<std::string> args) {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "run_file");
  Running running(impl_.get(), "run_file");
  return impl_->run_main(impl_->start_file(true, path.string(), args), true);
}

std::vector<Value> Runtime::run_string(std::string_view code, std::string_view chunk_name) {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "run_string");
  Running running(impl_.get(), "run_string");
  return impl_->run_main(impl_->start_string(true, code, chunk_name), true);
}

void Runtime::execute_file(const std::filesystem::path& path, std::vector<std::string> args) {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "execute_file");
  Running running(impl_.get(), "execute_file");
  impl_->run_main(impl_->start_file(true, path.string(), args), false);
}

void Runtime::execute_string(std::string_view code, std::string_view chunk_name) {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "execute_string");
  Running running(impl_.get(), "execute_string");
  impl_->run_main(impl_->start_string(true, code, chunk_name), false);
}

Task Runtime::spawn_file(const std::filesystem::path& path, std::vector<std::string> args) {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "spawn_file");
  return Task(impl_->start_file(false, path.string(), args));
}

Task Runtime::spawn_string(std::string_view code, std::string_view chunk_name) {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "spawn_string");
  return Task(impl_->start_string(false, code, chunk_name));
}

Task Runtime::spawn_with(const Value& function, std::vector<Value> args) {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "spawn");
  if (!function.is_function()) {
    throw Error("TypeError", std::string("bad argument #1 to 'spawn' (function expected, got ") +
                                 function.type_name() + ")");
  }
  return Task(impl_->start(false, [&](lua_State* l) {
    ValueAccess::push(l, impl_.get(), function);
    ValueAccess::push_list(l, impl_.get(), args);
  }));
}

void Runtime::cancel(std::string_view reason) {
  Inside inside(impl_.get());
  if (impl_->closed) return;  // the loop may still run, and so may the host's callbacks
  impl_->protect([&](lua_State* l) {
    push_main(l, "cancel");
    if (!reason.empty()) lua_pushlstring(l, reason.data(), reason.size());
    lua_call(l, lua_gettop(l) - 1, 0);
  });
  impl_->scheduler->nudge();
}

// ---- Task --------------------------------------------------------------------------------------

Task::Task(std::shared_ptr<State> state) : state_(std::move(state)) {}

bool Task::done() const { return !state_ || state_->done; }

std::vector<Value> Task::result() {
  if (!state_) fail_state("result: there is no task");
  if (!state_->fetched) {
    Runtime::Impl* impl = state_->home->impl;
    if (!impl) fail_state("result: the runtime is closed");
    Inside inside(impl);
    if (!state_->done) {
      Running running(impl, "result: the task is not done, and");
      impl->run_until(state_.get());
    }
    impl->fetch(state_.get());
  }
  if (state_->error) throw *state_->error;
  return state_->results;
}

void Task::cancel(std::string_view reason) {
  if (done()) return;
  Runtime::Impl* impl = state_->home->impl;
  if (!impl) return;
  Inside inside(impl);
  impl->protect([&](lua_State* l) {
    push_main(l, "cancel_task");
    lua_pushnumber(l, state_->id);
    if (!reason.empty()) lua_pushlstring(l, reason.data(), reason.size());
    lua_call(l, lua_gettop(l) - 1, 0);
  });
  impl->scheduler->nudge();
}

void Task::on_done(std::function<void(Task&)> fn) {
  if (!state_) return;
  if (!state_->done) {
    state_->callbacks.push_back(std::move(fn));
    state_->itself = state_;
    return;
  }
  post_letter(
      state_->home->mailbox,
      [task = state_, fn = std::move(fn)] {
        Task handle = TaskAccess::make(task);
        fn(handle);
      },
      true);
}

// ---- what scripts see --------------------------------------------------------------------------

void Runtime::define_body(std::string_view name, detail::Body body) {
  Inside inside(impl_.get());
  check_open(impl_.get(), "define");
  check_name(name, "define");
  set_global(impl_.get(), name, [&](lua_State* l) {
    push_function(l, impl_.get(), last_part(name), std::move(body), false, nullptr);
  });
}

void Runtime::define_waiting(std::string_view name, detail::Body body) {
  Inside inside(impl_.get());
  check_open(impl_.get(), "define_async");
  check_name(name, "define_async");
  set_global(impl_.get(), name, [&](lua_State* l) {
    push_function(l, impl_.get(), last_part(name), std::move(body), true, nullptr);
  });
}

void Runtime::make_class(const void* type, std::string_view name) {
  Inside inside(impl_.get());
  check_open(impl_.get(), "define_class");
  check_name(name, "define_class");
  impl_->protect([&](lua_State* l) { push_class(l, type, last_part(name)); });
}

void Runtime::class_constructor(const void*, std::string_view name, detail::Body body) {
  define_body(name, std::move(body));
}

void Runtime::class_method(const void* type, std::string_view name, detail::Body body, bool waits) {
  Inside inside(impl_.get());
  check_open(impl_.get(), "define_class");
  impl_->protect([&](lua_State* l) {
    push_class(l, type, "");
    lua_getfield(l, -1, "__name");
    std::string class_name = text_at(l, -1);
    lua_pop(l, 1);
    if (name.substr(0, 2) != "__") lua_getfield(l, -1, "__index");
    lua_pushlstring(l, name.data(), name.size());
    push_function(l, impl_.get(), std::string(name), std::move(body), waits, &class_name);
    lua_rawset(l, -3);
  });
}

Value Runtime::get(std::string_view name) {
  Inside inside(impl_.get());
  check_open(impl_.get(), "get");
  check_name(name, "get");
  impl_->collect();
  Value result;
  impl_->protect([&](lua_State* l) {
    std::string last = push_place(l, name, false);
    if (lua_isnil(l, -1)) return;
    lua_pushlstring(l, last.data(), last.size());
    lua_gettable(l, -2);
    result = ValueAccess::read(l, impl_.get(), -1);
  });
  return result;
}

void Runtime::set(std::string_view name, Value value) {
  Inside inside(impl_.get());
  check_open(impl_.get(), "set");
  check_name(name, "set");
  impl_->collect();
  set_global(impl_.get(), name, [&](lua_State* l) { ValueAccess::push(l, impl_.get(), value); });
}

// ---- the loop ----------------------------------------------------------------------------------

void Runtime::run() {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "run");
  Running running(impl_.get(), "run");
  impl_->collect();
  impl_->call_main_with("host_waits", true);
  impl_->scheduler->run();
  impl_->call_main_with("host_waits", false);
  impl_->tell_host();
}

bool Runtime::poll(double budget_seconds) {
  Inside inside(impl_.get());
  check_usable(impl_.get(), "poll");
  Running running(impl_.get(), "poll");
  impl_->collect();
  impl_->was_polled = true;
  return impl_->scheduler->turn(budget_seconds);
}

int Runtime::backend_fd() const { return impl_->closed ? -1 : uv_backend_fd(impl_->loop); }

double Runtime::timeout() const {
  if (impl_->closed) return -1;
  Inside inside(impl_.get());
  return impl_->was_polled ? impl_->scheduler->timeout() : 0;
}

uv_loop_t* Runtime::loop() const { return impl_->loop; }

void Runtime::post(std::function<void()> fn) {
  post_letter(impl_->home->mailbox, std::move(fn), false);
}

void Runtime::interrupt(std::string_view reason) {
  if (!impl_->limits.interrupt_or_keep(reason)) impl_->take_kept_soon();
}

void Runtime::Impl::take_kept_soon() {
  // Once is enough, however often it is asked for meanwhile.
  if (is_taken_soon.exchange(true)) return;
  auto take = [here = weak_from_this()] {
    std::shared_ptr<Impl> impl = here.lock();
    if (!impl) return;
    impl->is_taken_soon = false;
    if (!impl->closed) impl->limits.take_kept(impl->scheduler->anything_ready());
  };
  post_letter(home->mailbox, std::move(take), false);
}

// Cancels the script that the host runs; false if there is none.
bool Runtime::Impl::cancel_script(const std::string& reason) {
  bool done = true;
  try {
    protect([&](lua_State* l) {
      push_main(l, "cancel");
      lua_pushlstring(l, reason.data(), reason.size());
      lua_call(l, 1, 1);
      done = lua_toboolean(l, -1);
    });
  } catch (const Error& e) {
    reporter.report(std::string("error when a script was cancelled: ") + e.what());
  }
  return done;
}

// ---- the end -----------------------------------------------------------------------------------

void Runtime::finish() {
  Inside inside(impl_.get());
  if (impl_->finished) return;
  check_open(impl_.get(), "finish");
  Running running(impl_.get(), "finish");
  impl_->finish();
}

void Runtime::close() {
  Inside inside(impl_.get());
  if (impl_->closed) return;
  Running running(impl_.get(), "close");
  impl_->close();
}

bool Runtime::closed() const { return impl_->closed; }

bool Runtime::has_libraries() const {
  return impl_->closed ? impl_->had_libraries : impl_->each_library([](lua_State*) {});
}

int Runtime::lost_errors() const { return impl_->lost; }

int Runtime::exit_status() const { return impl_->exit_status; }

lua_State* Runtime::lua_state() const { return impl_->closed ? nullptr : impl_->L; }

Runtime::Runtime(Options options) : impl_(std::make_shared<Impl>(std::move(options))) {}

Runtime::~Runtime() {
  try {
    close();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "rille: fatal: a runtime is destroyed while it is in use: %s\n", e.what());
    std::abort();
  }
}

}  // namespace rille
