#include "worker_pool.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <rille/builtin.hpp>
#include <rille/module.hpp>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "thread_channel.h"

namespace rille::worker {

namespace {

const char kPortKey = 0;
const char kPoolsKey = 0;

// How long a runtime that ends waits for its workers; before that ends, how long it leaves them to
// what they do when they are asked to stop.
constexpr std::chrono::seconds kPatience(3);
constexpr std::chrono::seconds kGrace(1);

}  // namespace

SignalsBlocked::SignalsBlocked() {
  sigset_t set;
  sigfillset(&set);
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) {
    sigdelset(&set, number);
  }
  pthread_sigmask(SIG_SETMASK, &set, &before_);
}

SignalsBlocked::~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

// ---- the owner's side --------------------------------------------------------------------------

void ThreadPool::set_paths(Paths paths) {
  std::lock_guard lock(mutex_);
  paths_ = std::move(paths);
  ++paths_version_;
}

int ThreadPool::queued() {
  std::lock_guard lock(mutex_);
  return static_cast<int>(queue_.size());
}

int ThreadPool::abandoned() {
  std::lock_guard lock(mutex_);
  auto is_one = [](Port* p) { return p->job_ && p->job_->cancelled; };
  return static_cast<int>(std::count_if(ports_.begin(), ports_.end(), is_one));
}

bool ThreadPool::is_closed() {
  std::lock_guard lock(mutex_);
  return closing_;
}

// Results: true and the values; false, the error and its trace; a packet of either and whether it
// is an error.
int ThreadPool::run(lua_State* L, Message call) {
  auto job = std::make_shared<Job>();
  job->call = std::move(call);
  job->pool = shared_from_this();
  rille_waiter* waiter = rille_prepare(L, give_up, job.get());
  job->self = job;
  job->waiter = waiter;
  rille_waiter* called = nullptr;
  std::string fault;
  {
    std::lock_guard lock(mutex_);
    if (closing_) {
      fault = "run: the pool is closed";
    } else if (!idle_.empty()) {
      Port* port = idle_.back();
      idle_.pop_back();
      port->job_ = job;
      called = std::exchange(port->waiter_, nullptr);
    } else {
      queue_.push_back(job);
      if (running_ < size_) {
        try {
          start_thread();
        } catch (const std::system_error& e) {
          if (running_ == 0) {
            queue_.pop_back();
            fault = std::string("run: no thread could be started: ") + e.what();
          }
        }
      }
    }
    if (!fault.empty()) job->waiter = nullptr;
  }
  if (called) rille_complete_from_thread(called, Port::push_taken, nullptr);
  if (!fault.empty()) {
    job->self.reset();
    rille_fail(waiter, "InvalidStateError", nullptr, fault.c_str());
  }
  return rille_park(L, waiter);
}

// Who waited for the answer is freed at once; the job, if it runs, is asked to stop.
void ThreadPool::give_up(rille_waiter* waiter, void* data) {
  auto* job = static_cast<Job*>(data);
  bool runs = false;
  {
    ThreadPool* pool = job->pool.get();
    std::lock_guard lock(pool->mutex_);
    if (!job->waiter) return;  // the answer is on its way
    job->waiter = nullptr;
    job->cancelled = true;
    auto is_it = [job](const auto& other) { return other.get() == job; };
    auto queued = std::find_if(pool->queue_.begin(), pool->queue_.end(), is_it);
    if (queued != pool->queue_.end()) {
      pool->queue_.erase(queued);
    } else {
      for (Port* port : pool->ports_) {
        if (port->job_.get() == job) {
          port->is_heard_ = false;
          uv_async_send(port->control_);
          runs = true;
        }
      }
    }
  }
  if (runs) job->pool->overseer_->watch(job->self);
  rille_complete(waiter, push_answer, job);
}

// The job has no answer. REQUIRES: not locked, and that no port has it.
void ThreadPool::fail(std::shared_ptr<Job> job, std::string fault) {
  job->fault = std::move(fault);
  rille_waiter* waiter;
  {
    std::lock_guard lock(mutex_);
    waiter = std::exchange(job->waiter, nullptr);
  }
  if (waiter) rille_complete_from_thread(waiter, push_answer, job.get());
}

int ThreadPool::push_answer(lua_State* L, void* data) {
  std::shared_ptr<Job> job = std::move(static_cast<Job*>(data)->self);
  if (!L) return 0;
  if (!job->fault.empty()) {
    rille_push_error(L, "WorkerError", nullptr, job->fault.c_str());
    if (job->exit_status >= 0) {
      lua_pushinteger(L, job->exit_status);
      lua_setfield(L, -2, "code");
    }
    return 1;
  }
  bool is_packet = job->answer.needs_modules;
  int n = push_message(L, &job->answer);
  if (is_packet) {
    lua_pushboolean(L, job->failed);
    return n + 1;
  }
  if (job->failed) {
    int second = lua_gettop(L) - n + 2;
    lua_pushboolean(L, 0);
    lua_replace(L, second);
  }
  return n;
}

