// What the scheduler keeps of a task that is not done: its slot, its scopes, where it waits.
#pragma once

#include <rille/module.h>

#include <cstdint>
#include <lua.hpp>

namespace rille {

class Scheduler;
struct WaitList;

// Tickets of waits and ids of scopes are doubles: 31 bits for the wait's number or the scope's
// generation, 22 for the index.
constexpr double kTicketBase = 4194304;

// Something inside a task that can be cancelled on its own (a timeout, a group), or a shield that
// hides the cancellations outside of it while clean-up runs. The task itself is the outermost
// scope and lives in its Slot.
struct Scope {
  enum Kind : uint8_t { kTimeout = 1, kGroup = 2, kShield = 3 };
  Scope* outer = nullptr;
  lua_State* co = nullptr;  // the coroutine it was opened in: a script's own may be left suspended
  double deadline = 0;      // 0: none
  uint32_t index = 0;
  uint32_t generation = 0;
  uint32_t slot = 0;
  uint32_t timer = 0;  // number of its armed timer
  Kind kind = kTimeout;
  bool cancelled = false;
  bool acknowledged = false;
};

// A task that is not done, or a scheduled callback. Its Task object (or handle) is
// tasks[index] on the Lua side.
struct Slot {
  enum State : uint8_t { kFree, kFresh, kReady, kRunning, kParked, kCallback };
  enum Flag : uint8_t {
    kPending = 1,       // a cancellation is visible: the next wait raises it
    kSleeping = 2,      // ready or parked in a sleep, which is never a hand-over
    kCancelled = 4,     // the task itself is cancelled,
    kAcknowledged = 8,  // ... and has decided to live on
    kHeld = 16,         // something was handed over, the wake-up follows: not interruptible
    kUnarmed = 32,      // a timeout around the task has no timer yet
    kDead = 64,         // a callback taken back while it stood in the ready queue
  };
  lua_State* co = nullptr;  // null until the first step
  Scope* scope = nullptr;   // innermost
  rille_waiter* waiter = nullptr;
  WaitList* list = nullptr;  // where it waits, in order
  uint32_t next = 0;
  uint32_t prev = 0;
  uint32_t index = 0;
  uint32_t wait = 0;    // names the current wait, so that a stale wake-up finds nobody
  uint32_t timer = 0;   // number of its armed timer
  int32_t thread = 0;   // where the coroutine is anchored
  uint16_t values = 0;  // pushed on `co`, to be the results of its wait
  State state = kFree;
  uint8_t flags = 0;
};

// Tasks that wait, first come, first served. Lives in a userdata.
struct WaitList {
  explicit WaitList(Scheduler* s) : scheduler(s) {}
  static constexpr char kTag = 0;
  const char* tag = &kTag;  // scripts can put any other userdata in its place
  Scheduler* scheduler;     // got at faster than through an upvalue
  uint32_t head = 0;
  uint32_t tail = 0;
};

}  // namespace rille
