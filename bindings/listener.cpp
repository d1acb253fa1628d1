// Connections are taken from the system's backlog one by one, as tasks ask for them: what nobody
// wants yet stays there, and so does what finds no descriptor.
#include "listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>

#include "address.h"
#include "socket.h"
#include "stream.h"
#include "takers.h"

namespace rille {

namespace {

// Accepts that need not wait are this many at most in a row, so that a flood of connections does
// not keep everything else from running.
constexpr int kMostInARow = 64;

struct Connection {
  StreamHandle handle;  // null if there is none: the listener has been closed, or has failed
  std::string name;
  int status = 0;
};

class Listener {
 public:
  static constexpr char kName[] = "rille.Listener";

  Listener(uv_loop_t* loop, Socket socket, std::string name)
      : loop_(loop),
        socket_(std::move(socket)),
        watch_(std::in_place, loop, socket_.get(), ready, this),
        name_(std::move(name)),
        acceptors_(this) {}
  ~Listener() { close(); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  bool is_open() const { return socket_.is_open(); }
  const std::string& name() const { return name_; }
  int fd() const { return socket_.get(); }

  // The socket has this file, which goes with it.
  void own_file(std::string path, std::unique_ptr<CheckedPath> checked);

  int accept(lua_State* L);
  int accept_now(lua_State* L);
  void close();

  // For the acceptors.
  int push_item(lua_State* L, Connection* connection);
  void item_returned() { serve(); }

 private:
  static void ready(void* self, int) { static_cast<Listener*>(self)->serve(); }
  bool take(Connection* connection);
  void serve();
  void remove_file();

  uv_loop_t* loop_;
  Socket socket_;
  std::optional<Watch> watch_;
  std::string name_;
  Takers<Listener, Connection> acceptors_;
  int in_a_row_ = 0;
  std::string file_;
  std::unique_ptr<CheckedPath> checked_;  // what `file_` leads through
  struct stat file_stat_ {};
};

// What is wrong with one connection, not with the listener: see accept(2).
bool is_passing(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case ENETDOWN:
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
      return true;
    default:
      return false;
  }
}

// Takes the next connection, or learns what keeps us from taking any. False if there is none.
bool Listener::take(Connection* connection) {
  if (acceptors_.take_returned(connection)) return true;
  sockaddr_storage address{};
  socklen_t size;
  int fd;
  do {
    size = sizeof address;
    fd = ::accept4(socket_.get(), reinterpret_cast<sockaddr*>(&address), &size,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);
  } while (fd < 0 && is_passing(errno));
  if (fd < 0) {
    connection->status = -errno;
    return errno != EAGAIN;
  }
  Socket peer(fd);
  bool is_unix = address.ss_family == AF_UNIX;
  StreamHandle handle = is_unix ? make_pipe(loop_) : make_tcp(loop_);
  int rc = is_unix ? uv_pipe_open(&handle->pipe, fd) : uv_tcp_open(&handle->tcp, fd);
  connection->status = rc;
  if (rc < 0) return true;
  static_cast<void>(peer.release());
  connection->handle = std::move(handle);
  // The other end of a Unix socket has no name.
  connection->name = is_unix ? name_ : address_text(address, size);
  return true;
}

void Listener::serve() {
  while (!acceptors_.is_empty()) {
    Connection connection;
    if (!take(&connection)) return watch_->set(UV_READABLE);
    acceptors_.give(std::move(connection));
  }
  watch_->set(0);
}

int Listener::accept(lua_State* L) {
  Connection connection;
  if (!is_open()) return push_item(L, &connection);
  if (acceptors_.is_empty() && ++in_a_row_ < kMostInARow && take(&connection)) {
    return push_item(L, &connection);
  }
  in_a_row_ = 0;
  watch_->set(UV_READABLE);
  return acceptors_.wait(L);
}

int Listener::accept_now(lua_State* L) {
  Connection connection;
  return is_open() && take(&connection) ? push_item(L, &connection) : 0;
}

int Listener::push_item(lua_State* L, Connection* connection) {
  if (connection->status < 0) {
    rille_push_os_error(L, connection->status, "accept", nullptr, nullptr, name_.c_str());
    return 1;
  }
  lua_pushnil(L);
  if (connection->handle) {
    push_stream(L, std::move(connection->handle), std::move(connection->name), true);
  } else {
    lua_pushnil(L);
  }
  return 2;
}

void Listener::close() {
  if (!is_open()) return;
  while (!acceptors_.is_empty()) acceptors_.give(Connection());
  acceptors_.close();
  watch_.reset();
  remove_file();
  socket_ = Socket();
}

// ---- the file of a Unix socket ------------------------------------------------------------------

void Listener::own_file(std::string path, std::unique_ptr<CheckedPath> checked) {
  if (::lstat(path.c_str(), &file_stat_) == 0) file_ = std::move(path);
  checked_ = std::move(checked);
}

bool is_same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// Unless another one has taken its place.
void Listener::remove_file() {
  struct stat now {};
  if (!file_.empty() && ::lstat(file_.c_str(), &now) == 0 && is_same_file(now, file_stat_)) {
    ::unlink(file_.c_str());
  }
}

// Removes the file that a listener which is gone has left behind: a socket on which nobody listens.
bool remove_stale(const std::string& path, const sockaddr_un& address, socklen_t size) {
  struct stat before {
  }, now{};
  if (::lstat(path.c_str(), &before) != 0 || !S_ISSOCK(before.st_mode)) return false;
  Socket probe = Socket::make(AF_UNIX, SOCK_STREAM);
  int rc = ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), size);
  if (rc == 0 || errno != ECONNREFUSED) return false;
  if (::lstat(path.c_str(), &now) != 0 || !is_same_file(now, before)) return false;
  return ::unlink(path.c_str()) == 0;
}

