#include "waiter.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unordered_set>
#include <utility>

namespace {

// What a build for debugging knows of all waiters: a second completion of one that has gone is
// found by its address, unless that is used again.
#ifndef NDEBUG
struct Alive {
  std::mutex mutex;
  std::unordered_set<const rille_waiter*> waiters;
};
Alive& alive() {
  static auto* it = new Alive;  // modules' threads may complete to the very end
  return *it;
}
void note_made(const rille_waiter* w) {
  std::lock_guard lock(alive().mutex);
  alive().waiters.insert(w);
}
void note_gone(const rille_waiter* w) {
  std::lock_guard lock(alive().mutex);
  alive().waiters.erase(w);
}
void stop_at(const char* what) {
  std::fprintf(stderr, "rille: fatal: a waiter was completed %s\n", what);
  std::abort();
}
void check_completion(const rille_waiter* w) {
  {
    std::lock_guard lock(alive().mutex);
    if (!alive().waiters.count(w) || w->push) stop_at("twice");
  }
  if (w->scheduler && !w->scheduler->may_be_its_thread()) {
    stop_at("on another thread than the loop's: rille_complete_from_thread does that");
  }
}
#else
void note_made(const rille_waiter*) {}
void note_gone(const rille_waiter*) {}
void check_completion(const rille_waiter*) {}
#endif

// What is pushed for a completion that has nothing to push.
int push_nothing(lua_State*, void*) { return 0; }

// A completed waiter whose result nobody takes still has to free it.
void discard(rille_waiter* w) {
  if (w->push) std::exchange(w->push, nullptr)(nullptr, w->push_data);
}

struct Failure {
  std::string kind, code, message;
};

int push_failure(lua_State* L, void* data) {
  std::unique_ptr<Failure> f(static_cast<Failure*>(data));
  if (!L) return 0;
  rille::push_error(L, f->kind.c_str(), f->message.c_str());
  if (!f->code.empty()) {
    lua_pushstring(L, f->code.c_str());
    lua_setfield(L, -2, "code");
  }
  return 1;
}

class WorkJob final : public rille::PoolJob {
 public:
  WorkJob(void (*work)(void*), int (*done)(lua_State*, void*), void (*free_data)(void*), void* data)
      : work_(work), done_(done), free_data_(free_data), data_(data) {}
  ~WorkJob() {
    if (free_data_) free_data_(data_);
  }

  rille_waiter* waiter = nullptr;

 private:
  void on_pool() override { work_(data_); }

  void after_pool(int status) override {
    status_ = status;
    rille_complete(waiter, push, this);
  }

  static int push(lua_State* L, void* self) {
    std::unique_ptr<WorkJob> job(static_cast<WorkJob*>(self));
    if (!L) return 0;
    if (job->status_ == 0) return job->done_ ? job->done_(L, job->data_) : 0;
    rille_push_os_error(L, job->status_, "pthread_create", nullptr, nullptr, nullptr);
    return 1;
  }

  void (*work_)(void*);
  int (*done_)(lua_State*, void*);
  void (*free_data_)(void*);
  void* data_;
  int status_ = 0;
};

}  // namespace

rille_waiter::~rille_waiter() {
  note_gone(this);
  discard(this);
}

namespace rille {

void forget(Scheduler* s, rille_waiter* w) {
  uint32_t place = std::exchange(w->place, rille_waiter::kNowhere);
  if (place == rille_waiter::kNowhere) return;
  // Neighbours in a list would be touched for nothing: with many tasks, each is far from the last.
  rille_waiter* last = s->waiters.back();
  s->waiters.pop_back();
  if (last == w) return;
  s->waiters[place] = last;
  last->place = place;
}

void abandon(rille_waiter* w) {
  w->slot = nullptr;
  if (w->push) {  // completed, but the task never got to see it
    delete w;
    return;
  }
  if (w->abandoned) return;
  w->abandoned = true;
  if (w->scheduler) {
    if (w->counted) w->scheduler->count_attached(-1);
    w->scheduler->count_abandoned(1);
  }
  if (w->on_cancel) std::exchange(w->on_cancel, nullptr)(w, w->data);
}

void count_wait(rille_waiter* w, bool yes) {
  if (w->counted == yes || !w->scheduler || w->abandoned || w->push) return;
  w->counted = yes;
  w->scheduler->count_attached(yes ? 1 : -1);
}

void deliver_letters(Scheduler* s) {
  std::vector<Mailbox::Letter> letters;
  {
    std::lock_guard lock(s->mailbox->mutex);
    letters.swap(s->mailbox->letters);
    s->mailbox->any.store(false, std::memory_order_relaxed);
  }
  for (auto& letter : letters) {
    if (letter.waiter) {
      rille_complete(letter.waiter, letter.push, letter.data);
    } else if (!s->is_closing() || letter.at_end_too) {
      s->call(letter.call);
    }
  }
}

void post_letter(const std::shared_ptr<Mailbox>& mailbox, std::function<void()> fn,
                 bool at_end_too) {
  {
    std::lock_guard lock(mailbox->mutex);
    if (mailbox->wakeup) {
      mailbox->letters.push_back({nullptr, nullptr, nullptr, std::move(fn), at_end_too});
      mailbox->any.store(true, std::memory_order_relaxed);
      uv_async_send(mailbox->wakeup);
      return;
    }
  }
  if (at_end_too) fn();
}

int push_completion(lua_State* L) {
  auto* w = static_cast<rille_waiter*>(lua_touserdata(L, 1));
  lua_settop(L, 0);
  return std::exchange(w->push, nullptr)(L, w->push_data);
}

}  // namespace rille

