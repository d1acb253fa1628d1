// rille.core.tcp: sockets and listeners, addresses of names.
#include "tcp.h"

#include <algorithm>
#include <deque>

namespace rille {

namespace {
constexpr std::size_t kEnough = 262144;  // bytes kept for a reader that does not come
}  // namespace

void Socket::received(const char* data, std::size_t size) {
  input_.append(data, size);
  if (input_.size() > kEnough) {
    stream.pause();
    reading_ = false;
  }
  reader_.wake();
}

void Socket::ended(int status) {
  status_ = status;
  reader_.wake();
}

int Socket::push_bytes(lua_State* L, void* self) {
  return L ? static_cast<Socket*>(self)->push(L) : 0;
}

// The bytes are taken when the task resumes, so that a cancelled read loses none.
int Socket::push(lua_State* L) {
  if (input_.empty() && status_ != UV_EOF) {
    rille_push_os_error(L, status_, "read", nullptr, nullptr, address_.c_str());
    return 1;
  }
  lua_pushnil(L);
  if (input_.empty()) {
    lua_pushnil(L);
  } else {
    std::size_t n = std::min(max_, input_.size());
    lua_pushlstring(L, input_.data(), n);
    input_.erase(0, n);
  }
  return 2;
}

int Socket::read(lua_State* L, std::size_t max) {
  if (reader_.is_taken()) return luaL_error(L, "another task reads from this socket");
  max_ = max;
  if (!input_.empty() || status_ != 0) return push(L);
  if (!stream.is_open()) {
    rille_push_os_error(L, UV_ENOTCONN, "read", nullptr, nullptr, address_.c_str());
    return 1;
  }
  if (!reading_) {
    reading_ = true;
    stream.read(this);
  }
  return reader_.wait(L, push_bytes, this);
}

void Socket::close() {
  stream.close();
  if (status_ == 0) status_ = UV_ECANCELED;
  reader_.wake();
}

namespace {

Socket* check_open(lua_State* L) {
  Socket* s = Class<Socket>::check(L, 1);
  if (!s->stream.is_open()) luaL_error(L, "the socket is closed");
  return s;
}

// ---- connecting ---------------------------------------------------------------------------------

struct Connect final : Request<uv_connect_t> {
  using Request::Request;
  Handle<uv_tcp_t> handle;

  // libuv cannot cancel a connect, but closing its socket ends it.
  void stop() override { handle.reset(); }

  int push(lua_State* L) override {
    uv_tcp_nodelay(handle.get(), 1);
    Class<Socket>::push(L, std::move(handle), *what().address, read_space(L));
    return 1;
  }
};

// connect(ip, port) -> Socket
int connect(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  int port = luaL_checkint(L, 2);
  sockaddr_storage to;
  if (parse_address(ip, port, &to) != 0) return luaL_argerror(L, 1, "not an IP address");

  auto op = std::make_unique<Connect>(Operation{"connect", {}, {}, address_text(ip, port)});
  op->handle = make_tcp(rille_loop(L));
  uv_tcp_t* tcp = op->handle.get();
  return Connect::run(L, std::move(op), [&](uv_connect_t* req) {
    return uv_tcp_connect(req, tcp, reinterpret_cast<sockaddr*>(&to),
                          [](uv_connect_t* r, int rc) { Waiting::complete(reclaim(r), rc); });
  });
}

struct Lookup final : Request<uv_getaddrinfo_t> {
  using Request::Request;
  ~Lookup() override { uv_freeaddrinfo(req.addrinfo); }

  // It may already run on a thread, to its end; what it finds is dropped then.
  void stop() override { uv_cancel(reinterpret_cast<uv_req_t*>(&req)); }

  int push(lua_State* L) override {
    lua_newtable(L);
    int n = 0;
    for (const addrinfo* a = req.addrinfo; a; a = a->ai_next) {
      if (a->ai_family != AF_INET && a->ai_family != AF_INET6) continue;
      sockaddr_storage address{};
      std::copy_n(reinterpret_cast<const char*>(a->ai_addr), a->ai_addrlen,
                  reinterpret_cast<char*>(&address));
      lua_pushstring(L, ip_of(address).c_str());
      lua_rawseti(L, -2, ++n);
    }
    return 1;
  }
};

// lookup(name) -> list of IP addresses, in the system's order
int lookup(lua_State* L) {
  const char* name = luaL_checkstring(L, 1);
  auto op = std::make_unique<Lookup>(Operation{"getaddrinfo", {}, {}, name});
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  uv_loop_t* loop = rille_loop(L);
  return Lookup::run(L, std::move(op), [&](uv_getaddrinfo_t* req) {
    return uv_getaddrinfo(
        loop, req,
        [](uv_getaddrinfo_t* r, int status, addrinfo*) { Waiting::complete(reclaim(r), status); },
        name, nullptr, &hints);
  });
}

// is_ip(text) -> whether it is an IP address
int is_ip(lua_State* L) {
  sockaddr_storage address;
  lua_pushboolean(L, parse_address(luaL_checkstring(L, 1), 0, &address) == 0);
  return 1;
}

// address(ip, port) -> text
int address(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  lua_pushstring(L, address_text(ip, luaL_checkint(L, 2)).c_str());
  return 1;
}

// ---- sockets ------------------------------------------------------------------------------------

// socket:read([max]) -> bytes, or nil at the end
int socket_read(lua_State* L) {
  auto max = static_cast<std::size_t>(luaL_optinteger(L, 2, kReadSize));
  return Class<Socket>::check(L, 1)->read(L, max);
}

// socket:write(data)
int socket_write(lua_State* L) {
  std::size_t size;
  const char* data = luaL_checklstring(L, 2, &size);
  Socket* s = check_open(L);
  uv_buf_t buffer = uv_buf_init(const_cast<char*>(data), static_cast<unsigned>(size));
  int n = s->stream.try_write(&buffer, 1);
  if (n < 0) {
    rille_push_os_error(L, n, "write", nullptr, nullptr, s->address().c_str());
    return 1;
  }
  auto written = static_cast<std::size_t>(n);
  if (written == size) return 0;
  return s->stream.write(L, s->address().c_str(), std::string(data + written, size - written));
}

int socket_shutdown(lua_State* L) {
  check_open(L)->stream.shutdown();
  return 0;
}

int socket_close(lua_State* L) {
  Class<Socket>::check(L, 1)->close();
  return 0;
}

int socket_abort(lua_State* L) {
  Socket* s = Class<Socket>::check(L, 1);
  s->stream.abort();
  s->close();
  return 0;
}

int socket_address(lua_State* L) {
  lua_pushstring(L, Class<Socket>::check(L, 1)->address().c_str());
  return 1;
}

const rille_reg kSocketMethods[] = {{"read", socket_read, RILLE_WAITS},
                                    {"write", socket_write, RILLE_WAITS},
                                    {"shutdown", socket_shutdown, 0},
                                    {"close", socket_close, 0},
                                    {"abort", socket_abort, 0},
                                    {"address", socket_address, 0},
                                    {nullptr, nullptr, 0}};

// ---- listeners ----------------------------------------------------------------------------------

class Listener {
 public:
  static constexpr char kName[] = "rille.Listener";

