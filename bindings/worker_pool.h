// Threads with an interpreter and a loop each, and the jobs that they run.
#pragma once

#include <rille/module.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <rille/rille.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "worker_codec.h"
#include "worker_overseer.h"

namespace rille::worker {

class Port;
class ThreadPool;

// Signals are for the threads that the host made: what is started while this lives gets none.
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

// A function to be called in a worker, later its outcome. What changes is guarded by the pool's
// mutex, but for the messages: the job's own side alone touches them.
struct Job {
  Message call;
  Message answer;
  bool failed = false;             // the answer is an error
  std::string fault;               // why there is no answer
  int exit_status = -1;            // the one that was asked for instead of an answer
  rille_waiter* waiter = nullptr;  // who waits for the answer, until it is on its way
  std::shared_ptr<Job> self;       // the waiter's, until its end
  std::atomic<bool> cancelled{false};
  bool is_told = false;  // that it is cancelled
  std::shared_ptr<ThreadPool> pool;
};

// Where a worker finds modules.
struct Paths {
  std::string path, cpath;
};

// The interpreters outlive the runtime that has made them if they cannot be stopped.
class ThreadPool : public std::enable_shared_from_this<ThreadPool> {
 public:
  using Clock = std::chrono::steady_clock;

  // `size` threads at most, each with a runtime of these options, which ends after `max_jobs` jobs
  // (0: never). `initializer` holds a function for each of them, or nothing. `lost` counts errors
  // that nobody takes.
  ThreadPool(Options options, int size, int max_jobs, Message initializer,
             std::shared_ptr<std::atomic<int>> lost, std::shared_ptr<Overseer> overseer)
      : options_(std::move(options)),
        size_(size),
        max_jobs_(max_jobs),
        initializer_(std::move(initializer)),
        lost_(std::move(lost)),
        overseer_(std::move(overseer)) {}
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // ---- for the one who has made it; on his thread ----------------------------------------------

  void set_paths(Paths paths);
  // Waiting functions of Lua: see worker_lib.cpp.
  int run(lua_State* L, Message call);
  int close(lua_State* L);
  int size() const { return size_; }
  int queued();
  // Jobs that run although nobody waits for them any more.
  int abandoned();
  bool is_closed();

  // No further jobs: those in the queue are dropped, those that run are asked to stop. Does not
  // wait.
  void stop();
  // Waits until the threads have ended, or leaves them to themselves.
  void join(Clock::time_point deadline);
  bool has_ended();
  // Frees what threads that have ended leave.
  void join_ended();

  // A cancelled job is to come to its end: if there was no sign of its thread since the last time,
  // its Lua is interrupted; if that does not help, the thread is left to itself, and another one
  // takes its place. False once there is no more to be done. Any thread.
  bool urge(Job* job, int* unheard);

 private:
  friend class Port;
  struct Thread {
    std::thread thread;
    bool ended = false;
    bool given_up = false;  // it is not one of the pool's any more, and takes no more jobs
  };

  void join_replaced();
  void start_thread();
  void start_another();
  void work(Thread* self);
  void serve(Thread* self);
  std::vector<rille_waiter*> take_closers();
  void wake_closers(const std::vector<rille_waiter*>& closers);
  void fail(std::shared_ptr<Job> job, std::string fault);
  static void give_up(rille_waiter* waiter, void* data);
  static int push_answer(lua_State* L, void* data);
  static int push_closed(lua_State* L, void* data);

  const Options options_;
  const int size_;
  const int max_jobs_;
  const Message initializer_;
  const std::shared_ptr<std::atomic<int>> lost_;
  const std::shared_ptr<Overseer> overseer_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::deque<std::shared_ptr<Job>> queue_;
  std::vector<Port*> idle_;  // who fell idle last is called first
  std::list<Port*> ports_;
  std::list<Thread> threads_;
  int running_ = 0;  // threads that have neither ended nor been given up
  bool closing_ = false;
  bool stopping_ = false;
  Paths paths_;
  unsigned paths_version_ = 0;
  std::vector<rille_waiter*> closers_;
};

// A worker's side of its pool: one for each thread, on that alone.
class Port {
 public:
  Port(ThreadPool* pool, ThreadPool::Thread* thread, Runtime* runtime);
  // It is no longer one of the pool's. What it was working at.
  std::shared_ptr<Job> close();
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;

  // The port of the runtime that `L` belongs to; raises an error if it is no worker's.
  static Port* of(lua_State* L);

  // Waiting: pushes true when there is a job, false when there will be none.
  int take(lua_State* L);
  // Pushes path and cpath if they have changed.
  int paths(lua_State* L);
  void count_lost(int n) { *pool_->lost_ += n; }
  Job* job() const { return job_.get(); }
  const Message& initializer() const { return pool_->initializer_; }
  // The job has ended: its answer is sent.
  void answer(Message message, bool failed);

 private:
  friend class ThreadPool;
  bool take_job();
  static int push_taken(lua_State* L, void* data);
  static void give_up(rille_waiter* waiter, void* data);
  void look_for_cancellation();

  ThreadPool* pool_;
  ThreadPool::Thread* thread_;
  Runtime* runtime_;
  std::function<bool(std::string_view)> interrupt_;
  uv_async_t* control_;
  bool is_heard_ = false;  // its loop has turned since it was last called
  std::shared_ptr<Job> job_;
  rille_waiter* waiter_ = nullptr;  // while it is idle
  int jobs_ = 0;                    // that it has done
  unsigned paths_version_ = 0;
};

// All pools of a runtime, ended with it.
class PoolList {
 public:
  static constexpr char kName[] = "rille.worker.Pools";
  PoolList() = default;
  PoolList(const PoolList&) = delete;
  PoolList& operator=(const PoolList&) = delete;
  ~PoolList();

  static PoolList* of(lua_State* L);
  void add(std::shared_ptr<ThreadPool> pool);
  const std::shared_ptr<std::atomic<int>>& lost() const { return lost_; }
  const std::shared_ptr<Overseer>& overseer() const { return overseer_; }
  const std::vector<std::shared_ptr<ThreadPool>>& pools() const { return pools_; }

 private:
  std::shared_ptr<std::atomic<int>> lost_ = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<Overseer> overseer_ = std::make_shared<Overseer>();
  std::vector<std::shared_ptr<ThreadPool>> pools_;
};

}  // namespace rille::worker
