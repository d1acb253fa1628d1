// For hosts in C++: a runtime that runs async Lua programs. The executable is such a host.
//
//   rille::Runtime runtime;
//   runtime.define("add", [](double a, double b) { return a + b; });
//   double sum = runtime.run_string("return add(1, 2)").at(0).as<double>();
//
// A runtime is one Lua state and one loop. It is used by one thread at a time; only what says so
// may be called from others. Whatever a function of this header is given that it cannot use, and
// every error of a script, is a rille::Error. While the runtime runs (inside a function that a
// script calls, a posted one, or one of the loop's callbacks), everything may be called but what
// runs it itself: `run_file`, `run_string`, `run`, `poll`, `close`, and `Task::result` of a task
// that is not done.
#ifndef RILLE_RILLE_HPP
#define RILLE_RILLE_HPP

#include <uv.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <rille/call.hpp>
#include <rille/value.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct lua_State;

namespace rille {

// What a script may reach outside of its interpreter. `Permissions::none().allow_read("data")`
// grants that folder and nothing else; what is refused raises a PermissionError that names what to
// grant.
class Access;
class RILLE_API Permissions {
 public:
  // Everything, as a program of the user's own.
  static Permissions all() { return Permissions(true); }
  // Nothing: no files, network, processes, environment, FFI, bytecode or `debug`.
  static Permissions none() { return Permissions(false); }

  // Files and folders in `dir`, and itself, may be read; or written and made.
  Permissions& allow_read(std::string dir) { return add(&read_, std::move(dir)); }
  Permissions& allow_write(std::string dir) { return add(&write_, std::move(dir)); }
  // "host", "host:port", "*:port" or "*": connections to it, and listening on it.
  Permissions& allow_net(std::string host_port) { return add(&net_, std::move(host_port)); }
  // A command by its name or path; "*" for all.
  Permissions& allow_run(std::string cmd) { return add(&run_, std::move(cmd)); }
  // A variable of the environment; "*" for all.
  Permissions& allow_env(std::string name) { return add(&env_, std::move(name)); }

  bool everything() const { return everything_; }
  const std::vector<std::string>& read() const { return read_; }
  const std::vector<std::string>& write() const { return write_; }
  const std::vector<std::string>& net() const { return net_; }
  const std::vector<std::string>& run() const { return run_; }
  const std::vector<std::string>& env() const { return env_; }

 private:
  friend class Limits;
  explicit Permissions(bool everything) : everything_(everything) {}
  Permissions& add(std::vector<std::string>* list, std::string what) {
    list->push_back(std::move(what));
    return *this;
  }

  bool everything_;
  std::vector<std::string> read_, write_, net_, run_, env_;
  // A running runtime's, for its workers: what paths and commands stood for when it started.
  std::shared_ptr<const Access> resolved_;
};

// Something that would go to stderr: an error that nobody took, a warning, a log line.
struct Report {
  std::string message;    // what happened, with the error it is about
  std::string error;      // that error alone; may be empty
  std::string traceback;  // where; may be empty
  std::string text;       // all of it as it would be printed, without a newline at the end
};

struct RILLE_API Options {
  // Borrowed: the host runs it, and tasks run with it. The runtime's handles are on it until
  // `close`. Null: the runtime has a loop of its own.
  uv_loop_t* loop = nullptr;
  std::vector<std::string> args = {};  // rille.args, and what scripts get as `...`
  bool debug = false;
  std::size_t memory_limit = 0;                  // bytes of the interpreter; 0: none
  double slice_limit = 0;                        // seconds that Lua may hold the loop; 0: none
  std::vector<std::string> modules = {};         // may be required; empty: all
  Permissions permissions = Permissions::all();  // what scripts may reach
  // What would go to stderr; empty: it does. Called on the loop's thread, and on those of workers
  // that scripts make, one call at a time.
  std::function<void(const Report&)> on_report = {};

