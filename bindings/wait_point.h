// The place at an object where one task at a time waits, again and again: for a connection's next
// request, for a socket's next bytes.
#pragma once

#include <rille/module.h>

#include <utility>

namespace rille {

class WaitPoint {
 public:
  WaitPoint() = default;
  WaitPoint(const WaitPoint&) = delete;
  WaitPoint& operator=(const WaitPoint&) = delete;
  ~WaitPoint() { drop(); }

  bool is_taken() const { return waiter_ != nullptr; }

  // Puts the calling task to sleep: `return point.wait(L, push, object);`. `push` is called with
  // `object` when the task has been woken and resumes, as rille_complete says; with NULL for the
  // state it must not touch the object, which may be gone. REQUIRES: not taken.
  int wait(lua_State* L, int (*push)(lua_State*, void*), void* object) {
    prepare(L, push, object);
    return park(L);
  }

  // The same in two steps, with the start of what is waited for between them: where waiting is
  // impossible, nothing has been started. It may end, and wake, before `park`.
  void prepare(lua_State* L, int (*push)(lua_State*, void*), void* object) {
    push_ = push;
    object_ = object;
    prepared_ = waiter_ = rille_prepare(
        L, [](rille_waiter*, void* self) { static_cast<WaitPoint*>(self)->drop(); }, this);
  }
  int park(lua_State* L) { return rille_park(L, std::exchange(prepared_, nullptr)); }

  // Wakes the task that waits, if there is one.
  void wake() { wake_with(push_); }

  // The same with another outcome.
  void wake_with(int (*push)(lua_State*, void*)) {
    if (waiter_) rille_complete(std::exchange(waiter_, nullptr), push, object_);
  }

 private:
  // Nobody wants to know any more.
  void drop() {
    wake_with([](lua_State*, void*) { return 0; });
  }

  rille_waiter* waiter_ = nullptr;
  rille_waiter* prepared_ = nullptr;  // until `park`, also when it has been completed
  int (*push_)(lua_State*, void*) = nullptr;
  void* object_ = nullptr;
};

}  // namespace rille
