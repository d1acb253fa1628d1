// The addresses of streams that are sockets, and the options of TCP.
#include "address.h"
#include "stream_methods.h"

namespace rille {

namespace {

// Pushes family, host, port; or "unix", path; or nothing, if it is no socket.
int push_address(lua_State* L, Stream* s, int (*get)(int, sockaddr*, socklen_t*)) {
  uv_stream_t* handle = s->transport()->handle();
  uv_os_fd_t fd;
  if (!handle || uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd) != 0) return 0;
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (get(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.ss_family == AF_UNIX) {
    lua_pushliteral(L, "unix");
    std::string path = address_text(address, size);
    // In a sandbox a listener's path goes through what was checked.
    if (path.rfind("/proc/self/fd/", 0) == 0) path = s->name();
    lua_pushlstring(L, path.data(), path.size());
    return 2;
  }
  if (address.ss_family != AF_INET && address.ss_family != AF_INET6) return 0;
  lua_pushstring(L, address.ss_family == AF_INET ? "inet" : "inet6");
  lua_pushstring(L, ip_of(address).c_str());
  lua_pushinteger(L, port_of(address));
  return 3;
}

// The options of TCP; other streams have no use for them, and take them.
int set_tcp_option(lua_State* L, Stream* s, int (*set)(uv_tcp_t*, unsigned), unsigned value) {
  uv_stream_t* handle = s->transport()->handle();
  if (handle && handle->type == UV_TCP) {
    int rc = set(reinterpret_cast<uv_tcp_t*>(handle), value);
    if (rc < 0) {
      rille_push_os_error(L, rc, "setsockopt", nullptr, nullptr, s->name().c_str());
      return lua_error(L);
    }
  }
  lua_settop(L, 1);
  return 1;
}

}  // namespace

int StreamMethods::socket_address(lua_State* L) {
  Stream* s = check_stream(L, 1, "address");
  return push_address(L, s,
                      [](int fd, sockaddr* a, socklen_t* n) { return getsockname(fd, a, n); });
}

int StreamMethods::peer_address(lua_State* L) {
  Stream* s = check_stream(L, 1, "peer");
  return push_address(L, s,
                      [](int fd, sockaddr* a, socklen_t* n) { return getpeername(fd, a, n); });
}

// stream:set_nodelay([on=true]) -> stream
int StreamMethods::set_nodelay(lua_State* L) {
  Stream* s = check_stream(L, 1, "set_nodelay");
  bool on = lua_isnoneornil(L, 2) || lua_toboolean(L, 2);
  return set_tcp_option(
      L, s, [](uv_tcp_t* t, unsigned v) { return uv_tcp_nodelay(t, v != 0); }, on);
}

// stream:set_keepalive([on=true | seconds]) -> stream
int StreamMethods::set_keepalive(lua_State* L) {
  constexpr unsigned kStandard = 60;
  Stream* s = check_stream(L, 1, "set_keepalive");
  unsigned seconds = kStandard;
  if (lua_type(L, 2) == LUA_TNUMBER) {
    lua_Number n = lua_tonumber(L, 2);
    if (!(n >= 1 && n <= 32767)) return luaL_argerror(L, 2, "1 to 32767 seconds expected");
    seconds = static_cast<unsigned>(n);
  } else if (!lua_isnoneornil(L, 2)) {
    luaL_checktype(L, 2, LUA_TBOOLEAN);
    if (!lua_toboolean(L, 2)) seconds = 0;
  }
  return set_tcp_option(
      L, s, [](uv_tcp_t* t, unsigned v) { return uv_tcp_keepalive(t, v != 0, v == 0 ? 1 : v); },
      seconds);
}

}  // namespace rille
