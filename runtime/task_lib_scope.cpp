// rille.core.task: timeouts, groups and shields, and what is cancelled.
#include "task_lib.h"

namespace rille {

struct TaskLib::Scopes {
  // 0 stands for "none".
  static double as_deadline(double when) { return when == 0 ? -1 : when; }

  // enter(kind [, seconds [, deadline]]) -> id, or nothing outside of a task.
  static int enter(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = s->current_;
    if (!k) return 0;
    check_memory(L, s);
    // What follows in Lua, up to the protected call, must not run out of stack.
    luaL_checkstack(L, 60, "stack overflow");
    Scope* scope = s->scopes_.take();
    scope->kind = static_cast<Scope::Kind>(lua_tointeger(L, 1));
    scope->outer = k->scope;
    scope->co = L;
    scope->slot = k->index;
    scope->cancelled = scope->acknowledged = false;
    if (L != k->co) {  // tells stdlib/core/coroutine.lua that it has to look
      lua_pushboolean(L, 1);
      lua_rawseti(L, upvalue(kStateUpvalue), kScopesInside);
    }
    scope->deadline = 0;
    if (lua_type(L, 2) == LUA_TNUMBER) {
      scope->deadline = as_deadline(now() + lua_tonumber(L, 2));
    } else if (lua_type(L, 3) == LUA_TNUMBER) {
      scope->deadline = as_deadline(lua_tonumber(L, 3));
    }
    if (scope->deadline != 0) k->flags |= Slot::kUnarmed;
    k->scope = scope;
    if (scope->kind == Scope::kShield) k->flags &= ~Slot::kPending;
    lua_pushnumber(L, scope_id(scope));
    return 1;
  }

  // leave(id) -> true if the scope was cancelled.
  static int leave(lua_State* L) {
    Scheduler* s = self(L);
    Scope* scope = s->find_scope(lua_tonumber(L, 1));
    if (!scope) return 0;
    Slot* k = s->slot(scope->slot);
    Scope** link = &k->scope;
    while (*link && *link != scope) link = &(*link)->outer;
    if (*link) *link = scope->outer;
    bool cancelled = scope->cancelled;
    bool matters = cancelled || scope->kind == Scope::kShield;
    s->drop_scope(scope);
    if (matters) s->update_pending(k);
    lua_pushboolean(L, cancelled);
    return 1;
  }

  // cancel_scope(id) -> true if it is alive and was not cancelled before.
  static int cancel_scope(lua_State* L) {
    Scheduler* s = self(L);
    Scope* scope = s->find_scope(lua_tonumber(L, 1));
    bool first = scope && !scope->cancelled;
    if (first) {
      scope->cancelled = true;
      s->disarm(&scope->timer);
      s->update_pending(s->slot(scope->slot));
    }
    lua_pushboolean(L, first);
    return 1;
  }

  // cancel_task(index): cancels a task as a whole; a later call, after it was acknowledged, does so
  // afresh. True if something was just handed over to the task: it gets that first.
  static int cancel_task(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = slot_at(L, s);
    if (!k || !k->co) return 0;
    k->flags |= Slot::kCancelled;
    k->flags &= ~Slot::kAcknowledged;
    s->take_letters(k);
    bool handed =
        (k->state == Slot::kReady && !(k->flags & Slot::kSleeping)) || (k->flags & Slot::kHeld);
    s->update_pending(k);
    lua_pushboolean(L, handed);
    return 1;
  }

  // acknowledge(id, yes): the running task's cancellation of that scope (0: the task itself) does
  // not come up again; with false it does.
  static int acknowledge(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = s->current_;
    bool yes = lua_toboolean(L, 2);
    if (lua_tonumber(L, 1) == 0) {
      if (yes) {
        k->flags |= Slot::kAcknowledged;
      } else {
        k->flags &= ~Slot::kAcknowledged;
      }
    } else if (Scope* scope = s->find_scope(lua_tonumber(L, 1))) {
      scope->acknowledged = yes;
    }
    s->update_pending(k);
    return 0;
  }

