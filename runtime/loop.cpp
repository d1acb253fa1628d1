// How tasks and the loop take turns: in a loop of the runtime's own, and in a host's.
#include <utility>

#include "report.h"
#include "scheduler.h"
#include "script_limits.h"
#include "upvalues.h"
#include "waiter.h"

namespace rille {

bool Scheduler::run() {
  stopped_ = false;
  driver_ = std::this_thread::get_id();
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
  if (limits) limits->begin_turns();
  lua_rawgeti(L_, LUA_REGISTRYINDEX, drain_ref_);
  if (lua_pcall(L_, 0, 0, 0) != 0) {
    // Only running out of memory between two tasks gets here.
    const char* text = lua_tostring(L_, -1);
    report_text(L_, text ? text : "an error between two tasks");
    current_ = nullptr;
    shown_ = 0;
    lua_settop(L_, 0);
    lua_rawgeti(L_, LUA_REGISTRYINDEX, state_ref_);
    lua_pushboolean(L_, 0);
    lua_rawseti(L_, -2, kCurrent);
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
      Limits::Stretch stretch(limits);
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
  driver_ = std::this_thread::get_id();
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
  uv_prepare_start(prepare_, [](uv_prepare_t* h) {
    auto* s = static_cast<Scheduler*>(h->data);
    s->host_turn(true);
    s->in_callbacks_ = true;
  });
  uv_check_start(check_, [](uv_check_t* h) {
    auto* s = static_cast<Scheduler*>(h->data);
    s->in_callbacks_ = false;
    s->host_turn(false);
  });
  uv_unref(reinterpret_cast<uv_handle_t*>(prepare_));
  uv_unref(reinterpret_cast<uv_handle_t*>(check_));
  hosted_ = polling_ = true;
}

// Before the host's loop sleeps, and after: tasks have their turn. Those who run just before may
// have asked for a call before it sleeps themselves, which libuv keeps for the next round: that is
// to come at once.
void Scheduler::host_turn(bool sleeps_next) {
  if (driving_) return;
  bool has_run = anything_ready();
  if (has_run) {
    around_(true);
    polling_ = false;
    drain_once();
    pools->call_threads();
    polling_ = true;
    around_(false);
  }
  if (anything_ready() || (has_run && sleeps_next)) {
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

}  // namespace rille
