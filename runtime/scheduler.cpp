#include "scheduler.h"

#include <algorithm>
#include <utility>

#include "report.h"
#include "script_limits.h"
#include "upvalues.h"
#include "waiter.h"

namespace rille {

namespace {

constexpr double kPollInterval = 200e-6;  // seconds between polls that batches aim at
constexpr int kLongestBatch = 1024;

constexpr int kSchedulerKey = 0x52696c6c;  // in the registry, far behind luaL_ref's

}  // namespace

Scheduler::Scheduler(lua_State* L, uv_loop_t* loop)
    : mailbox(std::make_shared<Mailbox>()),
      pools(std::make_shared<Pools>(loop, Pools::size_from_environment(L))),
      L_(L),
      loop_(loop),
      timer_(new uv_timer_t) {
  lua_pushlightuserdata(L, this);
  lua_rawseti(L, LUA_REGISTRYINDEX, kSchedulerKey);
  uv_timer_init(loop_, timer_);
  timer_->data = this;
  mailbox->wakeup = new uv_async_t;
  uv_async_init(loop_, mailbox->wakeup,
                [](uv_async_t* a) { deliver_letters(static_cast<Scheduler*>(a->data)); });
  mailbox->wakeup->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(mailbox->wakeup));
}

Scheduler::~Scheduler() = default;

Scheduler* Scheduler::of(lua_State* L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, kSchedulerKey);
  auto* s = static_cast<Scheduler*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return s;
}

// ---- steps -------------------------------------------------------------------------------------

// With thousands of tasks, what the next ones need is not in the cache: it is fetched while others
// run. Inlined, since GCC takes a function that merely prefetches for one without an effect, and
// drops its calls.
[[gnu::always_inline]] inline void Scheduler::look_ahead() const {
  auto prefetch = [](const void* object) __attribute__((always_inline)) {
    constexpr std::uintptr_t kLine = 64;
    __builtin_prefetch(object);
    __builtin_prefetch(reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(object) + kLine));
  };
  if (const Slot* k = ready_.ahead(3)) __builtin_prefetch(k);
  if (const Slot* k = ready_.ahead(2)) {
    __builtin_prefetch(k->waiter);
    prefetch(k->co);
  }
  const Slot* k = ready_.ahead(1);
  if (k && k->waiter) prefetch(k->waiter->push_data);
}

// REQUIRES: called from a closure over the upvalues.
void Scheduler::drain(lua_State* L) {
  double start = now();
  budget_ = batch_;
  int steps = batch_;
  while (in_batch_ && budget_ > 0) run_batch(L);
  while (budget_ > 0 && !ready_.empty()) {
    Item item = ready_.pop();
    if (!item.is_batch()) [[likely]] {
      --budget_;
      look_ahead();
      step(L, item.slot());
      continue;
    }
    if (batch_open_ && ready_.empty()) {  // the open batch is the last item
      ready_.push(item);
      close_batch();
      item = ready_.pop();
    }
    lua_pushinteger(L, static_cast<lua_Integer>(item.number()));
    lua_rawseti(L, upvalue(kStateUpvalue), kBatchLeft);
    in_batch_ = true;
    while (in_batch_ && budget_ > 0) run_batch(L);
  }
  set_current(L, nullptr);
  if (budget_ <= 0 && !stopped_) {
    double took = now() - start;
    if (took > kPollInterval) {
      batch_ = std::max(1, static_cast<int>(steps * kPollInterval / took));
    } else if (batch_ < kLongestBatch) {
      batch_ = std::min(kLongestBatch, batch_ * 2);
    }
  }
}

void Scheduler::show_current(lua_State* L, bool shown) {
  if (shown) {
    lua_pushinteger(L, current_ ? static_cast<lua_Integer>(current_->index) : 0);
  } else {
    lua_pushboolean(L, 0);
  }
  lua_rawseti(L, upvalue(kStateUpvalue), kCurrent);
}

void Scheduler::step(lua_State* L, Slot* k) {
  if (k->state == Slot::kReady) {
    int nargs = k->values;
    k->values = 0;
    if (k->waiter) nargs = deliver(L, k);
    resume(L, k, nargs);
  } else if (k->state == Slot::kCallback) {
    lua_rawgeti(L, upvalue(kTasksUpvalue), static_cast<int>(k->index));
    bool dead = k->flags & Slot::kDead;
    release(L, k);
    if (dead) {
      lua_pop(L, 1);
      return;
    }
    set_current(L, nullptr);
    step_start_ = debug_ ? now() : 0;
    if (call_hook(L, kCall, 1)) lua_pop(L, 1);
    if (debug_ && now() - step_start_ > slow_limit_) {
      lua_pushnil(L);
      lua_pushnumber(L, now() - step_start_);
      if (call_hook(L, kSlow, 2)) lua_pop(L, 1);
    }
  }
}

