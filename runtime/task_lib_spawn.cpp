// rille.core.task: how tasks and callbacks begin.
#include <cstring>

#include "task_lib.h"

namespace rille {

struct TaskLib::Spawning {
  static Slot* new_slot(lua_State* L, Scheduler* s, int object) {
    Slot* k = s->slots_.take();
    lua_pushvalue(L, object);
    lua_rawseti(L, upvalue(kTasksUpvalue), static_cast<int>(k->index));
    return k;
  }

  // show_current() -> index of the running task, which state[kCurrent] is as well for a while.
  static int show_current(lua_State* L) {
    Scheduler* s = self(L);
    constexpr int kSwitches = 256;
    s->shown_ = kSwitches;
    s->show_current(L, true);
    lua_rawgeti(L, upvalue(kStateUpvalue), kCurrent);
    return 1;
  }

  // open_batch(): the tasks that are spawned from now on form a batch at the end of the ready
  // queue.
  static int open_batch(lua_State* L) {
    Scheduler* s = self(L);
    if (!s->batch_open_) s->open_batch(L);
    return 0;
  }

  // spawn_eager(task) -> true: takes the first step at once, nested in the running task. False if
  // too many are nested already.
  static int spawn_eager(lua_State* L) {
    Scheduler* s = self(L);
    constexpr int kDeepest = 100;  // each level nests C frames
    if (s->depth_ >= kDeepest) return 0;
    check_memory(L, s);
    Slot* k = new_slot(L, s, 1);
    k->state = Slot::kFresh;
    s->attach(L, k);
    lua_rawgeti(L, upvalue(kHooksUpvalue), Scheduler::kEager);
    lua_pushvalue(L, 1);
    lua_xmove(L, k->co, 2);
    // Nested in a batch, it must not go on with that.
    lua_rawgeti(L, upvalue(kStateUpvalue), kBatchMost);
    lua_pushinteger(L, 0);
    lua_rawseti(L, upvalue(kStateUpvalue), kBatchMost);
    Slot* outer = s->current_;
    ++s->depth_;
    s->resume(L, k, 1);
    lua_rawseti(L, upvalue(kStateUpvalue), kBatchMost);
    --s->depth_;
    s->set_current(L, outer);
    lua_pushboolean(L, 1);
    return 1;
  }

  // made_at() -> { function, line } of the innermost caller that is not the runtime's own.
  static int made_at(lua_State* L) {
    lua_Debug ar;
    for (int level = 3; lua_getstack(L, level, &ar); ++level) {
      lua_getinfo(L, "S", &ar);
      if (std::strncmp(ar.source, "=rille/", 7) == 0 || *ar.what == 'C') continue;
      lua_createtable(L, 2, 0);
      lua_getinfo(L, "fl", &ar);
      lua_rawseti(L, -2, 1);
      lua_pushinteger(L, ar.currentline);
      lua_rawseti(L, -2, 2);
      return 1;
    }
    return 0;
  }

  // call(handle [, when]) -> index: schedules hooks.call(handle), soon or at a time.
  static int call(lua_State* L) {
    Scheduler* s = self(L);
    check_memory(L, s);
    Slot* k = new_slot(L, s, 1);
    k->state = Slot::kCallback;
    if (lua_isnoneornil(L, 2)) {
      s->make_ready(k);
    } else {
      s->arm(k->index, lua_tonumber(L, 2), &k->timer);
    }
    lua_pushinteger(L, k->index);
    return 1;
  }

  // uncall(index): takes a callback back.
  static int uncall(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = slot_at(L, s);
    if (!k || k->state != Slot::kCallback) return 0;
    if (k->timer) {
      s->release(L, k);
    } else {
      k->flags |= Slot::kDead;
    }
    return 0;
  }
};

const luaL_Reg TaskLib::kSpawningPart[] = {{"show_current", Spawning::show_current},
                                           {"open_batch", Spawning::open_batch},
                                           {"spawn_eager", Spawning::spawn_eager},
                                           {"made_at", Spawning::made_at},
                                           {"call", Spawning::call},
                                           {"uncall", Spawning::uncall},
                                           {nullptr, nullptr}};

}  // namespace rille
