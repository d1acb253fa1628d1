#include "searchers.h"

#include <algorithm>
#include <cstring>
#include <rille/builtin.hpp>

#include "embedded.h"

namespace rille {

namespace {

// searcher(name) -> loader, or text that says where it was looked for.
int search(lua_State* L) {
  const char* name = luaL_checkstring(L, 1);
  for (const BuiltinModule* m = kBuiltinModules; m->name; ++m) {
    if (std::strcmp(m->name, name) == 0) {
      lua_pushcfunction(L, m->open);
      return 1;
    }
  }
  const EmbeddedModule* end = kEmbeddedModules + kEmbeddedModuleCount;
  const EmbeddedModule* m = std::lower_bound(
      kEmbeddedModules, end, name,
      [](const EmbeddedModule& a, const char* b) { return std::strcmp(a.name, b) < 0; });
  if (m != end && std::strcmp(m->name, name) == 0) {
    // "stdlib/async/queue.lua" shows up in tracebacks as "rille/async/queue.lua".
    lua_pushfstring(L, "=rille/%s", std::strchr(m->path, '/') + 1);
    if (luaL_loadbuffer(L, m->source, m->size, lua_tostring(L, -1)) != 0) return lua_error(L);
    // The globals may be those of a script that is not trusted.
    lua_pushvalue(L, LUA_ENVIRONINDEX);
    lua_setfenv(L, -2);
    return 1;
  }
  lua_pushfstring(L, "\n\tno module '%s' in rille", name);
  return 1;
}

}  // namespace

void install_searchers(lua_State* L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "loaders");
  int loaders = lua_gettop(L);
  // After package.preload, so that a script can replace a module.
  for (int i = static_cast<int>(lua_objlen(L, loaders)); i >= 2; --i) {
    lua_rawgeti(L, loaders, i);
    lua_rawseti(L, loaders, i + 1);
  }
  lua_pushcfunction(L, search);
  lua_rawseti(L, loaders, 2);
  lua_pop(L, 2);
}

}  // namespace rille
