// Tasks, the ready queue, timers and scopes: decides which coroutine runs next, and who is
// interrupted. Policy that need not be fast (error objects, reports, groups) is Lua, in
// stdlib/core/; this class keeps only what every switch touches.
#pragma once

#include <rille/module.h>
#include <uv.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <lua.hpp>
#include <memory>
#include <mutex>
#include <vector>

#include "pool.h"
#include "slab.h"
#include "timers.h"

namespace rille {

struct WaitList;
class Limits;
class Scheduler;

// Something inside a task that can be cancelled on its own (a timeout, a group), or a shield that
// hides the cancellations outside of it while clean-up runs. The task itself is the outermost
// scope and lives in its Slot.
struct Scope {
  enum Kind : uint8_t { kTimeout = 1, kGroup = 2, kShield = 3 };
  Scope* outer = nullptr;
  lua_State* co = nullptr;  // the coroutine it was opened in: a script's own may be left suspended
  double deadline = 0;      // 0: none
  uint32_t index = 0;
  uint32_t generation = 0;
  uint32_t slot = 0;
  uint32_t timer = 0;  // number of its armed timer
  Kind kind = kTimeout;
  bool cancelled = false;
  bool acknowledged = false;
};

// A task that is not done, or a scheduled callback. Its Task object (or handle) is
// tasks[index] on the Lua side.
struct Slot {
  enum State : uint8_t { kFree, kFresh, kReady, kRunning, kParked, kCallback };
  enum Flag : uint8_t {
    kPending = 1,       // a cancellation is visible: the next wait raises it
    kSleeping = 2,      // ready or parked in a sleep, which is never a hand-over
    kCancelled = 4,     // the task itself is cancelled,
    kAcknowledged = 8,  // ... and has decided to live on
    kHeld = 16,         // something was handed over, the wake-up follows: not interruptible
    kUnarmed = 32,      // a timeout around the task has no timer yet
    kDead = 64,         // a callback taken back while it stood in the ready queue
  };
  lua_State* co = nullptr;  // null until the first step
  Scope* scope = nullptr;   // innermost
  rille_waiter* waiter = nullptr;
  WaitList* list = nullptr;  // where it waits, in order
  uint32_t next = 0;
  uint32_t prev = 0;
  uint32_t index = 0;
  uint32_t wait = 0;    // names the current wait, so that a stale wake-up finds nobody
  uint32_t timer = 0;   // number of its armed timer
  int32_t thread = 0;   // where the coroutine is anchored
  uint16_t values = 0;  // pushed on `co`, to be the results of its wait
  State state = kFree;
  uint8_t flags = 0;
};

// Tasks that wait, first come, first served. Lives in a userdata.
struct WaitList {
  static constexpr char kTag = 0;
  const char* tag = &kTag;  // scripts can put any other userdata in its place
  uint32_t head = 0;
  uint32_t tail = 0;
};

// Completions from other threads, and calls. Shared with every waiter, since a thread may finish
// after the runtime is gone.
struct Mailbox {
  struct Letter {
    rille_waiter* waiter;  // null: it is a call
    int (*push)(lua_State*, void*);
    void* data;
    std::function<void()> call;
    bool at_end_too = false;  // it is called even if the runtime is closed meanwhile
  };
  std::mutex mutex;
  std::vector<Letter> letters;
  std::atomic<bool> any{false};
  uv_async_t* wakeup = nullptr;  // null once the runtime is closed
};

class Scheduler {
 public:
  // Functions of stdlib/core that the scheduler calls, by their place in the table `hooks`.
  enum Hook { kBody = 1, kFailed, kEager, kCall, kDeadlock, kSlow, kProbe };

  Scheduler(lua_State* L, uv_loop_t* loop);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // The scheduler of the runtime that `L` belongs to.
  static Scheduler* of(lua_State* L);

  // Pushes the table rille.core.task. Called once.
  void open(lua_State* L);

  // Runs tasks and the loop until stop() is called. False if nothing was left that could go on.
  bool run();
  void stop() {
    stopped_ = true;
    budget_ = 0;
  }