// ---- the end -----------------------------------------------------------------------------------

int ThreadPool::push_closed(lua_State* L, void* data) {
  std::unique_ptr<std::shared_ptr<ThreadPool>> pool(
      static_cast<std::shared_ptr<ThreadPool>*>(data));
  if (!L) return 0;
  (*pool)->join_ended();
  lua_pushnil(L);
  return 1;
}

// Waits until the jobs that were given to it are done and the threads have ended.
int ThreadPool::close(lua_State* L) {
  struct Closer {
    static void give_up(rille_waiter* waiter, void* data) {
      auto* pool = static_cast<ThreadPool*>(data);
      {
        std::lock_guard lock(pool->mutex_);
        auto entry = std::find(pool->closers_.begin(), pool->closers_.end(), waiter);
        if (entry == pool->closers_.end()) return;
        pool->closers_.erase(entry);
      }
      rille_complete(waiter, push_closed, new std::shared_ptr(pool->shared_from_this()));
    }
  };
  rille_waiter* waiter = rille_prepare(L, Closer::give_up, this);
  std::vector<rille_waiter*> called;
  bool done;
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
    for (Port* port : idle_) called.push_back(std::exchange(port->waiter_, nullptr));
    idle_.clear();
    done = running_ == 0;
    if (!done) closers_.push_back(waiter);
  }
  for (rille_waiter* w : called) rille_complete_from_thread(w, Port::push_taken, nullptr);
  if (done) rille_complete(waiter, push_closed, new std::shared_ptr(shared_from_this()));
  return rille_park(L, waiter);
}

void ThreadPool::stop() {
  std::vector<rille_waiter*> called;
  std::vector<std::shared_ptr<Job>> running;
  std::deque<std::shared_ptr<Job>> dropped;
  {
    std::lock_guard lock(mutex_);
    closing_ = stopping_ = true;
    dropped.swap(queue_);
    for (Port* port : idle_) called.push_back(std::exchange(port->waiter_, nullptr));
    idle_.clear();
    for (Port* port : ports_) {
      if (port->job_) {
        port->job_->cancelled = true;
        running.push_back(port->job_);
      }
      port->is_heard_ = false;
      uv_async_send(port->control_);
    }
  }
  for (auto& job : running) overseer_->watch(std::move(job));
  for (rille_waiter* w : called) rille_complete_from_thread(w, Port::push_taken, nullptr);
  for (auto& job : dropped) fail(std::move(job), "the pool has ended");
}

bool ThreadPool::has_ended() {
  std::lock_guard lock(mutex_);
  return running_ == 0;
}

void ThreadPool::join(Clock::time_point deadline) {
  {
    std::unique_lock lock(mutex_);
    auto ended = [this] { return running_ == 0; };
    if (!ended_.wait_until(lock, deadline - kPatience + kGrace, ended)) {
      for (Port* port : ports_) port->runtime_->interrupt("the runtime has ended");
      ended_.wait_until(lock, deadline, ended);
    }
    for (Thread& t : threads_) {
      if (!t.ended && t.thread.joinable()) t.thread.detach();
    }
  }
  join_ended();
}

void ThreadPool::join_ended() {
  std::list<Thread> ended;
  {
    std::lock_guard lock(mutex_);
    for (auto t = threads_.begin(); t != threads_.end();) {
      auto next = std::next(t);
      if (t->ended) ended.splice(ended.end(), threads_, t);
      t = next;
    }
  }
  for (Thread& t : ended) {
    if (t.thread.joinable()) t.thread.join();
  }
}

