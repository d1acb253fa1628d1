// rille.core.task: the scheduler's Lua face, for stdlib/core alone. Functions that wait return an
// error first: nothing or nil when the wait ended well, true when a cancellation interrupted it, 1
// when one was pending so that it never began, else the error value to raise.
#include <cmath>
#include <cstring>

#include "scheduler.h"
#include "script_limits.h"
#include "upvalues.h"
#include "waiter.h"

namespace rille {

struct TaskLib {
  static Scheduler* self(lua_State* L) {
    return static_cast<Scheduler*>(lua_touserdata(L, upvalue(kSchedulerUpvalue)));
  }

  static double scope_id(const Scope* s) { return s->generation * 4194304.0 + s->index; }

  // The slot with the index that is the first argument, or null. The index may come from a table
  // of which a script has changed something.
  static Slot* slot_at(lua_State* L, Scheduler* s) {
    auto index = static_cast<uint32_t>(lua_tointeger(L, 1));
    return s->slots_.contains(index) ? s->slot(index) : nullptr;
  }

  // ---- tasks -----------------------------------------------------------------------------------

  static Slot* new_slot(lua_State* L, Scheduler* s, int object) {
    Slot* k = s->slots_.take();
    lua_pushvalue(L, object);
    lua_rawseti(L, upvalue(kTasksUpvalue), static_cast<int>(k->index));
    return k;
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

  // ---- waiting ---------------------------------------------------------------------------------

  // sleep(seconds): 2 for what is not a time.
  static int sleep(lua_State* L) {
    Scheduler* s = self(L);
    double seconds = lua_tonumber(L, 1);
    if (lua_type(L, 1) != LUA_TNUMBER || std::isnan(seconds)) {
      lua_pushinteger(L, 2);
      return 1;
    }
    if (int n = s->prepare_wait(L)) return n;
    Slot* k = s->current_;
    k->flags |= Slot::kSleeping;
    if (seconds > 0) {
      k->state = Slot::kParked;
      s->arm(k->index, now() + seconds, &k->timer);
    } else {
      k->state = Slot::kReady;
      s->make_ready(k);
    }
    return s->park(L, k);
  }

  // give_way(): a sleep of no time, by itself since it is what programs do most.
  static int give_way(lua_State* L) {
    Scheduler* s = self(L);
    if (int n = s->prepare_wait(L)) return n;
    Slot* k = s->current_;
    k->flags |= Slot::kSleeping;
    k->state = Slot::kReady;
    s->make_ready(k);
    return s->park(L, k);
  }

  // park(t, i): sleeps until wake(t[i]).
  static int park(lua_State* L) {
    Scheduler* s = self(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    if (int n = s->prepare_wait(L)) return n;
    Slot* k = s->current_;
    lua_pushnumber(L, s->ticket(k));
    lua_rawseti(L, 1, static_cast<int>(lua_tointeger(L, 2)));
    k->state = Slot::kParked;
    return s->park(L, k);
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

  // wake(ticket, ...) -> true, if that wait has not ended.
  static int wake(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = s->find(lua_tonumber(L, 1));
    if (k) {
      hand_over(L, k, 2);
      s->wake(k);
    }
    lua_pushboolean(L, k != nullptr);
    return 1;
  }

  // fail(ticket, error) -> true, if that wait has not ended: ends it with an error.
  static int fail(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = s->find(lua_tonumber(L, 1));
    if (k) {
      lua_settop(L, 2);
      lua_xmove(L, k->co, 1);
      k->values = 1;
      s->wake(k);
    }
    lua_pushboolean(L, k != nullptr);
    return 1;
  }

  // is_waiting(ticket) -> true, if that wait has not ended.
  static int is_waiting(lua_State* L) {
    lua_pushboolean(L, self(L)->find(lua_tonumber(L, 1)) != nullptr);
    return 1;
  }

  // throw(index, error) -> true, if the task waited: ends its wait with an error. A second result
  // of the wait tells whether requeue had moved it.
  static int throw_into(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = slot_at(L, s);
    bool parked = k && k->state == Slot::kParked;
    if (parked) {
      s->detach(k);
      lua_settop(L, 2);
      lua_xmove(L, k->co, 1);
      lua_pushboolean(k->co, k->flags & Slot::kHeld);
      k->values = 2;
      s->wake(k);
    }
    lua_pushboolean(L, parked);
    return 1;
  }

  static int wait_list(lua_State* L) {
    check_memory(L, self(L));
    new (lua_newuserdata(L, sizeof(WaitList))) WaitList;
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
    Scheduler* s = self(L);
    WaitList* l = list(L, 1);
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
    Scheduler* s = self(L);
    Slot* k = s->slot(l->head);
    s->unlink(k);
    hand_over(L, k, 2);
    s->wake(k);
    lua_pushboolean(L, 1);
    return 1;
  }

  // wake_all(list) -> how many.
  static int wake_all(lua_State* L) {
    Scheduler* s = self(L);
    WaitList* l = list(L, 1);
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
    Scheduler* s = self(L);
    WaitList* l = list(L, 1);
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
    Scheduler* s = self(L);
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
    Scheduler* s = self(L);
    Slot* k = s->slot(l->head);
    s->unlink(k);
    s->wake(k);
    lua_rawgeti(L, upvalue(kTasksUpvalue), static_cast<int>(k->index));
    return 1;
  }

  // relay(): the wait of a coroutine of the script's own, passed on by the one that resumed it. An
  // error value if it cannot be passed on.
  static int relay(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = s->current_;
    if (lua_isyieldable(L)) {
      if (L == k->co) return lua_yield(L, 0);
      lua_pushlightuserdata(L, s);
      return lua_yield(L, 1);
    }
    if (k->state == Slot::kParked) s->detach(k);
    Scheduler::next_wait(k);
    k->flags &= ~(Slot::kSleeping | Slot::kHeld);
    if (k->state == Slot::kReady) s->ready_.remove(k);
    k->values = 0;
    k->state = Slot::kRunning;
    s->refuse(L);
    return 1;
  }

  // check_wait() -> nothing, or what a wait would return at once as its error. For those who have
  // to give something up before they wait.
  static int check_wait(lua_State* L) {
    Scheduler* s = self(L);
    Slot* k = s->current_;
    if (!Scheduler::can_wait(L, k)) {
      s->refuse(L);
      return 1;
    }
    if (!(k->flags & Slot::kPending)) return 0;
    lua_pushinteger(L, 1);
    return 1;
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

  // ---- scopes ----------------------------------------------------------------------------------

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
    if (scope->deadline != 0 && !scope->cancelled) {
      s->arm(scope->index | 0x80000000u, scope->deadline, &scope->timer);
    }
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

  // ---- the rest --------------------------------------------------------------------------------

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

  // For functions of which a script may keep what they make.
  static void check_memory(lua_State* L, Scheduler* s) {
    if (s->limits && s->limits->memory() && s->limits->memory()->is_over()) {
      luaL_error(L, "not enough memory");
    }
  }
};

// Names the C function that stands between a waiting function and its task.
void Scheduler::refuse(lua_State* L) {
  if (!current_) {
    lua_pushliteral(L,
                    "cannot wait outside of a task: use async.spawn in a callback, or async.run");
    return;
  }
  lua_Debug ar;
  for (int level = 0; lua_getstack(L, level, &ar); ++level) {
    lua_getinfo(L, "Snf", &ar);
    bool ours = true;
    if (*ar.what == 'C' && level > 0) {
      // Functions a wait can pass through, and the runtime's own, are not in the way.
      lua_getfield(L, LUA_REGISTRYINDEX, "rille.transparent");
      lua_pushvalue(L, -2);
      lua_rawget(L, -2);
      ours = lua_toboolean(L, -1);
      lua_pop(L, 2);
    }
    if (ours) {
      lua_pop(L, 1);
      continue;
    }
    static const char* const kLibraries[] = {"_G",   "table", "string", "os",       "io",
                                             "math", "debug", "bit",    "coroutine"};
    for (const char* library : kLibraries) {
      lua_getglobal(L, library);
      if (!lua_istable(L, -1)) {
        lua_pop(L, 1);
        continue;
      }
      for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        if (!lua_rawequal(L, -1, -4) || lua_type(L, -2) != LUA_TSTRING) continue;
        bool global = std::strcmp(library, "_G") == 0;
        lua_pushfstring(L, "cannot wait inside %s%s%s: it is a C function that calls Lua",
                        global ? "" : library, global ? "" : ".", lua_tostring(L, -2));
        return;
      }
      lua_pop(L, 1);
    }
    lua_pushfstring(L, "cannot wait inside %s: it is a C function that calls Lua",
                    ar.name ? ar.name : "a C function");
    return;
  }
  lua_pushliteral(L, "cannot wait here: a function of the host or a finalizer stands in between");
}

void Scheduler::open(lua_State* L) {
  static const luaL_Reg kFunctions[] = {
      {"open_batch", TaskLib::open_batch},
      {"spawn_eager", TaskLib::spawn_eager},
      {"made_at", TaskLib::made_at},
      {"call", TaskLib::call},
      {"uncall", TaskLib::uncall},
      {"sleep", TaskLib::sleep},
      {"park", TaskLib::park},
      {"wake", TaskLib::wake},
      {"throw", TaskLib::throw_into},
      {"WaitList", TaskLib::wait_list},
      {"wait", TaskLib::wait},
      {"wake_one", TaskLib::wake_one},
      {"wake_all", TaskLib::wake_all},
      {"throw_all", TaskLib::throw_all},
      {"requeue", TaskLib::requeue},
      {"pass_on", TaskLib::pass_on},
      {"give_way", TaskLib::give_way},
      {"relay", TaskLib::relay},
      {"check_wait", TaskLib::check_wait},
      {"fail", TaskLib::fail},
      {"is_waiting", TaskLib::is_waiting},
      {"is_root", TaskLib::is_root},
      {"is_task", TaskLib::is_task},
      {"enter", TaskLib::enter},
      {"leave", TaskLib::leave},
      {"cancel_scope", TaskLib::cancel_scope},
      {"cancel_task", TaskLib::cancel_task},
      {"acknowledge", TaskLib::acknowledge},
      {"pending", TaskLib::pending},
      {"owns", TaskLib::owns},
      {"deadline", TaskLib::deadline},
      {"is_cancelled", TaskLib::is_cancelled},
      {"reschedule", TaskLib::reschedule},
      {"suspend_scopes", TaskLib::suspend_scopes},
      {"resume_scopes", TaskLib::resume_scopes},
      {"drop_scopes", TaskLib::drop_scopes},
      {"time", TaskLib::time},
      {"stop", TaskLib::stop},
      {"set_debug", TaskLib::set_debug},
      {"set_slow_limit", TaskLib::set_slow_limit},
      {"probe", TaskLib::probe},
      {"state", TaskLib::state},
      {"count", TaskLib::count},
      {"stats", TaskLib::stats},
      {"site", TaskLib::site},
      {nullptr, nullptr},
  };
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
  for (const luaL_Reg* r = kFunctions; r->name; ++r) {
    TaskLib::push_function(L, this, r->func, state);
    lua_pushvalue(L, -1);
    lua_pushboolean(L, 1);
    lua_rawset(L, transparent);
    lua_setfield(L, lib, r->name);
  }
  if (limits && limits->memory()) {
    TaskLib::push_closure(L, TaskLib::restrained, state);
    lua_setfield(L, lib, "restrained");
  }
  lua_pushvalue(L, transparent);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.transparent");
  lua_setfield(L, lib, "transparent");
  TaskLib::push_closure(L, TaskLib::drain, state);
  drain_ref_ = luaL_ref(L, LUA_REGISTRYINDEX);
  TaskLib::push_closure(L, TaskLib::run_hook, state);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.hook");
  lua_pushinteger(L, 0);
  lua_rawseti(L, state + 1, kCurrent);
  lua_pushboolean(L, 0);
  lua_rawseti(L, state + 1, kScopesInside);
  lua_pushboolean(L, 0);
  lua_rawseti(L, state + 1, kBatchOpen);
  lua_pushinteger(L, 0);
  lua_rawseti(L, state + 1, kSpawned);
  lua_pushinteger(L, 0);
  lua_rawseti(L, state + 1, kBatchLeft);
  lua_pushinteger(L, 0);
  lua_rawseti(L, state + 1, kBatchMost);
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
