#include "worker_names.h"

#include "worker_codec.h"

namespace rille::worker {

namespace {

// names[function] = { module, key }, for all that modules have.
int index_names(lua_State* L, int kept) {
  lua_newtable(L);
  int names = lua_gettop(L);
  lua_rawgeti(L, kept, kLoaded);
  int loaded = lua_gettop(L);
  for (lua_pushnil(L); lua_next(L, loaded); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || !lua_istable(L, -1)) continue;
    int module = lua_gettop(L);
    for (lua_pushnil(L); lua_next(L, module); lua_pop(L, 1)) {
      if (lua_type(L, -2) != LUA_TSTRING || !lua_isfunction(L, -1)) continue;
      lua_createtable(L, 2, 0);
      lua_pushvalue(L, module - 1);
      lua_rawseti(L, -2, 1);
      lua_pushvalue(L, -3);
      lua_rawseti(L, -2, 2);
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, names);
    }
  }
  lua_settop(L, names);
  return 1;
}

}  // namespace

bool push_name(lua_State* L, int kept, int index) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    lua_rawgeti(L, kept, kNames);
    if (attempt == 1 || !lua_istable(L, -1)) {
      lua_pop(L, 1);
      index_names(L, kept);
      lua_pushvalue(L, -1);
      lua_rawseti(L, kept, kNames);
      attempt = 1;
    }
    lua_pushvalue(L, index);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1)) {
      lua_rawgeti(L, -1, 1);
      lua_rawgeti(L, -2, 2);
      lua_remove(L, -3);
      // It may have got another one since.
      lua_rawgeti(L, kept, kLoaded);
      lua_pushvalue(L, -3);
      lua_rawget(L, -2);
      bool holds = false;
      if (lua_istable(L, -1)) {
        lua_pushvalue(L, -3);
        lua_rawget(L, -2);
        holds = lua_rawequal(L, -1, index);
        lua_pop(L, 1);
      }
      lua_pop(L, 2);
      if (holds) return true;
      lua_pop(L, 1);
    }
    lua_pop(L, 1);
  }
  return false;
}

}  // namespace rille::worker
