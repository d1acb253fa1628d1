// For hosts in C++: a runtime that runs async Lua programs. The executable is such a host.
#ifndef RILLE_RILLE_HPP
#define RILLE_RILLE_HPP

#include <uv.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct lua_State;

namespace rille {

// What a script may reach outside of its interpreter. `Permissions::none().allow_read("data")`
// grants that folder and nothing else; what is refused raises a PermissionError that names what to
// grant.
class Permissions {
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
  explicit Permissions(bool everything) : everything_(everything) {}
  Permissions& add(std::vector<std::string>* list, std::string what) {
    list->push_back(std::move(what));
    return *this;
  }

  bool everything_;
  std::vector<std::string> read_, write_, net_, run_, env_;
};

// Something that would go to stderr: an error that nobody took, a warning, a log line.
struct Report {
  std::string message;    // what happened, in one line
  std::string error;      // the error it is about, as text; may be empty
  std::string traceback;  // where; may be empty
  std::string text;       // all of it as it would be printed, without a newline at the end
};

struct Options {
  uv_loop_t* loop = nullptr;      // borrowed; null: the runtime has its own
  std::vector<std::string> args;  // rille.args
  bool debug = false;
  std::size_t memory_limit = 0;                  // bytes of the interpreter; 0: none
  double slice_limit = 0;                        // seconds that Lua may hold the loop; 0: none
  std::vector<std::string> modules;              // may be required; empty: all
  Permissions permissions = Permissions::all();  // what scripts may reach
  std::function<void(const Report&)> on_report;  // what would go to stderr; empty: it does

  std::string script;      // arg[0]; its folder is on package.path
  std::string executable;  // the program that runs scripts in processes of their own; empty: none
  std::vector<std::string> command = {
      "rille"};  // what stood before the script: arg[-1] is the last
};

// How a script ended.
struct Outcome {
  enum Kind { kDone, kFailed, kCancelled } kind = kDone;
  std::string message;  // error and traceback, for people
  std::string reason;   // of a cancellation
  int lost_errors = 0;  // errors of tasks that nobody took
};

// One Lua state and one loop. One thread at a time.
class Runtime {
 public:
  explicit Runtime(Options options = {});
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  // Runs a script as the main task, to its end and that of every task it left. The file "-" is
  // standard input.
  Outcome run_file(const std::string& path);
  Outcome run_string(std::string_view code, const std::string& chunk_name);

  // Cancels the main task. Once the runtime closes it does nothing. REQUIRES: called in a callback
  // of the loop.
  void cancel_main(std::string_view reason);

  // The loop of this runtime, to start handles on, and its Lua state.
  uv_loop_t* loop() const;
  lua_State* lua_state() const;

  // Status that rille.process.exit asked for, or -1.
  int exit_status() const;

  // Ends every wait, closes every handle and the Lua state.
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

const char* version();

}  // namespace rille

#endif
