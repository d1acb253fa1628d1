// Connections that their owner has closed, and that still have something to deliver.
#pragma once

#include <lua.hpp>

#include "transport.h"

namespace rille {

// Closes the transport in order. What was written is delivered first, for at most 10 s; nothing
// that arrives is kept. A reset by the system, which closes with data unread, could take back what
// the peer has not received: so such data is read and dropped meanwhile.
void linger(lua_State* L, std::unique_ptr<Transport> transport);

// Makes the place for them in the runtime; before anything else here.
void define_lingering(lua_State* L);

// Lets those finish that are left when the program ends: runs the loop.
void finish_lingering(lua_State* L);

}  // namespace rille
