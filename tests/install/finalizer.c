/* A native module whose parts note their end in a file: `finalizer.open(path)`. */
#include <rille/module.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char name = 0;

static void note(const char* path, const char* what) {
  FILE* file = fopen(path, "a");
  if (!file) return;
  fputs(what, file);
  fclose(file);
}

static void free_data(void* path) {
  note(path, "data\n");
  free(path);
}

static int object_ends(lua_State* L) {
  note(lua_touserdata(L, 1), "object ");
  return 0;
}

static int closing(lua_State* L) {
  note(rille_get_data(L, &name), "closing ");
  return 0;
}

static int open_object(lua_State* L) {
  const char* path = luaL_checkstring(L, 1);
  rille_set_data(L, &name, strdup(path), free_data);
  rille_at_close(L, closing, 0, NULL);
  strcpy(lua_newuserdata(L, strlen(path) + 1), path);
  lua_newtable(L);
  lua_pushcfunction(L, object_ends);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return 1;
}

RILLE_API int luaopen_finalizer(lua_State* L) {
  static const rille_reg functions[] = {{"open", open_object, 0}, {NULL, NULL, 0}};
  rille_newlib(L, functions);
  return 1;
}
