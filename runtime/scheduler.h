// Tasks, the ready queue, timers and scopes: decides which coroutine runs next, and who is
// interrupted. Policy that need not be fast (error objects, reports, groups) is Lua, in
// stdlib/core/; this class keeps only what every switch touches.
#pragma once

#include <rille/module.h>
#include <uv.h>

#include <cstdint>
#include <functional>
#include <lua.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "mailbox.h"
#include "pool.h"
#include "ready_queue.h"
#include "slab.h"
#include "slot.h"
#include "timers.h"

namespace rille {

class Limits;

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
  bool anything_ready() const { return in_batch_ || !ready_.empty(); }
  bool is_closing() const { return closing_; }
  void count_abandoned(int by) { abandoned_ += by; }
  // Whether other threads have posted or completed something.
  bool has_mail() const { return mailbox->any.load(std::memory_order_relaxed); }
  // True in what a host's loop calls for its descriptors; other callbacks of its are not noticed.
  bool is_in_callback() const { return in_callbacks_; }
  // False if this is certainly not the thread that runs the loop: another one does just now.
  bool may_be_its_thread() const { return !driving_ || driver_ == std::this_thread::get_id(); }
  void count_attached(int by);

  // For waiters: waiter.cpp.
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

  using Item = ReadyQueue::Item;

  // Steps, coroutines and batches: scheduler.cpp.
  void drain(lua_State* L);
  void look_ahead() const;
  void set_current(lua_State* L, Slot* k) {
    current_ = k;
    if (shown_ > 0) show_current(L, --shown_ > 0);
  }
  void show_current(lua_State* L, bool shown);
  void step(lua_State* L, Slot* k);
  void resume(lua_State* L, Slot* k, int nargs);
  int deliver(lua_State* L, Slot* k);
  void release(lua_State* L, Slot* k);
  int call(lua_State* L, int nargs, int nresults, bool is_scripts);
  bool call_hook(lua_State* L, Hook hook, int nargs);
  void attach(lua_State* L, Slot* k);
  void put_off_collection(lua_State* L);
  void retire(lua_State* L, lua_State* co, int32_t thread);
  void drop_thread(lua_State* L, int32_t thread);
  void open_batch(lua_State* L);
  void close_batch();
  void run_batch(lua_State* L);
  void make_ready(Slot* k) {
    if (batch_open_) close_batch();
    ready_.push(Item(k));
    if (polling_) wake_loop();
  }

  // The loop: loop.cpp.
  bool run_all();
  void drain_once();
  void drop_early();
  void poll(uv_run_mode mode);
  void wake_loop();
  void host_turn(bool sleeps_next);
  bool alive();

  // Waits: wait.cpp.
  Slot* slot(uint32_t index) { return slots_.at(index); }
  double ticket(const Slot* k) const;
  Slot* find(double ticket);
  int prepare_slowly(lua_State* L);
  void detach(Slot* k);
  bool take_letters(Slot* k);
  void append(WaitList* list, Slot* k);
  void unlink(Slot* k);

  // Cancellation: scope.cpp.
  Scope* find_scope(double id);
  void drop_scope(Scope* s);
  Scope* visible_cancel(Slot* k, bool* root);
  void update_pending(Slot* k);
  void interrupt(Slot* k);

  // Deadlines: timers.cpp.
  void arm(uint32_t target, double when, uint32_t* number);
  void arm_scope(Scope* s);
  void arm_scopes(Slot* k);
  void disarm(uint32_t* number) {
    if (*number != 0) forget_timer(number);
  }
  void forget_timer(uint32_t* number);
  void start_timer();
  void fire_timers();

  lua_State* L_;
  uv_loop_t* loop_;
  uv_timer_t* timer_;
  int drain_ref_ = LUA_NOREF;
  int state_ref_ = LUA_NOREF;
  int tasks_ref_ = LUA_NOREF;
  int hooks_ref_ = LUA_NOREF;

  ReadyQueue ready_;

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
  static constexpr int kBurst = 1024;  // so many new coroutines at a time: see put_off_collection
  int heap_size_ = 0;                  // KiB, as it was then

  Slot* current_ = nullptr;
  // For so many switches more state[kCurrent] is kept up to date. Most tasks that merely switch
  // never look there.
  int shown_ = 0;
  int depth_ = 0;      // eager starts nested in the running task
  int budget_ = 0;     // steps left before the loop is polled
  int batch_ = 64;     // adapts, so that polls are frequent in time and rare in number
  int attached_ = 0;   // waiters that somebody waits for, or is about to
  int abandoned_ = 0;  // operations that nobody waits for any more
  uint64_t waits_ = 0;
  bool stopped_ = false;
  bool polling_ = false;       // inside uv_run, ours or the host's
  bool hosted_ = false;        // the host runs the loop
  bool driving_ = false;       // but for now we do
  std::thread::id driver_;     // on this thread
  bool in_callbacks_ = false;  // of the host's loop, for descriptors
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
