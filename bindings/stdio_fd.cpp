#include "stdio_fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace rille {

void Descriptor::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Descriptor reopen(int fd, int flags) {
  int access = fcntl(fd, F_GETFL);
  if (access < 0) return {};
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return Descriptor(::open(path, (access & O_ACCMODE) | flags | O_CLOEXEC | O_NOCTTY));
}

Descriptor copy_for_child(int fd) {
  int flags = fcntl(fd, F_GETFL);
  struct stat st;
  if (flags < 0 || fstat(fd, &st) < 0) return {};
  // A regular file knows no such thing, and its position has to stay shared.
  if ((flags & O_NONBLOCK) && !S_ISREG(st.st_mode)) {
    // To open a FIFO may block as well.
    Descriptor own = reopen(fd, (flags & O_APPEND) | O_NONBLOCK);
    if (own.is_open()) {
      fcntl(own.get(), F_SETFL, flags & ~O_NONBLOCK);
      return own.get() > 2 ? std::move(own) : Descriptor(fcntl(own.get(), F_DUPFD_CLOEXEC, 3));
    }
    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  }
  return Descriptor(fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

}  // namespace rille