// The only lua_resume.
void Scheduler::resume(lua_State* L, Slot* k, int nargs) {
  k->state = Slot::kRunning;
  k->flags &= ~(Slot::kSleeping | Slot::kHeld);
  set_current(L, k);
  step_start_ = debug_ ? now() : 0;
  lua_State* co = k->co;
  int status = limits ? limits->resume(co, nargs) : lua_resume(co, nargs);
  if (debug_ && now() - step_start_ > slow_limit_) {
    lua_rawgeti(L, upvalue(kTasksUpvalue), static_cast<int>(k->index));
    lua_pushnumber(L, now() - step_start_);
    set_current(L, nullptr);
    if (call_hook(L, kSlow, 2)) lua_pop(L, 1);
    set_current(L, k);
    step_start_ = now();
  }
  if (status == LUA_YIELD) return;
  if (status == 0) {
    retire(L, co, k->thread);
    release(L, k);
    return;
  }
  // A coroutine that died of an error cannot be used again. Its stack is still there for the
  // traceback.
  lua_checkstack(L, 8);
  lua_rawgeti(L, upvalue(kTasksUpvalue), static_cast<int>(k->index));
  lua_rawgeti(L, upvalue(kThreadsUpvalue), k->thread);
  lua_xmove(co, L, 1);
  lua_pushboolean(L, status == LUA_ERRMEM);
  drop_thread(L, k->thread);
  // failed(task, coroutine, error, out_of_memory) runs while the task still counts as current.
  if (call_hook(L, kFailed, 4)) lua_pop(L, 1);
  release(L, k);
}

int Scheduler::deliver(lua_State* L, Slot* k) {
  std::unique_ptr<rille_waiter> w(std::exchange(k->waiter, nullptr));
  int top = lua_gettop(L);
  lua_pushvalue(L, upvalue(kPushUpvalue));
  lua_pushlightuserdata(L, w.get());
  call(L, 1, LUA_MULTRET, true);  // what is raised is an error like one that is returned
  int n = lua_gettop(L) - top;
  lua_checkstack(k->co, n);
  lua_xmove(L, k->co, n);
  return n;
}

// Frees the slot of a task that is done, or of a callback.
void Scheduler::release(lua_State* L, Slot* k) {
  lua_pushnil(L);
  lua_rawseti(L, upvalue(kTasksUpvalue), static_cast<int>(k->index));
  while (k->scope) {
    Scope* s = k->scope;
    k->scope = s->outer;
    drop_scope(s);
  }
  disarm(&k->timer);
  k->co = nullptr;
  k->state = Slot::kFree;
  k->flags = 0;
  next_wait(k);
  slots_.give_back(k);
}

int Scheduler::call(lua_State* L, int nargs, int nresults, bool is_scripts) {
  return limits ? limits->call(L, nargs, nresults, is_scripts) : lua_pcall(L, nargs, nresults, 0);
}

// Calls a hook with the `nargs` values on top of the stack; leaves one result, or nothing and
// returns false if the hook itself failed.
bool Scheduler::call_hook(lua_State* L, Hook hook, int nargs) {
  lua_rawgeti(L, upvalue(kHooksUpvalue), hook);
  lua_insert(L, -1 - nargs);
  if (call(L, nargs, 1, hook == kCall) == 0) return true;
  const char* text = lua_tostring(L, -1);
  report_text(L, std::string("error in the runtime: ") + (text ? text : "no text"));
  lua_pop(L, 1);
  return false;
}

// ---- coroutines ---------------------------------------------------------------------------------

// Gives a slot a coroutine: a finished one, or a new one.
void Scheduler::attach(lua_State* L, Slot* k) {
  if (!idle_.empty()) {
    k->co = idle_.back().co;
    k->thread = idle_.back().thread;
    idle_.pop_back();
    lua_settop(k->co, 0);
    return;
  }
  lua_State* co = lua_newthread(L);
  int32_t thread;
  if (free_threads_.empty()) {
    thread = ++threads_;
    if (threads_ % kBurst == 0) put_off_collection(L);
  } else {
    thread = free_threads_.back();
    free_threads_.pop_back();
  }
  lua_rawseti(L, upvalue(kThreadsUpvalue), thread);
  k->co = co;
  k->thread = thread;
}

