// rille.core.worker_channel: short messages between a process that supervises and its workers, and
// listening sockets with them.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "listener.h"
#include "socket.h"
#include "wait_point.h"

namespace rille {

namespace {

constexpr std::size_t kMostBytes = 16384;  // of a message

// A socket that keeps messages apart. One task at a time waits for the next one.
class Channel {
 public:
  static constexpr char kName[] = "rille.WorkerChannel";

  Channel(uv_loop_t* loop, Socket socket)
      : socket_(std::move(socket)), watch_(std::in_place, loop, socket_.get(), ready, this) {}
  ~Channel() { close(); }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  bool send(std::string_view text, int fd) const;
  int receive(lua_State* L);
  void close();

 private:
  static void ready(void* self, int) {
    auto* c = static_cast<Channel*>(self);
    c->watch_->set(0);
    c->point_.wake();
  }
  static int push(lua_State* L, void* self);

  Socket socket_;
  std::optional<Watch> watch_;
  WaitPoint point_;
};

union Control {
  cmsghdr header;
  char space[CMSG_SPACE(sizeof(int))];
};

// False if the other side has gone, or does not read its messages.
bool Channel::send(std::string_view text, int fd) const {
  if (!socket_.is_open()) return false;
  iovec part = {const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  Control control{};
  if (fd >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  ssize_t n;
  do n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n >= 0;
}

int Channel::receive(lua_State* L) {
  if (!socket_.is_open()) return 0;
  watch_->set(UV_READABLE);
  return point_.wait(L, push, this);
}

// Pushes nil, the message and the listener that came with it; nothing at the end.
int Channel::push(lua_State* L, void* data) {
  if (!L) return 0;
  auto* self = static_cast<Channel*>(data);
  if (!self->socket_.is_open()) return 0;
  std::array<char, kMostBytes> text;
  iovec part = {text.data(), text.size()};
  Control control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  do n = ::recvmsg(self->socket_.get(), &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n <= 0) return 0;
  Socket passed;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    int fd;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    passed = Socket(fd);
  }
  lua_pushnil(L);
  lua_pushlstring(L, text.data(), static_cast<std::size_t>(n));
  if (!passed.is_open()) return 2;
  push_listener(L, std::move(passed));
  return 3;
}

void Channel::close() {
  if (!socket_.is_open()) return;
  watch_.reset();
  socket_ = Socket();
  point_.wake();
}

// pair() -> err, channel, the descriptor of its other end, owned by nobody
int pair(lua_State* L) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    rille_push_os_error(L, -errno, "socketpair", nullptr, nullptr, nullptr);
    return 1;
  }
  lua_pushnil(L);
  Class<Channel>::push(L, rille_loop(L), Socket(ends[0]));
  lua_pushinteger(L, ends[1]);
  return 3;
}

// open(descriptor) -> channel, which owns it
int open(lua_State* L) {
  Class<Channel>::push(L, rille_loop(L), Socket(luaL_checkint(L, 1)));
  return 1;
}

// release(descriptor): closes it
int release(lua_State* L) {
  Socket closed(luaL_checkint(L, 1));
  return 0;
}

// parent() -> its process id
int parent(lua_State* L) {
  lua_pushinteger(L, ::getppid());
  return 1;
}

// channel:send(text [, listener]) -> false if there is nobody to read it
int send(lua_State* L) {
  auto* channel = Class<Channel>::check(L, 1);
  std::size_t size;
  const char* text = luaL_checklstring(L, 2, &size);
  int fd = lua_isnoneornil(L, 3) ? -1 : listener_descriptor(L, 3);
  lua_pushboolean(L, channel->send({text, std::min(size, kMostBytes)}, fd));
  return 1;
}

// channel:receive() -> text, listener or nil; nothing when the other side has gone
int receive(lua_State* L) { return Class<Channel>::check(L, 1)->receive(L); }

int close(lua_State* L) {
  Class<Channel>::check(L, 1)->close();
  return 0;
}

const rille_reg kMethods[] = {{"send", send, 0},
                              {"receive", receive, RILLE_WAITS},
                              {"close", close, 0},
                              {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"pair", pair, 0},
                                {"open", open, 0},
                                {"release", release, 0},
                                {"parent", parent, 0},
                                {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_worker_channel(lua_State* L) {
  rille::Class<rille::Channel>::define(L, rille::kMethods);
  rille_newlib(L, rille::kFunctions);
  return 1;
}
