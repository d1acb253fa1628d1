#include "dns_sockets.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string_view>

namespace rille::dns {

namespace {

constexpr std::size_t kHeader = 12;

unsigned byte_of(std::string_view message, std::size_t at) {
  return static_cast<unsigned char>(message[at]);
}
unsigned number_of(std::string_view message, std::size_t at) {
  return byte_of(message, at) << 8 | byte_of(message, at + 1);
}

std::uint16_t id_of(std::string_view message) {
  return static_cast<std::uint16_t>(number_of(message, 0));
}

// What a server has sent.
enum class Kind {
  kAnswer,
  kBareError,  // without the question, but it says what is wrong
  kUnreadable,
};

Kind kind_of(std::string_view message) {
  if (message.size() < kHeader) return Kind::kUnreadable;
  bool is_answer = byte_of(message, 2) & 0x80;
  if (!is_answer) return Kind::kUnreadable;
  unsigned questions = number_of(message, 4);
  if (questions == 0 && (byte_of(message, 3) & 15) != 0) return Kind::kBareError;
  if (questions != 1) return Kind::kUnreadable;
  std::size_t at = kHeader;
  for (;;) {
    if (at >= message.size()) return Kind::kUnreadable;
    unsigned label = byte_of(message, at);
    at += 1 + label;
    if (label == 0) break;
    if (label > 63) return Kind::kUnreadable;
  }
  return at + 4 <= message.size() ? Kind::kAnswer : Kind::kUnreadable;
}

}  // namespace

void Sockets::serve(ares_channel channel) {
  static const ares_socket_functions kFunctions = {open, close, connect, receive, send};
  ares_set_socket_functions(channel, &kFunctions, this);
}

ares_socket_t Sockets::open(int family, int type, int protocol, void*) {
  int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  int on = 1;
  if (fd >= 0 && type == SOCK_STREAM) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

int Sockets::close(ares_socket_t fd, void*) { return ::close(fd); }

int Sockets::connect(ares_socket_t fd, const sockaddr* to, ares_socklen_t size, void*) {
  return ::connect(fd, to, size);
}

ares_ssize_t Sockets::send(ares_socket_t fd, const iovec* data, int count, void* self) {
  int type = 0;
  socklen_t size = sizeof type;
  getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
  if (type == SOCK_DGRAM && count == 1 && data->iov_len > kHeader) {
    std::string_view message(static_cast<const char*>(data->iov_base), data->iov_len);
    static_cast<Sockets*>(self)->questions_[id_of(message)] = message;
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(data);
  message.msg_iovlen = static_cast<std::size_t>(count);
  return sendmsg(fd, &message, MSG_NOSIGNAL);
}

// c-ares asks who sent a datagram, and nothing of a stream.
ares_ssize_t Sockets::receive(ares_socket_t fd, void* data, size_t size, int flags, sockaddr* from,
                              ares_socklen_t* from_size, void* self) {
  ares_ssize_t n = recvfrom(fd, data, size, flags, from, from_size);
  if (n < 0 || !from) return n;
  return static_cast<ares_ssize_t>(static_cast<Sockets*>(self)->inspect(
      static_cast<char*>(data), static_cast<std::size_t>(n), size));
}

// Puts a readable answer in the place of a message that is none, if its id tells of which question.
// An unreadable one becomes an answer that promises a record and has none. Returns its size.
std::size_t Sockets::inspect(char* data, std::size_t size, std::size_t capacity) {
  std::string_view message(data, size);
  Kind kind = kind_of(message);
  auto question = size < 2 ? questions_.end() : questions_.find(id_of(message));
  if (question == questions_.end()) {
    if (kind == Kind::kUnreadable) ++unreadable_;
    return size;
  }
  if (kind != Kind::kAnswer && question->second.size() <= capacity) {
    unsigned error = kind == Kind::kBareError ? byte_of(message, 3) & 15 : 0;
    size = question->second.copy(data, capacity);
    data[2] = static_cast<char>(0x81);
    data[3] = static_cast<char>(0x80 | error);
    data[7] = static_cast<char>(kind == Kind::kUnreadable ? 1 : 0);
  }
  questions_.erase(question);
  return size;
}

}  // namespace rille::dns
