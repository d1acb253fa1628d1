// Sockets that take connections: TCP and Unix.
#pragma once

#include <lua.hpp>

namespace rille {

// listen(ip, port, backlog, v6only, reuse_port) -> err, listener
int listen_tcp(lua_State* L);

// listen_unix(path, backlog) -> err, listener
int listen_unix(lua_State* L);

// accept(listener) -> err, Stream; neither once it is closed
int accept(lua_State* L);

void define_listener(lua_State* L);

}  // namespace rille
