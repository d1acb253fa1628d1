#include "socket.h"

#include <sys/socket.h>
#include <unistd.h>

namespace rille {

Socket::~Socket() {
  if (fd_ >= 0) ::close(fd_);
}

Socket Socket::make(int family, int type) {
  return Socket(::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

Watch::Watch(uv_loop_t* loop, int fd, void (*ready)(void*, int), void* object)
    : poll_(new uv_poll_t), ready_(ready), object_(object) {
  uv_poll_init(loop, poll_.get(), fd);  // cannot fail for a socket
  poll_->data = this;
}

void Watch::set(int events) {
  if (events == events_) return;
  events_ = events;
  if (events == 0) {
    uv_poll_stop(poll_.get());
    return;
  }
  uv_poll_start(poll_.get(), events, [](uv_poll_t* p, int status, int ready) {
    auto* self = static_cast<Watch*>(p->data);
    // An error of the socket itself ends the polling; whoever tries to use it learns which.
    if (status < 0) ready = std::exchange(self->events_, 0);
    self->ready_(self->object_, ready);
  });
}

}  // namespace rille
