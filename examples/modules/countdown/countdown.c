/* A native module in C. `countdown.after(seconds)` waits on a timer of libuv's,
 * `countdown.primes(n)` counts the primes below n on a thread, and both leave all other tasks alone
 * meanwhile. */
#include <rille/module.h>
#include <stdlib.h>

/* ---- a timer ----------------------------------------------------------------------------------
 */

struct timer {
  uv_timer_t handle;
  rille_waiter* waiter;
  double seconds;
};

static void freed(uv_handle_t* handle) { free(handle); }

/* Results travel error first: nil, and how long it took. */
static int push_seconds(lua_State* L, void* data) {
  struct timer* timer = data;
  if (L) {
    lua_pushnil(L);
    lua_pushnumber(L, timer->seconds);
  }
  uv_close((uv_handle_t*)&timer->handle, freed); /* this is called exactly once, come what may */
  return 2;
}

static void fired(uv_timer_t* handle) {
  struct timer* timer = (struct timer*)handle;
  rille_complete(timer->waiter, push_seconds, timer);
}

/* The task was cancelled: the timer need not fire, but the waiter must be completed. */
static void given_up(rille_waiter* waiter, void* data) {
  struct timer* timer = data;
  uv_timer_stop(&timer->handle);
  rille_complete(waiter, push_seconds, timer);
}

/* after(seconds) -> seconds */
static int after(lua_State* L) {
  double seconds = luaL_checknumber(L, 1);
  rille_check_wait(L); /* raises before anything is ours that would be lost */
  struct timer* timer = malloc(sizeof *timer);
  if (!timer) return rille_error(L, "Error", NULL, "not enough memory");
  timer->seconds = seconds;
  uv_timer_init(rille_loop(L), &timer->handle);
  timer->waiter = rille_prepare(L, given_up, timer);
  uv_timer_start(&timer->handle, fired, (uint64_t)(seconds * 1e3), 0);
  return rille_park(L, timer->waiter);
}

/* ---- work on a thread -------------------------------------------------------------------------
 */

struct count {
  int below, found;
};

static void count_primes(void* data) { /* no Lua here */
  struct count* count = data;
  for (int n = 2; n < count->below; ++n) {
    int d = 2;
    while (d * d <= n && n % d != 0) ++d;
    if (d * d > n) ++count->found;
  }
}

static int push_count(lua_State* L, void* data) {
  lua_pushnil(L);
  lua_pushinteger(L, ((struct count*)data)->found);
  return 2;
}

/* primes(n) -> how many there are below n */
static int primes(lua_State* L) {
  int below = luaL_checkint(L, 1);
  if (below < 0) return rille_error(L, "CountError", "ERANGE", "no primes below %d", below);
  struct count* count = calloc(1, sizeof *count);
  if (!count) return rille_error(L, "Error", NULL, "not enough memory");
  count->below = below;
  return rille_work(L, count_primes, push_count, free, count);
}

RILLE_API int luaopen_countdown(lua_State* L) {
  static const rille_reg functions[] = {
      {"after", after, RILLE_WAITS}, {"primes", primes, RILLE_WAITS}, {NULL, NULL, 0}};
  rille_newlib(L, functions);
  return 1;
}
