// What stands behind rille.hpp.
#pragma once

#include <atomic>
#include <lua.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <rille/rille.hpp>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "report.h"
#include "scheduler.h"
#include "script_limits.h"

namespace rille {

// What outlives a runtime, for those who hold something of it: values, tasks, completions.
struct Home {
  std::mutex mutex;
  Runtime::Impl* impl = nullptr;  // null once the runtime is closed; for the loop's thread
  std::shared_ptr<Mailbox> mailbox;
  std::atomic<std::thread::id> user{};  // the thread that is inside the runtime
  // What nobody holds any more, on whatever thread that was; see Impl::collect.
  std::vector<int> functions;
  std::vector<double> tasks;

  void drop_function(int reference);
  void drop_task(double id);
};

namespace detail {

class Function {
 public:
  Function(std::shared_ptr<Home> of, int in_registry)
      : home(std::move(of)), reference(in_registry) {}
  ~Function() { home->drop_function(reference); }
  Function(const Function&) = delete;
  Function& operator=(const Function&) = delete;

  const std::shared_ptr<Home> home;
  const int reference;
};

}  // namespace detail

struct Task::State {
  State(std::shared_ptr<Home> of, double number) : home(std::move(of)), id(number) {}
  ~State() { home->drop_task(id); }

  const std::shared_ptr<Home> home;
  const double id;  // its name in rille.core.main
  bool done = false;
  bool fetched = false;  // its end is here, and no longer with the runtime
  std::vector<Value> results;
  std::optional<Error> error;
  std::vector<std::function<void(Task&)>> callbacks;
  std::shared_ptr<State> itself;  // while there are callbacks: the host need not keep the task
};

struct TaskAccess {
  static Task make(std::shared_ptr<Task::State> state) { return Task(std::move(state)); }
};

struct ValueAccess {
  // REQUIRES: a protected call, as all that raise Lua errors. Throws Error for what does not go.
  static void push(lua_State* L, Runtime::Impl* impl, const Value& value);
  static Value read(lua_State* L, Runtime::Impl* impl, int index);
  static Value object(const detail::Object& object) { return Value(object); }
  static const detail::Object* object_of(const Value& value) { return value.object(); }
  static Value function(std::shared_ptr<detail::Function> function) {
    return Value(std::move(function));
  }
  static Value::Items& items(Value* table);
  static void push_list(lua_State* L, Runtime::Impl* impl, const std::vector<Value>& list);
};

class Inside;

struct Runtime::Impl : std::enable_shared_from_this<Runtime::Impl> {
  explicit Impl(Options options);
  ~Impl();

  // The Lua state to work on: that of the function of the host's that a script calls, if any.
  lua_State* state() const { return active ? active : L; }
  // Runs f(lua_State*) in a protected call, with an empty stack. Throws what it raises or throws.
  template <class F>
  void protect(F&& f);
  // Takes the error on top of the stack.
  Error take_error(lua_State* l);
  // Frees what nobody holds any more.
  void collect();

  // A task for the function that push(lua_State*) leaves with its arguments.
  template <class Push>
  std::shared_ptr<Task::State> start(bool is_main, Push&& push);
  void task_ended(double id);
  void run_until(Task::State* task);
  void fetch(Task::State* task, bool wants_results = true);
  std::vector<Value> run_main(const std::shared_ptr<Task::State>& main, bool wants_results);
  void cancel_rest(bool everything, double patience);
  // Calls a function of rille.core.main, with the values on top of the stack. What it raises is
  // reported. REQUIRES: no Lua runs.
  bool call_main(const char* function, int nargs, int nresults);
  void call_main_with(const char* function, bool value);
  void tell_host();
  void count_lost(bool everything);
  std::shared_ptr<Task::State> start_file(bool is_main, const std::string& path,
                                          const std::vector<std::string>& args);
  void take_kept_soon();
  std::atomic<bool> is_taken_soon{false};
  bool cancel_script(const std::string& reason);
  std::shared_ptr<Task::State> start_string(bool is_main, std::string_view code,
                                            std::string_view name);
  void push_script_arguments(lua_State* l, const std::vector<std::string>& own);

  void finish();
  void close();
  void run_dry();
  // Calls f(L) for each library that was loaded, whose handle is on top of the stack. False if
  // there is none.
  bool each_library(void (*f)(lua_State*)) const;
  void turn(bool begins);
  [[noreturn]] void throw_opening_error();

  Options options;
  Reporter reporter;
  Limits limits;
  uv_loop_t own_loop{};
  uv_loop_t* loop = nullptr;
  lua_State* L = nullptr;
  lua_State* active = nullptr;
  std::unique_ptr<Scheduler> scheduler;
  std::shared_ptr<Home> home;
  std::unordered_map<double, std::weak_ptr<Task::State>> tasks;
  double task_numbers = 0;
  double awaited = 0;  // the task at whose end the scheduler stops
  bool opened_well = false;
  bool running = false;
  bool ran_before = false;
  int turns = 0;  // of a host's loop, in each other
  std::unique_ptr<Inside> turning;
  bool finished = false;
  bool closed = false;
  bool was_polled = false;
  bool had_libraries = false;    // when it was closed
  int describe_ref = LUA_NOREF;  // rille.core.main's function
  int exit_status = -1;
  int lost = 0;  // errors that nobody took
};

// Throughout a call of the host's: one thread at a time.
class Inside {
 public:
  explicit Inside(Runtime::Impl* impl);
  ~Inside();
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  std::atomic<std::thread::id>* user_ = nullptr;  // null if an outer call is inside already
};

// Throughout what runs the runtime: not from inside itself.
class Running {
 public:
  Running(Runtime::Impl* impl, const char* what);
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

 private:
  Runtime::Impl* impl_;
};

// While a function of the host's runs that a script has called.
class Called {
 public:
  Called(Runtime::Impl* impl, lua_State* L) : impl_(impl), former_(impl->active) {
    impl->active = L;
  }
  ~Called() { impl_->active = former_; }
  Called(const Called&) = delete;
  Called& operator=(const Called&) = delete;

 private:
  Runtime::Impl* impl_;
  lua_State* former_;
};

template <class F>
void Runtime::Impl::protect(F&& f) {
  struct Frame {
    std::remove_reference_t<F>* f;
    std::exception_ptr thrown;
  } frame{&f, nullptr};
  lua_State* l = state();
  Limits::Stretch stretch(scheduler->limits);
  int status = lua_cpcall(
      l,
      [](lua_State* s) {
        auto* here = static_cast<Frame*>(lua_touserdata(s, 1));
        lua_settop(s, 0);
        // A Lua error passes through here, as it is none of these.
        try {
          (*here->f)(s);
        } catch (const std::exception&) {
          here->thrown = std::current_exception();
        }
        return 0;
      },
      &frame);
  if (frame.thrown) std::rethrow_exception(frame.thrown);
  if (status != 0) throw take_error(l);
}

// Pushes a function of rille.core.main.
void push_main(lua_State* L, const char* function);

}  // namespace rille