PoolList* PoolList::of(lua_State* L) {
  void* key = const_cast<char*>(&kPoolsKey);
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  auto* list = static_cast<PoolList*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  if (!list) {
    const rille_reg none[] = {{nullptr, nullptr, 0}};
    Class<PoolList>::define(L, none);
    lua_pushlightuserdata(L, key);
    list = Class<PoolList>::push(L);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  return list;
}

void PoolList::add(std::shared_ptr<ThreadPool> pool) {
  std::erase_if(pools_, [](const auto& p) {
    if (!p->is_closed() || !p->has_ended()) return false;
    p->join_ended();
    return true;
  });
  pools_.push_back(std::move(pool));
}

PoolList::~PoolList() {
  overseer_->close();
  auto deadline = ThreadPool::Clock::now() + kPatience;
  for (auto& pool : pools_) pool->stop();
  for (auto& pool : pools_) pool->join(deadline);
}

bool ThreadPool::urge(Job* job, int* unheard) {
  std::vector<rille_waiter*> closers;
  {
    std::lock_guard lock(mutex_);
    auto has_it = [job](Port* p) { return p->job_.get() == job; };
    auto found = std::find_if(ports_.begin(), ports_.end(), has_it);
    if (found == ports_.end() || (*found)->thread_->given_up) return false;
    Port* port = *found;
    if (std::exchange(port->is_heard_, false)) {
      // It waits from time to time. Whether it goes on doing so is to be seen.
      *unheard = 0;
      uv_async_send(port->control_);
      return true;
    }
    if ((*unheard)++ == 0) {
      port->interrupt_("the job was cancelled, and does not wait");
      return true;
    }
    port->thread_->given_up = true;
    port->thread_->thread.detach();
    --running_;
    start_another();
    closers = take_closers();
  }
  wake_closers(closers);
  ended_.notify_all();
  return false;
}

// ---- the threads' side -------------------------------------------------------------------------

// REQUIRES: locked. Those that have ended take the lock no more.
void ThreadPool::join_replaced() {
  threads_.remove_if([](Thread& t) {
    if (!t.ended || t.thread.get_id() == std::this_thread::get_id()) return false;
    if (t.thread.joinable()) t.thread.join();
    return true;
  });
}

// REQUIRES: locked.
void ThreadPool::start_thread() {
  join_replaced();
  SignalsBlocked while_it_starts;
  Thread* self = &threads_.emplace_back();
  try {
    self->thread = std::thread([pool = shared_from_this(), self] { pool->work(self); });
  } catch (...) {
    threads_.pop_back();
    throw;
  }
  pthread_setname_np(self->thread.native_handle(), "rille-worker");
  ++running_;
}

// REQUIRES: locked. One thread less is there than before.
void ThreadPool::start_another() {
  if (stopping_ || running_ >= size_ || queue_.empty()) return;
  try {
    start_thread();
  } catch (const std::system_error&) {
    // The next job tries it again.
  }
}

// REQUIRES: locked. Who waits for the end, if that is it.
std::vector<rille_waiter*> ThreadPool::take_closers() {
  if (running_ > 0) return {};
  return std::exchange(closers_, {});
}

void ThreadPool::wake_closers(const std::vector<rille_waiter*>& closers) {
  for (rille_waiter* w : closers) {
    rille_complete_from_thread(w, push_closed, new std::shared_ptr(shared_from_this()));
  }
}

void ThreadPool::work(Thread* self) {
  std::deque<std::shared_ptr<Job>> dropped;
  std::string fault;
  try {
    serve(self);
  } catch (const std::exception& e) {
    fault = std::string("a worker cannot be started: ") + e.what();
    std::lock_guard lock(mutex_);
    if (running_ == 1) dropped.swap(queue_);
  }
  for (auto& job : dropped) fail(std::move(job), fault);

  std::vector<rille_waiter*> closers;
  {
    std::lock_guard lock(mutex_);
    self->ended = true;
    if (!self->given_up) {
      --running_;
      start_another();
      closers = take_closers();
    }
  }
  wake_closers(closers);
  ended_.notify_all();
}

// The life of an interpreter.
void ThreadPool::serve(Thread* self) {
  std::optional<Port> port;
  Runtime runtime(options_);
  port.emplace(this, self, &runtime);
  std::string how = "its program is over";
  try {
    // In a sandbox the text could not load what is private.
    lua_State* L = runtime.lua_state();
    auto set_main = [](lua_State* l) {
      lua_getfield(l, LUA_REGISTRYINDEX, "rille.main");
      lua_getfield(l, -1, "worker");
      lua_call(l, 0, 1);
      lua_setglobal(l, "_worker");
      return 0;
    };
    if (lua_cpcall(L, set_main, nullptr) != 0) throw std::runtime_error(lua_tostring(L, -1));
    runtime.execute_string("local main = _worker _worker = nil main()", "=worker");
  } catch (const Error& e) {
    how = e.text();
  } catch (...) {
    port->close();  // the runtime is gone before it
    throw;
  }
  if (std::shared_ptr<Job> job = port->close()) {
    job->exit_status = runtime.exit_status();
    if (job->exit_status >= 0) {
      fail(job, "the worker was ended by process.exit(" + std::to_string(job->exit_status) + ")");
    } else {
      fail(job, "the worker has ended: " + how);
    }
  }
  runtime.close();
}

Port::Port(ThreadPool* pool, ThreadPool::Thread* thread, Runtime* runtime)
    : pool_(pool),
      thread_(thread),
      runtime_(runtime),
      interrupt_(interrupter_of(runtime->lua_state())),
      control_(new uv_async_t) {
  uv_async_init(runtime->loop(), control_, [](uv_async_t* control) {
    static_cast<Port*>(control->data)->look_for_cancellation();
  });
  control_->data = this;
  // A job that waits for what cannot come is a deadlock although it could be cancelled.
  uv_unref(reinterpret_cast<uv_handle_t*>(control_));
  lua_State* L = runtime->lua_state();
  lua_pushlightuserdata(L, const_cast<char*>(&kPortKey));
  lua_pushlightuserdata(L, this);
  lua_rawset(L, LUA_REGISTRYINDEX);
  std::lock_guard lock(pool_->mutex_);
  pool_->ports_.push_back(this);
}

std::shared_ptr<Job> Port::close() {
  std::shared_ptr<Job> job;
  {
    std::lock_guard lock(pool_->mutex_);
    pool_->ports_.remove(this);
    std::erase(pool_->idle_, this);
    job = std::move(job_);
  }
  uv_close(reinterpret_cast<uv_handle_t*>(control_),
           [](uv_handle_t* h) { delete reinterpret_cast<uv_async_t*>(h); });
  return job;
}

Port* Port::of(lua_State* L) {
  lua_pushlightuserdata(L, const_cast<char*>(&kPortKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  auto* port = static_cast<Port*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  if (!port) luaL_error(L, "this is no worker");
  return port;
}

// REQUIRES: locked. False if there is none yet.
bool Port::take_job() {
  bool is_used_up = pool_->max_jobs_ > 0 && jobs_ >= pool_->max_jobs_;
  if (thread_->given_up || is_used_up) return true;
  if (pool_->queue_.empty()) return pool_->closing_;
  job_ = std::move(pool_->queue_.front());
  pool_->queue_.pop_front();
  return true;
}

int Port::take(lua_State* L) {
  {
    std::lock_guard lock(pool_->mutex_);
    if (take_job()) return push_taken(L, nullptr);
  }
  rille_waiter* waiter = rille_prepare(L, give_up, this);
  bool taken;
  {
    std::lock_guard lock(pool_->mutex_);
    taken = take_job();
    if (!taken) {
      waiter_ = waiter;
      pool_->idle_.push_back(this);
    }
  }
  if (taken) rille_complete(waiter, push_taken, nullptr);
  return rille_park(L, waiter);
}

void Port::give_up(rille_waiter* waiter, void* data) {
  auto* self = static_cast<Port*>(data);
  {
    std::lock_guard lock(self->pool_->mutex_);
    if (self->waiter_ != waiter) return;
    self->waiter_ = nullptr;
    std::erase(self->pool_->idle_, self);
  }
  rille_complete(waiter, push_taken, nullptr);
}

int Port::push_taken(lua_State* L, void*) {
  if (!L) return 0;
  bool taken = of(L)->job_ != nullptr;
  lua_pushnil(L);
  lua_pushboolean(L, taken);
  return 2;
}

int Port::paths(lua_State* L) {
  std::lock_guard lock(pool_->mutex_);
  if (paths_version_ == pool_->paths_version_) return 0;
  paths_version_ = pool_->paths_version_;
  lua_pushlstring(L, pool_->paths_.path.data(), pool_->paths_.path.size());
  lua_pushlstring(L, pool_->paths_.cpath.data(), pool_->paths_.cpath.size());
  return 2;
}

void Port::answer(Message message, bool failed) {
  Job* done = job_.get();
  if (!done) return;
  done->answer = std::move(message);
  done->failed = failed;
  std::shared_ptr<Job> job;
  rille_waiter* waiter;
  {
    std::lock_guard lock(pool_->mutex_);
    job = std::move(job_);
    waiter = std::exchange(job->waiter, nullptr);
    ++jobs_;
  }
  if (waiter) rille_complete_from_thread(waiter, ThreadPool::push_answer, done);
}

// Called by the loop, which has no protected call around it.
void Port::look_for_cancellation() {
  {
    std::lock_guard lock(pool_->mutex_);
    is_heard_ = true;
    if (!job_ || !job_->cancelled || std::exchange(job_->is_told, true)) return;
  }
  lua_State* L = runtime_->lua_state();
  int status = lua_cpcall(
      L,
      [](lua_State* l) {
        lua_getfield(l, LUA_REGISTRYINDEX, "rille.worker.cancel");
        if (lua_isfunction(l, -1)) lua_call(l, 0, 0);
        return 0;
      },
      nullptr);
  if (status != 0) lua_pop(L, 1);
}

}  // namespace rille::worker
