// A socket of our own making, for what libuv's handles cannot do: watched, not owned, by the loop.
#pragma once

#include <rille/module.hpp>
#include <utility>

namespace rille {

// A descriptor with an owner.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int fd) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Socket();

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

  // A socket that does not block and that no child inherits; not open if there is none, and errno
  // says why.
  static Socket make(int family, int type);

 private:
  int fd_ = -1;
};

// Waits on the loop for a socket to be ready. Polling costs system calls to begin and to end, so
// it goes on until it turns out that nobody waits any more.
class Watch {
 public:
  // `ready(object, events)` is called again and again while the socket is ready: it has to make it
  // unready or to call `set`. It may destroy the watch.
  Watch(uv_loop_t* loop, int fd, void (*ready)(void*, int), void* object);

  // Which of UV_READABLE and UV_WRITABLE to wait for.
  void set(int events);
  int events() const { return events_; }

 private:
  Handle<uv_poll_t> poll_;
  void (*ready_)(void*, int);
  void* object_;
  int events_ = 0;
};

}  // namespace rille
