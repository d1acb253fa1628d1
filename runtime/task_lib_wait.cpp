// rille.core.task: waits that are ended by name, with a ticket, and sleeps.
#include <cmath>

#include "task_lib.h"

namespace rille {

struct TaskLib::Waiting {
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
};

const luaL_Reg TaskLib::kWaitingPart[] = {{"sleep", Waiting::sleep},
                                          {"give_way", Waiting::give_way},
                                          {"park", Waiting::park},
                                          {"wake", Waiting::wake},
                                          {"fail", Waiting::fail},
                                          {"is_waiting", Waiting::is_waiting},
                                          {"throw", Waiting::throw_into},
                                          {"relay", Waiting::relay},
                                          {"check_wait", Waiting::check_wait},
                                          {nullptr, nullptr}};

}  // namespace rille
