// The globals of scripts that are not trusted.
#pragma once

#include <lua.hpp>
#include <rille/rille.hpp>

namespace rille {

// Gives the state, and all that is loaded from here on but for Rille's own modules, other globals:
// see stdlib/core/sandbox.lua. REQUIRES: a protected call, and that no script has run.
void install_sandbox(lua_State* L, const Options& options);

}  // namespace rille
