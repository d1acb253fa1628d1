#include "script_limits.h"

#include <luajit.h>
#include <signal.h>
#include <uv.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <rille/access.hpp>
#include <rille/builtin.hpp>
#include <utility>

#include "error.h"
#include "permissions.h"
#include "sandbox.h"
#include "scheduler.h"

namespace rille {

namespace {

// What clean-up may take once a turn was stopped, before nothing more can run in it.
constexpr uint64_t kGrace = 20'000'000;
// What the standard library may take to leave its tables whole. A script can tamper with objects so
// that it never comes to an end.
constexpr uint64_t kLibraryGrace = 250'000'000;
// Instructions until it is looked again whether that time is over.
constexpr int kPause = 10000;
// While a turn that was stopped goes on.
constexpr std::chrono::milliseconds kAgain(5);

uint64_t nanoseconds(double seconds) {
  if (!(seconds > 0)) return 0;
  return static_cast<uint64_t>(std::clamp(seconds * 1e9, 1e6, 1e18));
}

}  // namespace

Limits::Limits(const Options& options)
    : options_(options),
      memory_(options.memory_limit ? std::make_unique<Memory>(options.memory_limit) : nullptr),
      is_interruptible_(options.interruptible || options.slice_limit > 0),
      slice_(nanoseconds(options.slice_limit)) {
  if (memory_) {
    outside_ = std::make_shared<Charge::Account>();
    outside_->limit = options.memory_limit;
  }
  const Permissions& granted = options.permissions;
  if (granted.everything()) return;
  if (auto* resolved = static_cast<const Grants*>(granted.resolved_.get())) {
    access_ = std::make_shared<Grants>(*resolved);
  } else {
    access_ = std::make_shared<Grants>(granted, !options.interruptible);
  }
}

Limits::~Limits() {
  detach();
  if (watcher_.joinable()) watcher_.join();
}

lua_State* Limits::new_state() {
  L_ = memory_ ? lua_newstate(Memory::allocate, memory_.get()) : luaL_newstate();
  if (!L_) return nullptr;
  if (memory_) memory_->attach(L_, on_hook);
  if (is_interruptible_) stopper_.prepare(L_, slice_ > 0);
  return L_;
}

void Limits::install(lua_State* L) {
  globals_ = lua_topointer(L, LUA_GLOBALSINDEX);
  if (access_) Access::install(L, access_.get());
  // Those who trust their scripts keep the functions that compiled code knows.
  if (is_interruptible_ && (slice_ > 0 || is_sandbox())) install_guarded(L);
  if (is_sandbox()) install_sandbox(L, options_);
  constexpr int kHurried = 1000;  // what a step of the collector does, in percent
  if (memory_) {
    lua_gc(L, LUA_GCSETSTEPMUL, kHurried);
    // Compiled code that runs out of memory may end the process: LuaJIT raises the error in a frame
    // that it did not bring up to date.
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
  }
  if (slice_ > 0) {
    std::lock_guard lock(mutex_);
    start_watching();
  }
}

// Puts functions that can be stopped in the place of the interpreter's.
void Limits::install_guarded(lua_State* L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.require");
  lua_pushliteral(L, "rille.core.guarded");
  lua_call(L, 1, 1);
  lua_getglobal(L, "string");
  lua_getglobal(L, "table");
  lua_pushvalue(L, LUA_GLOBALSINDEX);
  lua_call(L, 3, 0);
}

void Limits::detach() {
  std::lock_guard lock(mutex_);
  if (fired_ && L_) stopper_.stop_calling(L_);
  fired_ = false;
  stopper_.detach();
  L_ = nullptr;
  is_closing_ = true;
  wake_.notify_all();
}

// ---- turns -------------------------------------------------------------------------------------

void Limits::begin_slice() {
  if (!is_interruptible_ || depth_++ > 0) return;
  stopper_.attach(L_);
  turn_.fetch_add(1, std::memory_order_relaxed);
  since_.store(uv_hrtime());
  if (is_dormant_.load(std::memory_order_relaxed)) {
    std::lock_guard lock(mutex_);
    wake_.notify_all();
  }
}

void Limits::end_slice() {
  if (!is_interruptible_ || --depth_ > 0) return;
  since_.store(0);
  if (!fired_) return;
  bool keeps;
  {
    std::lock_guard lock(mutex_);
    keeps = has_missed();
    if (keeps) {
      kept_reason_ = reason_;
      is_kept_ = true;
    }
    settle(L_);
  }
  if (keeps) call_take_kept_soon_();
}

void Limits::begin_turns() {
  begin_slice();
  while (is_kept_) {
    std::string reason;
    {
      std::lock_guard lock(mutex_);
      if (!is_kept_.exchange(false)) break;
      reason = std::move(kept_reason_);
    }
    if (cancel_script_(reason)) continue;
    std::lock_guard lock(mutex_);
    if (!L_ || !fire(std::move(reason), true)) continue;
    keeps_ = true;
    start_watching();
    wake_.notify_all();
  }
}

void Limits::take_kept(bool is_ready) {
  std::string reason;
  {
    std::lock_guard lock(mutex_);
    if (!is_kept_.exchange(false)) return;
    reason = std::move(kept_reason_);
  }
  if (cancel_script_(reason) || !is_ready || !is_interruptible_) return;
  std::lock_guard lock(mutex_);
  if (is_kept_) return;
  kept_reason_ = std::move(reason);
  is_kept_ = true;
}

void Limits::drop_kept() {
  std::lock_guard lock(mutex_);
  is_kept_ = false;
}

int Limits::resume(lua_State* co, int nargs) {
  if (!condemned_.empty()) stop_again(co);
  bool was_raised = raised_ != 0;
  ++nested_;
  int status;
  {
    Memory::Enforced enforced(memory_.get());
    status = lua_resume(co, nargs);
  }
  --nested_;
  if (fired_.load(std::memory_order_relaxed)) end_turn(co, status, was_raised);
  if (status != LUA_YIELD && !condemned_.empty()) {
    std::erase_if(condemned_, [co](const Condemned& c) { return c.co == co; });
  }
  if (memory_ && memory_->take_failure()) collect(co);
  return status;
}

int Limits::call(lua_State* L, int nargs, int nresults, bool is_scripts) {
  if (!is_scripts && fired_.load(std::memory_order_relaxed)) {
    // A task was stopped that began in another one's turn. What the library does about it may take
    // as long as what it did before.
    std::lock_guard lock(mutex_);
    fired_at_ = uv_hrtime();
  }
  ++nested_;
  int status;
  {
    Memory::Enforced enforced(is_scripts ? memory_.get() : nullptr);
    status = lua_pcall(L, nargs, nresults, 0);
  }
  --nested_;
  if (fired_.load(std::memory_order_relaxed)) end_turn(L, status, true);
  if (memory_ && memory_->take_failure()) collect(L);
  return status;
}

void Limits::collect(lua_State* L) {
  uint64_t begin = uv_hrtime();
  if (begin < may_collect_) return;
  lua_gc(L, LUA_GCCOLLECT, 0);
  uint64_t end = uv_hrtime();
  may_collect_ = end + (end - begin);
}

// Something has ended, or waits, that was to be stopped; `was_raised`: in what had called it.
void Limits::end_turn(lua_State* co, int status, bool was_raised) {
  std::lock_guard lock(mutex_);
  if (!L_) return;
  bool is_hit = is_interrupted_ && !was_raised && (raised_ != 0 || !keeps_);
  if (nested_ > 0) {
    is_hit = is_hit && raised_ != 0;
  } else if (has_missed()) {
    // What comes next is what runs now.
    fired_turn_ = turn_.fetch_add(1, std::memory_order_relaxed) + 1;
    fired_at_ = uv_hrtime();
    if (since_ != 0) since_ = uv_hrtime();
  } else {
    settle(co);
  }
  if (is_hit && status == LUA_YIELD) condemned_.push_back({co, reason_});  // it has caught that
}

// The turn that was to be stopped is over, and the next one begins. REQUIRES: the lock.
void Limits::settle(lua_State* L) {
  if (!L_) return;
  fired_ = false;
  is_interrupted_ = keeps_ = false;
  raised_ = 0;
  stopper_.stop_calling(L);
  turn_.fetch_add(1, std::memory_order_relaxed);
  if (since_ != 0) since_ = uv_hrtime();
}

// An interruption that must not get lost came when what it was for had just ended. REQUIRES: the
// lock.
bool Limits::has_missed() const { return L_ && is_interrupted_ && keeps_ && raised_ == 0; }

void Limits::stop_again(lua_State* co) {
  auto at = std::find_if(condemned_.begin(), condemned_.end(),
                         [co](const Condemned& c) { return c.co == co; });
  if (at == condemned_.end()) return;
  std::lock_guard lock(mutex_);
  fire(std::move(at->reason), true);
  condemned_.erase(at);
}

// ---- stopping ----------------------------------------------------------------------------------

// Says whether there is something to stop. REQUIRES: the lock.
bool Limits::fire(std::string reason, bool interrupts) {
  if (!fired_) {
    reason_ = std::move(reason);
    fired_at_ = uv_hrtime();
  }
  is_interrupted_ |= interrupts;
  fired_turn_ = turn_.load();
  fired_ = true;
  if (since_ == 0 || turn_ != fired_turn_) {  // it has ended just now, perhaps with its thread
    fired_ = false;
    is_interrupted_ = keeps_ = false;
    return false;
  }
  stopper_.call_soon(on_hook);
  return true;
}

bool Limits::interrupt(std::string_view reason, bool keeps) {
  std::lock_guard lock(mutex_);
  while (L_) {
    if (since_ != 0 && fire(std::string(reason), true)) {
      keeps_ |= keeps;
      start_watching();
      wake_.notify_all();
      return true;
    }
    if (!keeps) return false;
    kept_reason_ = reason;
    is_kept_ = true;
    // A turn that begins now sees that; one that has just begun may have looked before.
    if (since_ == 0) return false;
    is_kept_ = false;
  }
  return false;
}

void Limits::start_watching() {
  if (is_watching_) return;
  is_watching_ = true;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  watcher_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// On a thread of its own: looks whether a turn lasts too long, and stops it again and again until
// it ends.
void Limits::watch() {
  std::unique_lock lock(mutex_);
  uint64_t idle = 0;
  while (!is_closing_) {
    uint64_t since = since_;
    uint64_t now = uv_hrtime();
    if (fired_) {
      if (since != 0) fire({}, false);
      wake_.wait_for(lock, kAgain);
      idle = 0;
    } else if (slice_ > 0 && since != 0) {
      uint64_t end = since + slice_;
      idle = 0;
      if (now < end) {
        wake_.wait_for(lock, std::chrono::nanoseconds(std::min(end - now, slice_)));
      } else {
        char text[96];
        std::snprintf(text, sizeof text, "the script held the loop up for more than %g s",
                      options_.slice_limit);
        fire(text, false);
      }
    } else if (slice_ > 0 && ++idle < 16) {
      // Nothing runs at this moment. To be woken costs the loop more than to be looked at.
      wake_.wait_for(lock, std::chrono::nanoseconds(slice_ / 4));
    } else {
      is_dormant_ = true;
      if (since_ == 0 || slice_ == 0) wake_.wait(lock);
      is_dormant_ = false;
      idle = 0;
    }
  }
}

// Whether it is the standard library that runs, whose tables are to stay whole: the script's next
// instruction will do. A script may call its chunks what it likes, but it does not have the globals
// that the library has.
bool Limits::is_stdlib(lua_State* L, lua_Debug* at) const {
  if (!lua_getinfo(L, "Sf", at)) return false;
  lua_getfenv(L, -1);
  bool is_ours = std::strncmp(at->source, "=rille/", 7) == 0 && lua_topointer(L, -1) == globals_;
  lua_pop(L, 2);
  return is_ours;
}

// On the thread that runs Lua. What is raised once can be caught, and clean-up has a moment; after
// that it is raised at each instruction, so that no loop goes on by catching it.
void Limits::on_hook(lua_State* L, lua_Debug* at) {
  Limits* self = Scheduler::of(L)->limits;
  Memory* memory = self->memory_.get();
  if (memory && memory->has_failed() && !self->is_stdlib(L, at)) {
    memory->take_failure();
    if (!self->fired_) self->stopper_.stop_calling(L);
    self->collect(L);
    if (memory->is_out()) raise_out_of_memory(L);
  }
  if (!self->fired_ || self->fired_turn_ != self->turn_) {
    if (!memory || !memory->has_failed()) self->stopper_.stop_calling(L);
    return;
  }
  if (uv_hrtime() < self->fired_at_ + kLibraryGrace && self->is_stdlib(L, at)) return;
  if (!self->is_late()) {
    self->stopper_.call_later(L, on_hook, kPause);
    return;
  }
  self->push_reason(L);
  lua_pushboolean(L, 1);
  lua_setfield(L, -2, "_in_hook");  // see stdlib/core/protect.lua
  lua_error(L);
}

std::function<bool(std::string_view)> interrupter_of(lua_State* L) {
  Limits* limits = Scheduler::of(L)->limits;
  return [limits](std::string_view reason) { return limits && limits->interrupt(reason); };
}

bool Limits::is_late() const {
  if (!fired_.load(std::memory_order_relaxed) || fired_turn_ != turn_) return false;
  return raised_ == 0 || uv_hrtime() >= raised_ + kGrace;
}

void Limits::push_reason(lua_State* L) {
  if (raised_ == 0) {
    raised_ = uv_hrtime();
    stopper_.call_later(L, on_hook, kPause);
  }
  push_error(L, "InterruptedError", reason_.c_str());
}

int Limits::stop(lua_State* L) {
  push_reason(L);
  return lua_error(L);
}

Deadline::Deadline(lua_State* L) : limits_(Scheduler::of(L)->limits) {}

bool Deadline::look() {
  left_ = kInterval;
  return limits_ && limits_->is_late();
}

int raise_interruption(lua_State* L) { return Scheduler::of(L)->limits->stop(L); }

Charge::Charge(lua_State* L) {
  if (Limits* limits = Scheduler::of(L)->limits) account_ = limits->outside();
}

bool Charge::change(std::size_t bytes) {
  if (bytes <= bytes_) {
    account_->used -= bytes_ - bytes;
  } else {
    std::size_t more = bytes - bytes_;
    std::size_t total = account_->used.fetch_add(more) + more;
    if (total > account_->limit || total < more) {
      account_->used -= more;
      return false;
    }
  }
  bytes_ = bytes;
  return true;
}

int raise_out_of_memory(lua_State* L) {
  lua_pushliteral(L, "not enough memory");
  return lua_error(L);
}

std::size_t memory_limit_of(lua_State* L) {
  Limits* limits = Scheduler::of(L)->limits;
  return limits ? limits->options().memory_limit : 0;
}

}  // namespace rille
