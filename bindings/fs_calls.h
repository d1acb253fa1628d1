// The functions of rille.core.fs, which fs.cpp lists and the other files named fs_*.cpp define.
#pragma once

#include <string>

#include "fs_job.h"

namespace rille::fs {

inline std::string to_string(lua_State* L, int index) {
  std::size_t size;
  const char* text = luaL_checklstring(L, index, &size);
  return {text, size};
}

// fs_content.cpp
int read_file(lua_State* L);
int read_lines(lua_State* L);
int write_file(lua_State* L);
int copy_file(lua_State* L);

// fs_path.cpp
int stat_path(lua_State* L);
int lstat_path(lua_State* L);
int type_of(lua_State* L);
int access_path(lua_State* L);
int make_dir(lua_State* L);
int rename_path(lua_State* L);
int link_path(lua_State* L);
int symlink_path(lua_State* L);
int read_link(lua_State* L);
int real_path(lua_State* L);
int change_mode(lua_State* L);
int change_owner(lua_State* L);
int change_times(lua_State* L);
int make_temp_dir(lua_State* L);
int change_dir(lua_State* L);

// fs_folder.cpp
int list(lua_State* L);
int folder(lua_State* L);
int scan(lua_State* L);
int scan_on(lua_State* L);
int scan_take(lua_State* L);
int scan_close(lua_State* L);
void define_scan(lua_State* L);

// fs_glob.cpp
int glob(lua_State* L);

// fs_remove.cpp
int remove_path(lua_State* L);

// fs_watch.cpp
int watch(lua_State* L);
int watch_next(lua_State* L);
int watch_close(lua_State* L);

}  // namespace rille::fs
