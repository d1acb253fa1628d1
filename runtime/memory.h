// The memory of one interpreter, counted and kept under a ceiling.
#pragma once

#include <algorithm>
#include <cstddef>
#include <lua.hpp>
#include <utility>

namespace rille {

// The ceiling holds while a script runs, where running out is an error that it can catch. What the
// scheduler does between scripts is little, and must not fail.
//
// Nor should the standard library fail in the midst of what it does for a script. So an allocation
// may go over the ceiling by a little: then the hook is called at the next instructions, and raises
// the error as soon as they are the script's own. Only what is larger is refused.
class Memory {
 public:
  explicit Memory(std::size_t limit)
      : limit_(limit),
        margin_(std::max(kLeastMargin, limit / 16)),
        base_(limit / 4 * 3),
        trigger_(base_) {}

  // lua_Alloc.
  static void* allocate(void* self, void* old, std::size_t old_size, std::size_t size);

  // `hook` is called soon after an allocation went over the ceiling, when garbage can be collected.
  void attach(lua_State* L, lua_Hook hook) {
    L_ = L;
    hook_ = hook;
  }
  std::size_t used() const { return used_; }
  std::size_t limit() const { return limit_; }
  bool is_over() const { return used_ > limit_ + slack_; }

  // True after an allocation went over the ceiling, until that is taken: garbage is to be
  // collected, now that it can be.
  bool has_failed() const { return failed_; }
  bool take_failure() { return std::exchange(failed_, false); }

  // After that: whether it has not helped. What the script does about the error may take a little
  // more.
  bool is_out() {
    bool out = is_over() || std::exchange(is_out_on_purpose_, false);
    if (out) slack_ = kSlack;
    return out;
  }

  // For tests: after `count` others an allocation goes over the ceiling, or is refused; 0: none.
  void fail_after(std::size_t count, bool is_refused = false) {
    has_failed_on_purpose_ = is_out_on_purpose_ = false;
    countdown_ = count;
    refuses_on_purpose_ = is_refused;
  }
  bool has_failed_on_purpose() const { return has_failed_on_purpose_; }

  // While it lives the ceiling holds.
  class Enforced {
   public:
    explicit Enforced(Memory* memory, std::size_t reserve = 0) : memory_(memory) {
      if (!memory) return;
      outer_ = memory->enforced_;
      memory->enforced_ = memory->limit_ + reserve;
    }
    Enforced(const Enforced&) = delete;
    Enforced& operator=(const Enforced&) = delete;
    ~Enforced() {
      if (memory_) memory_->enforced_ = outer_;
    }

   private:
    Memory* memory_;
    std::size_t outer_ = 0;
  };

  // While it lives the ceiling does not hold.
  class Lifted {
   public:
    explicit Lifted(Memory* memory) : memory_(memory), outer_(memory ? memory->enforced_ : 0) {
      if (memory) memory->enforced_ = kNone;
    }
    Lifted(const Lifted&) = delete;
    Lifted& operator=(const Lifted&) = delete;
    ~Lifted() {
      if (memory_) memory_->enforced_ = outer_;
    }

   private:
    Memory* memory_;
    std::size_t outer_;
  };

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  static constexpr std::size_t kSlack = 128 << 10;
  static constexpr std::size_t kLeastMargin = 512 << 10;

  bool refuses(std::size_t more);
  void press();
  void relax();

  const std::size_t limit_;
  const std::size_t margin_;  // over that, before anything is refused
  const std::size_t base_;    // from here on the collector is hurried
  lua_State* L_ = nullptr;
  lua_Hook hook_ = nullptr;
  std::size_t used_ = 0;
  std::size_t enforced_ = kNone;
  std::size_t trigger_;
  std::size_t pressed_at_ = 0;
  std::size_t slack_ = 0;  // added to the ceiling after an error, until something was freed
  std::size_t countdown_ = 0;
  bool failed_ = false;
  bool has_failed_on_purpose_ = false;
  bool is_out_on_purpose_ = false;
  bool refuses_on_purpose_ = false;
};

}  // namespace rille
