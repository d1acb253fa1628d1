// Files that lie within a folder, whatever links say and whoever changes them meanwhile: what was
// opened is looked at, and not a path.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file_state.h"
#include "socket.h"

namespace rille::fs {

namespace {

std::string name_of(const Socket& descriptor) {
  return "/proc/self/fd/" + std::to_string(descriptor.get());
}

class OpenBeneath : public Job {
 public:
  OpenBeneath(std::string root, std::string path, std::shared_ptr<Shared> shared)
      : Job(root + "/" + path), root_(std::move(root)), relative_(std::move(path)) {
    file_->path = path_;
    file_->shared = std::move(shared);
  }

 protected:
  int permit(const Access& access) override {
    return permit_path(access, Access::kRead, Access::Last::kObject);
  }

  Step work() override {
    Socket place;
    // Nothing but a name for it: to open a device or a FIFO may do something.
    int error = find(O_PATH, &place);
    if (error == 0 && fstat(place.get(), &stat_) < 0) error = errno;
    if (error != 0) return fail("open", error);
    if (!S_ISREG(stat_.st_mode)) return Step::kDone;
    int fd = open_file(name_of(place).c_str(), O_RDONLY, 0, &stat_);
    if (fd == -ENOENT) fd = open_without_proc(stat_.st_dev, stat_.st_ino);
    if (fd < 0) return fail("open", -fd);
    file_->fd = fd;
    file_->regular = file_->seekable = true;
    return Step::kDone;
  }

  int push(lua_State* L) override {
    bool is_file = file_->fd >= 0;
    lua_pushstring(L, is_file ? "file" : S_ISDIR(stat_.st_mode) ? "directory" : "other");
    if (!is_file) return 1;
    Class<FileHandle>::push(L, std::move(file_));
    lua_pushnumber(L, static_cast<double>(stat_.st_size));
    lua_pushnumber(L, static_cast<double>(stat_.st_mtim.tv_sec) +
                          static_cast<double>(stat_.st_mtim.tv_nsec) * 1e-9);
    return 4;
  }

 private:
  // By the system's own means; an errno.
  int find_beneath(int flags, Socket* found) {
    Socket folder(::open(root_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!folder.is_open()) return errno;
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
    how.resolve = RESOLVE_BENEATH;
    *found = Socket(static_cast<int>(
        ::syscall(SYS_openat2, folder.get(), relative_.c_str(), &how, sizeof how)));
    return found->is_open() ? 0 : errno;
  }

  // Absolute links may lead back into the folder, and older systems have no such means: then where
  // it turns out to lie decides.
  int find(int flags, Socket* found) {
    int error = checked_ ? ENOSYS : find_beneath(flags, found);
    bool is_known = error != EXDEV && error != EAGAIN && error != ENOSYS && error != EPERM;
    if (is_known) return error;
    *found = Socket(::open(path_.c_str(), flags | O_CLOEXEC));
    if (!found->is_open()) return errno;
    char real[PATH_MAX];
    ssize_t size = ::readlink(name_of(*found).c_str(), real, sizeof real);
    if (size < 0) return errno;
    std::string inside = root_ == "/" ? root_ : root_ + "/";
    std::string_view text(real, static_cast<std::size_t>(size));
    return text == root_ || text.substr(0, inside.size()) == inside ? 0 : ENOENT;
  }

  int open_without_proc(dev_t device, ino_t number) {
    Socket opened;
    int error = find_beneath(O_RDONLY | O_NONBLOCK | O_NOCTTY, &opened);
    if (error == 0 && fstat(opened.get(), &stat_) < 0) error = errno;
    bool is_same = stat_.st_dev == device && stat_.st_ino == number;
    return error != 0 ? -error : is_same ? opened.release() : -ENOENT;
  }

  std::string root_;
  std::string relative_;
  struct stat stat_ {};
  std::shared_ptr<OpenFile> file_ = std::make_shared<OpenFile>();
};

}  // namespace

int open_beneath(lua_State* L) {
  std::size_t root_size, size;
  const char* root = luaL_checklstring(L, 1, &root_size);
  const char* path = luaL_checklstring(L, 2, &size);
  return Job::run(L, std::make_unique<OpenBeneath>(std::string(root, root_size),
                                                   std::string(path, size), Shared::of(L)));
}

int adopt(lua_State* L) {
  const char* path = luaL_checkstring(L, 1);
  auto file = std::make_shared<OpenFile>();
  file->path = path;
  file->shared = Shared::of(L);
  file->regular = file->seekable = true;
  file->fd = fcntl(luaL_checkint(L, 2), F_DUPFD_CLOEXEC, 0);
  if (file->fd < 0) {
    rille_push_os_error(L, -errno, "dup", path, nullptr, nullptr);
    return 1;
  }
  lua_pushnil(L);
  Class<FileHandle>::push(L, std::move(file));
  return 2;
}

}  // namespace rille::fs
