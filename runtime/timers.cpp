// The deadlines of tasks, callbacks and scopes, and libuv's timer that stands for the next of them.
#include "timers.h"

#include <cmath>

#include "scheduler.h"

namespace rille {

namespace {

constexpr uint32_t kScopeTarget = 0x80000000u;  // tag of a timer's target
constexpr int kLongestTimeoutMs = 0x7fffffff;

}  // namespace

void Scheduler::arm(uint32_t target, double when, uint32_t* number) {
  disarm(number);
  if (++timer_number_ == 0) ++timer_number_;
  *number = timer_number_;
  heap_.push({when, timer_number_, target});
  if (!timer_active_ || when < timer_due_) start_timer();
}

void Scheduler::forget_timer(uint32_t* number) {
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

void Scheduler::arm_scope(Scope* s) { arm(s->index | kScopeTarget, s->deadline, &s->timer); }

void Scheduler::arm_scopes(Slot* k) {
  for (Scope* s = k->scope; s; s = s->outer) {
    if (s->deadline != 0 && s->timer == 0 && !s->cancelled) arm_scope(s);
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
    // One of these is the next: it is fetched meanwhile.
    for (std::size_t i = 1; i <= TimerHeap::kArity && i < heap_.size(); ++i) {
      uint32_t target = heap_.at(i).target;
      if (!(target & kScopeTarget)) __builtin_prefetch(slot(target));
    }
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

}  // namespace rille
