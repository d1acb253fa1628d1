// The table of bindings that are part of Rille, from bindings/registry.cpp to `require`.
#pragma once

#include <lua.hpp>

namespace rille {

struct BuiltinModule {
  const char* name;  // null ends the table
  lua_CFunction open;
};

extern const BuiltinModule kBuiltinModules[];

}  // namespace rille
