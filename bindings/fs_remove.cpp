// bindings/fs_remove.cpp: removes files and whole trees, which may be deeper than a path can say,
// and may change meanwhile. Links are never followed.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "fs_calls.h"
#include "fs_directory.h"

namespace rille::fs {
namespace {

class Remove : public Job {
 public:
  Remove(std::string path, bool recursive, bool missing_ok)
      : Job(std::move(path)), recursive_(recursive), missing_ok_(missing_ok) {}
  ~Remove() override {
    for (Level& level : levels_) {
      if (level.fd >= 0) ::close(level.fd);
    }
  }

 protected:
  int permit(const Access& access) override {
    syscall_ = "unlink";
    int rc = permit_path(access, Access::kWrite, Access::Last::kEntry);
    missing_ = rc == -ENOENT && missing_ok_;
    return missing_ ? 0 : rc;
  }

  Step work() override {
    if (missing_) return Step::kDone;
    const std::string path = path_;
    if (unlink(path.c_str()) == 0) return Step::kDone;
    int error = errno;
    if (error == ENOENT && missing_ok_) return Step::kDone;
    if (error != EISDIR && error != EPERM) return fail("unlink", error);
    for (int tries = 0;; ++tries) {
      if (recursive_ && !empty(path)) return Step::kDone;
      if (rmdir(path.c_str()) == 0 || (errno == ENOENT && missing_ok_)) return Step::kDone;
      if (!recursive_ || errno != ENOTEMPTY || tries == kMostTries) break;
    }
    return errno == ENOTDIR ? fail("unlink", error) : fail("rmdir");
  }

 private:
  // Others may put something into a folder while it is emptied.
  static constexpr int kMostTries = 100;
  // Deeper folders are opened again from below, so that no tree takes all descriptors.
  static constexpr std::size_t kMostOpen = 32;

  // A folder on the way down to the one that is being emptied.
  struct Level {
    std::string name;
    int fd = -1;
    dev_t device = 0;
    ino_t inode = 0;
    std::vector<std::string> folders;  // those in it that are still to be emptied
    bool passed = false;               // its entries were gone through
    int tries = 0;
  };

  // Removes what is in the folder. False if the job has failed; what is no folder is left alone.
  bool empty(const std::string& path) {
    if (int error = forbidden(path)) {
      fail("rmdir", error);
      return false;
    }
    if (!enter(AT_FDCWD, path)) return status_ == 0;
    while (!levels_.empty()) {
      Level& level = levels_.back();
      if (level.folders.empty() && !level.passed) {
        if (!pass(level)) return false;
        level.passed = true;
      } else if (!level.folders.empty()) {
        std::string name = std::move(level.folders.back());
        level.folders.pop_back();
        int fd = level.fd;
        if (!enter(fd, std::move(name)) && status_ < 0) return false;
      } else if (!leave()) {
        return false;
      }
    }
    return true;
  }

  // To empty the root, or the folder that one stands in, is never meant.
  static int forbidden(const std::string& path) {
    struct stat st, root;
    if (lstat(path.c_str(), &st) == 0 && lstat("/", &root) == 0 && st.st_dev == root.st_dev &&
        st.st_ino == root.st_ino) {
      return EBUSY;
    }
    std::size_t stop = path.find_last_not_of('/') + 1;
    std::size_t slash = path.substr(0, stop).rfind('/');
    std::string last = path.substr(slash + 1, stop - slash - 1);  // npos + 1 is 0
    return last == "." || last == ".." ? EINVAL : 0;
  }

  // Goes down into a folder. False if there is none any more (or a link), or with the job failed.
  bool enter(int parent, std::string name) {
    int fd = openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
      // What has become something else is looked at again when its folder cannot be removed.
      bool is_none = errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
      return is_none ? false : fail_at("opendir", name, errno);
    }
    struct stat st;
    if (fstat(fd, &st) < 0) {
      int error = errno;
      ::close(fd);
      return fail_at("fstat", name, error);
    }
    Level level;
    level.name = std::move(name);
    level.fd = fd;
    level.device = st.st_dev;
    level.inode = st.st_ino;
    levels_.push_back(std::move(level));
    if (levels_.size() > kMostOpen) {
      ::close(std::exchange(levels_[levels_.size() - 1 - kMostOpen].fd, -1));
    }
    return true;
  }

  // Removes what is no folder, and notes the folders.
  bool pass(Level& level) {
    reader_.borrow(level.fd);
    Directory::Entry entry;
    int rc;
    while ((rc = reader_.next(&entry)) > 0) {
      const char* name = entry.name.data();
      if (stopped()) return fail_at("unlink", name, ECANCELED);
      if (entry.type == DT_DIR) {
        level.folders.emplace_back(entry.name);
        continue;
      }
      if (unlinkat(level.fd, name, 0) == 0 || errno == ENOENT) continue;
      if (errno != EISDIR) return fail_at("unlink", name, errno);
      level.folders.emplace_back(entry.name);
    }
    return rc == 0 ? true : fail_at("readdir", "", -rc);
  }

  // Goes up, and removes the folder that was emptied; the outermost is left to `work`.
  bool leave() {
    Level below = std::move(levels_.back());
    levels_.pop_back();
    if (levels_.empty()) {
      ::close(below.fd);
      return true;
    }
    Level& level = levels_.back();
    int error = level.fd < 0 ? open_again(level, below.fd) : 0;
    ::close(below.fd);
    if (error != 0) return fail_at("opendir", "", error);
    if (unlinkat(level.fd, below.name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return true;
    if (errno == ENOTEMPTY && below.tries < kMostTries) {
      if (enter(level.fd, below.name)) {
        levels_.back().tries = below.tries + 1;
      } else {
        level.passed = false;
      }
      return status_ == 0;
    }
    if (errno == ENOTDIR && level.tries < kMostTries) {  // it has become something else meanwhile
      ++level.tries;
      level.passed = false;
      return true;
    }
    return fail_at("rmdir", below.name, errno);
  }

  // If the folder below was moved meanwhile, its parent is another one: nothing there is ours.
  static int open_again(Level& level, int below) {
    int fd = openat(below, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno;
    struct stat st;
    if (fstat(fd, &st) == 0 && st.st_dev == level.device && st.st_ino == level.inode) {
      level.fd = fd;
      return 0;
    }
    ::close(fd);
    return ENOENT;
  }

  // Names what it failed at, as far as a path can.
  bool fail_at(const char* syscall, const std::string& name, int error) {
    constexpr std::size_t kLongest = 4096;
    std::string path;
    for (const Level& level : levels_) {
      if (path.size() > kLongest) break;
      if (!path.empty() && path.back() != '/') path += '/';
      path += level.name;
    }
    if (!path.empty() && path.back() != '/' && !name.empty()) path += '/';
    path_ = path + name;
    fail(syscall, error);
    return false;
  }

  bool recursive_;
  bool missing_ok_;
  bool missing_ = false;
  std::vector<Level> levels_;
  Directory reader_;
};

}  // namespace

// remove(path, recursive, missing_ok) -> err
int remove_path(lua_State* L) {
  bool recursive = lua_toboolean(L, 2);
  bool missing_ok = lua_toboolean(L, 3);
  return Job::run(L, std::make_unique<Remove>(to_string(L, 1), recursive, missing_ok));
}

}  // namespace rille::fs