  explicit Listener(uv_loop_t* loop) : handle_(make_tcp(loop)) { handle_->data = this; }

  int listen(const sockaddr_storage& address, const char** syscall) {
    auto arrived = [](uv_stream_t* s, int status) {
      if (status == 0) static_cast<Listener*>(s->data)->take();
    };
    return listen_on(handle_.get(), address, 511, arrived, syscall);
  }

  int accept(lua_State* L) {
    if (point_.is_taken()) return luaL_error(L, "another task accepts connections here");
    if (!handle_ || !accepted_.empty()) return push(L);
    return point_.wait(
        L, [](lua_State* l, void* self) { return l ? static_cast<Listener*>(self)->push(l) : 0; },
        this);
  }

  int port() const {
    sockaddr_storage address{};
    int size = sizeof address;
    if (handle_) uv_tcp_getsockname(handle_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    return port_of(address);
  }

  void close() {
    handle_.reset();
    accepted_.clear();
    point_.wake();
  }

 private:
  void take() {
    auto* server = reinterpret_cast<uv_stream_t*>(handle_.get());
    Handle<uv_tcp_t> peer = make_tcp(handle_->loop);
    if (uv_accept(server, reinterpret_cast<uv_stream_t*>(peer.get())) != 0) return;
    uv_tcp_nodelay(peer.get(), 1);
    accepted_.push_back(std::move(peer));
    point_.wake();
  }

  int push(lua_State* L) {
    lua_pushnil(L);
    if (accepted_.empty()) {
      lua_pushnil(L);
      return 2;
    }
    sockaddr_storage address{};
    int size = sizeof address;
    uv_tcp_getpeername(accepted_.front().get(), reinterpret_cast<sockaddr*>(&address), &size);
    Class<Socket>::push(L, std::move(accepted_.front()),
                        address_text(ip_of(address), port_of(address)), read_space(L));
    accepted_.pop_front();
    return 2;
  }

  Handle<uv_tcp_t> handle_;
  std::deque<Handle<uv_tcp_t>> accepted_;
  WaitPoint point_;
};

// listen(ip, port) -> Listener
int listen(lua_State* L) {
  const char* ip = luaL_checkstring(L, 1);
  int port = luaL_checkint(L, 2);
  sockaddr_storage address;
  if (parse_address(ip, port, &address) != 0) return luaL_argerror(L, 1, "not an IP address");
  Listener* listener = Class<Listener>::push(L, rille_loop(L));
  const char* syscall;
  int rc = listener->listen(address, &syscall);
  if (rc == 0) return 1;
  listener->close();
  lua_pushstring(L, address_text(ip, port).c_str());
  rille_push_os_error(L, rc, syscall, nullptr, nullptr, lua_tostring(L, -1));
  return lua_error(L);
}

// listener:accept() -> Socket, or nil once it is closed
int listener_accept(lua_State* L) { return Class<Listener>::check(L, 1)->accept(L); }

int listener_port(lua_State* L) {
  lua_pushinteger(L, Class<Listener>::check(L, 1)->port());
  return 1;
}

int listener_close(lua_State* L) {
  Class<Listener>::check(L, 1)->close();
  return 0;
}

const rille_reg kListenerMethods[] = {{"accept", listener_accept, RILLE_WAITS},
                                      {"port", listener_port, 0},
                                      {"close", listener_close, 0},
                                      {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"connect", connect, RILLE_WAITS},
                                {"lookup", lookup, RILLE_WAITS},
                                {"listen", listen, 0},
                                {"is_ip", is_ip, 0},
                                {"address", address, 0},
                                {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_tcp(lua_State* L) {
  rille::Class<rille::Socket>::define(L, rille::kSocketMethods);
  rille::Class<rille::Listener>::define(L, rille::kListenerMethods);
  rille_newlib(L, rille::kFunctions);
  return 1;
}
