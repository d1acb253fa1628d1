// bindings/process.cpp: rille.core.process, the process itself. Nothing here waits.
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <rille/module.hpp>

extern char** environ;

namespace {

// getenv(name) -> value or nil
int get_env(lua_State* L) {
  lua_pushstring(L, getenv(lua_tostring(L, 1)));
  return 1;
}

// setenv(name, value or nil) -> err
int set_env(lua_State* L) {
  const char* name = lua_tostring(L, 1);
  int rc = lua_isnil(L, 2) ? unsetenv(name) : setenv(name, lua_tostring(L, 2), 1);
  if (rc == 0) return 0;
  rille_push_os_error(L, uv_translate_sys_error(errno), "setenv", nullptr, nullptr, nullptr);
  return 1;
}

// environ() -> table
int get_environ(lua_State* L) {
  lua_newtable(L);
  for (char** entry = environ; entry && *entry; ++entry) {
    const char* equals = std::strchr(*entry, '=');
    if (!equals) continue;
    lua_pushlstring(L, *entry, static_cast<std::size_t>(equals - *entry));
    lua_pushstring(L, equals + 1);
    lua_rawset(L, -3);
  }
  return 1;
}

// pid() -> number
int pid(lua_State* L) {
  lua_pushinteger(L, getpid());
  return 1;
}

// set_exit_status(status): what the host ends with, when all tasks have.
int set_exit_status(lua_State* L) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.exit_status");
  if (auto* status = static_cast<int*>(lua_touserdata(L, -1))) {
    *status = static_cast<int>(lua_tointeger(L, 1));
  }
  return 0;
}

const rille_reg kFunctions[] = {
    {"getenv", get_env, 0},
    {"setenv", set_env, 0},
    {"environ", get_environ, 0},
    {"pid", pid, 0},
    {"set_exit_status", set_exit_status, 0},
    {nullptr, nullptr, 0},
};

}  // namespace

extern "C" int luaopen_rille_core_process(lua_State* L) {
  rille_newlib(L, kFunctions);
  return 1;
}
