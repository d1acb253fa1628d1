// rille.core.task, the scheduler's Lua face, for stdlib/core alone. Functions that wait return an
// error first: nothing or nil when the wait ended well, true when a cancellation interrupted it, 1
// when one was pending so that it never began, else the error value to raise.
#pragma once

#include "scheduler.h"
#include "script_limits.h"
#include "upvalues.h"

namespace rille {

// A friend of the scheduler's. The functions are those of its parts, each in a file of its own;
// here is what several of them use.
struct TaskLib {
  struct Spawning;
  struct Waiting;
  struct Lists;
  struct Scopes;
  struct Inspection;
  struct Opening;

  // What the parts add to rille.core.task.
  static const luaL_Reg kSpawningPart[];
  static const luaL_Reg kWaitingPart[];
  static const luaL_Reg kListsPart[];
  static const luaL_Reg kScopesPart[];
  static const luaL_Reg kInspectionPart[];

  static Scheduler* self(lua_State* L) {
    return static_cast<Scheduler*>(lua_touserdata(L, upvalue(kSchedulerUpvalue)));
  }

  static double scope_id(const Scope* s) { return s->generation * kTicketBase + s->index; }

  // The slot with the index that is the first argument, or null. The index may come from a table
  // of which a script has changed something.
  static Slot* slot_at(lua_State* L, Scheduler* s) {
    auto index = static_cast<uint32_t>(lua_tointeger(L, 1));
    return s->slots_.contains(index) ? s->slot(index) : nullptr;
  }

  // Moves the values from the stack index `from` on to the task, as the results of its wait.
  static void hand_over(lua_State* L, Slot* k, int from) {
    int n = lua_gettop(L) - from + 1;
    if (n <= 0) return;
    lua_checkstack(k->co, n + 1);
    lua_pushnil(k->co);
    lua_xmove(L, k->co, n);
    k->values = static_cast<uint16_t>(n + 1);
  }

  // For functions of which a script may keep what they make.
  static void check_memory(lua_State* L, Scheduler* s) {
    if (s->limits && s->limits->memory() && s->limits->memory()->is_over()) {
      raise_out_of_memory(L);
    }
  }
};

}  // namespace rille
