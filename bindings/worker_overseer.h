// Who sees to jobs that go on although they were cancelled.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace rille::worker {

struct Job;

// One for each runtime that has workers, with a thread of its own from the first such job on.
class Overseer {
 public:
  // How long a cancelled job may hold its thread without waiting until it is interrupted, and then
  // until the thread is given up.
  static constexpr std::chrono::milliseconds kPatience{1000};

  Overseer() = default;
  Overseer(const Overseer&) = delete;
  Overseer& operator=(const Overseer&) = delete;
  ~Overseer() { close(); }

  // The job was cancelled just now.
  void watch(std::shared_ptr<Job> job);

  // From now on nobody is watched.
  void close();

 private:
  using Clock = std::chrono::steady_clock;
  struct Watched {
    std::shared_ptr<Job> job;
    Clock::time_point next;
    int unheard = 0;  // how often there was no sign of it
  };

  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Watched> watched_;  // the next one first
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace rille::worker
