// The memory of one interpreter, counted and kept under a ceiling.
#pragma once

#include <cstddef>
#include <lua.hpp>

namespace rille {

// The ceiling holds while a script runs, where running out is an error that it can catch. What the
// scheduler does between scripts is little, and must not fail.
class Memory {
 public:
  explicit Memory(std::size_t limit) : limit_(limit), base_(limit / 4 * 3), trigger_(base_) {}

  // lua_Alloc.
  static void* allocate(void* self, void* old, std::size_t old_size, std::size_t size);

  // `hook` is called soon after an allocation was refused, when garbage can be collected.
  void attach(lua_State* L, lua_Hook hook) {
    L_ = L;
    hook_ = hook;
  }
  std::size_t used() const { return used_; }
  std::size_t limit() const { return limit_; }
  bool is_over() const { return used_ > limit_; }

  // True once after an allocation was refused: garbage is to be collected, now that it can be.
  bool take_failure() {
    bool failed = failed_;
    failed_ = false;
    return failed;
  }

  // For tests: the allocation after `count` others fails, once; 0: none.
  void fail_after(std::size_t count) {
    has_failed_on_purpose_ = false;
    countdown_ = count;
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

  bool refuses(std::size_t more);
  void press();
  void relax();

  const std::size_t limit_;
  const std::size_t base_;  // from here on the collector is hurried
  lua_State* L_ = nullptr;
  lua_Hook hook_ = nullptr;
  std::size_t used_ = 0;
  std::size_t enforced_ = kNone;
  std::size_t trigger_;
  std::size_t pressed_at_ = 0;
  std::size_t slack_ = 0;  // on top, after a failure, until something was freed
  std::size_t countdown_ = 0;
  bool failed_ = false;
  bool has_failed_on_purpose_ = false;
};

}  // namespace rille
