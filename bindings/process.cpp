// bindings/process.cpp: rille.core.process, the process itself. Nothing here waits.
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstring>
#include <rille/access.hpp>
#include <rille/module.hpp>
#include <string>

extern char** environ;

namespace {

using rille::Access;
using rille::Refusal;

int push_error(lua_State* L, const Refusal& refusal) {
  lua_pushnil(L);
  refusal.push(L);
  return 2;
}

// getenv(name) -> value or nil; nil and an error
int get_env(lua_State* L) {
  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !access->may_use_variable(luaL_checkstring(L, 1), &refusal)) {
    return push_error(L, refusal);
  }
  lua_pushstring(L, getenv(lua_tostring(L, 1)));
  return 1;
}

// setenv(name, value or nil) -> err
int set_env(lua_State* L) {
  const char* name = luaL_checkstring(L, 1);
  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !access->may_use_variable(name, &refusal)) return push_refusal(L, refusal);
  int rc = lua_isnil(L, 2) ? unsetenv(name) : setenv(name, lua_tostring(L, 2), 1);
  if (rc == 0) return 0;
  rille_push_os_error(L, uv_translate_sys_error(errno), "setenv", nullptr, nullptr, nullptr);
  return 1;
}

// environ() -> table; nil and an error
int get_environ(lua_State* L) {
  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !access->may_list_variables(&refusal)) return push_error(L, refusal);
  lua_newtable(L);
  for (char** entry = environ; entry && *entry; ++entry) {
    const char* equals = std::strchr(*entry, '=');
    if (!equals) continue;
    std::string_view name(*entry, static_cast<std::size_t>(equals - *entry));
    if (access && !access->may_use_variable(name, &refusal)) continue;
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

// kill(pid, signal) -> err
int send_signal(lua_State* L) {
  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !access->may_signal(&refusal)) return push_refusal(L, refusal);
  auto to = static_cast<pid_t>(lua_tointeger(L, 1));
  if (kill(to, static_cast<int>(lua_tointeger(L, 2))) == 0) return 0;
  rille_push_os_error(L, -errno, "kill", nullptr, nullptr, nullptr);
  return 1;
}

// title([text]) -> err, title
int title(lua_State* L) {
  const char* syscall = "uv_set_process_title";
  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !lua_isnoneornil(L, 1) &&
      !access->may_change_process("another title of the process", &refusal)) {
    return push_refusal(L, refusal);
  }
  int rc = lua_isnoneornil(L, 1) ? 0 : uv_set_process_title(lua_tostring(L, 1));
  if (rc == 0) {
    syscall = "uv_get_process_title";
    std::string text(64, '\0');
    while ((rc = uv_get_process_title(text.data(), text.size())) == UV_ENOBUFS &&
           text.size() < (1 << 20)) {
      text.resize(text.size() * 2);
    }
    if (rc == 0) {
      lua_pushnil(L);
      lua_pushstring(L, text.c_str());
      return 2;
    }
  }
  rille_push_os_error(L, rc, syscall, nullptr, nullptr, nullptr);
  return 1;
}

const rille_reg kFunctions[] = {
    {"getenv", get_env, 0},
    {"setenv", set_env, 0},
    {"environ", get_environ, 0},
    {"pid", pid, 0},
    {"kill", send_signal, 0},
    {"title", title, 0},
    {"set_exit_status", set_exit_status, 0},
    {nullptr, nullptr, 0},
};

}  // namespace

extern "C" int luaopen_rille_core_process(lua_State* L) {
  rille_newlib(L, kFunctions);
  return 1;
}
