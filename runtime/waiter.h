// rille_waiter: the place where one task sleeps while something outside of Lua goes on.
#pragma once

#include "error.h"
#include "scheduler.h"

struct rille_waiter {
  rille::Scheduler* scheduler;  // null once the runtime is closed
  rille::Slot* slot;            // who waits; null when nobody does any more
  void (*on_cancel)(rille_waiter*, void*);
  void* data;
  int (*push)(lua_State*, void*) = nullptr;  // set by the completion
  void* push_data = nullptr;
  std::shared_ptr<rille::Mailbox> mailbox = nullptr;
  static constexpr uint32_t kNowhere = UINT32_MAX;
  uint32_t place = kNowhere;  // in Scheduler::waiters while not completed
  uint32_t wait = 0;          // the slot's, when it was prepared
  bool parked = false;
  bool abandoned = false;
  bool counted = true;  // keeps the loop going

  ~rille_waiter();
};

namespace rille {

// The task gives the wait up: tells the operation, which still has to complete.
void abandon(rille_waiter* w);

// Takes the waiter out of the list of those that are not completed.
void forget(Scheduler* s, rille_waiter* w);

// Completes what other threads have put into the mailbox, and calls what they have posted.
void deliver_letters(Scheduler* s);

// Has `fn` called on the loop's thread. `at_end_too`: also when the runtime is closed before, or
// was closed already: then at once.
void post_letter(const std::shared_ptr<Mailbox>& mailbox, std::function<void()> fn,
                 bool at_end_too);

// Puts a wrapper that raises the error in the place of the waiting C function on top of the stack.
void wrap_waiting(lua_State* L, const char* name);

// The C function that calls a completion's push, in a protected call.
int push_completion(lua_State* L);

}  // namespace rille
