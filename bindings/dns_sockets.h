// The sockets of c-ares. It passes over messages that it cannot read, so that a server which sends
// rubbish looks like a silent one: here they are seen, and questions answered by them come to an
// end.
#pragma once

#include <ares.h>

#include <cstdint>
#include <string>
#include <unordered_map>

namespace rille::dns {

class Sockets {
 public:
  // From here on the channel has its sockets from this object, which has to outlive it.
  void serve(ares_channel channel);

  // How many unreadable messages have come that do not even tell of which question they are.
  unsigned unreadable() const { return unreadable_; }

  // No question is open.
  void forget() { questions_.clear(); }

 private:
  static ares_socket_t open(int family, int type, int protocol, void* self);
  static int close(ares_socket_t fd, void* self);
  static int connect(ares_socket_t fd, const sockaddr* to, ares_socklen_t size, void* self);
  static ares_ssize_t receive(ares_socket_t fd, void* data, size_t size, int flags, sockaddr* from,
                              ares_socklen_t* from_size, void* self);
  static ares_ssize_t send(ares_socket_t fd, const iovec* data, int count, void* self);

  std::size_t inspect(char* data, std::size_t size, std::size_t capacity);

  std::unordered_map<std::uint16_t, std::string> questions_;  // as they were sent, by their ids
  unsigned unreadable_ = 0;
};

}  // namespace rille::dns