  bool interruptible = true;    // `interrupt` stops compiled loops too; false: a little faster
  std::string script = {};      // that will be run by `run_file`: rille.core.program's, and arg[0]
  std::string executable = {};  // what runs scripts in processes of their own; empty: none
  // What stood before the script on a command line: makes the global `arg`, where its last word is
  // arg[-1]. Empty: there is no `arg`.
  std::vector<std::string> command = {};
};

// A function of a script's that runs, or has run, for the host. Copies stand for the same task.
// Like the runtime it belongs to one thread at a time. If it fails and nobody asks for its result,
// the error is reported when the last copy goes, or when the runtime is closed.
class RILLE_API Task {
 public:
  // Stands for no task: it is done, and has no result.
  Task() = default;
  bool done() const;
  // Its results. If it is not done, runs the runtime until it is. Throws the task's Error; if it
  // was cancelled, one of kind CancelledError.
  std::vector<Value> result();
  // Asks it to end: raises a cancellation where it waits, or at its next wait.
  void cancel(std::string_view reason = {});
  // Calls `fn` once, on the loop's thread and outside of Lua, soon after it is done; also if it is
  // done already, and if no copy is left by then.
  void on_done(std::function<void(Task&)> fn);

 private:
  friend class Runtime;
  struct State;
  friend struct TaskAccess;
  explicit Task(std::shared_ptr<State> state);
  std::shared_ptr<State> state_;
};

// How a waiting function of the host's ends the wait of the task that called it: once, from any
// thread. Copies stand for the same wait. A second end is ignored (a build of the library for
// debugging stops the program there), and so is one that comes after the task was cancelled or the
// runtime was closed. If the last copy goes without an end, the wait fails with an error that says
// so.
class RILLE_API Completion {
 public:
  // Stands for no wait: nothing happens when it is ended.
  Completion() = default;
  // The wait ends with these results.
  template <class... T>
  requires(std::convertible_to<T, Value>&&...) void resolve(T&&... results) const {
    std::vector<Value> list;
    list.reserve(sizeof...(T));
    (list.emplace_back(std::forward<T>(results)), ...);
    resolve_with(std::move(list));
  }
  void resolve_with(std::vector<Value> results) const;
  // The wait ends with an error of that kind.
  void fail(std::string_view kind, std::string_view message) const;
  void fail(const Error& error) const;
  // Calls `fn` once, on the loop's thread and outside of Lua, when the task gives the wait up. If
  // it has done so already, `fn` is called at once, on the calling thread.
  void on_cancel(std::function<void()> fn) const;
  // True if the task does not wait any more.
  bool cancelled() const;

 private:
  friend struct CompletionAccess;
  struct State;
  struct Handle;
  explicit Completion(std::shared_ptr<Handle> handle);
  std::shared_ptr<Handle> handle_;
};

namespace detail {
template <class T>
class ClassBuilder;
}

class RILLE_API Runtime {
 public:
  explicit Runtime(Options options = {});
  // As `close`. REQUIRES: the runtime does not run.
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // ---- scripts ---------------------------------------------------------------------------------

  // Runs a script as a task, to its end and to that of every task that was started under it: those
  // that still run then are cancelled and may clean up. Returns its results, or throws its Error.
  // The file "-" is standard input; the script's folder comes to stand on package.path. `args` are
  // the script's `...` and rille.args, if there are any, else those of the Options.
  std::vector<Value> run_file(const std::filesystem::path& path,
                              std::vector<std::string> args = {});
  std::vector<Value> run_string(std::string_view code, std::string_view chunk_name = "=string");

  // The same for those who do not want the results, whatever they are.
  void execute_file(const std::filesystem::path& path, std::vector<std::string> args = {});
  void execute_string(std::string_view code, std::string_view chunk_name = "=string");

  // The same, without waiting, and without an end for what the script leaves running. Throws an
  // Error for a script that cannot be read or compiled.
  Task spawn_file(const std::filesystem::path& path, std::vector<std::string> args = {});
  Task spawn_string(std::string_view code, std::string_view chunk_name = "=string");
  // Calls a Lua function in a task of its own, which starts soon.
  template <class... T>
  requires(std::convertible_to<T, Value>&&...) Task spawn(const Value& function, T&&... args) {
    std::vector<Value> list;
    list.reserve(sizeof...(T));
    (list.emplace_back(std::forward<T>(args)), ...);
    return spawn_with(function, std::move(list));
  }
  Task spawn_with(const Value& function, std::vector<Value> args);

