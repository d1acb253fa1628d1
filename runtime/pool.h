// The threads of a runtime, for what blocks: three pools, and the way back to the loop.
#pragma once

#include <pthread.h>
#include <uv.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <rille/builtin.hpp>
#include <vector>

namespace rille {

// Shared by the runtime and its threads: one that hangs in a system call may outlive the runtime.
// All functions are for the loop's thread.
//
// Waking a thread costs more than most jobs. So the loop calls one thread for the first of several
// jobs, and another before it polls, if some are left; a thread that finds more than one job calls
// a further one. And a thread that has ended a job wakes the loop only if that sleeps.
class Pools : public std::enable_shared_from_this<Pools> {
 public:
  using Clock = std::chrono::steady_clock;

  // `size` is that of each pool; 0: by the number of processors.
  Pools(uv_loop_t* loop, int size);
  ~Pools();
  Pools(const Pools&) = delete;
  Pools& operator=(const Pools&) = delete;

  // What RILLE_POOL_SIZE says; 0 without it. What is no size is reported and ignored.
  static int size_from_environment(lua_State* L);

  int size();
  int queued() const;       // jobs that wait for a thread
  int threads();            // that were started
  int outstanding() const;  // jobs whose `after_pool` has not been called

  // Gives threads to jobs in the queues; the loop goes on to something that may take its time.
  void call_threads();
  // Calls `after_pool` of the jobs that have ended. False if there were none.
  bool deliver();
  // The loop has nothing else to do: as `deliver`, but waits a moment for a job to end if the last
  // ones were quick. Going to sleep and being woken takes longer than it takes to read a small
  // file.
  bool linger();
  // From here on threads wake the loop; for as long as it runs by itself.
  void sleep();
  // From here on the loop looks for ended jobs by itself.
  void stay_awake() { loop_.store(kAwake, std::memory_order_relaxed); }

  // Waits, without the loop, until every job has come back. False if that takes longer. Jobs do not
  // keep the loop alive from here on.
  bool wait_for_all(Clock::time_point deadline);

  // Ends the threads; those that run a job are left to themselves. Closes the handle that wakes the
  // loop. REQUIRES: called once, when the loop has nothing else left.
  void close();

 private:
  friend class PoolJob;

  // What the loop's thread is doing: how a thread tells it that a job has ended.
  enum Loop { kAwake, kAsleep, kWaiting, kGone };

  struct Thread {
    pthread_t id{};
    std::condition_variable called;
    bool is_called = false;
    std::atomic<bool> busy{false};  // with a job
  };

  struct Pool {
    std::mutex mutex;
    PoolJob* first = nullptr;
    PoolJob* last = nullptr;
    std::atomic<int> queued{0};
    int running = 0;  // threads with a job
    int looking = 0;  // threads that were called and have not looked into the queue yet
    bool closed = false;
    std::vector<Thread*> idle;  // who fell idle last is called first
    std::vector<std::unique_ptr<Thread>> threads;

    void push(PoolJob* job);
    void remove(PoolJob* job);
  };

  void submit(PoolJob* job);
  bool withdraw(PoolJob* job);
  Thread* call_thread(Pool* pool);
  void start_thread(Pool* pool);
  void work(Pool* pool, Thread* self);
  void give_back(PoolJob* job);
  PoolJob* take_ended();
  void end_for_nobody();

  uv_async_t* wakeup_;
  std::array<Pool, 3> pools_;
  int size_;
  int outstanding_ = 0;
  bool holds_loop_ = true;
  int patience_ = 0;  // how often `linger` may still wait in vain
  int skipped_ = 0;   // how often it did not wait

  std::atomic<PoolJob*> ended_{nullptr};  // a stack
  std::atomic<Loop> loop_{kAsleep};
  std::atomic<int> wakers_{0};  // threads that touch `wakeup_`
  std::mutex waiting_;          // while the loop's thread waits without its loop
  std::condition_variable any_ended_;
  std::mutex gone_;  // whoever ends jobs after the runtime's end
};

}  // namespace rille
