// Processes that were started here, until note has been taken of their end. Each is watched by a
// descriptor of its own (pidfd): no SIGCHLD, which would have to be shared with os.execute,
// io.popen and the host, and no signal to a process that has got a number anew.
#pragma once

#include <sys/types.h>

#include <list>
#include <memory>
#include <rille/module.hpp>

#include "stdio_fd.h"

namespace rille::process {

class Children;

class Child {
 public:
  Child(pid_t pid, Descriptor pidfd, bool leads_group)
      : pid_(pid), pidfd_(std::move(pidfd)), leads_group_(leads_group) {}
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  bool leads_group() const { return leads_group_; }

  // Looks whether it has ended.
  bool has_ended();

  // Pushes nil and the status once it has ended, for any number of tasks.
  int wait(lua_State* L);

  // Sends a signal: 1, or 0 if the process has ended, or an error of libuv's. To its group it can
  // be sent for as long as its number is its own: see `hold`.
  int kill(int signal, bool group);

  // While it is held its number stays taken, also after its end.
  void hold() { held_ = true; }
  void release();

 private:
  friend class Children;
  struct Waiter;

  void watch(uv_loop_t* loop);
  void look();
  void reap();
  void push_status(lua_State* L) const;

  pid_t pid_;
  Descriptor pidfd_;
  bool leads_group_;
  bool held_ = false;
  bool ended_ = false;
  bool reaped_ = false;
  int code_ = 0;
  int signal_ = 0;
  Handle<uv_poll_t> poll_;
  std::list<Waiter*> waiters_;
  Children* children_ = nullptr;  // while not reaped
  std::list<std::shared_ptr<Child>>::iterator place_;
};

// All of a runtime that are not reaped, so that none becomes a zombie because nobody asks.
class Children {
 public:
  Children() = default;
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children() { close(); }

  static std::shared_ptr<Children> of(lua_State* L);

  // Watches a child from now on. REQUIRES: the loop's thread.
  std::shared_ptr<Child> add(uv_loop_t* loop, pid_t pid, Descriptor pidfd, bool leads_group);

  // Processes that are being started. Those that nobody waits for any more are killed as soon as
  // they are there, which the program has to wait for, within reason, before it ends.
  void count_launching(int by) { launching_ += by; }
  void finish_launching(uv_loop_t* loop);

  // The runtime ends: what runs on is reaped by whoever starts a process next.
  void close();
  bool is_closed() const { return closed_; }

  // While on, processes whose parent dies become ours, so that the members of a group that is
  // killed can be reaped at once and not when the system gets around to it. Switched off as often
  // as on.
  static void adopt(bool on);

  // Reaps those of a group that are ours. True if nobody is left in it.
  static bool reap_group(pid_t group);

  // Puts a child among those, or reaps those that have ended. For any thread.
  static void orphan(pid_t pid);
  static void reap_orphans();

  // Likewise for what is left of a group whose leader has been reaped: while `adopt` is on because
  // of another group, they become ours too when their parents end.
  static void leave_group(pid_t group);

 private:
  friend class Child;
  std::list<std::shared_ptr<Child>> list_;
  int launching_ = 0;
  bool closed_ = false;
};

}  // namespace rille::process
