// rille.core.udp: datagrams. They are received when a task asks for one: what nobody has asked for
// stays with the system, which drops what is too much.
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>

#include "address.h"
#include "socket.h"
#include "takers.h"
#include "transport.h"

namespace rille {

namespace {

// Receives that need not wait are this many at most in a row, so that a flood of datagrams does not
// keep everything else from running.
constexpr int kMostInARow = 64;

struct Datagram {
  std::string data;
  sockaddr_storage from{};
  int status = 0;  // 0: it is none, the socket has been closed; 1, or an error
};

int push_closed(lua_State* L, const char* method, const std::string& name) {
  std::string message = std::string(method) + ": the socket " + name + " is closed";
  rille_push_error(L, "InvalidStateError", nullptr, message.c_str());
  return 1;
}

class Udp {
 public:
  static constexpr char kName[] = "rille.Udp";

  Udp(uv_loop_t* loop, Socket socket, int family, std::string name, char* space)
      : socket_(std::move(socket)),
        watch_(std::in_place, loop, socket_.get(), ready, this),
        family_(family),
        name_(std::move(name)),
        space_(space),
        receivers_(this) {}
  ~Udp() { close(); }
  Udp(const Udp&) = delete;
  Udp& operator=(const Udp&) = delete;

  bool is_open() const { return socket_.is_open(); }
  int fd() const { return socket_.get(); }
  const std::string& name() const { return name_; }
  void set_name(std::string name) { name_ = std::move(name); }

  // Writes an address as this socket's family has it. False if it has it not.
  bool convert(const char* ip, int port, sockaddr_storage* to, socklen_t* size) const;

  int receive(lua_State* L);
  int send(lua_State* L, const char* data, std::size_t size, const sockaddr_storage* to,
           socklen_t to_size, std::string address);
  void close();

  // For the receivers.
  int push_item(lua_State* L, Datagram* datagram);
  void item_returned() { serve_receivers(); }

 private:
  struct Sending;

  static void ready(void* data, int events) {
    auto* self = static_cast<Udp*>(data);
    if (events & UV_READABLE) self->serve_receivers();
    if (events & UV_WRITABLE) self->serve_senders();
  }
  bool take(Datagram* datagram);
  ssize_t receive_into(sockaddr_storage* from);
  void serve_receivers();
  void serve_senders();
  void watch();

