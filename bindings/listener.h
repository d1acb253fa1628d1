// Sockets that take connections: TCP and Unix.
#pragma once

#include <lua.hpp>
#include <rille/access.hpp>
#include <string>

#include "socket.h"

namespace rille {

// listen(ip, port, backlog, v6only, reuse_port) -> err, listener. With a backlog of 0 it has the
// port and takes no connections: those are for others that listen on it.
int listen_tcp(lua_State* L);

// listen_unix(path, backlog) -> err, listener
int listen_unix(lua_State* L);

// accept(listener) -> err, Stream; neither once it is closed
int accept(lua_State* L);

// accept_now(listener) -> err, Stream; neither if there is none
int accept_now(lua_State* L);

// Pushes a listener over a socket that listens already and that other processes have too: no file
// goes with it.
void push_listener(lua_State* L, Socket socket);

// The descriptor of the listener at `index`; -1 if it is closed.
int listener_descriptor(lua_State* L, int index);

// Whether a script may speak on the Unix socket of that path: 0, or what Access gives. Where there
// is nothing to check, `checked` stays empty.
int check_unix_path(lua_State* L, const std::string& path, Access::Last last, CheckedPath* checked,
                    Refusal* refusal);

void define_listener(lua_State* L);

}  // namespace rille
