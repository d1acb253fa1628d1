#include "pool.h"

#include <signal.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "report.h"
#include "scheduler.h"

namespace rille {

namespace {

constexpr int kLargestSize = 1024;
constexpr int kSmallestDefault = 4;

// Signals are for the threads that the host made. Those that a fault of this thread raises are not
// blocked, and neither is a profiler's.
void block_signals(sigset_t* before) {
  sigset_t set;
  sigfillset(&set);
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) {
    sigdelset(&set, number);
  }
  pthread_sigmask(SIG_SETMASK, &set, before);
}

// Tells the processor that this is a loop which only waits.
void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

}  // namespace

// ---- jobs --------------------------------------------------------------------------------------

void PoolJob::submit(Pools& pools, PoolKind kind) {
  pools_ = &pools;
  kind_ = kind;
  pools.submit(this);
}

bool PoolJob::withdraw() { return pools_->withdraw(this); }

Pools& pools_of(lua_State* L) { return *Scheduler::of(L)->pools; }

// ---- queues ------------------------------------------------------------------------------------

void Pools::Pool::push(PoolJob* job) {
  job->next_ = nullptr;
  job->prev_ = last;
  (last ? last->next_ : first) = job;
  last = job;
  queued.fetch_add(1, std::memory_order_relaxed);
}

void Pools::Pool::remove(PoolJob* job) {
  (job->prev_ ? job->prev_->next_ : first) = job->next_;
  (job->next_ ? job->next_->prev_ : last) = job->prev_;
  queued.fetch_sub(1, std::memory_order_relaxed);
}

// ---- the loop's side ---------------------------------------------------------------------------

Pools::Pools(uv_loop_t* loop, int size) : wakeup_(new uv_async_t), size_(size) {
  uv_async_init(loop, wakeup_, [](uv_async_t* a) { static_cast<Pools*>(a->data)->deliver(); });
  wakeup_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(wakeup_));
}

Pools::~Pools() = default;

int Pools::size_from_environment(lua_State* L) {
  const char* text = std::getenv("RILLE_POOL_SIZE");
  if (!text || !*text) return 0;
  int size = 0;
  const char* end = text + std::strlen(text);
  auto [rest, error] = std::from_chars(text, end, size);
  if (error == std::errc() && rest == end && size >= 1 && size <= kLargestSize) return size;
  report_text(L, std::string("RILLE_POOL_SIZE is ignored: it is '") + text +
                     "', not a whole number from 1 to " + std::to_string(kLargestSize));
  return 0;
}

int Pools::size() {
  if (size_ == 0) {
    size_ =
        std::clamp(static_cast<int>(uv_available_parallelism()), kSmallestDefault, kLargestSize);
  }
  return size_;
}

int Pools::queued() const {
  int n = 0;
  for (const Pool& pool : pools_) n += pool.queued.load(std::memory_order_relaxed);
  return n;
}

int Pools::threads() {
  std::size_t n = 0;
  for (Pool& pool : pools_) {
    std::lock_guard lock(pool.mutex);
    n += pool.threads.size();
  }
  return static_cast<int>(n);
}

int Pools::outstanding() const { return outstanding_; }

void Pools::submit(PoolJob* job) {
  Loop loop = loop_.load(std::memory_order_relaxed);
  if (loop == kGone) return job->after_pool(UV_ECANCELED);
  job->status_ = 0;
  job->state_ = PoolJob::State::kQueued;
  if (outstanding_++ == 0 && holds_loop_) uv_ref(reinterpret_cast<uv_handle_t*>(wakeup_));

  Pool& pool = pools_[static_cast<std::size_t>(job->kind_)];
  std::unique_lock lock(pool.mutex);
  pool.push(job);
  // A loop that runs by itself may block before it comes to call_threads.
  if (pool.looking > 0 || (pool.running > 0 && loop == kAwake)) return;
  Thread* thread = call_thread(&pool);
  if (pool.threads.empty()) {
    pool.remove(job);
    job->state_ = PoolJob::State::kBegun;
    job->status_ = UV_EAGAIN;
  }
  lock.unlock();
  if (thread) thread->called.notify_one();
  if (job->status_ < 0) give_back(job);
}

bool Pools::withdraw(PoolJob* job) {
  if (loop_.load(std::memory_order_relaxed) == kGone) return false;
  {
    Pool& pool = pools_[static_cast<std::size_t>(job->kind_)];
    std::lock_guard lock(pool.mutex);
    if (job->state_ != PoolJob::State::kQueued) return false;
    pool.remove(job);
    job->state_ = PoolJob::State::kBegun;
  }
  job->status_ = UV_ECANCELED;
  give_back(job);
  return true;
}

void Pools::call_threads() {
  for (Pool& pool : pools_) {
    if (pool.queued.load(std::memory_order_relaxed) == 0) continue;
    Thread* thread = nullptr;
    {
      std::lock_guard lock(pool.mutex);
      if (pool.first && pool.looking == 0) thread = call_thread(&pool);
    }
    if (thread) thread->called.notify_one();
  }
}

PoolJob* Pools::take_ended() {
  PoolJob* stack = ended_.exchange(nullptr);
  PoolJob* list = nullptr;
  while (stack) {  // the first to end comes first
    PoolJob* next = stack->next_;
    stack->next_ = list;
    list = std::exchange(stack, next);
  }
  return list;
}

bool Pools::deliver() {
  if (!ended_.load(std::memory_order_relaxed)) return false;
  PoolJob* job = take_ended();
  while (job) {
    PoolJob* next = job->next_;
    job->state_ = PoolJob::State::kOutside;
    --outstanding_;
    job->after_pool(job->status_);
    job = next;
  }
  if (outstanding_ == 0) uv_unref(reinterpret_cast<uv_handle_t*>(wakeup_));
  return true;
}

