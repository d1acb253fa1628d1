// A connection whose other end is in the hand of a Lua program: `wire()` gives a stream, for the
// code under test, and the end that feeds it.
#pragma once

struct lua_State;

namespace rille::fuzz {

// Makes `require "fuzz.wire"` possible.
void preload_wire(lua_State* L);

}  // namespace rille::fuzz
