// What a runtime's script may use: memory, time, modules, and what lies outside of the interpreter.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <lua.hpp>
#include <memory>
#include <mutex>
#include <rille/builtin.hpp>
#include <rille/rille.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "memory.h"
#include "stopper.h"

namespace rille {

class Access;

// One for each runtime; lives longer than its Lua state.
class Limits {
 public:
  explicit Limits(const Options& options);
  ~Limits();
  Limits(const Limits&) = delete;
  Limits& operator=(const Limits&) = delete;

  const Options& options() const { return options_; }

  // Makes the Lua state, with an allocator that keeps Options::memory_limit. Null without memory.
  lua_State* new_state();

  // The libraries and rille.core are there, and no script has run: takes away what is not granted.
  // Called in a protected call.
  void install(lua_State* L);

  // Makes what these options grant what is granted here, whatever changes outside meanwhile.
  void pin(Options* options) const { options->permissions.resolved_ = access_; }

  // What may be loaded: "t", text, or null, anything.
  const char* load_mode() const { return is_sandbox() ? "t" : nullptr; }

  // True if the scheduler has to run Lua by way of `resume` and `call`.
  bool is_needed() const { return memory_ || is_interruptible_; }

  // Around everything that runs Lua on the loop's thread, from one poll of the loop to the next.
  void begin_slice();
  void end_slice();

  // begin_slice for what the scheduler runs, which a kept interruption is for.
  void begin_turns();

  // Both, for what the host calls. `limits` may be null.
  class Stretch {
   public:
    explicit Stretch(Limits* limits) : limits_(limits) {
      if (limits) limits->begin_slice();
    }
    Stretch(const Stretch&) = delete;
    Stretch& operator=(const Stretch&) = delete;
    ~Stretch() {
      if (limits_) limits_->end_slice();
    }

   private:
    Limits* limits_;
  };

  // lua_resume and lua_pcall. Under the ceiling stands what is the script's, and not what reports
  // its errors and ends its tasks.
  int resume(lua_State* co, int nargs);
  int call(lua_State* L, int nargs, int nresults, bool is_scripts);

  // For what a script is asked while an error is reported, when it may have used up all.
  static constexpr std::size_t kReserve = 256 << 10;

  // Collects garbage because memory is short, unless that was just tried.
  void collect(lua_State* L);

  // What is held outside of the interpreter; null without a ceiling.
  const std::shared_ptr<Charge::Account>& outside() const { return outside_; }

  // Null without a ceiling.
  Memory* memory() { return memory_.get(); }

  // Asked by C functions that take long: whether what runs is to be stopped, and not only soon.
  bool is_late() const;
  // Raises the error that stops it.
  int stop(lua_State* L);

  // Stops what runs now, and says whether anything did. Any thread.
  bool interrupt(std::string_view reason) { return interrupt(reason, false); }

  // Does so, or else keeps that for what is to run next, the host's script above all. A false says
  // that the loop has to call `take_kept` soon. Any thread.
  bool interrupt_or_keep(std::string_view reason) { return interrupt(reason, true); }

  // What was kept is for a script that waits; for whatever is ready, if `is_ready`; or for nobody.
  void take_kept(bool is_ready);
  void drop_kept();

  // `cancel(reason)` cancels the script of the host's, if there is one, and `call_soon()` has the
  // loop call `take_kept`.
  void set_script(std::function<bool(const std::string&)> cancel, std::function<void()> call_soon) {
    cancel_script_ = std::move(cancel);
    call_take_kept_soon_ = std::move(call_soon);
  }

  // The state is about to be closed.
  void detach();

 private:
  bool is_sandbox() const { return access_ || !options_.modules.empty(); }
  void install_guarded(lua_State* L);
  void start_watching();
  void watch();
  bool interrupt(std::string_view reason, bool keeps);
  bool fire(std::string reason, bool interrupts);
  void end_turn(lua_State* co, int status, bool was_raised);
  void settle(lua_State* L);
  bool has_missed() const;
  void stop_again(lua_State* co);
  bool is_stdlib(lua_State* L, lua_Debug* at) const;
  void push_reason(lua_State* L);
  static void on_hook(lua_State* L, lua_Debug* at);

  const Options options_;
  const void* globals_ = nullptr;   // the standard library's
  std::shared_ptr<Access> access_;  // null where everything is granted
  std::unique_ptr<Memory> memory_;
  std::shared_ptr<Charge::Account> outside_;

  // A task that was interrupted is so in each turn until it ends.
  struct Condemned {
    lua_State* co;
    std::string reason;
  };
  std::vector<Condemned> condemned_;

  uint64_t may_collect_ = 0;  // from this time on
  const bool is_interruptible_;
  const uint64_t slice_;  // nanoseconds that Lua may hold the loop; 0: any

  // What is stopped is a turn: a stretch of Lua without a wait, with all that begins in it and is
  // not waited for.
  std::atomic<uint64_t> turn_{0};   // its number
  std::atomic<uint64_t> since_{0};  // when it began, in nanoseconds; 0: no Lua runs
  std::atomic<bool> fired_{false};  // a turn is to be stopped
  std::atomic<uint64_t> fired_at_{0};
  uint64_t raised_ = 0;  // when that was first raised in the turn; 0: not yet
  int nested_ = 0;       // calls and resumes in each other

  std::mutex mutex_;  // for what follows, and for firing
  lua_State* L_ = nullptr;
  Stopper stopper_;
  std::atomic<uint64_t> fired_turn_{0};
  std::string reason_;
  bool is_interrupted_ = false;  // and not only late
  bool keeps_ = false;           // and if nothing was there to stop, what comes next is
  std::atomic<bool> is_kept_{false};
  std::string kept_reason_;
  std::function<bool(const std::string&)> cancel_script_;
  std::function<void()> call_take_kept_soon_;
  int depth_ = 0;  // of begin_slice
  std::condition_variable wake_;
  std::atomic<bool> is_dormant_{false};  // the watching thread waits for a turn to begin
  bool is_watching_ = false;
  bool is_closing_ = false;
  std::thread watcher_;
};

}  // namespace rille