  // One round of what `run` does, for those who call it again and again: what has come in and what
  // is ready, and again for as long as there is more and `budget` seconds are not over. True if
  // anything is left.
  bool turn(double budget);
  // Seconds until `turn` has something to do; below 0: never.
  double timeout();
  // The loop is the host's, which runs it: tasks run in its callbacks from here on, each time
  // between around(true) and around(false).
  void run_with_loop(std::function<void(bool)> around);
  // Something may have become ready without the scheduler's own doing: a task was spawned.
  void nudge() {
    if (polling_ && anything_ready()) wake_loop();
  }
  // Called around each call that another thread has posted.
  void call(const std::function<void()>& fn);

  // Ends every wait without running Lua, and closes the scheduler's own handles.
  void close();

  uv_loop_t* loop() const { return loop_; }
  lua_State* main_state() const { return L_; }
  bool is_closing() const { return closing_; }
  void count_abandoned(int by) { abandoned_ += by; }
  void count_attached(int by);

  // For waiters, in waiter.cpp.
  Slot* current() const { return current_; }
  // 0, or the number of values to return at once.
  int prepare_wait(lua_State* L) {
    Slot* k = current_;
    if (!can_wait(L, k) || slow_waits_ || (k->flags & Slot::kPending)) return prepare_slowly(L);
    next_wait(k);
    return 0;
  }
  // A ticket is a double: 31 bits for the wait, 22 for the slot.
  static void next_wait(Slot* k) { k->wait = (k->wait + 1) & 0x7fffffffu; }
  // The only lua_yield.
  int park(lua_State* L, Slot* k) {
    if (k->flags & Slot::kUnarmed) arm_scopes(k);
    if (L == k->co) return lua_yield(L, 0);
    // Inside a coroutine of the script's own: its resumer (stdlib/core/coroutine.lua) passes the
    // wait on, outwards.
    lua_pushlightuserdata(L, this);
    return lua_yield(L, 1);
  }
  // From the task's own coroutine; the first argument of the running C function lives on.
  int park_with(lua_State* L, Slot* k) {
    if (k->flags & Slot::kUnarmed) arm_scopes(k);
    lua_settop(L, 1);
    return lua_yield(L, 1);
  }
  void wake(Slot* k);         // parked -> ready
  void refuse(lua_State* L);  // pushes why waiting is impossible here
  static bool can_wait(lua_State* L, Slot* k) { return k && lua_isyieldable(L); }
  std::vector<rille_waiter*> waiters;  // all that are not completed
  std::vector<rille_waiter*> early;    // completed before they were parked; they may still be
  std::shared_ptr<Mailbox> mailbox;
  std::shared_ptr<Pools> pools;
  Limits* limits = nullptr;  // null where there are none to keep

 private:
  friend struct TaskLib;

  Slot* slot(uint32_t index) { return slots_.at(index); }
  Slot* find(double ticket);
  Scope* find_scope(double id);
  double ticket(const Slot* k) const;

  int prepare_slowly(lua_State* L);
  void drain(lua_State* L);
  void look_ahead() const;
  void step(lua_State* L, Slot* k);
  void resume(lua_State* L, Slot* k, int nargs);
  void attach(lua_State* L, Slot* k);
  void retire(lua_State* L, lua_State* co, int32_t thread);
  void drop_thread(lua_State* L, int32_t thread);
  void release(lua_State* L, Slot* k);
  void set_current(lua_State* L, Slot* k);
  int call(lua_State* L, int nargs, int nresults, bool is_scripts);
  bool call_hook(lua_State* L, Hook hook, int nargs);
  int deliver(lua_State* L, Slot* k);

  void make_ready(Slot* k) {
    if (batch_open_) close_batch();
    ready_.push(Item(k));
    if (polling_) wake_loop();
  }
  void wake_loop();
  bool run_all();
  void drain_once();
  void drop_early();
  void host_turn();
  bool has_mail() const { return mailbox->any.load(std::memory_order_relaxed); }
  void poll(uv_run_mode mode);
  void open_batch(lua_State* L);
  void close_batch();
  void run_batch(lua_State* L);
  bool anything_ready() const { return in_batch_ || !ready_.empty(); }
  bool take_letters(Slot* k);
  void interrupt(Slot* k);
  void update_pending(Slot* k);
  Scope* visible_cancel(Slot* k, bool* root);
  void detach(Slot* k);
  void unlink(Slot* k);
  void append(WaitList* list, Slot* k);

