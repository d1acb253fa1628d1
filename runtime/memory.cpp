#include "memory.h"

#include <cstdlib>

namespace rille {

void* Memory::allocate(void* self, void* old, std::size_t old_size, std::size_t size) {
  auto* memory = static_cast<Memory*>(self);
  if (size == 0) {
    std::free(old);
    memory->used_ -= old_size;
    if (memory->used_ + memory->limit_ / 16 < memory->pressed_at_) memory->relax();
    return nullptr;
  }
  if (size > old_size && memory->refuses(size - old_size)) return nullptr;
  void* block = std::realloc(old, size);
  if (!block) return nullptr;
  memory->used_ = memory->used_ - old_size + size;
  if (memory->used_ > memory->trigger_) memory->press();
  return block;
}

bool Memory::refuses(std::size_t more) {
  if (enforced_ == kNone) return false;
  if (used_ < limit_ / 16 * 15) slack_ = 0;
  std::size_t ceiling = enforced_ + slack_;
  bool on_purpose = countdown_ > 0 && --countdown_ == 0;
  bool over = used_ + more > ceiling || on_purpose;
  if (!over) return false;
  if (!failed_ && L_) lua_sethook(L_, hook_, LUA_MASKCOUNT, 1);
  failed_ = true;
  has_failed_on_purpose_ |= on_purpose;
  is_out_on_purpose_ |= on_purpose;
  bool refused = used_ + more > ceiling + margin_ || (on_purpose && refuses_on_purpose_);
  if (refused) slack_ = kSlack;
  return refused;
}

// LuaJIT collects when the heap has doubled, and does not when an allocation fails. So that garbage
// does not make a script fail, a cycle begins early where memory becomes short. This only sets the
// collector's threshold: the work is done at its next step.
void Memory::press() {
  constexpr std::size_t kLeast = 64 << 10;
  pressed_at_ = used_;
  trigger_ = used_ + std::max(kLeast, used_ < limit_ ? (limit_ - used_) / 2 : kLeast);
  if (L_) lua_gc(L_, LUA_GCRESTART, 0);
}

// Much was freed since.
void Memory::relax() {
  pressed_at_ = used_;
  trigger_ = std::max(base_, used_ < limit_ ? used_ + (limit_ - used_) / 2 : used_);
}

}  // namespace rille
