// rille.core.task: lists of tasks that wait in order, for locks, queues and the like.
#include "task_lib.h"

namespace rille {

struct TaskLib::Lists {
  static int wait_list(lua_State* L) {
    Scheduler* s = self(L);
    check_memory(L, s);
    new (lua_newuserdata(L, sizeof(WaitList))) WaitList(s);
    return 1;
  }

  static WaitList* list(lua_State* L, int index) {
    void* memory = lua_touserdata(L, index);
    if (memory && lua_objlen(L, index) == sizeof(WaitList)) {
      auto* l = static_cast<WaitList*>(memory);
      if (l->tag == &WaitList::kTag) return l;
    }
    luaL_argerror(L, index, "not a list of waiting tasks");
    return nullptr;
  }

  // The list must live as long as the task stands in it, whatever scripts do to the table that has
  // it: the slot keeps it.
  static void keep(lua_State* L, int index, const Slot* k) {
    lua_rawgeti(L, upvalue(kStateUpvalue), kLists);
    lua_pushvalue(L, index);
    lua_rawseti(L, -2, static_cast<int>(k->index));
    lua_pop(L, 1);
  }

  // wait(list): sleeps until it is the first in the list and somebody wakes it.
  static int wait(lua_State* L) {
    WaitList* l = list(L, 1);
    Scheduler* s = l->scheduler;
    if (int n = s->prepare_wait(L)) return n;
    Slot* k = s->current_;
    if (L != k->co) {
      keep(L, 1, k);
      s->append(l, k);
      k->state = Slot::kParked;
      return s->park(L, k);
    }
    s->append(l, k);
    k->state = Slot::kParked;
    return s->park_with(L, k);
  }

  // wake_one(list, ...) -> true, if somebody waited: hands the values over.
  static int wake_one(lua_State* L) {
    WaitList* l = list(L, 1);
    if (l->head == 0) {
      lua_pushboolean(L, 0);
      return 1;
    }
    Scheduler* s = l->scheduler;
    Slot* k = s->slot(l->head);
    s->unlink(k);
    hand_over(L, k, 2);
    s->wake(k);
    lua_pushboolean(L, 1);
    return 1;
  }

  // wake_all(list) -> how many.
  static int wake_all(lua_State* L) {
    WaitList* l = list(L, 1);
    Scheduler* s = l->scheduler;
    int n = 0;
    for (; l->head; ++n) {
      Slot* k = s->slot(l->head);
      s->unlink(k);
      s->wake(k);
    }
    lua_pushinteger(L, n);
    return 1;
  }

  // throw_all(list, error) -> how many: ends all waits with an error.
  static int throw_all(lua_State* L) {
    WaitList* l = list(L, 1);
    Scheduler* s = l->scheduler;
    int n = 0;
    for (; l->head; ++n) {
      Slot* k = s->slot(l->head);
      s->unlink(k);
      lua_pushvalue(L, 2);
      lua_xmove(L, k->co, 1);
      k->values = 1;
      s->wake(k);
    }
    lua_pushinteger(L, n);
    return 1;
  }

  // requeue(from, to) -> true, if somebody waited: the first in one list becomes the last of
  // another. It has been notified, so from here on nothing interrupts it.
  static int requeue(lua_State* L) {
    WaitList* from = list(L, 1);
    WaitList* to = list(L, 2);
    if (from->head == 0) {
      lua_pushboolean(L, 0);
      return 1;
    }
    Scheduler* s = from->scheduler;
    Slot* k = s->slot(from->head);
    s->unlink(k);
    keep(L, 2, k);
    s->append(to, k);
    k->flags |= Slot::kHeld;
    lua_pushboolean(L, 1);
    return 1;
  }

  // pass_on(list) -> the Task that has waited longest, woken.
  static int pass_on(lua_State* L) {
    WaitList* l = list(L, 1);
    if (l->head == 0) return 0;
    Scheduler* s = l->scheduler;
    Slot* k = s->slot(l->head);
    s->unlink(k);
    s->wake(k);
    lua_rawgeti(L, upvalue(kTasksUpvalue), static_cast<int>(k->index));
    return 1;
  }
};

const luaL_Reg TaskLib::kListsPart[] = {
    {"WaitList", Lists::wait_list},  {"wait", Lists::wait},
    {"wake_one", Lists::wake_one},   {"wake_all", Lists::wake_all},
    {"throw_all", Lists::throw_all}, {"requeue", Lists::requeue},
    {"pass_on", Lists::pass_on},     {nullptr, nullptr}};

}  // namespace rille
