// rille.core.udp: datagrams.
#include <net/if.h>
#include <netinet/in.h>

#include <cerrno>
#include <rille/access.hpp>

#include "address.h"
#include "transport.h"
#include "udp_socket.h"

namespace rille {

namespace {

int push_failure(lua_State* L, int error, const char* syscall, const std::string& address) {
  rille_push_os_error(L, -error, syscall, nullptr, nullptr, address.c_str());
  return 1;
}

// True, with the error pushed, if a script may not reach that.
bool is_refused(lua_State* L, const char* ip, int port) {
  Refusal refusal;
  Access* access = Access::of(L);
  if (!access || access->may_reach(ip, port, &refusal)) return false;
  refusal.push(L);
  return true;
}

// open(ip, port, v6only, reuse_port) -> err, socket
int open(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  int port = luaL_checkint(L, 2);
  sockaddr_storage address;
  if (parse_address(ip, port, &address) != 0) return luaL_argerror(L, 1, "not an IP address");
  if (is_refused(L, ip, port)) return 1;
  int family = address.ss_family;
  std::string name = address_text(ip, port);
  Socket socket = Socket::make(family, SOCK_DGRAM);
  if (!socket.is_open()) return push_failure(L, errno, "socket", name);
  auto set = [&](int level, int option, int value) {
    ::setsockopt(socket.get(), level, option, &value, sizeof value);
  };
  if (family == AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, lua_toboolean(L, 3));
  // Groups that other sockets have joined are not this one's.
  set(IPPROTO_IP, IP_MULTICAST_ALL, 0);
  if (family == AF_INET6) set(IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0);
  if (lua_toboolean(L, 4)) set(SOL_SOCKET, SO_REUSEPORT, 1);
  socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    return push_failure(L, errno, "bind", name);
  }
  size = sizeof address;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
  lua_pushnil(L);
  Class<Udp>::push(L, rille_loop(L), std::move(socket), family, address_text(address, size),
                   read_space(L));
  return 2;
}

Udp* check(lua_State* L) { return Class<Udp>::check(L, 1); }

// socket:connect(ip, port) -> err
int connect(lua_State* L) {
  Udp* udp = check(L);
  const char* ip = luaL_checkstring(L, 2);
  int port = luaL_checkint(L, 3);
  sockaddr_storage to;
  socklen_t size;
  if (is_refused(L, ip, port)) return 1;
  std::string name = address_text(ip, port);
  if (!udp->convert(ip, port, &to, &size)) return push_failure(L, EAFNOSUPPORT, "connect", name);
  if (::connect(udp->fd(), reinterpret_cast<const sockaddr*>(&to), size) != 0) {
    return push_failure(L, errno, "connect", name);
  }
  udp->set_name(std::move(name));
  return 0;
}

// send(socket, data [, ip, port]) -> err
int send(lua_State* L) {
  Udp* udp = check(L);
  std::size_t size;
  const char* data = luaL_checklstring(L, 2, &size);
  if (!udp->is_open()) return push_closed_socket(L, "send", udp->name());
  if (lua_isnoneornil(L, 3)) return udp->send(L, data, size, nullptr, 0, udp->name());
  const char* ip = luaL_checkstring(L, 3);
  int port = luaL_checkint(L, 4);
  sockaddr_storage to;
  socklen_t to_size;
  if (is_refused(L, ip, port)) return 1;
  std::string name = address_text(ip, port);
  if (!udp->convert(ip, port, &to, &to_size)) return push_failure(L, EAFNOSUPPORT, "send", name);
  return udp->send(L, data, size, &to, to_size, std::move(name));
}

// recv(socket) -> err, data, host, port, family
int recv(lua_State* L) { return check(L)->receive(L); }

// socket:address() -> family, host, port; nothing once it is closed
int address(lua_State* L) {
  Udp* udp = check(L);
  if (!udp->is_open()) return 0;
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  ::getsockname(udp->fd(), reinterpret_cast<sockaddr*>(&bound), &size);
  lua_pushstring(L, bound.ss_family == AF_INET ? "inet" : "inet6");
  lua_pushstring(L, ip_of(bound).c_str());
  lua_pushinteger(L, port_of(bound));
  return 3;
}

struct Option {
  const char* name;
  int level_v4, option_v4;
  int level_v6, option_v6;
};

constexpr Option kOptions[] = {
    {"broadcast", SOL_SOCKET, SO_BROADCAST, SOL_SOCKET, SO_BROADCAST},
    {"ttl", IPPROTO_IP, IP_TTL, IPPROTO_IPV6, IPV6_UNICAST_HOPS},
    {"multicast_ttl", IPPROTO_IP, IP_MULTICAST_TTL, IPPROTO_IPV6, IPV6_MULTICAST_HOPS},
    {"multicast_loop", IPPROTO_IP, IP_MULTICAST_LOOP, IPPROTO_IPV6, IPV6_MULTICAST_LOOP},
    {"multicast_interface", IPPROTO_IP, IP_MULTICAST_IF, IPPROTO_IPV6, IPV6_MULTICAST_IF},
};

// socket:set_option(name, number) -> err
int set_option(lua_State* L) {
  Udp* udp = check(L);
  std::string name = luaL_checkstring(L, 2);
  int value = luaL_checkint(L, 3);
  for (const Option& o : kOptions) {
    if (name != o.name) continue;
    bool is_v4 = true;
    bool is_set = false;
    // A socket for both families has the options of both.
    sockaddr_storage bound{};
    socklen_t size = sizeof bound;
    ::getsockname(udp->fd(), reinterpret_cast<sockaddr*>(&bound), &size);
    if (bound.ss_family == AF_INET6) {
      is_set = ::setsockopt(udp->fd(), o.level_v6, o.option_v6, &value, sizeof value) == 0;
      is_v4 = is_set && o.level_v4 != o.level_v6 &&
              IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<sockaddr_in6&>(bound).sin6_addr);
    }
    if (is_v4) {
      ip_mreqn interface {};
      interface.imr_ifindex = value;
      bool is_interface = o.option_v4 == IP_MULTICAST_IF && o.level_v4 == IPPROTO_IP;
      is_set = ::setsockopt(udp->fd(), o.level_v4, o.option_v4,
                            is_interface ? static_cast<void*>(&interface) : &value,
                            is_interface ? sizeof interface : sizeof value) == 0;
    }
    return is_set ? 0 : push_failure(L, errno, "setsockopt", udp->name());
  }
  return luaL_argerror(L, 2, "unknown option");
}

