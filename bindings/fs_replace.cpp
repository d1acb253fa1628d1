#include "fs_replace.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <uv.h>

#include <climits>
#include <cstdio>
#include <utility>

namespace rille::fs {

namespace {

constexpr int kMostTries = 100;

unsigned random_number(int tries) {
  unsigned number;
  bool ok = uv_random(nullptr, nullptr, &number, sizeof number, 0, nullptr) == 0;
  return ok ? number : static_cast<unsigned>(tries);
}

// Where a file without a name is found, to be given one.
std::string path_of(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

}  // namespace

Replacement::~Replacement() {
  if (fd_ >= 0) close(fd_);
  if (!name_.empty()) unlink(name_.c_str());
}

int Replacement::look() {
  char link[PATH_MAX];
  constexpr int kMostLinks = 40;
  for (int depth = 0;; ++depth) {
    ssize_t n = readlink(target_.c_str(), link, sizeof link);
    if (n < 0) break;  // no link, or nothing there
    if (depth == kMostLinks) return -ELOOP;
    std::string to(link, static_cast<std::size_t>(n));
    std::size_t slash = target_.rfind('/');
    if (to[0] != '/' && slash != std::string::npos) to = target_.substr(0, slash + 1) + to;
    target_ = std::move(to);
  }
  exists_ = stat(target_.c_str(), &old_) == 0;
  return 0;
}

std::string Replacement::beside(unsigned number) const {
  std::size_t slash = target_.rfind('/');
  std::size_t start = slash == std::string::npos ? 0 : slash + 1;
  char name[24];
  std::snprintf(name, sizeof name, ".tmp.%08x", number);
  return target_.substr(0, start) + name;
}

int Replacement::open(mode_t mode) {
  std::size_t slash = target_.rfind('/');
  std::string folder = slash == std::string::npos ? "." : target_.substr(0, slash + 1);
  // Without a name nothing of it can be left, even if the process is killed meanwhile.
  fd_ = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
  if (fd_ >= 0) {
    if (access(path_of(fd_).c_str(), F_OK) == 0) return 0;
    close(std::exchange(fd_, -1));
  }
  return open_named(mode);
}

int Replacement::open_named(mode_t mode) {
  for (int tries = 0;; ++tries) {
    std::string name = beside(random_number(tries));
    fd_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd_ >= 0) {
      name_ = std::move(name);
      return 0;
    }
    if (errno != EEXIST || tries == kMostTries) return -errno;
  }
}

int Replacement::give_name(bool directly) {
  std::string from = path_of(fd_);
  for (int tries = 0;; ++tries) {
    std::string name = directly ? target_ : beside(random_number(tries));
    if (linkat(AT_FDCWD, from.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      if (!directly) name_ = std::move(name);
      return 0;
    }
    if (errno != EEXIST || directly || tries == kMostTries) return -errno;
  }
}

int Replacement::commit(const char** syscall) {
  bool placed = false;
  if (name_.empty()) {
    *syscall = "link";
    int rc = exists_ ? -EEXIST : give_name(true);
    placed = rc == 0;
    if (rc == -EEXIST) rc = give_name(false);
    if (rc < 0) return rc;
  }
  *syscall = "close";
  if (close(std::exchange(fd_, -1)) < 0 && errno != EINTR) return -errno;
  if (placed) return 0;
  *syscall = "rename";
  if (rename(name_.c_str(), target_.c_str()) < 0) return -errno;
  name_.clear();
  return 0;
}

}  // namespace rille::fs
