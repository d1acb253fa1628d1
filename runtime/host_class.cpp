#include "host_class.h"

#include <new>

namespace rille {

namespace {

// In every metatable of ours, so that a userdata of others' is not taken for an object.
const char kObjectKey = 0;

int destroy(lua_State* L) {
  // Scripts may still have it as the key of a weak table.
  lua_pushnil(L);
  lua_setmetatable(L, 1);
  static_cast<detail::Object*>(lua_touserdata(L, 1))->~Object();
  return 0;
}

int same(lua_State* L) {
  detail::Object* a = object_at(L, 1);
  detail::Object* b = object_at(L, 2);
  lua_pushboolean(L, a && b && a->pointer == b->pointer);
  return 1;
}

int to_string(lua_State* L) {
  detail::Object* object = object_at(L, 1);
  lua_pushfstring(L, "%s: %p", lua_tostring(L, lua_upvalueindex(1)),
                  object ? object->pointer.get() : nullptr);
  return 1;
}

void set(lua_State* L, const char* name, lua_CFunction f) {
  lua_pushcfunction(L, f);
  lua_setfield(L, -2, name);
}

}  // namespace

void push_class(lua_State* L, const void* type, const std::string& name) {
  lua_pushlightuserdata(L, const_cast<void*>(type));
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (!lua_isnil(L, -1)) return;
  lua_pop(L, 1);
  lua_createtable(L, 0, 6);
  lua_pushlightuserdata(L, const_cast<char*>(&kObjectKey));
  lua_pushboolean(L, 1);
  lua_rawset(L, -3);
  lua_pushlstring(L, name.data(), name.size());
  lua_setfield(L, -2, "__name");
  lua_newtable(L);
  lua_setfield(L, -2, "__index");
  // Scripts do not get at it.
  lua_pushboolean(L, 0);
  lua_setfield(L, -2, "__metatable");
  set(L, "__gc", destroy);
  set(L, "__eq", same);
  lua_pushlstring(L, name.data(), name.size());
  lua_pushcclosure(L, to_string, 1);
  lua_setfield(L, -2, "__tostring");
  lua_pushlightuserdata(L, const_cast<void*>(type));
  lua_pushvalue(L, -2);
  lua_rawset(L, LUA_REGISTRYINDEX);
}

void push_object(lua_State* L, const detail::Object& object) {
  lua_pushlightuserdata(L, const_cast<void*>(object.type));
  lua_rawget(L, LUA_REGISTRYINDEX);
  if (lua_isnil(L, -1)) {
    lua_pop(L, 1);
    throw Error("TypeError", "an object of a class that this runtime does not know");
  }
  new (lua_newuserdata(L, sizeof(detail::Object))) detail::Object(object);
  lua_insert(L, -2);
  lua_setmetatable(L, -2);
}

detail::Object* object_at(lua_State* L, int index) {
  if (lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index)) return nullptr;
  lua_pushlightuserdata(L, const_cast<char*>(&kObjectKey));
  lua_rawget(L, -2);
  bool ours = lua_toboolean(L, -1);
  lua_pop(L, 2);
  return ours ? static_cast<detail::Object*>(lua_touserdata(L, index)) : nullptr;
}

}  // namespace rille