  // Cancels the script that `run_file` or `run_string` runs; without one it does nothing.
  void cancel(std::string_view reason = {});

  // ---- what scripts see ------------------------------------------------------------------------

  // Gives scripts a function under a global name; "game.add" is `add` in the table `game`. Its
  // parameters may be bool, numbers, std::string, std::string_view, const char*, Value,
  // std::optional, std::vector, std::map<std::string, ...>, std::shared_ptr of a bound class, and
  // as the last one Values, the rest of the arguments; its result these, void, or several as
  // std::tuple, std::pair or Values. A wrong argument is Lua's own "bad argument"; what it throws
  // becomes an error of kind "Error", or of a rille::Error's own kind.
  template <class F>
  void define(std::string_view name, F&& f) {
    define_body(name, [f = detail::keep(std::forward<F>(f))](detail::Call& call) {
      detail::call_with<0>(call, *f);
    });
  }

  // The same for a function that waits: `f(Completion, args...)` starts something and returns
  // nothing; the task that called it sleeps until the completion is resolved, or fails.
  template <class F>
  void define_async(std::string_view name, F&& f) {
    define_waiting(name, [f = detail::keep(std::forward<F>(f))](detail::Call& call) {
      // As the function takes it: by value or by reference.
      using First =
          std::tuple_element_t<0, typename detail::Signature<std::remove_cvref_t<F>>::Parameters>;
      Completion completion = *call.completion;
      detail::call_with<1>(call, *f, static_cast<First&&>(completion));
    });
  }

  // Gives scripts a class, whose objects they make by calling it:
  //   runtime.define_class<Counter>("Counter").constructor<int>().method("add", &Counter::add);
  // An object lives as long as a script or a std::shared_ptr of the host's holds it.
  template <class T>
  detail::ClassBuilder<T> define_class(std::string_view name);

  // A global; "game.score" is a field of the table `game`. nil if there is none. Throws an Error
  // (TypeError) for what is no Value, such as a coroutine.
  Value get(std::string_view name);
  // Sets one, and makes the tables on the way to it.
  void set(std::string_view name, Value value);

  // ---- the loop --------------------------------------------------------------------------------

  // Runs until nothing is left: no task that could go on, no timer, no handle. A task of the host's
  // that nothing can wake any more ends with a DeadlockError.
  void run();
  // Runs what is ready and what has come in meanwhile, and goes on with that while there is more,
  // for about so many seconds; it never sleeps. True if anything is left: call it again, once a
  // frame, or when `backend_fd` is readable or `timeout` is over.
  bool poll(double budget_seconds = 0);
  // A descriptor that is readable when there is something for `poll` to do; -1 without one.
  int backend_fd() const;
  // Seconds until `poll` has something to do without that; 0 if it has now; below 0: never.
  double timeout() const;
  // The libuv loop, to start handles on. On a borrowed one, `run` and its like run it: they must
  // not be called in one of its callbacks then.
  uv_loop_t* loop() const;

  // Calls `fn` on the loop's thread, outside of Lua, in the order of the posts. Any thread. What
  // was posted when the runtime is closed is called before its tasks are cancelled, or not at all.
  void post(std::function<void()> fn);
  // Stops the Lua code that runs now, with an error of kind "InterruptedError". Where none runs, it
  // cancels the script of `run_file` or `run_string`, as `cancel` does; one that has not begun yet
  // never does, also if it is only run after this. Without such a script the next turn of what is
  // ready to run is stopped; if nothing is when the loop comes to that, it is forgotten. Any
  // thread.
  void interrupt(std::string_view reason);

  // ---- the end ---------------------------------------------------------------------------------

  // Cancels every task, and runs until all have ended and cleaned up: at most for 10 seconds. What
  // was to be done at the end of the program is done. Nothing can be run afterwards. For a program
  // that ends soon anyway, and does not want to free everything first.
  void finish();
  // `finish`, then closes every handle and the Lua state. Closing twice does nothing; in the middle
  // of running it is an Error (InvalidStateError). On a borrowed loop this runs the loop until the
  // runtime's handles are closed, with the callbacks of others that are due.
  void close();
  bool closed() const;
  // True once scripts have loaded libraries: native modules of others, whose objects and data may
  // have something to do at the end, which `close` gives them the time for.
  bool has_libraries() const;