  void arm(uint32_t target, double when, uint32_t* number);
  void disarm(uint32_t* number);
  void arm_scopes(Slot* k);
  void start_timer();
  void fire_timers();
  bool alive();
  void drop_scope(Scope* s);

  lua_State* L_;
  uv_loop_t* loop_;
  uv_timer_t* timer_;
  int drain_ref_ = LUA_NOREF;
  int state_ref_ = LUA_NOREF;
  int tasks_ref_ = LUA_NOREF;
  int hooks_ref_ = LUA_NOREF;

  // What is to run next, in order: a Slot, or a batch of `number` tasks that have not started.
  class Item {
   public:
    explicit Item(Slot* k) : bits_(reinterpret_cast<uintptr_t>(k)) {}
    static Item batch(uint32_t number) { return Item((uintptr_t{number} << 1) | 1); }
    Item() = default;
    bool is_batch() const { return bits_ & 1; }
    uint32_t number() const { return static_cast<uint32_t>(bits_ >> 1); }
    Slot* slot() const { return reinterpret_cast<Slot*>(bits_); }

   private:
    explicit Item(uintptr_t bits) : bits_(bits) {}
    uintptr_t bits_ = 0;
  };

  class Ring {
   public:
    bool empty() const { return count_ == 0; }
    Item& back() { return items_[(head_ + count_ - 1) & mask_]; }
    Item pop() {
      Item v = items_[head_];
      head_ = (head_ + 1) & mask_;
      --count_;
      return v;
    }
    // The slot that comes so many places behind the next one; null if there is none.
    Slot* ahead(uint32_t places) const {
      if (places >= count_) return nullptr;
      Item item = items_[(head_ + places) & mask_];
      return item.is_batch() ? nullptr : item.slot();
    }
    void push(Item v) {
      if (count_ > mask_) grow();
      items_[(head_ + count_++) & mask_] = v;
    }
    void remove(const Slot* k);

   private:
    void grow();
    std::unique_ptr<Item[]> items_ = std::make_unique<Item[]>(64);
    uint32_t mask_ = 63, head_ = 0, count_ = 0;
  } ready_;

  // Tasks that have not started stand in a list on the Lua side, so that spawning one is a matter
  // of Lua alone. The ready queue has one item for a whole batch of them: everything spawned until
  // something else becomes ready. An open batch is the last item.
  bool batch_open_ = false;
  bool in_batch_ = false;   // state[kBatchLeft] tasks of the batch at the front are still to start
  double batch_start_ = 0;  // state[kSpawned] when it was opened

  Slab<Slot> slots_;
  Slab<Scope> scopes_;
  TimerHeap heap_;
  std::size_t stale_ = 0;
  uint32_t timer_number_ = 0;
  double timer_due_ = 0;
  bool timer_active_ = false;

  struct Idle {
    lua_State* co;
    int32_t thread;
  };
  std::vector<Idle> idle_;  // finished coroutines, to be given another task
  std::vector<int32_t> free_threads_;
  int32_t threads_ = 0;

  Slot* current_ = nullptr;
  int depth_ = 0;      // eager starts nested in the running task
  int budget_ = 0;     // steps left before the loop is polled
  int batch_ = 64;     // adapts, so that polls are frequent in time and rare in number
  int attached_ = 0;   // waiters that somebody waits for, or is about to
  int abandoned_ = 0;  // operations that nobody waits for any more
  uint64_t waits_ = 0;
  bool stopped_ = false;
  bool polling_ = false;  // inside uv_run, ours or the host's
  bool hosted_ = false;   // the host runs the loop
  bool driving_ = false;  // but for now we do
  bool closing_ = false;
  std::function<void(bool)> around_;
  uv_prepare_t* prepare_ = nullptr;  // these only with a host's loop
  uv_check_t* check_ = nullptr;
  uv_idle_t* idle_handle_ = nullptr;
  bool debug_ = false;
  bool probe_ = false;
  bool slow_waits_ = false;  // there is something to look at before each
  double slow_limit_ = 0.1;
  double step_start_ = 0;  // debug mode: when the running step began
};

// Seconds on the monotonic clock.
inline double now() { return static_cast<double>(uv_hrtime()) * 1e-9; }

}  // namespace rille
