// How the waits of tasks begin, by name or in a list, and how they end.
#include <utility>

#include "scheduler.h"
#include "script_limits.h"
#include "waiter.h"

namespace rille {

int Scheduler::prepare_slowly(lua_State* L) {
  Slot* k = current_;
  if (!can_wait(L, k)) {
    refuse(L);
    return 1;
  }
  // A ceiling of memory does not hold while a task is started, so that many who only wait could
  // go over it.
  if (Memory* memory = limits ? limits->memory() : nullptr; memory && memory->is_over()) {
    limits->collect(L);
    if (memory->is_over()) {
      lua_pushliteral(L, "not enough memory");
      return 1;
    }
  }
  if (probe_) {
    // Not by upvalues: the running C function may be a module's.
    lua_rawgeti(L, LUA_REGISTRYINDEX, tasks_ref_);
    lua_rawgeti(L, LUA_REGISTRYINDEX, hooks_ref_);
    lua_rawgeti(L, -1, kProbe);
    lua_rawgeti(L, -3, static_cast<int>(k->index));
    lua_pushnumber(L, static_cast<lua_Number>(++waits_));
    lua_call(L, 2, 0);
    lua_pop(L, 2);
  }
  if (k->flags & Slot::kPending) {
    lua_pushinteger(L, 1);
    return 1;
  }
  next_wait(k);
  return 0;
}

void Scheduler::wake(Slot* k) {
  disarm(&k->timer);
  k->state = Slot::kReady;
  make_ready(k);
}

void Scheduler::detach(Slot* k) {
  if (k->list) unlink(k);
  disarm(&k->timer);
  if (rille_waiter* w = std::exchange(k->waiter, nullptr)) abandon(w);
}

// What another thread has handed over by now counts: the task is woken by that. True if it was.
bool Scheduler::take_letters(Slot* k) {
  if (k->state != Slot::kParked || !k->waiter) return false;
  deliver_letters(this);
  return k->state != Slot::kParked;
}

void Scheduler::append(WaitList* list, Slot* k) {
  k->list = list;
  k->next = 0;
  k->prev = list->tail;
  if (list->tail) {
    slot(list->tail)->next = k->index;
  } else {
    list->head = k->index;
  }
  list->tail = k->index;
}

void Scheduler::unlink(Slot* k) {
  WaitList* list = k->list;
  if (k->prev) {
    slot(k->prev)->next = k->next;
  } else {
    list->head = k->next;
  }
  if (k->next) {
    slot(k->next)->prev = k->prev;
  } else {
    list->tail = k->prev;
  }
  k->list = nullptr;
}

double Scheduler::ticket(const Slot* k) const { return k->wait * kTicketBase + k->index; }

Slot* Scheduler::find(double ticket) {
  auto n = static_cast<uint64_t>(ticket);
  auto index = static_cast<uint32_t>(n & (static_cast<uint64_t>(kTicketBase) - 1));
  if (!slots_.contains(index)) return nullptr;
  Slot* k = slot(index);
  // Tickets are for waits that nothing else ends; scripts can get at tables with tickets in them.
  bool found = k->wait == (n >> 22) && k->state == Slot::kParked && !k->waiter && !k->list;
  return found ? k : nullptr;
}

}  // namespace rille
