// What comes behind a message's body, as Lua has it.
#pragma once

#include <lua.hpp>
#include <string>
#include <vector>

namespace rille::http1 {

// Pushes a table { name, value, name, value, ... }, without the space around them.
void push_trailers(lua_State* L, const std::vector<std::string>& all);

}  // namespace rille::http1
