// Why a task cannot wait where it stands.
#include <cstring>

#include "scheduler.h"

namespace rille {

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

}  // namespace rille
