#include "error.h"

#include <rille/module.h>

#include <cstring>

namespace {

// Pushes a function of rille.errors.
void push_constructor(lua_State* L, const char* name) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.errors");
  lua_getfield(L, -1, name);
  lua_remove(L, -2);
}

void push_text(lua_State* L, const char* text) {
  if (text) {
    lua_pushstring(L, text);
  } else {
    lua_pushnil(L);
  }
}

}  // namespace

namespace rille {

void push_error(lua_State* L, const char* kind, const char* message) {
  push_constructor(L, "new");
  lua_pushstring(L, kind ? kind : "Error");
  lua_pushstring(L, message ? message : "");
  lua_call(L, 2, 1);
}

}  // namespace rille

extern "C" void rille_push_error(lua_State* L, const char* kind, const char* code,
                                 const char* message) {
  rille::push_error(L, kind, message);
  if (!code) return;
  lua_pushstring(L, code);
  lua_setfield(L, -2, "code");
}

extern "C" void rille_push_os_error(lua_State* L, int status, const char* syscall, const char* path,
                                    const char* dest, const char* address) {
  push_constructor(L, "os_error");
  // Without a buffer, libuv would allocate the texts of an errno it does not know, and forget them.
  char name_space[64];
  char text_space[128];
  const char* name = uv_err_name_r(status, name_space, sizeof name_space);
  const char* text = uv_strerror_r(status, text_space, sizeof text_space);
  // It does not know every errno of the system.
  if (std::strncmp(name, "Unknown", 7) == 0 && strerrorname_np(-status)) {
    name = strerrorname_np(-status);
    text = strerrordesc_np(-status);
  }
  lua_pushstring(L, name);
  lua_pushinteger(L, -status);
  lua_pushstring(L, text);
  push_text(L, syscall);
  push_text(L, path);
  push_text(L, dest);
  push_text(L, address);
  lua_call(L, 7, 1);
}
