// Error objects made by C++; what they are is stdlib/errors.lua.
#pragma once

#include <lua.hpp>

namespace rille {

// Pushes errors.new(kind, message).
void push_error(lua_State* L, const char* kind, const char* message);

}  // namespace rille
