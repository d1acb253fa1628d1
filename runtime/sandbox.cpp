#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <rille/access.hpp>
#include <string>

namespace rille {

namespace {

std::string string_at(lua_State* L, int index) {
  std::size_t size;
  const char* text = luaL_checklstring(L, index, &size);
  return {text, size};
}

// nil, text or error object, errno
int push_failure(lua_State* L, int rc, const Refusal& refusal) {
  lua_pushnil(L);
  if (rc == Access::kRefused) {
    refusal.push(L);
  } else {
    lua_pushstring(L, std::strerror(-rc));
  }
  lua_pushinteger(L, rc == Access::kRefused ? EACCES : -rc);
  return 3;
}

// Opens a path that may be, else gives a negative errno or Access::kRefused.
int open_checked(lua_State* L, const std::string& path, int flags, Refusal* refusal) {
  CheckedPath checked;
  int mode = flags & O_ACCMODE;
  unsigned needs = (mode == O_WRONLY ? 0u : unsigned{Access::kRead}) |
                   (mode == O_RDONLY ? 0u : unsigned{Access::kWrite});
  bool is_new = flags & O_CREAT;
  const std::string* place = &path;
  if (Access* access = Access::of(L)) {
    int rc = access->check_path(path, needs, is_new ? Access::Last::kNew : Access::Last::kObject,
                                &checked, refusal);
    if (rc < 0) return rc;
    place = &checked.path();
    if (is_new) flags |= O_NOFOLLOW;
  }
  int fd;
  do fd = open(place->c_str(), flags | O_CLOEXEC | O_NOCTTY, 0666);
  while (fd < 0 && errno == EINTR);
  return fd < 0 ? -errno : fd;
}

// read_text(path) -> text; or nil and what push_failure gives
int read_text(lua_State* L) {
  Refusal refusal;
  std::string path = string_at(L, 1);
  int fd = open_checked(L, path, O_RDONLY | O_NONBLOCK, &refusal);
  if (fd < 0) return push_failure(L, fd, refusal);
  struct stat st {};
  constexpr off_t kMost = 64 << 20;
  int error = fstat(fd, &st) < 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : 0;
  if (error == 0 && st.st_size > kMost) error = EFBIG;
  std::string text;
  char block[16384];
  ssize_t n = 0;
  while (error == 0 && (n = read(fd, block, sizeof block)) != 0) {
    if (n > 0) {
      text.append(block, static_cast<std::size_t>(n));
      if (text.size() > static_cast<std::size_t>(kMost)) error = EFBIG;
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  close(fd);
  if (error != 0) return push_failure(L, -error, refusal);
  lua_pushlstring(L, text.data(), text.size());
  return 1;
}

// open_file(path, mode) -> a file of the library io; or nil and what push_failure gives
int open_file(lua_State* L) {
  std::string path = string_at(L, 1);
  std::string mode = luaL_checkstring(L, 2);
  bool both = mode.find('+') != mode.npos;
  int flags = both ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
  if (mode[0] == 'w') flags |= O_CREAT | O_TRUNC;
  if (mode[0] == 'a') flags |= O_CREAT | O_APPEND;
  Refusal refusal;
  int fd = open_checked(L, path, flags, &refusal);
  if (fd < 0) return push_failure(L, fd, refusal);
  // io.open makes what nobody else can; it opens what is open, so there is nothing to check again.
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushfstring(L, "/proc/self/fd/%d", fd);
  lua_pushvalue(L, 2);
  int failed = lua_pcall(L, 2, 3, 0);
  close(fd);
  if (failed != 0) return lua_error(L);
  if (lua_isnil(L, -3)) {
    int error = static_cast<int>(lua_tointeger(L, -1));
    return push_failure(L, error > 0 ? -error : -EIO, refusal);
  }
  lua_pop(L, 2);
  return 1;
}

// call("remove", path), call("rename", from, to) -> true; or nil and what push_failure gives
int call(lua_State* L) {
  bool moves = std::strcmp(luaL_checkstring(L, 1), "rename") == 0;
  std::string path = string_at(L, 2);
  std::string dest = moves ? string_at(L, 3) : std::string();
  Access* access = Access::of(L);
  CheckedPath from, to;
  Refusal refusal;
  if (access) {
    unsigned needs = Access::kWrite | (moves ? unsigned{Access::kRead} : 0u);
    int rc = access->check_path(path, needs, Access::Last::kEntry, &from, &refusal);
    if (rc == 0 && moves) {
      rc = access->check_path(dest, Access::kWrite, Access::Last::kEntry, &to, &refusal);
    }
    if (rc < 0) return push_failure(L, rc, refusal);
    path = from.path();
    dest = to.path();
  }
  int rc = moves ? std::rename(path.c_str(), dest.c_str()) : std::remove(path.c_str());
  if (rc != 0) return push_failure(L, -errno, refusal);
  lua_pushboolean(L, 1);
  return 1;
}

// check_stack(): an error when little of the thread's stack is left. LuaJIT looks at its own stacks
// alone, and what calls itself through C would end the process.
int check_stack(lua_State* L) {
  static thread_local std::uintptr_t end = 0;
  if (end == 0) {
    pthread_attr_t attributes;
    void* lowest = nullptr;
    std::size_t size = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
      pthread_attr_getstack(&attributes, &lowest, &size);
      pthread_attr_destroy(&attributes);
    }
    end = reinterpret_cast<std::uintptr_t>(lowest) + size / 4;
  }
  auto here = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
  if (here >= end) return 0;
  lua_pushliteral(L, "C stack overflow");
  return lua_error(L);
}

}  // namespace

void install_sandbox(lua_State* L, const Options& options) {
  lua_getfield(L, LUA_REGISTRYINDEX, "rille.require");
  lua_pushliteral(L, "rille.core.sandbox");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "make");
  lua_createtable(L, static_cast<int>(options.modules.size()), 0);
  int i = 0;
  for (const std::string& name : options.modules) {
    lua_pushlstring(L, name.data(), name.size());
    lua_rawseti(L, -2, ++i);
  }
  lua_pushcfunction(L, read_text);
  lua_getglobal(L, "io");
  lua_getfield(L, -1, "open");
  lua_replace(L, -2);
  lua_pushcclosure(L, open_file, 1);
  lua_pushcfunction(L, call);
  lua_pushcfunction(L, check_stack);
  lua_call(L, 5, 1);
  lua_replace(L, LUA_GLOBALSINDEX);
  lua_pop(L, 1);
}

}  // namespace rille