// ---- functions ----------------------------------------------------------------------------------

void set_option(const Socket& socket, int level, int option, int value) {
  ::setsockopt(socket.get(), level, option, &value, sizeof value);
}

int push_failure(lua_State* L, int error, const char* syscall, const char* path,
                 const char* address) {
  rille_push_os_error(L, -error, syscall, path, nullptr, address);
  return 1;
}

int push_listener(lua_State* L, Socket socket, std::string name, std::string file = {},
                  std::unique_ptr<CheckedPath> checked = nullptr) {
  lua_pushnil(L);
  auto* listener = Class<Listener>::push(L, rille_loop(L), std::move(socket), std::move(name));
  if (!file.empty()) listener->own_file(std::move(file), std::move(checked));
  return 2;
}

// listener:address() -> family, host, port; or "unix", path; nothing once it is closed
int address(lua_State* L) {
  auto* listener = Class<Listener>::check(L, 1);
  if (!listener->is_open()) return 0;
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  ::getsockname(listener->fd(), reinterpret_cast<sockaddr*>(&bound), &size);
  if (bound.ss_family == AF_UNIX) {
    lua_pushliteral(L, "unix");
    lua_pushstring(L, listener->name().c_str());
    return 2;
  }
  lua_pushstring(L, bound.ss_family == AF_INET ? "inet" : "inet6");
  lua_pushstring(L, ip_of(bound).c_str());
  lua_pushinteger(L, port_of(bound));
  return 3;
}

int close(lua_State* L) {
  Class<Listener>::check(L, 1)->close();
  return 0;
}

int is_closed(lua_State* L) {
  lua_pushboolean(L, !Class<Listener>::check(L, 1)->is_open());
  return 1;
}

const rille_reg kMethods[] = {{"address", address, 0},
                              {"close", close, 0},
                              {"is_closed", is_closed, 0},
                              {nullptr, nullptr, 0}};

}  // namespace

