// Functions that modules have: they travel by their names, as what is private to an interpreter
// must.
#pragma once

#include <lua.hpp>

namespace rille::worker {

// Pushes module and key of the function at `index`; false, and pushes nothing, if no module in
// package.loaded has it. `kept` is where push_kept's table is.
bool push_name(lua_State* L, int kept, int index);

}  // namespace rille::worker
