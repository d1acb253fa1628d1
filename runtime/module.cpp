// The part of module.h that registers functions.
#include <rille/module.h>

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

extern "C" void rille_newlib_abi(lua_State* L, const rille_reg* functions, int abi) {
  if (abi != RILLE_ABI_VERSION) {
    luaL_error(L, "module was built for version %d of Rille's interface, this is version %d", abi,
               RILLE_ABI_VERSION);
  }
  lua_newtable(L);
  for (const rille_reg* r = functions; r->name; ++r) {
    if (r->flags & RILLE_WAITS) {
      lua_pushcfunction(L, r->function);
      rille::wrap_waiting(L, r->name);
    } else {
      lua_pushcfunction(L, r->function);
    }
    lua_setfield(L, -2, r->name);
  }
}
