// Who answers `require`: built-in bindings, the embedded standard library, then the paths.
#pragma once

#include <lua.hpp>

namespace rille {

// Puts a loader for both before the stock ones. REQUIRES: called in a protected call.
void install_searchers(lua_State* L);

}  // namespace rille