bool Pools::linger() {
  constexpr uint64_t kMomentNs = 10'000;
  constexpr int kPatience = 4;
  constexpr int kSeldom = 32;  // sleeps after which it tries again
  if (outstanding_ == 0) return false;
  if (patience_ == 0 && ++skipped_ < kSeldom) return false;
  skipped_ = 0;
  uint64_t until = uv_hrtime() + kMomentNs;
  do {
    if (deliver()) {
      patience_ = kPatience;
      return true;
    }
    relax();
  } while (uv_hrtime() < until);
  if (patience_ > 0) --patience_;
  return false;
}

void Pools::sleep() {
  loop_ = kAsleep;
  // Jobs that have ended before will wake nobody.
  if (ended_.load()) uv_async_send(wakeup_);
}

bool Pools::wait_for_all(Clock::time_point deadline) {
  loop_ = kWaiting;
  holds_loop_ = false;
  uv_unref(reinterpret_cast<uv_handle_t*>(wakeup_));
  bool in_time = true;
  while (outstanding_ > 0 && in_time) {
    call_threads();
    if (deliver()) continue;
    std::unique_lock lock(waiting_);
    in_time = any_ended_.wait_until(lock, deadline, [this] { return ended_.load() != nullptr; });
  }
  sleep();
  return in_time;
}

void Pools::close() {
  loop_ = kGone;
  while (wakers_.load() > 0) std::this_thread::yield();
  uv_close(reinterpret_cast<uv_handle_t*>(wakeup_),
           [](uv_handle_t* h) { delete reinterpret_cast<uv_async_t*>(h); });

  std::vector<Thread*> to_join;
  for (Pool& pool : pools_) {
    std::unique_lock lock(pool.mutex);
    pool.closed = true;
    while (PoolJob* job = pool.first) {
      pool.remove(job);
      lock.unlock();
      give_back(job);
      lock.lock();
    }
    for (Thread* thread : pool.idle) {
      thread->is_called = true;
      thread->called.notify_one();
    }
    pool.idle.clear();
    for (auto& thread : pool.threads) {
      if (thread->busy.load()) {
        pthread_detach(thread->id);
      } else {
        to_join.push_back(thread.get());
      }
    }
  }
  for (Thread* thread : to_join) pthread_join(thread->id, nullptr);
}

// The runtime has gone: what has ended is freed there and then.
void Pools::end_for_nobody() {
  std::lock_guard lock(gone_);
  PoolJob* job = take_ended();
  while (job) {
    PoolJob* next = job->next_;
    job->after_pool(UV_ECANCELED);
    job = next;
  }
}

// ---- the threads' side -------------------------------------------------------------------------

// Gets a further thread to look into the queue, if one can be had: an idle one, which the caller
// has to notify, or a new one. REQUIRES: the pool is locked.
Pools::Thread* Pools::call_thread(Pool* pool) {
  if (pool->idle.empty()) {
    if (static_cast<int>(pool->threads.size()) < size()) start_thread(pool);
    return nullptr;
  }
  Thread* thread = pool->idle.back();
  pool->idle.pop_back();
  thread->is_called = true;
  ++pool->looking;
  return thread;
}

void Pools::start_thread(Pool* pool) {
  struct Start {
    std::shared_ptr<Pools> pools;
    Pool* pool;
    Thread* thread;
  };
  pool->threads.push_back(std::make_unique<Thread>());
  Thread* thread = pool->threads.back().get();
  auto start = std::make_unique<Start>(Start{shared_from_this(), pool, thread});
  sigset_t before;
  block_signals(&before);
  int error = pthread_create(
      &thread->id, nullptr,
      [](void* data) -> void* {
        std::unique_ptr<Start> s(static_cast<Start*>(data));
        s->pools->work(s->pool, s->thread);
        return nullptr;
      },
      start.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) {
    pool->threads.pop_back();
    return;
  }
  static_cast<void>(start.release());
  ++pool->looking;
  static constexpr const char* kNames[] = {"rille-files", "rille-names", "rille-work"};
  pthread_setname_np(thread->id, kNames[pool - pools_.data()]);
}

void Pools::work(Pool* pool, Thread* self) {
  std::unique_lock lock(pool->mutex);
  for (;;) {
    --pool->looking;
    while (PoolJob* job = pool->first) {
      pool->remove(job);
      job->state_ = PoolJob::State::kBegun;
      ++pool->running;
      self->busy.store(true, std::memory_order_relaxed);
      Thread* other = pool->first && pool->looking == 0 ? call_thread(pool) : nullptr;
      lock.unlock();
      if (other) other->called.notify_one();

      job->on_pool();

      self->busy.store(false);
      give_back(job);
      lock.lock();
      --pool->running;
    }
    if (pool->closed) return;
    pool->idle.push_back(self);
    self->called.wait(lock, [self] { return self->is_called; });
    self->is_called = false;
  }
}

void Pools::give_back(PoolJob* job) {
  PoolJob* head = ended_.load(std::memory_order_relaxed);
  do job->next_ = head;
  while (!ended_.compare_exchange_weak(head, job));

  switch (loop_.load()) {
    case kAwake:
      break;
    case kAsleep:
      ++wakers_;
      if (loop_.load() == kAsleep) uv_async_send(wakeup_);
      --wakers_;
      break;
    case kWaiting: {
      std::lock_guard lock(waiting_);
      any_ended_.notify_one();
      break;
    }
    case kGone:
      end_for_nobody();
      break;
  }
}

}  // namespace rille
