/* The floor below a scheduler in C: lua_resume / lua_yield on LuaJIT.
 * usage: ring switch2|switch1000|spawn_join|spawn_join_reuse N
 *   switch:       the coroutine is a Lua loop calling a C function that does lua_yield (what a
 * sleep(0) binding does) switch_lua:   the coroutine calls coroutine.yield */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}
static int cyield(lua_State* L) { return lua_yield(L, 0); }
static void sw(lua_State* L, long n, int tasks, const char* fn) {
  lua_State** co = malloc(tasks * sizeof *co);
  lua_newtable(L);
  for (int i = 0; i < tasks; i++) {
    co[i] = lua_newthread(L);
    lua_rawseti(L, -2, i + 1);
    lua_getglobal(co[i], "make");
    lua_getglobal(co[i], fn);
    lua_pushinteger(co[i], n / tasks);
    lua_call(co[i], 2, 1);
  }
  for (long k = 0; k < n / tasks; k++)
    for (int i = 0; i < tasks; i++)
      if (lua_resume(co[i], 0) != LUA_YIELD) {
        fprintf(stderr, "%s\n", lua_tostring(co[i], -1));
        exit(1);
      }
  free(co);
}
int main(int c, char** v) {
  if (c < 3) return 2;
  const char* w = v[1];
  long n = atol(v[2]);
  lua_State* L = luaL_newstate();
  luaL_openlibs(L);
  lua_pushcfunction(L, cyield);
  lua_setglobal(L, "cyield");
  luaL_dostring(L,
                "function make(y, k) return function() for _ = 1, k + 1 do y() end end end  lyield "
                "= coroutine.yield  function one() return 1 end  function body() while true do "
                "lyield(1) end end");
  double t0 = now();
  if (!strcmp(w, "switch2"))
    sw(L, n, 2, "cyield");
  else if (!strcmp(w, "switch1000"))
    sw(L, n, 1000, "cyield");
  else if (!strcmp(w, "switch2_lua"))
    sw(L, n, 2, "lyield"), w = "switch2";
  else if (!strcmp(w, "switch1000_lua"))
    sw(L, n, 1000, "lyield"), w = "switch1000";
  else if (!strcmp(w, "spawn_join"))
    for (long i = 0; i < n; i++) {
      lua_State* t = lua_newthread(L);
      lua_getglobal(t, "one");
      if (lua_resume(t, 0) != 0) exit(1);
      lua_pop(L, 1);
    }
  else if (!strcmp(w, "spawn_join_reuse")) { /* one thread per batch slot, reused: after a normal
                                                return a coroutine can be given a new function */
    lua_State* co[1000];
    for (int i = 0; i < 1000; i++) {
      co[i] = lua_newthread(L);
      luaL_ref(L, LUA_REGISTRYINDEX);
    }
    for (long i = 0; i < n; i++) {
      lua_State* t = co[i % 1000];
      lua_settop(t, 0);
      lua_getglobal(t, "one");
      if (lua_resume(t, 0) != 0) exit(1);
    }
    w = "spawn_join";
  } else
    return 2;
  double t = now() - t0;
  printf("%s %ld %.6f %.1f\n", w, n, t, n / t);
  return 0;
}