  // pending([index]) -> id of the cancellation that the next wait raises (0: the task's own); of
  // the running task, or of another.
  static int pending(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = lua_isnoneornil(L, 1) ? s->current_ : slot_at(L, s);
    if (!k) return 0;
    bool root;
    Scope* scope = s->visible_cancel(k, &root);
    if (!root && !scope) return 0;
    lua_pushnumber(L, root ? 0 : scope_id(scope));
    return 1;
  }

  // owns(id) -> true if that scope is one of the running task's.
  static int owns(lua_State* L) {
    Scheduler* s = self(L);
    Scope* scope = s->find_scope(lua_tonumber(L, 1));
    lua_pushboolean(L, scope && s->current_ && scope->slot == s->current_->index);
    return 1;
  }

  // is_cancelled(id) -> true if that scope is alive and cancelled.
  static int is_cancelled(lua_State* L) {
    Scope* scope = self(L)->find_scope(lua_tonumber(L, 1));
    lua_pushboolean(L, scope && scope->cancelled);
    return 1;
  }

  // deadline(id) -> seconds or nil.
  static int deadline(lua_State* L) {
    Scope* scope = self(L)->find_scope(lua_tonumber(L, 1));
    if (!scope || scope->deadline == 0) return 0;
    lua_pushnumber(L, scope->deadline);
    return 1;
  }

  // reschedule(id, deadline or nil)
  static int reschedule(lua_State* L) {
    Scheduler* s = self(L);
    Scope* scope = s->find_scope(lua_tonumber(L, 1));
    if (!scope) return 0;
    s->disarm(&scope->timer);
    scope->deadline = lua_isnoneornil(L, 2) ? 0 : as_deadline(lua_tonumber(L, 2));
    if (scope->deadline != 0 && !scope->cancelled) s->arm_scope(scope);
    return 0;
  }

  // suspend_scopes(co) -> ids...: a coroutine of the script's own has yielded to its consumer, who
  // is not inside the timeouts and groups opened in it. resume_scopes(co) brings them back.
  static int suspend_scopes(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = s->current_;
    lua_State* co = lua_tothread(L, 1);
    if (!k) return 0;
    int top = lua_gettop(L);
    for (Scope** link = &k->scope; *link;) {
      Scope* scope = *link;
      if (scope->co != co) {
        link = &scope->outer;
        continue;
      }
      *link = scope->outer;
      s->disarm(&scope->timer);
      luaL_checkstack(L, 1, "scopes");
      lua_pushnumber(L, scope_id(scope));
    }
    if (lua_gettop(L) > top) s->update_pending(k);
    return lua_gettop(L) - top;
  }

  // resume_scopes(ids...), outermost last as suspend_scopes gave them.
  static int resume_scopes(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = s->current_;
    for (int i = lua_gettop(L); i >= 1; --i) {
      Scope* scope = s->find_scope(lua_tonumber(L, i));
      if (!scope || !k) continue;
      scope->slot = k->index;
      scope->outer = k->scope;
      k->scope = scope;
      if (scope->deadline != 0) k->flags |= Slot::kUnarmed;
    }
    if (k) s->update_pending(k);
    return 0;
  }

  // drop_scopes(ids...): the coroutine they were opened in will never go on.
  static int drop_scopes(lua_State* L) {
    Scheduler* s = self(L);
    for (int i = 1; i <= lua_gettop(L); ++i) {
      if (Scope* scope = s->find_scope(lua_tonumber(L, i))) s->drop_scope(scope);
    }
    return 0;
  }
};

const luaL_Reg TaskLib::kScopesPart[] = {{"enter", Scopes::enter},
                                         {"leave", Scopes::leave},
                                         {"cancel_scope", Scopes::cancel_scope},
                                         {"cancel_task", Scopes::cancel_task},
                                         {"acknowledge", Scopes::acknowledge},
                                         {"pending", Scopes::pending},
                                         {"owns", Scopes::owns},
                                         {"is_cancelled", Scopes::is_cancelled},
                                         {"deadline", Scopes::deadline},
                                         {"reschedule", Scopes::reschedule},
                                         {"suspend_scopes", Scopes::suspend_scopes},
                                         {"resume_scopes", Scopes::resume_scopes},
                                         {"drop_scopes", Scopes::drop_scopes},
                                         {nullptr, nullptr}};

}  // namespace rille