  Socket socket_;
  std::optional<Watch> watch_;
  int family_;
  std::string name_;
  char* space_;
  Takers<Udp, Datagram> receivers_;
  std::deque<Sending*> senders_;
  int in_a_row_ = 0;
};

// ---- receiving ----------------------------------------------------------------------------------

// Into `space_`; the size, or a negative errno.
ssize_t Udp::receive_into(sockaddr_storage* from) {
  ssize_t n;
  do {
    socklen_t size = sizeof *from;
    n = ::recvfrom(socket_.get(), space_, kReadSize, 0, reinterpret_cast<sockaddr*>(from), &size);
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

bool Udp::take(Datagram* datagram) {
  if (receivers_.take_returned(datagram)) return true;
  ssize_t n = receive_into(&datagram->from);
  if (n == -EAGAIN) return false;
  datagram->status = n < 0 ? static_cast<int>(n) : 1;
  if (n > 0) datagram->data.assign(space_, static_cast<std::size_t>(n));
  return true;
}

void Udp::serve_receivers() {
  while (!receivers_.is_empty()) {
    Datagram datagram;
    if (!take(&datagram)) break;
    receivers_.give(std::move(datagram));
  }
  watch();
}

int Udp::receive(lua_State* L) {
  if (!is_open()) return push_closed(L, "recv", name_);
  Datagram datagram;
  if (receivers_.is_empty() && ++in_a_row_ < kMostInARow && take(&datagram)) {
    return push_item(L, &datagram);
  }
  in_a_row_ = 0;
  watch_->set(watch_->events() | UV_READABLE);
  return receivers_.wait(L);
}

// nil, data, host, port, family
int Udp::push_item(lua_State* L, Datagram* datagram) {
  if (datagram->status == 0) return push_closed(L, "recv", name_);
  if (datagram->status < 0) {
    rille_push_os_error(L, datagram->status, "recv", nullptr, nullptr, name_.c_str());
    return 1;
  }
  std::string host = ip_of(datagram->from);
  lua_pushnil(L);
  lua_pushlstring(L, datagram->data.data(), datagram->data.size());
  lua_pushlstring(L, host.data(), host.size());
  lua_pushinteger(L, port_of(datagram->from));
  lua_pushstring(L, host.find(':') == host.npos ? "inet" : "inet6");
  return 5;
}

// ---- sending ------------------------------------------------------------------------------------

bool Udp::convert(const char* ip, int port, sockaddr_storage* to, socklen_t* size) const {
  if (parse_address(ip, port, to) != 0) return false;
  if (to->ss_family == AF_INET && family_ == AF_INET6) {
    std::string mapped = std::string("::ffff:") + ip;
    parse_address(mapped.c_str(), port, to);
  }
  *size = family_ == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  return to->ss_family == family_;
}

// A task that waits until its datagram can be sent. Belongs to its waiter.
struct Udp::Sending {
  Udp* socket;  // null once it has been woken
  std::string data;
  sockaddr_storage to;
  socklen_t to_size;
  std::string address;
  std::string name;
  rille_waiter* waiter = nullptr;
  int status = 1;  // 0: the socket has been closed

  ssize_t send() const {
    return send_now(socket->fd(), data.data(), data.size(), to_size ? &to : nullptr, to_size);
  }

  // 0 or more, or a negative errno.
  static ssize_t send_now(int fd, const char* data, std::size_t size, const sockaddr_storage* to,
                          socklen_t to_size) {
    ssize_t n;
    do {
      n = ::sendto(fd, data, size, MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(to), to_size);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
  }

  void end(int result) {
    status = result;
    socket = nullptr;
    rille_complete(std::exchange(waiter, nullptr), push, this);
  }

  static int push(lua_State* L, void* data) {
    std::unique_ptr<Sending> self(static_cast<Sending*>(data));
    if (!L || self->status > 0) return 0;
    if (self->status == 0) return push_closed(L, "send", self->name);
    rille_push_os_error(L, self->status, "send", nullptr, nullptr, self->address.c_str());
    return 1;
  }

  static void give_up(rille_waiter* w, void* data) {
    auto* self = static_cast<Sending*>(data);
    std::erase(self->socket->senders_, self);
    rille_complete(w, push, self);
  }
};

void Udp::serve_senders() {
  while (!senders_.empty()) {
    Sending* first = senders_.front();
    ssize_t n = first->send();
    if (n == -EAGAIN) break;
    senders_.pop_front();
    first->end(n < 0 ? static_cast<int>(n) : 1);
  }
  watch();
}

int Udp::send(lua_State* L, const char* data, std::size_t size, const sockaddr_storage* to,
              socklen_t to_size, std::string address) {
  if (senders_.empty()) {
    ssize_t n = Sending::send_now(fd(), data, size, to, to_size);
    if (n >= 0) return 0;
    if (n != -EAGAIN) {
      rille_push_os_error(L, static_cast<int>(n), "send", nullptr, nullptr, address.c_str());
      return 1;
    }
  }
  auto op = std::make_unique<Sending>(
      Sending{this, std::string(data, size), {}, to_size, std::move(address), name_});
  if (to) op->to = *to;
  op->waiter = rille_prepare(L, Sending::give_up, op.get());
  rille_waiter* waiter = op->waiter;
  senders_.push_back(op.release());
  watch_->set(watch_->events() | UV_WRITABLE);
  return rille_park(L, waiter);
}

void Udp::watch() {
  watch_->set((receivers_.is_empty() ? 0 : UV_READABLE) | (senders_.empty() ? 0 : UV_WRITABLE));
}

void Udp::close() {
  if (!is_open()) return;
  while (!receivers_.is_empty()) receivers_.give(Datagram());
  receivers_.close();
  for (Sending* s : std::exchange(senders_, {})) s->end(0);
  watch_.reset();
  socket_ = Socket();
}

// ---- functions ----------------------------------------------------------------------------------

int push_failure(lua_State* L, int error, const char* syscall, const std::string& address) {
  rille_push_os_error(L, -error, syscall, nullptr, nullptr, address.c_str());
  return 1;
}

// open(ip, port, v6only, reuse_port) -> err, socket
int open(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  int port = luaL_checkint(L, 2);
  sockaddr_storage address;
  if (parse_address(ip, port, &address) != 0) return luaL_argerror(L, 1, "not an IP address");
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
  if (!udp->is_open()) return push_closed(L, "send", udp->name());
  if (lua_isnoneornil(L, 3)) return udp->send(L, data, size, nullptr, 0, udp->name());
  const char* ip = luaL_checkstring(L, 3);
  int port = luaL_checkint(L, 4);
  sockaddr_storage to;
  socklen_t to_size;
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
