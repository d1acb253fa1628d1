// Functions of a host's as Lua sees them.
#pragma once

#include <lua.hpp>
#include <rille/rille.hpp>
#include <string>

namespace rille {

// Pushes a function that calls `body`. Its errors call it `name`, and the object it is a method of
// `class_name`; null: it is no method.
void push_function(lua_State* L, Runtime::Impl* impl, const std::string& name, detail::Body body,
                   bool waits, const std::string* class_name);

}  // namespace rille
