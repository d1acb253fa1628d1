// rille.core.task: what reports, statistics and debug mode see and set of the scheduler.
#include "task_lib.h"

namespace rille {

struct TaskLib::Inspection {
  static int time(lua_State* L) {
    lua_pushnumber(L, now());
    return 1;
  }

  static int stop(lua_State* L) {
    self(L)->stop();
    return 0;
  }

  // set_debug(on), set_slow_limit(seconds), probe(on)
  static int set_debug(lua_State* L) {
    Scheduler* s = self(L);
    s->debug_ = lua_toboolean(L, 1);
    s->step_start_ = s->debug_ ? now() : 0;
    return 0;
  }

  static int set_slow_limit(lua_State* L) {
    self(L)->slow_limit_ = lua_tonumber(L, 1);
    return 0;
  }

  static int probe(lua_State* L) {
    Scheduler* s = self(L);
    s->probe_ = lua_toboolean(L, 1);
    s->slow_waits_ = s->probe_ || (s->limits && s->limits->memory());
    s->waits_ = 0;
    return 0;
  }

  // state(index) -> "ready", "running", "parked"; its coroutine; whether it sleeps; whether it
  // waits for something outside of Lua
  static int state(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = slot_at(L, s);
    if (!k) return 0;
    static const char* const kNames[] = {"free", "fresh", "ready", "running", "parked", "callback"};
    lua_pushstring(L, kNames[k->state]);
    if (!k->co) return 1;
    lua_rawgeti(L, upvalue(kThreadsUpvalue), k->thread);
    lua_pushboolean(L, (k->flags & Slot::kSleeping) != 0);
    lua_pushboolean(L, k->waiter != nullptr);
    return 4;
  }

  // count() -> how many indices may be in use.
  static int count(lua_State* L) {
    uint32_t size = self(L)->slots_.size();  // 0 before the first task
    lua_pushinteger(L, size > 0 ? size - 1 : 0);
    return 1;
  }

  // What somebody has opened: sockets and pipes whatever they do, and all else that holds the loop.
  static bool counts(uv_handle_t* h) {
    if (uv_is_closing(h)) return false;
    switch (uv_handle_get_type(h)) {
      case UV_TCP:
      case UV_NAMED_PIPE:
      case UV_TTY:
      case UV_UDP:
        return true;
      case UV_POLL:
        return uv_has_ref(h);
      default:
        return uv_is_active(h) && uv_has_ref(h);
    }
  }

  // stats() -> tasks, live timers, open handles, abandoned operations, threads of a pool at most,
  // jobs that wait for one
  static int stats(lua_State* L) {
    Scheduler* s = self(L);
    int tasks = 0;
    for (uint32_t i = 1; i < s->slots_.size(); ++i) tasks += s->slot(i)->co != nullptr;
    lua_pushinteger(L, tasks);
    lua_pushinteger(L, static_cast<lua_Integer>(s->heap_.size() - s->stale_));
    int handles = 0;
    uv_walk(
        s->loop_,
        [](uv_handle_t* h, void* n) {
          if (counts(h)) ++*static_cast<int*>(n);
        },
        &handles);
    if (s->timer_active_) --handles;
    if (s->attached_ > 0) --handles;  // the mailbox
    if (s->pools->outstanding() > 0) --handles;
    lua_pushinteger(L, handles);
    lua_pushinteger(L, s->abandoned_);
    lua_pushinteger(L, s->pools->size());
    lua_pushinteger(L, s->pools->queued());
    return 6;
  }

  // is_task(co) -> true, if `co` is the coroutine of a task: one whose outermost function is the
  // body that all tasks have.
  static int is_task(lua_State* L) {
    lua_State* co = lua_tothread(L, 1);
    if (!co) return 0;
    lua_Debug ar, outermost;
    int level = 0;
    while (lua_getstack(co, level, &ar)) {
      outermost = ar;
      ++level;
    }
    if (level == 0) return 0;
    lua_getinfo(co, "f", &outermost);
    lua_xmove(co, L, 1);
    lua_rawgeti(L, upvalue(kHooksUpvalue), Scheduler::kBody);
    lua_pushboolean(L, lua_rawequal(L, -1, -2));
    return 1;
  }

  // is_root(co) -> true, if `co` is the running task's own coroutine.
  static int is_root(lua_State* L) {
    Scheduler* s = self(L);
    lua_pushboolean(L, s->current_ && s->current_->co == L);
    return 1;
  }

  // site(level [, f]) -> function, line, depth: where the function at that level stands, or the one
  // that called the innermost activation of `f`.
  static int site(lua_State* L) {
    lua_Debug ar;
    int level = static_cast<int>(lua_tointeger(L, 1));
    if (lua_isfunction(L, 2)) {
      for (level = 1; lua_getstack(L, level, &ar); ++level) {
        lua_getinfo(L, "f", &ar);
        bool found = lua_rawequal(L, -1, 2);
        lua_pop(L, 1);
        if (found) break;
      }
      ++level;
    }
    if (!lua_getstack(L, level, &ar)) return 0;
    lua_getinfo(L, "fl", &ar);
    lua_pushinteger(L, ar.currentline);
    int depth = 1;
    while (lua_getstack(L, level + depth, &ar)) ++depth;
    lua_pushinteger(L, depth);
    return 3;
  }
};

const luaL_Reg TaskLib::kInspectionPart[] = {
    {"time", Inspection::time},           {"stop", Inspection::stop},
    {"set_debug", Inspection::set_debug}, {"set_slow_limit", Inspection::set_slow_limit},
    {"probe", Inspection::probe},         {"state", Inspection::state},
    {"count", Inspection::count},         {"stats", Inspection::stats},
    {"is_task", Inspection::is_task},     {"is_root", Inspection::is_root},
    {"site", Inspection::site},           {nullptr, nullptr}};

}  // namespace rille
