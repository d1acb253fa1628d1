#include "udp_socket.h"

#include <netinet/in.h>

#include <cerrno>

#include "address.h"
#include "transport.h"

namespace rille {

namespace {

// Receives that need not wait are this many at most in a row, so that a flood of datagrams does not
// keep everything else from running.
constexpr int kMostInARow = 64;

}  // namespace

int push_closed_socket(lua_State* L, const char* method, const std::string& name) {
  std::string message = std::string(method) + ": the socket " + name + " is closed";
  rille_push_error(L, "InvalidStateError", nullptr, message.c_str());
  return 1;
}

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
  if (!is_open()) return push_closed_socket(L, "recv", name_);
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
  if (datagram->status == 0) return push_closed_socket(L, "recv", name_);
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
    if (self->status == 0) return push_closed_socket(L, "send", self->name);
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

}  // namespace rille
