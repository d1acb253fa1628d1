// The client's side of HTTP/1.
#pragma once

#include <lua.hpp>

namespace rille::http1 {

// exchange(socket, request, most_body, is_head) -> head, body; or nil, what is wrong. Waits;
// whoever is cancelled meanwhile closes the socket.
int exchange(lua_State* L);

}  // namespace rille::http1
