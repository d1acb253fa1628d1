#include "worker_overseer.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "worker_pool.h"

namespace rille::worker {

void Overseer::watch(std::shared_ptr<Job> job) {
  std::lock_guard lock(mutex_);
  if (closing_) return;
  if (!thread_.joinable()) {
    SignalsBlocked while_it_starts;
    try {
      thread_ = std::thread([this] { run(); });
    } catch (const std::system_error&) {
      return;  // then the job ends when it likes
    }
  }
  watched_.push_back({std::move(job), Clock::now() + kPatience});
  wake_.notify_one();
}

void Overseer::run() {
  std::unique_lock lock(mutex_);
  while (!closing_) {
    if (watched_.empty()) {
      wake_.wait(lock);
      continue;
    }
    Watched next = watched_.front();
    if (Clock::now() < next.next) {
      wake_.wait_until(lock, next.next);
      continue;
    }
    watched_.erase(watched_.begin());
    lock.unlock();
    bool goes_on = next.job->pool->urge(next.job.get(), &next.unheard);
    next.next = Clock::now() + kPatience;
    if (!goes_on) next.job.reset();
    lock.lock();
    if (goes_on) watched_.push_back(std::move(next));
  }
}

void Overseer::close() {
  std::vector<Watched> dropped;
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    dropped.swap(watched_);
    wake_.notify_one();
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace rille::worker
