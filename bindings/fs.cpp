// bindings/fs.cpp: rille.core.fs, operations on paths. Each is one trip to the pool. Arguments come
// checked from stdlib/fs; errors come first among the results, see rille/module.h.
#include <errno.h>
#include <unistd.h>

#include <climits>

#include "fs_calls.h"

namespace rille::fs {
namespace {

// tempdir() -> path
int temp_dir(lua_State* L) {
  char path[PATH_MAX];
  std::size_t size = sizeof path;
  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !access->may_use_variable("TMPDIR", &refusal)) {
    lua_pushliteral(L, "/tmp");
    return 1;
  }
  if (uv_os_tmpdir(path, &size) < 0) return luaL_error(L, "tempdir: the path is too long");
  lua_pushlstring(L, path, size);
  return 1;
}

// cwd() -> path, or nil and an error
int working_dir(lua_State* L) {
  char path[PATH_MAX];
  if (Access* access = Access::of(L)) {
    CheckedPath checked;
    Refusal refusal;
    if (access->check_path(".", Access::kRead, Access::Last::kObject, &checked, &refusal) ==
        Access::kRefused) {
      lua_pushnil(L);
      refusal.push(L);
      return 2;
    }
  }
  if (getcwd(path, sizeof path)) {
    lua_pushstring(L, path);
    return 1;
  }
  lua_pushnil(L);
  rille_push_os_error(L, -errno, "getcwd", nullptr, nullptr, nullptr);
  return 2;
}

// wait_for_writers() -> true once no job writes any more; meanwhile everything stands still.
int wait_for_writers(lua_State* L) {
  constexpr double kSeconds = 5;
  lua_pushboolean(L, Shared::of(L)->wait_for_writers(kSeconds));
  return 1;
}

// stdlib/fs raises the errors itself, so these need no wrapper.
const rille_reg kFunctions[] = {
    {"access", access_path, 0},
    {"chdir", change_dir, 0},
    {"chmod", change_mode, 0},
    {"chown", change_owner, 0},
    {"copy", copy_file, 0},
    {"cwd", working_dir, 0},
    {"folder", folder, 0},
    {"glob", glob, 0},
    {"link", link_path, 0},
    {"list", list, 0},
    {"lstat", lstat_path, 0},
    {"mkdir", make_dir, 0},
    {"mkdtemp", make_temp_dir, 0},
    {"read_file", read_file, 0},
    {"read_lines", read_lines, 0},
    {"readlink", read_link, 0},
    {"realpath", real_path, 0},
    {"remove", remove_path, 0},
    {"rename", rename_path, 0},
    {"scan", scan, 0},
    {"scan_close", scan_close, 0},
    {"scan_on", scan_on, 0},
    {"scan_take", scan_take, 0},
    {"stat", stat_path, 0},
    {"symlink", symlink_path, 0},
    {"tempdir", temp_dir, 0},
    {"type", type_of, 0},
    {"utime", change_times, 0},
    {"wait_for_writers", wait_for_writers, 0},
    {"watch", watch, 0},
    {"watch_close", watch_close, 0},
    {"watch_next", watch_next, 0},
    {"write_file", write_file, 0},
    {nullptr, nullptr, 0},
};

}  // namespace
}  // namespace rille::fs

extern "C" int luaopen_rille_core_fs(lua_State* L) {
  rille::fs::define_scan(L);
  rille_newlib(L, rille::fs::kFunctions);
  return 1;
}
