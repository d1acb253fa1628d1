// A UDP socket. Datagrams are received when a task asks for one: what nobody has asked for stays
// with the system, which drops what is too much.
#pragma once

#include <sys/socket.h>

#include <deque>
#include <lua.hpp>
#include <optional>
#include <string>

#include "socket.h"
#include "takers.h"

namespace rille {

struct Datagram {
  std::string data;
  sockaddr_storage from{};
  int status = 0;  // 0: it is none, the socket has been closed; 1, or an error
};

// Lives in a userdata.
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

// Pushes the error of a method of a socket that is closed; one result.
int push_closed_socket(lua_State* L, const char* method, const std::string& name);

}  // namespace rille
