// Opens rille.core.task: the closures over the scheduler's tables, and what is called from C++.
#include "task_lib.h"

#include "waiter.h"

namespace rille {

struct TaskLib::Opening {
  static int drain(lua_State* L) {
    Scheduler* s = self(L);
    if (lua_gettop(L) == 0) {
      s->drain(L);
      return 0;
    }
    lua_settop(L, 0);
    return s->call_hook(L, Scheduler::kDeadlock, 0) ? 1 : 0;
  }

  // hook(which, ...): calls a hook from C++ outside of the loop.
  static int run_hook(lua_State* L) {
    int which = static_cast<int>(lua_tointeger(L, 1));
    lua_rawgeti(L, upvalue(kHooksUpvalue), which);
    lua_replace(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
  }

  static void push_closure(lua_State* L, lua_CFunction f, int state) {
    for (int i = 0; i < kUpvalues; ++i) lua_pushvalue(L, state + i);
    lua_pushcclosure(L, f, kUpvalues);
  }

  // A function that must not run out of memory half-way: with a ceiling, it lifts that while it
  // runs. What it takes is little.
  static int lifted(lua_State* L) {
    Memory* memory = self(L)->limits->memory();
    auto f = reinterpret_cast<lua_CFunction>(lua_touserdata(L, lua_upvalueindex(kUpvalues + 1)));
    Memory::Lifted lifted(memory);
    return f(L);
  }

  static void push_function(lua_State* L, Scheduler* s, lua_CFunction f, int state) {
    if (!s->limits || !s->limits->memory()) {
      push_closure(L, f, state);
      return;
    }
    for (int i = 0; i < kUpvalues; ++i) lua_pushvalue(L, state + i);
    lua_pushlightuserdata(L, reinterpret_cast<void*>(f));
    lua_pushcclosure(L, lifted, kUpvalues + 1);
  }

  // restrained(fn, ...) -> its results: with a ceiling, one for what a script is asked by those for
  // whom there is none.
  static int restrained(lua_State* L) {
    Memory::Enforced enforced(self(L)->limits->memory(), Limits::kReserve);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
  }
};

void Scheduler::open(lua_State* L) {
  using Opening = TaskLib::Opening;
  slow_waits_ = limits && limits->memory();
  lua_newtable(L);
  int lib = lua_gettop(L);
  int state = lib + 1;
  lua_pushlightuserdata(L, this);
  lua_createtable(L, 8, 0);  // state
  lua_newtable(L);           // tasks
  lua_newtable(L);           // threads
  lua_newtable(L);           // hooks
  lua_pushcfunction(L, push_completion);
  lua_newtable(L);
  int transparent = lua_gettop(L);
  for (const luaL_Reg* part : {TaskLib::kSpawningPart, TaskLib::kWaitingPart, TaskLib::kListsPart,
                               TaskLib::kScopesPart, TaskLib::kInspectionPart}) {
    for (const luaL_Reg* r = part; r->name; ++r) {
      Opening::push_function(L, this, r->func, state);
      lua_pushvalue(L, -1);
      lua_pushboolean(L, 1);
      lua_rawset(L, transparent);
      lua_setfield(L, lib, r->name);
    }
  }
  if (limits && limits->memory()) {
    Opening::push_closure(L, Opening::restrained, state);
    lua_setfield(L, lib, "restrained");
  }
  lua_pushvalue(L, transparent);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.transparent");
  lua_setfield(L, lib, "transparent");
  Opening::push_closure(L, Opening::drain, state);
  drain_ref_ = luaL_ref(L, LUA_REGISTRYINDEX);
  Opening::push_closure(L, Opening::run_hook, state);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.hook");
  for (State place : {kSpawned, kBatchLeft, kBatchMost}) {
    lua_pushinteger(L, 0);
    lua_rawseti(L, state + 1, place);
  }
  for (State place : {kCurrent, kScopesInside, kBatchOpen}) {
    lua_pushboolean(L, 0);
    lua_rawseti(L, state + 1, place);
  }
  lua_newtable(L);
  lua_rawseti(L, state + 1, kLists);
  lua_pushvalue(L, state + 1);
  state_ref_ = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, state + 2);
  tasks_ref_ = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, state + 4);
  hooks_ref_ = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_pushvalue(L, state + 1);
  lua_setfield(L, lib, "state_table");
  lua_pushvalue(L, state + 2);
  lua_setfield(L, lib, "tasks");
  lua_pushvalue(L, state + 4);
  lua_setfield(L, lib, "hooks");
  lua_pushlightuserdata(L, this);
  lua_setfield(L, lib, "PARKED");
  lua_settop(L, lib);
}

}  // namespace rille
