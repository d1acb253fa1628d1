// What is cancelled, and who notices: the scopes of a task, innermost first.
#include "scheduler.h"

namespace rille {

// The outermost cancellation that is not acknowledged and not hidden by a shield.
Scope* Scheduler::visible_cancel(Slot* k, bool* root) {
  Scope* found = nullptr;
  *root = false;
  for (Scope* s = k->scope; s; s = s->outer) {
    if (s->kind == Scope::kShield) return found;
    if (s->cancelled && !s->acknowledged) found = s;
  }
  *root = (k->flags & (Slot::kCancelled | Slot::kAcknowledged)) == Slot::kCancelled;
  return *root ? nullptr : found;
}

void Scheduler::update_pending(Slot* k) {
  bool root;
  if (visible_cancel(k, &root) || root) {
    k->flags |= Slot::kPending;
    if (k->state == Slot::kParked && !(k->flags & Slot::kHeld)) {
      interrupt(k);
    } else if (k->state == Slot::kReady && (k->flags & Slot::kSleeping) && k->values == 0) {
      lua_pushboolean(k->co, 1);
      k->values = 1;
    }
  } else {
    k->flags &= ~Slot::kPending;
  }
}

// Ends the wait of a parked task because of a cancellation.
void Scheduler::interrupt(Slot* k) {
  if (take_letters(k)) return;
  detach(k);
  lua_pushboolean(k->co, 1);
  k->values = 1;
  k->state = Slot::kReady;
  make_ready(k);
}

Scope* Scheduler::find_scope(double id) {
  auto n = static_cast<uint64_t>(id);
  auto index = static_cast<uint32_t>(n & (static_cast<uint64_t>(kTicketBase) - 1));
  if (!scopes_.contains(index)) return nullptr;
  Scope* s = scopes_.at(index);
  return s->generation == (n >> 22) && s->slot ? s : nullptr;
}

void Scheduler::drop_scope(Scope* s) {
  disarm(&s->timer);
  s->slot = 0;
  s->generation = (s->generation + 1) & 0x7fffffffu;
  scopes_.give_back(s);
}

}  // namespace rille