  // Errors of tasks that nobody took and no handler of the script's got, so far.
  int lost_errors() const;
  // The status that a script wants the program to end with (rille.process.exit), or -1.
  int exit_status() const;
  // The Lua state, for what this header does not do. REQUIRES: the runtime does not run.
  lua_State* lua_state() const;

  struct Impl;

 private:
  template <class T>
  friend class detail::ClassBuilder;
  friend struct RuntimeAccess;
  void define_body(std::string_view name, detail::Body body);
  void define_waiting(std::string_view name, detail::Body body);
  void make_class(const void* type, std::string_view name);
  void class_constructor(const void* type, std::string_view name, detail::Body body);
  void class_method(const void* type, std::string_view name, detail::Body body, bool waits);

  std::shared_ptr<Impl> impl_;
};

// "0.1.0"
RILLE_API const char* version();

namespace detail {

// Says what a class that is bound has. Methods are member functions, or functions whose first
// parameter (behind the Completion, if they wait) is the object: T&, const T& or
// std::shared_ptr<T>.
template <class T>
class ClassBuilder {
 public:
  ClassBuilder(Runtime* runtime, std::string name) : runtime_(runtime), name_(std::move(name)) {
    runtime_->make_class(kType, name_);
  }

  // Scripts make objects by calling the class, with these arguments. Without it they cannot.
  template <class... A>
  ClassBuilder& constructor() {
    return factory([](A... args) { return std::make_shared<T>(std::forward<A>(args)...); });
  }
  // The same by a function that gives a std::shared_ptr<T>.
  template <class F>
  ClassBuilder& factory(F f) {
    runtime_->class_constructor(kType, name_,
                                [f = keep(std::move(f))](Call& call) { call_with<0>(call, *f); });
    return *this;
  }

  // `object:name(...)`. The names of Lua's own events, such as "__tostring", work too.
  template <class F>
  ClassBuilder& method(std::string_view name, F f) {
    runtime_->class_method(
        kType, name,
        [f = keep(std::move(f))](Call& call) {
          std::shared_ptr<T> self = std::static_pointer_cast<T>(call.self(kType));
          if constexpr (std::is_member_function_pointer_v<F>) {
            call_with<0>(call, *f, *self);
          } else if constexpr (kTakesPointer<F, 0>) {
            call_with<1>(call, *f, self);
          } else {
            call_with<1>(call, *f, *self);
          }
        },
        false);
    return *this;
  }

  // The same for a method that waits: f(Completion, object, args...), or a member function
  // (Completion, args...).
  template <class F>
  ClassBuilder& waiting(std::string_view name, F f) {
    runtime_->class_method(
        kType, name,
        [f = keep(std::move(f))](Call& call) {
          std::shared_ptr<T> self = std::static_pointer_cast<T>(call.self(kType));
          Completion completion = *call.completion;
          if constexpr (std::is_member_function_pointer_v<F>) {
            call_with<1>(call, *f, *self, std::move(completion));
          } else if constexpr (kTakesPointer<F, 1>) {
            call_with<2>(call, *f, std::move(completion), self);
          } else {
            call_with<2>(call, *f, std::move(completion), *self);
          }
        },
        true);
    return *this;
  }

 private:
  static constexpr const void* kType = &kTypeTag<T>;
  template <class F, std::size_t I>
  static constexpr bool kTakesPointer = std::is_same_v<
      std::remove_cvref_t<std::tuple_element_t<I, typename Signature<F>::Parameters>>,
      std::shared_ptr<T>>;

  Runtime* runtime_;
  std::string name_;
};

}  // namespace detail

template <class T>
detail::ClassBuilder<T> Runtime::define_class(std::string_view name) {
  return detail::ClassBuilder<T>(this, std::string(name));
}

}  // namespace rille

#endif
