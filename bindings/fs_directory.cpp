#include "fs_directory.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace rille::fs {

int Directory::open(int parent, const char* name, bool follow) {
  close();
  int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK | (follow ? 0 : O_NOFOLLOW);
  int fd = openat(parent, name, flags);
  if (fd < 0) return errno == ELOOP && !follow ? -ENOTDIR : -errno;
  fd_ = fd;
  owned_ = true;
  return 0;
}

void Directory::close() {
  if (std::exchange(owned_, false)) ::close(fd_);
  fd_ = -1;
  at_ = end_ = 0;
}

void Directory::borrow(int fd) {
  close();
  fd_ = fd;
  lseek(fd, 0, SEEK_SET);
}

int Directory::next(Entry* entry) {
  if (!buffer_) buffer_.reset(new char[kBufferSize]);
  for (;;) {
    if (at_ == end_) {
      ssize_t n = getdents64(fd_, buffer_.get(), kBufferSize);
      // ENOENT: the folder itself has been removed meanwhile.
      if (n < 0) return errno == ENOENT ? 0 : -errno;
      if (n == 0) return 0;
      at_ = 0;
      end_ = static_cast<std::size_t>(n);
    }
    auto* found = reinterpret_cast<dirent64*>(buffer_.get() + at_);
    at_ += found->d_reclen;
    if (std::strcmp(found->d_name, ".") == 0 || std::strcmp(found->d_name, "..") == 0) continue;
    entry->name = found->d_name;
    entry->type = found->d_type;
    struct stat st;
    if (entry->type == DT_UNKNOWN && fstatat(fd_, found->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
      entry->type = static_cast<unsigned char>(IFTODT(st.st_mode));
    }
    return 1;
  }
}

const char* type_name(unsigned char type) {
  switch (type) {
    case DT_REG:
      return "file";
    case DT_DIR:
      return "directory";
    case DT_LNK:
      return "link";
    case DT_FIFO:
      return "fifo";
    case DT_SOCK:
      return "socket";
    case DT_CHR:
      return "char";
    case DT_BLK:
      return "block";
    default:
      return "unknown";
  }
}

}  // namespace rille::fs