// interface(name) -> its number, or nothing
int interface(lua_State* L) {
  unsigned index = if_nametoindex(luaL_checkstring(L, 1));
  if (index == 0) return 0;
  lua_pushnumber(L, index);
  return 1;
}

// socket:membership(join, group, interface) -> err; interface 0: the system's choice
int membership(lua_State* L) {
  Udp* udp = check(L);
  const char* ip = luaL_checkstring(L, 3);
  group_req request{};
  request.gr_interface = static_cast<unsigned>(luaL_checkint(L, 4));
  if (parse_address(ip, 0, &request.gr_group) != 0) return luaL_argerror(L, 3, "no IP address");
  if (is_refused(L, ip, 0)) return 1;
  // A socket for both families joins groups of IPv4 as one of IPv4 does.
  int level = request.gr_group.ss_family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
  int option = lua_toboolean(L, 2) ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP;
  if (::setsockopt(udp->fd(), level, option, &request, sizeof request) == 0) return 0;
  return push_failure(L, errno, "setsockopt", ip);
}

int close(lua_State* L) {
  check(L)->close();
  return 0;
}

const rille_reg kMethods[] = {{"connect", connect, RILLE_WAITS},
                              {"address", address, 0},
                              {"set_option", set_option, RILLE_WAITS},
                              {"membership", membership, RILLE_WAITS},
                              {"close", close, 0},
                              {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"open", open, RILLE_WAITS},
                                {"send", send, 0},
                                {"recv", recv, 0},
                                {"interface", interface, 0},
                                {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_udp(lua_State* L) {
  rille::Class<rille::Udp>::define(L, rille::kMethods);
  rille_newlib(L, rille::kFunctions);
  return 1;
}
