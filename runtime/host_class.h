// Objects of a host's classes in Lua: userdata that share their ownership.
#pragma once

#include <lua.hpp>
#include <rille/value.hpp>
#include <string>

namespace rille {

// Pushes one. Throws Error if this runtime does not know the class.
void push_object(lua_State* L, const detail::Object& object);

// The object at an index; null if there is something else.
detail::Object* object_at(lua_State* L, int index);

// Pushes the metatable of a class, making it the first time, with `name` as its name.
void push_class(lua_State* L, const void* type, const std::string& name);

}  // namespace rille
