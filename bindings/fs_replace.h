// A new file that takes the place of another in one step, so that others see the old content or the
// new, whole; dropped before that, it leaves nothing.
#pragma once

#include <sys/stat.h>

#include <string>

namespace rille::fs {

class Replacement {
 public:
  // Where the path is a link, the file it leads to is replaced.
  explicit Replacement(std::string path) : target_(std::move(path)) {}
  Replacement(const Replacement&) = delete;
  Replacement& operator=(const Replacement&) = delete;
  ~Replacement();

  // REQUIRES: not looked yet.
  void set_target(std::string path) { target_ = std::move(path); }

  // Looks at what is there. Each of these returns 0 or a negative errno.
  int look();
  bool exists() const { return exists_; }
  const struct stat& old() const { return old_; }
  const std::string& target() const { return target_; }

  // Makes the new file, whose permissions are `mode` less the umask. REQUIRES: looked.
  int open(mode_t mode);
  int fd() const { return fd_; }

  // Puts it in its place. `syscall` is set to the one that failed.
  int commit(const char** syscall);

 private:
  std::string beside(unsigned number) const;
  int open_named(mode_t mode);
  int give_name(bool directly);

  std::string target_;
  bool exists_ = false;
  struct stat old_ {};
  int fd_ = -1;
  std::string name_;  // beside the target; empty while the file has none
};

}  // namespace rille::fs
