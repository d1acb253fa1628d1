#include "scheduler.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "report.h"
#include "script_limits.h"
#include "upvalues.h"
#include "waiter.h"

namespace rille {

namespace {

constexpr uint32_t kScopeTarget = 0x80000000u;  // tag of a timer's target
constexpr int kLongestTimeoutMs = 0x7fffffff;
constexpr double kPollInterval = 200e-6;  // seconds between polls that batches aim at
constexpr int kLongestBatch = 1024;
constexpr double kTicketBase = 4194304;  // tickets and scope ids: number * 2^22 + index

constexpr int kSchedulerKey = 0x52696c6c;  // in the registry, far behind luaL_ref's

}  // namespace

void Scheduler::Ring::grow() {
  auto bigger = std::make_unique<Item[]>((mask_ + 1) * 2);
  for (uint32_t i = 0; i < count_; ++i) bigger[i] = items_[(head_ + i) & mask_];
  items_ = std::move(bigger);
  mask_ = mask_ * 2 + 1;
  head_ = 0;
}

void Scheduler::Ring::remove(const Slot* k) {
  for (uint32_t n = count_; n > 0; --n) {
    Item item = pop();
    if (item.is_batch() || item.slot() != k) push(item);
  }
}

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

// ---- the loop ----------------------------------------------------------------------------------

bool Scheduler::run() {
  stopped_ = false;
  driving_ = true;
  polling_ = false;
  pools->stay_awake();
  bool went_well = run_all();
  pools->call_threads();
  pools->sleep();
  driving_ = false;
  polling_ = hosted_;
  nudge();
  return went_well;
}

void Scheduler::drain_once() {
  if (limits) limits->begin_slice();
  lua_rawgeti(L_, LUA_REGISTRYINDEX, drain_ref_);
  if (lua_pcall(L_, 0, 0, 0) != 0) {
    // Only running out of memory between two tasks gets here.
    const char* text = lua_tostring(L_, -1);
    report_text(L_, text ? text : "an error between two tasks");
    current_ = nullptr;
    lua_settop(L_, 0);
    lua_gc(L_, LUA_GCCOLLECT, 0);
  }
  if (!early.empty()) drop_early();
  if (limits) limits->end_slice();
}

// Waiters that were completed, and whose tasks did something else than to park them.
void Scheduler::drop_early() {
  for (rille_waiter* w : std::exchange(early, {})) {
    forget(this, w);
    delete w;
  }
}

bool Scheduler::run_all() {
  for (;;) {
    drain_once();
    if (stopped_) return true;
    if (anything_ready()) {
      poll(UV_RUN_NOWAIT);
    } else if (alive()) {
      poll(UV_RUN_ONCE);
    } else {
      lua_rawgeti(L_, LUA_REGISTRYINDEX, drain_ref_);
      lua_pushboolean(L_, 1);  // nothing can go on: see drain
      bool went_on = lua_pcall(L_, 1, 1, 0) == 0 && lua_toboolean(L_, -1);
      lua_pop(L_, 1);
      if (!went_on) return false;
    }
  }
}

void Scheduler::poll(uv_run_mode mode) {
  pools->call_threads();
  if (has_mail()) {  // with nothing alive in it, the loop would not look
    deliver_letters(this);
    if (anything_ready()) mode = UV_RUN_NOWAIT;
  }
  if (pools->deliver() || (mode == UV_RUN_ONCE && pools->linger())) mode = UV_RUN_NOWAIT;
  if (mode == UV_RUN_ONCE) pools->sleep();
  polling_ = true;
  uv_run(loop_, mode);
  polling_ = false;
  pools->stay_awake();
}

bool Scheduler::turn(double budget) {
  double end = budget > 0 ? now() + budget : 0;
  stopped_ = false;
  driving_ = true;
  polling_ = false;
  // The loop has to look at its descriptors even if nothing in it is alive.
  auto* mail = reinterpret_cast<uv_handle_t*>(mailbox->wakeup);
  uv_ref(mail);
  poll(UV_RUN_NOWAIT);
  while (anything_ready()) {
    drain_once();
    poll(UV_RUN_NOWAIT);
    if (!(end > 0 && now() < end)) break;
  }
  if (attached_ == 0) uv_unref(mail);
  pools->call_threads();
  pools->sleep();
  driving_ = false;
  polling_ = hosted_;
  nudge();
  return anything_ready() || alive();
}

double Scheduler::timeout() {
  if (anything_ready() || has_mail()) return 0;
  if (!uv_loop_alive(loop_)) return -1;
  uv_update_time(loop_);
  int ms = uv_backend_timeout(loop_);
  return ms < 0 ? -1 : ms * 1e-3;
}

// libuv runs some callbacks before it blocks: it must not block any more.
void Scheduler::wake_loop() {
  if (!hosted_ || driving_) {
    uv_stop(loop_);
  } else {
    uv_idle_start(idle_handle_, [](uv_idle_t*) {});
  }
}

void Scheduler::run_with_loop(std::function<void(bool)> around) {
  around_ = std::move(around);
  prepare_ = new uv_prepare_t;
  check_ = new uv_check_t;
  idle_handle_ = new uv_idle_t;
  uv_prepare_init(loop_, prepare_);
  uv_check_init(loop_, check_);
  uv_idle_init(loop_, idle_handle_);
  prepare_->data = check_->data = this;
  uv_prepare_start(prepare_,
                   [](uv_prepare_t* h) { static_cast<Scheduler*>(h->data)->host_turn(); });
  uv_check_start(check_, [](uv_check_t* h) { static_cast<Scheduler*>(h->data)->host_turn(); });
  uv_unref(reinterpret_cast<uv_handle_t*>(prepare_));
  uv_unref(reinterpret_cast<uv_handle_t*>(check_));
  hosted_ = polling_ = true;
}

// Before the host's loop sleeps, and after: tasks have their turn.
void Scheduler::host_turn() {
  if (driving_) return;
  if (anything_ready()) {
    around_(true);
    polling_ = false;
    drain_once();
    pools->call_threads();
    polling_ = true;
    around_(false);
  }
  if (anything_ready()) {
    wake_loop();
  } else {
    uv_idle_stop(idle_handle_);
  }
}

void Scheduler::call(const std::function<void()>& fn) {
  if (around_) around_(true);
  try {
    fn();
  } catch (const std::exception& e) {
    report_text(L_, std::string("error in a function of the host: ") + e.what());
  } catch (...) {  // C's loop must not be left by an exception
    report_text(L_, "error in a function of the host: an exception that is no std::exception");
  }
  if (around_) around_(false);
  nudge();
}

// An operation that some other thread will complete has no handle of its own in the loop: the
// mailbox stands for it.
void Scheduler::count_attached(int by) {
  attached_ += by;
  if (!mailbox->wakeup) return;
  auto* handle = reinterpret_cast<uv_handle_t*>(mailbox->wakeup);
  if (attached_ > 0) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

// A live timer, handle or request. Stale timers do not count.
bool Scheduler::alive() {
  if (has_mail()) return true;
  if (heap_.size() == stale_ && timer_active_) {
    heap_.sweep([](const TimerEntry&) { return true; });
    stale_ = 0;
    uv_timer_stop(timer_);
    timer_active_ = false;
  }
  return uv_loop_alive(loop_);
}

// With thousands of tasks, what the next ones need is not in the cache: it is fetched while others
// run.
void Scheduler::look_ahead() const {
  constexpr std::uintptr_t kLine = 64;
  if (const Slot* k = ready_.ahead(3)) __builtin_prefetch(k);
  if (const Slot* k = ready_.ahead(2)) {
    __builtin_prefetch(k->waiter);
    __builtin_prefetch(k->co);
  }
  const Slot* k = ready_.ahead(1);
  if (k && k->waiter) {
    auto object = reinterpret_cast<std::uintptr_t>(k->waiter->push_data);
    __builtin_prefetch(reinterpret_cast<void*>(object));
    __builtin_prefetch(reinterpret_cast<void*>(object + kLine));
  }
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

void Scheduler::set_current(lua_State* L, Slot* k) {
  current_ = k;
  lua_pushinteger(L, k ? static_cast<lua_Integer>(k->index) : 0);
  lua_rawseti(L, upvalue(kStateUpvalue), kCurrent);
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
  } else {
    thread = free_threads_.back();
    free_threads_.pop_back();
  }
  lua_rawseti(L, upvalue(kThreadsUpvalue), thread);
  k->co = co;
  k->thread = thread;
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

// ---- steps -------------------------------------------------------------------------------------

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

// ---- waiting -----------------------------------------------------------------------------------

int Scheduler::prepare_slowly(lua_State* L) {
  Slot* k = current_;
  if (!can_wait(L, k)) {
    refuse(L);
    return 1;
  }
  // A ceiling of memory does not hold while a task is started, so that many who only wait could
  // go over it.
  if (Memory* memory = limits ? limits->memory() : nullptr; memory && memory->is_over()) {
    limits->collect(L);
    if (memory->is_over()) {
      lua_pushliteral(L, "not enough memory");
      return 1;
    }
  }
  if (probe_) {
    // Not by upvalues: the running C function may be a module's.
    lua_rawgeti(L, LUA_REGISTRYINDEX, tasks_ref_);
    lua_rawgeti(L, LUA_REGISTRYINDEX, hooks_ref_);
    lua_rawgeti(L, -1, kProbe);
    lua_rawgeti(L, -3, static_cast<int>(k->index));
    lua_pushnumber(L, static_cast<lua_Number>(++waits_));
    lua_call(L, 2, 0);
    lua_pop(L, 2);
  }
  if (k->flags & Slot::kPending) {
    lua_pushinteger(L, 1);
    return 1;
  }
  next_wait(k);
  return 0;
}

void Scheduler::wake(Slot* k) {
  disarm(&k->timer);
  k->state = Slot::kReady;
  make_ready(k);
}

void Scheduler::detach(Slot* k) {
  if (k->list) unlink(k);
  disarm(&k->timer);
  if (rille_waiter* w = std::exchange(k->waiter, nullptr)) abandon(w);
}

// What another thread has handed over by now counts: the task is woken by that. True if it was.
bool Scheduler::take_letters(Slot* k) {
  if (k->state != Slot::kParked || !k->waiter) return false;
  deliver_letters(this);
  return k->state != Slot::kParked;
}

// Ends the wait of a parked task because of a cancellation.
void Scheduler::interrupt(Slot* k) {
  if (take_letters(k)) return;
  detach(k);
  lua_pushboolean(k->co, 1);
  k->values = 1;
  k->state = Slot::kReady;
  make_ready(k);
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

void Scheduler::append(WaitList* list, Slot* k) {
  k->list = list;
  k->next = 0;
  k->prev = list->tail;
  if (list->tail) {
    slot(list->tail)->next = k->index;
  } else {
    list->head = k->index;
  }
  list->tail = k->index;
}

void Scheduler::unlink(Slot* k) {
  WaitList* list = k->list;
  if (k->prev) {
    slot(k->prev)->next = k->next;
  } else {
    list->head = k->next;
  }
  if (k->next) {
    slot(k->next)->prev = k->prev;
  } else {
    list->tail = k->prev;
  }
  k->list = nullptr;
}

double Scheduler::ticket(const Slot* k) const { return k->wait * kTicketBase + k->index; }

Slot* Scheduler::find(double ticket) {
  auto n = static_cast<uint64_t>(ticket);
  auto index = static_cast<uint32_t>(n & (static_cast<uint64_t>(kTicketBase) - 1));
  if (!slots_.contains(index)) return nullptr;
  Slot* k = slot(index);
  // Tickets are for waits that nothing else ends; scripts can get at tables with tickets in them.
  bool found = k->wait == (n >> 22) && k->state == Slot::kParked && !k->waiter && !k->list;
  return found ? k : nullptr;
}

// ---- cancellation ------------------------------------------------------------------------------

// The outermost cancellation that is not acknowledged and not hidden by a shield.
Scope* Scheduler::visible_cancel(Slot* k, bool* root) {
  Scope* found = nullptr;
  *root = false;
  for (Scope* s = k->scope; s; s = s->outer) {
    if (s->kind == Scope::kShield) return found;
    if (s->cancelled && !s->acknowledged) found = s;
  }
  *root = (k->flags & (Slot::kCancelled | Slot::kAcknowledged)) == Slot::kCancelled;
  return *root ? nullptr : found;
}

void Scheduler::update_pending(Slot* k) {
  bool root;
  if (visible_cancel(k, &root) || root) {
    k->flags |= Slot::kPending;
    if (k->state == Slot::kParked && !(k->flags & Slot::kHeld)) {
      interrupt(k);
    } else if (k->state == Slot::kReady && (k->flags & Slot::kSleeping) && k->values == 0) {
      lua_pushboolean(k->co, 1);
      k->values = 1;
    }
  } else {
    k->flags &= ~Slot::kPending;
  }
}

Scope* Scheduler::find_scope(double id) {
  auto n = static_cast<uint64_t>(id);
  auto index = static_cast<uint32_t>(n & (static_cast<uint64_t>(kTicketBase) - 1));
  if (!scopes_.contains(index)) return nullptr;
  Scope* s = scopes_.at(index);
  return s->generation == (n >> 22) && s->slot ? s : nullptr;
}

void Scheduler::drop_scope(Scope* s) {
  disarm(&s->timer);
  s->slot = 0;
  s->generation = (s->generation + 1) & 0x7fffffffu;
  scopes_.give_back(s);
}

// ---- timers ------------------------------------------------------------------------------------

void Scheduler::arm(uint32_t target, double when, uint32_t* number) {
  disarm(number);
  if (++timer_number_ == 0) ++timer_number_;
  *number = timer_number_;
  heap_.push({when, timer_number_, target});
  if (!timer_active_ || when < timer_due_) start_timer();
}

void Scheduler::disarm(uint32_t* number) {
  if (*number == 0) return;
  *number = 0;
  ++stale_;
  if (stale_ > 64 && stale_ > heap_.size() / 2) {
    heap_.sweep([this](const TimerEntry& e) {
      uint32_t armed = e.target & kScopeTarget ? scopes_.at(e.target & ~kScopeTarget)->timer
                                               : slot(e.target)->timer;
      return armed != e.number;
    });
    stale_ = 0;
  }
}

void Scheduler::arm_scopes(Slot* k) {
  for (Scope* s = k->scope; s; s = s->outer) {
    if (s->deadline != 0 && s->timer == 0 && !s->cancelled) {
      arm(s->index | kScopeTarget, s->deadline, &s->timer);
    }
  }
  k->flags &= ~Slot::kUnarmed;
}

void Scheduler::start_timer() {
  double ms = std::ceil((heap_.top().when - now()) * 1e3);
  if (!(ms > 0)) ms = 0;
  if (ms > kLongestTimeoutMs) ms = kLongestTimeoutMs;
  timer_due_ = heap_.top().when;
  timer_active_ = true;
  uv_timer_start(
      timer_,
      [](uv_timer_t* t) {
        static_cast<Scheduler*>(t->data)->timer_active_ = false;
        static_cast<Scheduler*>(t->data)->fire_timers();
      },
      static_cast<uint64_t>(ms), 0);
}

void Scheduler::fire_timers() {
  double t = now();
  while (!heap_.empty() && heap_.top().when <= t) {
    TimerEntry e = heap_.top();
    heap_.pop();
    if (e.target & kScopeTarget) {
      Scope* s = scopes_.at(e.target & ~kScopeTarget);
      if (s->timer != e.number) {
        --stale_;
        continue;
      }
      s->timer = 0;
      s->cancelled = true;
      update_pending(slot(s->slot));
    } else {
      Slot* k = slot(e.target);
      if (k->timer != e.number) {
        --stale_;
        continue;
      }
      k->timer = 0;
      if (k->state == Slot::kParked) k->state = Slot::kReady;
      make_ready(k);
    }
  }
  if (!heap_.empty()) start_timer();
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