using rille::Scheduler;
using rille::Slot;

extern "C" {

void rille_check_wait(lua_State* L) {
  Scheduler* s = Scheduler::of(L);
  if (Scheduler::can_wait(L, s->current())) return;
  s->refuse(L);
  lua_error(L);
}

uv_loop_t* rille_loop(lua_State* L) { return Scheduler::of(L)->loop(); }

rille_waiter* rille_prepare(lua_State* L, void (*on_cancel)(rille_waiter*, void*), void* data) {
  Scheduler* s = Scheduler::of(L);
  Slot* k = s->current();
  if (!Scheduler::can_wait(L, k)) {
    s->refuse(L);
    lua_error(L);
  }
  auto* w = new rille_waiter{s, k, on_cancel, data};
  w->wait = k->wait;
  note_made(w);
  w->mailbox = s->mailbox;
  w->place = static_cast<uint32_t>(s->waiters.size());
  s->waiters.push_back(w);
  s->count_attached(1);
  return w;
}

int rille_park(lua_State* L, rille_waiter* w) {
  Scheduler* s = w->scheduler;
  Slot* k = s->current();
  if (w->slot != k) luaL_error(L, "rille_park: another task has prepared this waiter");
  if (w->push) {  // completed before it was parked
    rille::forget(s, w);
    std::erase(s->early, w);
    std::unique_ptr<rille_waiter> owner(w);
    return std::exchange(w->push, nullptr)(L, w->push_data);
  }
  if (int n = s->prepare_wait(L)) {
    rille::abandon(w);
    return n;
  }
  w->parked = true;
  k->waiter = w;
  k->state = Slot::kParked;
  return s->park(L, k);
}

void rille_complete(rille_waiter* w, int (*push)(lua_State*, void*), void* data) {
  check_completion(w);
  if (!push) push = push_nothing;
  if (w->push) {  // a second time
    push(nullptr, data);
    return;
  }
  // A function that has not parked it may still do so while its task runs, and never afterwards.
  bool may_be_parked = w->scheduler && !w->parked && !w->abandoned && w->slot &&
                       w->slot->state == Slot::kRunning && w->slot->wait == w->wait;
  if (w->scheduler) {
    if (!may_be_parked) rille::forget(w->scheduler, w);
    if (!w->abandoned && w->counted) w->scheduler->count_attached(-1);
  }
  w->push = push;
  w->push_data = data;
  if (w->abandoned || !w->slot || !(w->parked || may_be_parked)) {
    if (w->scheduler && w->abandoned) w->scheduler->count_abandoned(-1);
    delete w;
    return;
  }
  if (w->parked) {
    w->scheduler->wake(w->slot);
  } else {
    w->scheduler->early.push_back(w);
  }
}

void rille_fail(rille_waiter* w, const char* kind, const char* code, const char* message) {
  rille_complete(w, push_failure,
                 new Failure{kind ? kind : "Error", code ? code : "", message ? message : ""});
}

void rille_complete_from_thread(rille_waiter* w, int (*push)(lua_State*, void*), void* data) {
  std::shared_ptr<rille::Mailbox> mailbox = w->mailbox;
  std::unique_lock lock(mailbox->mutex);
  if (mailbox->wakeup) {
    mailbox->letters.push_back({w, push, data, nullptr});
    mailbox->any.store(true, std::memory_order_relaxed);
    uv_async_send(mailbox->wakeup);
  } else {
    lock.unlock();
    rille_complete(w, push, data);
  }
}

int rille_work(lua_State* L, void (*work)(void*), int (*done)(lua_State*, void*),
               void (*free_data)(void*), void* data) {
  auto owner = std::make_unique<WorkJob>(work, done, free_data, data);
  if (!work) luaL_error(L, "rille_work: a function expected, got NULL");
  WorkJob* job = owner.get();
  // A job that still stands in the queue need not run for nobody.
  job->waiter = rille_prepare(
      L, [](rille_waiter*, void* j) { static_cast<WorkJob*>(j)->withdraw(); }, job);
  owner.release()->submit(*Scheduler::of(L)->pools, rille::PoolKind::kWork);
  return rille_park(L, job->waiter);
}

int rille_error(lua_State* L, const char* kind, const char* code, const char* format, ...) {
  va_list args;
  va_start(args, format);
  lua_pushvfstring(L, format ? format : "", args);
  va_end(args);
  rille::push_error(L, kind, lua_tostring(L, -1));
  if (code) {
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
  }
  return lua_error(L);
}

}  // extern "C"
