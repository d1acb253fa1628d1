// The part of module.h that registers functions.
#include <rille/module.h>

#include <rille/rille.hpp>
#include <utility>

#include "waiter.h"

namespace rille {

void wrap_waiting(lua_State* L, const char* name) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.wrap");
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    lua_getfield(L, LUA_REGISTRYINDEX, "rille.require");
    lua_pushliteral(L, "rille.core.wrap");
    lua_call(L, 1, 1);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, "rille.wrap");
  }
  lua_insert(L, -2);
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.transparent");
  lua_pushvalue(L, -2);
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  lua_pushstring(L, name);
  lua_call(L, 2, 1);
}

}  // namespace rille

namespace {

const char kDataKey = 0;

struct Data {
  void* data;
  void (*free_data)(void*);
};

// Pushes the table of what modules keep, by name.
void push_data_table(lua_State* L) {
  lua_pushlightuserdata(L, const_cast<char*>(&kDataKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushlightuserdata(L, const_cast<char*>(&kDataKey));
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

Data* data_at(lua_State* L, const void* name) {
  lua_pushlightuserdata(L, const_cast<void*>(name));
  lua_rawget(L, -2);
  auto* data = static_cast<Data*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  return data;
}

int free_data(lua_State* L) {
  auto* data = static_cast<Data*>(lua_touserdata(L, 1));
  if (data->free_data) std::exchange(data->free_data, nullptr)(data->data);
  return 0;
}

}  // namespace

// The data stands in a userdata: its finalizer runs with the state's end, before the module's
// library could be unloaded.
extern "C" void rille_set_data(lua_State* L, const void* name, void* data, void (*free)(void*)) {
  push_data_table(L);
  if (Data* former = data_at(L, name)) {
    if (former->free_data) std::exchange(former->free_data, nullptr)(former->data);
    *former = {data, free};
    lua_pop(L, 1);
    return;
  }
  lua_pushlightuserdata(L, const_cast<void*>(name));
  *static_cast<Data*>(lua_newuserdata(L, sizeof(Data))) = {data, free};
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, free_data);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

extern "C" void* rille_get_data(lua_State* L, const void* name) {
  push_data_table(L);
  Data* data = data_at(L, name);
  lua_pop(L, 1);
  return data ? data->data : nullptr;
}

extern "C" void rille_at_close(lua_State* L, lua_CFunction function, int flags, void* data) {
  if (!function) luaL_error(L, "rille_at_close: a function expected, got NULL");
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.main");
  lua_getfield(L, -1, "at_close");
  lua_pushcfunction(L, function);
  if (flags & RILLE_WAITS) rille::wrap_waiting(L, "at_close");
  lua_pushlightuserdata(L, data);
  lua_call(L, 2, 0);
  lua_pop(L, 1);
}

extern "C" void rille_newlib_abi(lua_State* L, const rille_reg* functions, int abi) {
  if (abi != RILLE_ABI_VERSION) {
    // `require` calls luaopen_name with the name.
    lua_pushfstring(L, lua_type(L, 1) == LUA_TSTRING ? "module '%s'" : "a module",
                    lua_tostring(L, 1));
    luaL_error(L,
               "%s was built for version %d of rille/module.h, and Rille %s has version %d: build "
               "it again",
               lua_tostring(L, -1), abi, rille::version(), RILLE_ABI_VERSION);
  }
  lua_newtable(L);
  for (const rille_reg* r = functions; r && r->name; ++r) {
    if (r->flags & RILLE_WAITS) {
      lua_pushcfunction(L, r->function);
      rille::wrap_waiting(L, r->name);
    } else {
      lua_pushcfunction(L, r->function);
    }
    lua_setfield(L, -2, r->name);
  }
}
