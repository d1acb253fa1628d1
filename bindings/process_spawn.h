// A process to be: what it is to run, with which streams.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <rille/access.hpp>
#include <rille/builtin.hpp>
#include <string>
#include <vector>

#include "process_child.h"

namespace rille::process {

// Started on a thread of the pool: a program on a slow disk, or a busy system, does not hold the
// loop up. Until the new process runs its program it borrows the parent's memory (posix_spawn), so
// that the parent's size does not matter.
class Launch final : public PoolJob {
 public:
  enum class Kind { kGiven, kPipe, kCapture, kFeed };

  struct Options {
    std::shared_ptr<const Access> access;  // null where everything is granted
    std::vector<std::string> args;
    std::vector<std::string> environment;  // entries "name=value"
    std::string path;                      // where programs are looked for
    std::string cwd;
    bool has_cwd = false;
    bool session = false;
    bool group = false;
    bool error_to_output = false;
    bool hold = false;  // the child's number, until it is released
  };

  explicit Launch(Options options) : options_(std::move(options)) {}

  // Sets up stream 0, 1 or 2 of the child. Both return a negative errno, or 0. What is not set up
  // is inherited.
  int give(int stream, int fd);
  int give_null(int stream);
  int pipe(int stream, Kind kind);

  // Starts the process and puts the task to sleep until it runs. The results are the child, its
  // pid, and what stands for its three streams, nil where that is nothing. If nobody takes them,
  // the process is killed.
  static int run(lua_State* L, std::unique_ptr<Launch> launch);

 private:
  void on_pool() override;
  void after_pool(int status) override;

  int fail(const char* syscall, const std::string& path, int error);
  bool find_program(int directory, std::string* program);
  int start(int directory, const std::string& program);
  int push(lua_State* L);
  void push_stream(lua_State* L, int index);

  Options options_;
  std::array<Descriptor, 3> theirs_;
  std::array<Descriptor, 3> ours_;
  std::array<Kind, 3> kinds_{};

  Refusal refusal_;
  rille_waiter* waiter_ = nullptr;
  uv_loop_t* loop_ = nullptr;
  std::shared_ptr<Children> children_;
  std::atomic<bool> given_up_ = false;
  bool begun_ = false;
  pid_t pid_ = -1;
  Descriptor pidfd_;
  std::shared_ptr<Child> child_;

  int status_ = 0;
  const char* syscall_ = "spawn";
  std::string error_path_;
};

// A child as Lua holds it: it runs on when that is dropped.
struct ChildHandle {
  static constexpr char kName[] = "rille.core.Child";
  explicit ChildHandle(std::shared_ptr<Child> c) : child(std::move(c)) {}
  ~ChildHandle() { child->release(); }
  std::shared_ptr<Child> child;
};

}  // namespace rille::process
