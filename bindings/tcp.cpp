// rille.core.tcp: connecting and listening, over TCP and Unix sockets.
#include <cerrno>
#include <rille/access.hpp>

#include "address.h"
#include "listener.h"
#include "socket.h"
#include "stream.h"

namespace rille {

namespace {

// ---- connecting ---------------------------------------------------------------------------------

struct Connect final : Request<uv_connect_t> {
  using Request::Request;
  StreamHandle handle;

  // libuv cannot cancel a connect, but closing its socket ends it.
  void stop() override { handle.reset(); }

  int push(lua_State* L) override {
    push_stream(L, std::move(handle), *what().address);
    return 1;
  }

  // Where nobody listens, a socket may by chance be given that very port for its own, and then be
  // connected with itself.
  static bool is_own_peer(uv_tcp_t* tcp) {
    sockaddr_storage near{}, far{};
    int near_size = sizeof near, far_size = sizeof far;
    return uv_tcp_getsockname(tcp, reinterpret_cast<sockaddr*>(&near), &near_size) == 0 &&
           uv_tcp_getpeername(tcp, reinterpret_cast<sockaddr*>(&far), &far_size) == 0 &&
           port_of(near) == port_of(far) && ip_of(near) == ip_of(far);
  }

  static void done(uv_connect_t* req, int status) {
    auto self = reclaim(req);
    auto& handle = static_cast<Connect*>(self.get())->handle;
    if (status == 0 && handle && is_own_peer(&handle->tcp)) status = UV_ECONNREFUSED;
    if (status < 0) handle.reset();  // nobody may come for the error
    Waiting::complete(std::move(self), status);
  }
};

// connect(ip, port) -> Stream
int connect(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  int port = luaL_checkint(L, 2);
  sockaddr_storage to;
  if (parse_address(ip, port, &to) != 0) return luaL_argerror(L, 1, "not an IP address");

  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !access->may_reach(ip, port, &refusal)) return push_refusal(L, refusal);

  auto op = std::make_unique<Connect>(Operation{"connect", {}, {}, address_text(ip, port)});
  op->handle = make_tcp(rille_loop(L));
  uv_tcp_t* tcp = &op->handle->tcp;
  return Connect::run(L, std::move(op), [&](uv_connect_t* req) {
    int rc = uv_tcp_connect(req, tcp, reinterpret_cast<sockaddr*>(&to), Connect::done);
    if (rc == 0) uv_tcp_nodelay(tcp, 1);
    return rc;
  });
}

// connect_unix(path) -> err, Stream; neither if the listener's backlog is full
int connect_unix(lua_State* L) {
  std::size_t length;
  const char* text = luaL_checklstring(L, 1, &length);
  std::string path(text, length);
  if (path[0] == '\0') path[0] = '@';
  sockaddr_un to;
  socklen_t size;
  auto fail = [&](int error, const char* syscall) {
    rille_push_os_error(L, -error, syscall, path.c_str(), nullptr, nullptr);
    return 1;
  };
  CheckedPath checked;
  Refusal refusal;
  int rc = check_unix_path(L, path, Access::Last::kObject, &checked, &refusal);
  if (rc == Access::kRefused) return push_refusal(L, refusal);
  if (rc < 0) return fail(-rc, "connect");
  const std::string& place = checked.path().empty() ? path : checked.path();
  if (unix_address(place, &to, &size) != 0) return fail(ENAMETOOLONG, "connect");
  Socket socket = Socket::make(AF_UNIX, SOCK_STREAM);
  if (!socket.is_open()) return fail(errno, "socket");
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), size) != 0) {
    if (errno == EAGAIN) return 0;
    return fail(errno, "connect");
  }
  StreamHandle handle = make_pipe(rille_loop(L));
  rc = uv_pipe_open(&handle->pipe, socket.get());
  if (rc < 0) return fail(-rc, "connect");
  static_cast<void>(socket.release());
  lua_pushnil(L);
  push_stream(L, std::move(handle), std::move(path));
  return 2;
}

// ---- addresses ----------------------------------------------------------------------------------

// family(text) -> "inet" or "inet6" if it is an IP address, else nil
int family(lua_State* L) {
  sockaddr_storage address;
  if (parse_address(luaL_checkstring(L, 1), 0, &address) != 0) return 0;
  lua_pushstring(L, address.ss_family == AF_INET ? "inet" : "inet6");
  return 1;
}

// is_ip(text) -> whether it is an IP address
int is_ip(lua_State* L) {
  lua_pushboolean(L, family(L) != 0);
  return 1;
}

// address(ip, port) -> text
int address(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  lua_pushstring(L, address_text(ip, luaL_checkint(L, 2)).c_str());
  return 1;
}

// check_host(host, port): an error unless a script may reach it, also through others
int check_host(lua_State* L) {
  Refusal refusal;
  Access* access = Access::of(L);
  std::string host = luaL_checkstring(L, 1);
  if (!access || access->may_reach_host(host, luaL_checkint(L, 2), &refusal)) return 0;
  refusal.push(L);
  return 1;
}

const rille_reg kFunctions[] = {{"connect", connect, RILLE_WAITS},
                                {"check_host", check_host, RILLE_WAITS},
                                {"connect_unix", connect_unix, RILLE_WAITS},
                                {"listen", listen_tcp, RILLE_WAITS},
                                {"listen_unix", listen_unix, RILLE_WAITS},
                                {"accept", accept, 0},
                                {"accept_now", accept_now, 0},
                                {"family", family, 0},
                                {"is_ip", is_ip, 0},
                                {"address", address, 0},
                                {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_tcp(lua_State* L) {
  rille::define_listener(L);
  // Streams are made here, and there what they can do.
  lua_getfield(L, LUA_ENVIRONINDEX, "require");
  lua_pushliteral(L, "rille.net.stream");
  lua_call(L, 1, 0);
  rille_newlib(L, rille::kFunctions);
  return 1;
}
