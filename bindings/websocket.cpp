// rille.core.websocket: WebSockets as Lua has them, and what its handshake needs besides HTTP.
#include <dlfcn.h>
#include <sys/random.h>

#include <algorithm>

#include "json_text.h"
#include "stream.h"
#include "websocket_connection.h"

namespace rille::websocket {

namespace {

WebSocket* check(lua_State* L) { return Class<WebSocket>::check(L, 1); }

std::string_view view(lua_State* L, int index) {
  std::size_t size = 0;
  const char* text = luaL_optlstring(L, index, "", &size);
  return {text, size};
}

std::uint64_t ms_of(lua_State* L, int index) {
  lua_Number seconds = luaL_optnumber(L, index, 0);
  return seconds > 0 && seconds < 1e12 ? static_cast<std::uint64_t>(seconds * 1e3) + 1 : 0;
}

// open(stream, early, is_server, deflates, max_message, ping_interval, ping_timeout,
// close_timeout, keeps_history) -> socket. Times are in seconds; 0 is none; close_timeout may be
// nil for that.
int open(lua_State* L) {
  Stream* stream = check_stream(L, 1, "open");
  Options options;
  options.is_server = lua_toboolean(L, 3) != 0;
  options.deflates = lua_toboolean(L, 4) != 0;
  options.most = static_cast<std::uint64_t>(luaL_checknumber(L, 5));
  options.ping_interval_ms = ms_of(L, 6);
  options.ping_timeout_ms = ms_of(L, 7);
  if (lua_isnumber(L, 8)) options.close_timeout_ms = ms_of(L, 8);
  options.keeps_history = lua_toboolean(L, 9) != 0;
  std::string early = stream->take_input();
  early.append(view(L, 2));
  std::string name = stream->name();
  auto* socket = Class<WebSocket>::push(L, stream->release(), std::move(name), options);
  socket->start(early);
  return 1;
}

// recv(socket) -> data, is_binary; nil at the end
int recv(lua_State* L) { return check(L)->recv(L); }

// send(socket, data, is_binary) -> false if nothing can be sent any more
int send(lua_State* L) {
  WebSocket* s = check(L);
  return s->send(L, view(L, 2), lua_toboolean(L, 3) != 0);
}

// broadcast(list, data, is_binary, most) -> how many it went to. Does not wait; whoever has more
// than `most` bytes to take yet is closed. REQUIRES: tables with a socket at _socket.
int broadcast(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  auto n = static_cast<int>(lua_objlen(L, 1));
  auto most = static_cast<std::size_t>(luaL_checknumber(L, 4));
  auto socket_at = [&](int i) {
    lua_settop(L, 4);
    lua_rawgeti(L, 1, i);
    lua_pushliteral(L, "_socket");
    lua_rawget(L, -2);
    return Class<WebSocket>::check(L, -1);
  };
  for (int i = 1; i <= n; ++i) socket_at(i);  // raises before there is anything to free
  int reached = 0;
  Broadcast message(view(L, 2), lua_toboolean(L, 3) != 0);
  for (int i = 1; i <= n; ++i) {
    WebSocket* s = socket_at(i);
    if (s->is_closing()) continue;
    if (s->backlog() > most) {
      s->close(1013, "too slow");
    } else {
      s->post(&message);
      ++reached;
    }
  }
  lua_pushinteger(L, reached);
  return 1;
}

// ping(socket, payload) -> seconds, or nil if the end came first
int ping(lua_State* L) { return check(L)->ping(L, view(L, 2)); }

// close(socket, code, reason): does not wait.
int close(lua_State* L) {
  check(L)->close(luaL_checkint(L, 2), view(L, 3));
  return 0;
}

// wait_for_end(socket)
int wait_for_end(lua_State* L) { return check(L)->wait_for_end(L); }

int cut_off(lua_State* L) {
  check(L)->cut_off();
  return 0;
}

// state(socket) -> whether nothing can be sent any more, and, once it is over, code and reason
int state(lua_State* L) {
  WebSocket* s = check(L);
  lua_pushboolean(L, s->is_closing());
  if (!s->is_over()) return 1;
  lua_pushinteger(L, s->code());
  lua_pushlstring(L, s->reason().data(), s->reason().size());
  return 3;
}

int is_utf8(lua_State* L) {
  std::string_view text = view(L, 1);
  lua_pushboolean(L, json::is_utf8(text.data(), text.data() + text.size()));
  return 1;
}

// random(n) -> so many random bytes
int random(lua_State* L) {
  char bytes[64];
  auto n = std::min<std::size_t>(static_cast<std::size_t>(luaL_checkint(L, 1)), sizeof bytes);
  if (getrandom(bytes, n, 0) != static_cast<ssize_t>(n)) return luaL_error(L, "no random numbers");
  lua_pushlstring(L, bytes, n);
  return 1;
}

// sha1(text) -> its digest; or nil and why there is none
int sha1(lua_State* L) {
  using Sha1 = unsigned char*(const unsigned char*, std::size_t, unsigned char*);
  static void* const kLibrary = dlopen("libcrypto.so.3", RTLD_LAZY | RTLD_LOCAL);
  static auto* const kDigest =
      kLibrary ? reinterpret_cast<Sha1*>(dlsym(kLibrary, "SHA1")) : nullptr;
  if (!kDigest) {
    lua_pushnil(L);
    lua_pushliteral(L, "libcrypto.so.3 cannot be loaded");
    return 2;
  }
  unsigned char out[20];
  std::string_view text = view(L, 1);
  kDigest(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out);
  lua_pushlstring(L, reinterpret_cast<char*>(out), sizeof out);
  return 1;
}

const rille_reg kFunctions[] = {{"open", open, 0},
                                {"recv", recv, RILLE_WAITS},
                                {"send", send, RILLE_WAITS},
                                {"broadcast", broadcast, 0},
                                {"ping", ping, RILLE_WAITS},
                                {"close", close, 0},
                                {"wait_for_end", wait_for_end, RILLE_WAITS},
                                {"cut_off", cut_off, 0},
                                {"state", state, 0},
                                {"is_utf8", is_utf8, 0},
                                {"random", random, 0},
                                {"sha1", sha1, 0},
                                {nullptr, nullptr, 0}};
const rille_reg kNone[] = {{nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::websocket

extern "C" int luaopen_rille_core_websocket(lua_State* L) {
  using namespace rille::websocket;
  rille::Class<WebSocket>::define(L, kNone);
  rille_newlib(L, kFunctions);
  return 1;
}
