// The methods of streams that need C++, and how they tell what is wrong.
#pragma once

#include <string>

#include "stream.h"

namespace rille {

inline int push_raw_error(lua_State* L, const char* kind, const std::string& message) {
  rille_push_error(L, kind, nullptr, message.c_str());
  return 1;
}

inline int push_closed(lua_State* L, const std::string& name) {
  return push_raw_error(L, "InvalidStateError", "the stream " + name + " is closed");
}

// The result of a raw method for a wrong argument; the stream itself is not counted.
inline int push_bad(lua_State* L, int index, const char* method, const char* what) {
  lua_pushfstring(L, "bad argument #%d to '%s' (%s)", index, method, what);
  return 1;
}

inline int push_bad_type(lua_State* L, int index, const char* method, const char* wanted, int at) {
  lua_pushfstring(L, "%s expected, got %s", wanted,
                  lua_isnoneornil(L, at) ? "nil" : luaL_typename(L, at));
  return push_bad(L, index, method, lua_tostring(L, -1));
}

struct StreamMethods {
  using Kind = Stream::Kind;

  // Those that wait are raw: they give their errors, texts for wrong arguments too, and the Lua
  // code around them raises these. stream_reading.cpp and stream_writing.cpp
  static int read(lua_State* L);
  static int read_exactly(lua_State* L);
  static int read_until(lua_State* L);
  static int read_line(lua_State* L);
  static int write(lua_State* L);

  // stream.cpp
  static int shutdown(lua_State* L);
  static int close(lua_State* L);
  static int abort(lua_State* L);
  static int is_closed(lua_State* L);
  static int name(lua_State* L);
  static int was_accepted(lua_State* L);
  static int collect(lua_State* L);
  // stream_socket.cpp
  static int socket_address(lua_State* L);
  static int peer_address(lua_State* L);
  static int set_nodelay(lua_State* L);
  static int set_keepalive(lua_State* L);

  // Makes the runtime's buffers, which belong to their class.
  static void define_spares(lua_State* L);

  // The open stream of a raw method, or null and the error pushed. Its metatable is the function's
  // upvalue: to look it up by its name took longer than the rest of a write.
  static Stream* self(lua_State* L, const char* method) {
    void* memory = lua_touserdata(L, 1);
    if (!memory || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1))) {
      lua_pushfstring(L, "calling '%s' on bad self (Stream expected, got %s)", method,
                      lua_isnoneornil(L, 1) ? "nil" : luaL_typename(L, 1));
      return nullptr;
    }
    lua_pop(L, 1);
    auto* s = static_cast<Stream*>(memory);
    if (s->is_open()) return s;
    push_raw_error(L, "InvalidStateError",
                   std::string(method) + ": the stream " + s->name() + " is closed");
    return nullptr;
  }
};

}  // namespace rille
