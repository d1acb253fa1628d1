// Descriptors with an owner, and how one is handed to another process.
#pragma once

#include <utility>

namespace rille {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { close(); }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void close();

 private:
  int fd_ = -1;
};

// Another descriptor of what `fd` is open for, with flags of its own where that is possible: what
// O_NONBLOCK says is the same for all who share an open file. `flags` are those of open(2), beside
// the access mode. Not open if it cannot be had, and errno says why: a socket never can.
Descriptor reopen(int fd, int flags);

// A copy for a child, above the standard three and blocking. Only where there is no other way the
// original becomes blocking too.
Descriptor copy_for_child(int fd);

}  // namespace rille