int listen_tcp(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  int port = luaL_checkint(L, 2);
  int backlog = luaL_checkint(L, 3);
  sockaddr_storage address;
  if (parse_address(ip, port, &address) != 0) return luaL_argerror(L, 1, "not an IP address");
  bool is_v6 = address.ss_family == AF_INET6;
  std::string name = address_text(ip, port);

  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !access->may_reach(ip, port, &refusal)) return push_refusal(L, refusal);
  Socket socket = Socket::make(address.ss_family, SOCK_STREAM);
  if (!socket.is_open()) return push_failure(L, errno, "socket", nullptr, name.c_str());
  set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
  if (lua_toboolean(L, 5)) set_option(socket, SOL_SOCKET, SO_REUSEPORT, 1);
  if (is_v6) set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, lua_toboolean(L, 4));
  // The connections inherit it.
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  socklen_t size = is_v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
    return push_failure(L, errno, "bind", nullptr, name.c_str());
  }
  if (backlog > 0 && ::listen(socket.get(), backlog) != 0) {
    return push_failure(L, errno, "listen", nullptr, name.c_str());
  }
  size = sizeof address;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size);
  return push_listener(L, std::move(socket), address_text(address, size));
}

int check_unix_path(lua_State* L, const std::string& path, Access::Last last, CheckedPath* checked,
                    Refusal* refusal) {
  Access* access = Access::of(L);
  if (!access) return 0;
  if (path[0] != '@') {
    return access->check_path(path, Access::kRead | Access::kWrite, last, checked, refusal);
  }
  bool granted = access->may_reach_all("the abstract Unix socket '" + path + "'", refusal);
  return granted ? 0 : Access::kRefused;
}

int listen_unix(lua_State* L) {
  std::size_t length;
  const char* text = luaL_checklstring(L, 1, &length);
  int backlog = luaL_checkint(L, 2);
  std::string path(text, length);
  bool is_abstract = path[0] == '\0' || path[0] == '@';
  if (is_abstract) path[0] = '@';
  sockaddr_un address;
  socklen_t size;
  auto checked = std::make_unique<CheckedPath>();
  Refusal refusal;
  int rc = check_unix_path(L, path, Access::Last::kEntry, checked.get(), &refusal);
  if (rc == Access::kRefused) return push_refusal(L, refusal);
  if (rc < 0) return push_failure(L, -rc, "bind", path.c_str(), nullptr);
  const std::string place = checked->path().empty() ? path : checked->path();
  if (unix_address(place, &address, &size) != 0) {
    return push_failure(L, ENAMETOOLONG, "bind", path.c_str(), nullptr);
  }

  Socket socket = Socket::make(AF_UNIX, SOCK_STREAM);
  if (!socket.is_open()) return push_failure(L, errno, "socket", path.c_str(), nullptr);
  auto bind = [&] {
    return ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size) == 0;
  };
  bool bound = bind();
  if (!bound && errno == EADDRINUSE && !is_abstract) {
    bound = remove_stale(place, address, size) && bind();
    if (!bound) errno = EADDRINUSE;
  }
  if (!bound) return push_failure(L, errno, "bind", path.c_str(), nullptr);
  std::string file = is_abstract ? "" : place;
  if (::listen(socket.get(), backlog) != 0) {
    int error = errno;
    if (!file.empty()) ::unlink(place.c_str());
    return push_failure(L, error, "listen", path.c_str(), nullptr);
  }
  return push_listener(L, std::move(socket), std::move(path), std::move(file), std::move(checked));
}

void push_listener(lua_State* L, Socket socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof bound;
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&bound), &size);
  Class<Listener>::push(L, rille_loop(L), std::move(socket), address_text(bound, size));
}

int listener_descriptor(lua_State* L, int index) { return Class<Listener>::check(L, index)->fd(); }

int accept(lua_State* L) { return Class<Listener>::check(L, 1)->accept(L); }

int accept_now(lua_State* L) { return Class<Listener>::check(L, 1)->accept_now(L); }

void define_listener(lua_State* L) { Class<Listener>::define(L, kMethods); }

}  // namespace rille
