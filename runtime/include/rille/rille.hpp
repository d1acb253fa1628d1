// For hosts in C++: a runtime that runs async Lua programs. The executable is such a host.
#ifndef RILLE_RILLE_HPP
#define RILLE_RILLE_HPP

#include <uv.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

struct lua_State;

namespace rille {

struct Options {
  std::vector<std::string> args;  // rille.args
  std::string script;             // arg[0]; its folder is on package.path
  std::vector<std::string> command = {
      "rille"};  // what stood before the script: arg[-1] is the last
  bool debug = false;
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