// More tasks live than ever. The collector, which walks every coroutine twice in a cycle, would go
// round again and again while they become many, and find nothing. So if most of what the heap has
// grown by are coroutines, the next cycle begins when it has doubled from here. What may be garbage
// stays bounded, since each number of coroutines is reached for the first time but once.
void Scheduler::put_off_collection(lua_State* L) {
  constexpr int kMostEach = 1;  // KiB; a coroutine that waits takes half of that
  int size = lua_gc(L, LUA_GCCOUNT, 0);
  int grown = size - std::exchange(heap_size_, size);
  // If it has shrunk, the collector has found something meanwhile.
  bool are_coroutines = grown >= 0 && grown <= kBurst * kMostEach;
  if (!are_coroutines || (limits && limits->memory())) return;
  if (lua_gc(L, LUA_GCISRUNNING, 0)) lua_gc(L, LUA_GCRESTART, -1);
}

// Keeps a finished coroutine for another task, but not many more than there are tasks: what a burst
// took is given back.
void Scheduler::retire(lua_State* L, lua_State* co, int32_t thread) {
  constexpr std::size_t kSpare = 1024;
  idle_.push_back({co, thread});
  std::size_t tasks = static_cast<std::size_t>(threads_) - free_threads_.size() - idle_.size();
  while (idle_.size() > tasks + kSpare) {
    drop_thread(L, idle_.back().thread);
    idle_.pop_back();
  }
}

void Scheduler::drop_thread(lua_State* L, int32_t thread) {
  lua_pushnil(L);
  lua_rawseti(L, upvalue(kThreadsUpvalue), thread);
  free_threads_.push_back(thread);
}

// ---- batches of tasks that have not started ----------------------------------------------------

void Scheduler::open_batch(lua_State* L) {
  lua_rawgeti(L, upvalue(kStateUpvalue), kSpawned);
  batch_start_ = lua_tonumber(L, -1);
  lua_pop(L, 1);
  ready_.push(Item::batch(0));
  batch_open_ = true;
  if (polling_) wake_loop();
  lua_pushboolean(L, 1);
  lua_rawseti(L, upvalue(kStateUpvalue), kBatchOpen);
}

// Something else gets in line behind the batch: what is spawned from here on comes after that.
void Scheduler::close_batch() {
  lua_rawgeti(L_, LUA_REGISTRYINDEX, state_ref_);
  lua_rawgeti(L_, -1, kSpawned);
  auto size = static_cast<uint32_t>(lua_tonumber(L_, -1) - batch_start_);
  lua_pushboolean(L_, 0);
  lua_rawseti(L_, -3, kBatchOpen);
  lua_pop(L_, 2);
  ready_.back() = Item::batch(size);
  batch_open_ = false;
}

// Starts tasks of the batch in one coroutine, one after another until one of them waits.
void Scheduler::run_batch(lua_State* L) {
  auto left = [&] {
    lua_rawgeti(L, upvalue(kStateUpvalue), kBatchLeft);
    auto n = static_cast<int>(lua_tointeger(L, -1));
    lua_pop(L, 1);
    return n;
  };
  int before = left();
  if (before == 0) {
    in_batch_ = false;
    return;
  }
  Slot* k = slots_.take();
  k->state = Slot::kFresh;
  attach(L, k);
  lua_rawgeti(L, upvalue(kHooksUpvalue), kBody);
  lua_xmove(L, k->co, 1);
  lua_pushinteger(L, debug_ ? 1 : budget_);
  lua_rawseti(L, upvalue(kStateUpvalue), kBatchMost);
  resume(L, k, 0);
  int after = left();
  budget_ -= std::max(1, before - after);
  if (after == 0) in_batch_ = false;
}

// ---- the end -----------------------------------------------------------------------------------

void Scheduler::close() {
  if (limits) limits->detach();
  closing_ = true;
  deliver_letters(this);
  for (uint32_t i = 1; i < slots_.size(); ++i) detach(slot(i));
  drop_early();
  while (!waiters.empty()) {
    rille_waiter* w = waiters.back();
    if (w->slot) w->slot->waiter = nullptr;
    forget(this, w);
    w->scheduler = nullptr;
    abandon(w);  // which may complete it, and so free it
  }
  uv_close(reinterpret_cast<uv_handle_t*>(timer_),
           [](uv_handle_t* h) { delete reinterpret_cast<uv_timer_t*>(h); });
  auto close_handle = [](auto* handle) {
    if (!handle) return;
    uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* h) {
      delete reinterpret_cast<std::remove_pointer_t<decltype(handle)>*>(h);
    });
  };
  close_handle(std::exchange(prepare_, nullptr));
  close_handle(std::exchange(check_, nullptr));
  close_handle(std::exchange(idle_handle_, nullptr));
  hosted_ = polling_ = false;
  {
    std::lock_guard lock(mailbox->mutex);
    close_handle(std::exchange(mailbox->wakeup, nullptr));
  }
  deliver_letters(this);  // what came in meanwhile; from here on nothing does
}

}  // namespace rille
