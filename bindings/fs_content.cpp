// bindings/fs_content.cpp: whole files: read, written, copied.
#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "fs_calls.h"
#include "fs_replace.h"

namespace rille::fs {
namespace {

// In pieces, so that a cancelled job ends before it has filled a whole disk.
constexpr std::size_t kPiece = 16 << 20;

class ReadFile : public Job {
 public:
  ReadFile(std::string path, bool lines, std::size_t most, std::shared_ptr<Shared> shared)
      : Job(std::move(path)), lines_(lines), most_(most), data_(shared->take_buffer()) {
    shared_ = std::move(shared);
  }
  ~ReadFile() override {
    if (fd_ >= 0) close(fd_);
    shared_->give_back(std::move(data_));
  }

 protected:
  int permit(const Access& access) override {
    return permit_path(access, Access::kRead, Access::Last::kObject);
  }

  Step work() override {
    if (fd_ < 0) {
      struct stat st;
      int fd = open_file(path_.c_str(), O_RDONLY, 0, &st);
      if (fd < 0) return fail("open", -fd);
      fd_ = fd;
      if (S_ISREG(st.st_mode) && st.st_size > 0) expected_ = static_cast<std::size_t>(st.st_size);
      if (expected_ > most_) return fail("read", ENOMEM);
      // A byte more than there should be tells the end without another call.
      if (!data_.reserve(std::min(expected_ + 1, kMostBytes))) return fail("read", ENOMEM);
      if (S_ISFIFO(st.st_mode) && is_silent(fd_)) return block(fd_, Step::kReadable);
    }
    for (;;) {
      if (stopped()) return fail("read", ECANCELED);
      std::size_t free = data_.capacity() - data_.size();
      if (free == 0) {
        if (data_.size() >= kMostBytes) return fail("read", EFBIG);
        if (data_.size() >= most_) return fail("read", ENOMEM);
        constexpr std::size_t kLeast = 16384;
        std::size_t more = std::max(kLeast, data_.capacity());
        if (!data_.reserve(std::min(data_.capacity() + more, kMostBytes))) {
          return fail("read", ENOMEM);
        }
        free = data_.capacity() - data_.size();
      }
      ssize_t n = read_some(fd_, data_.data() + data_.size(), free);
      if (n < 0 && errno == EAGAIN) return block(fd_, Step::kReadable);
      if (n < 0) return fail("read");
      data_.set_size(data_.size() + static_cast<std::size_t>(n));
      // The size of a file in /proc says nothing, so only what agrees with it is the end.
      if (n == 0 || (expected_ > 0 && data_.size() == expected_)) break;
    }
    close(std::exchange(fd_, -1));
    return Step::kDone;
  }

  int push(lua_State* L) override {
    if (lines_) {
      push_lines(L);
    } else {
      lua_pushlstring(L, data_.data(), data_.size());
    }
    return 1;
  }

 private:
  void push_lines(lua_State* L) {
    lua_newtable(L);
    const char* p = data_.data();
    const char* end = p + data_.size();
    for (int i = 1; p < end; ++i) {
      auto* newline = static_cast<const char*>(std::memchr(p, '\n', static_cast<size_t>(end - p)));
      const char* stop = newline ? newline : end;
      lua_pushlstring(L, p, static_cast<std::size_t>(stop - p));
      lua_rawseti(L, -2, i);
      p = stop + 1;
    }
  }

  bool lines_;
  std::size_t most_;  // the script's memory
  int fd_ = -1;
  std::size_t expected_ = 0;
  Buffer data_;
};

// Writes a buffer to a descriptor of its own.
class WriteFile : public Job {
 public:
  WriteFile(std::string path, Buffer data, mode_t mode, int flags)
      : Job(std::move(path)), data_(std::move(data)), mode_(mode), flags_(flags) {}
  ~WriteFile() override {
    if (fd_ >= 0) close(fd_);
  }

 protected:
  int permit(const Access& access) override {
    return permit_path(access, Access::kWrite, Access::Last::kNew);
  }

  Step work() override {
    if (fd_ < 0) {
      struct stat st;
      int flags = O_WRONLY | O_CREAT | flags_ | no_follow();
      int fd = open_file(path_.c_str(), flags, mode_, &st);
      if (fd == -ENXIO && S_ISFIFO(st.st_mode)) return block(-1, Step::kLater);
      if (fd < 0) return fail("open", -fd);
      fd_ = fd;
    }
    Step step = write_data();
    if (step != Step::kDone || status_ < 0) return step;
    if (close(std::exchange(fd_, -1)) < 0 && errno != EINTR) return fail("close");
    return Step::kDone;
  }

  Step write_data() {
    while (written_ < data_.size()) {
      if (stopped()) return fail("write", ECANCELED);
      std::size_t size = std::min(kPiece, data_.size() - written_);
      ssize_t n = write_some(fd_, data_.data() + written_, size);
      if (n < 0 && errno == EAGAIN) return block(fd_, Step::kWritable);
      if (n < 0) return fail("write");
      written_ += static_cast<std::size_t>(n);
    }
    return Step::kDone;
  }

  Buffer data_;
  mode_t mode_;
  int flags_;
  int fd_ = -1;
  std::size_t written_ = 0;

 private:
  friend int rille::fs::write_file(lua_State* L);
};

// Writes beside the file and renames, so that others see the old or the new content, whole.
class ReplaceFile : public WriteFile {
 public:
  ReplaceFile(std::string path, Buffer data, mode_t mode)
      : WriteFile(std::move(path), std::move(data), mode, 0) {}

 protected:
  Step work() override {
    Replacement file(path_);
    int rc = file.look();
    if (rc < 0) return fail("open", -rc);
    if (file.exists() && S_ISDIR(file.old().st_mode)) return fail("open", EISDIR);
    // To put a plain file in the place of a device or a FIFO would break what others do with it.
    if (file.exists() && !S_ISREG(file.old().st_mode)) return fail("rename", EINVAL);
    rc = file.open(mode_);
    if (rc < 0) return fail("open", -rc);
    if (file.exists() && !keep_permissions(file)) return fail("fchmod");
    fd_ = file.fd();
    write_data();
    fd_ = -1;
    if (status_ < 0) return Step::kDone;
    if (fsync(file.fd()) < 0) return fail("fsync");
    if (stopped()) return fail("rename", ECANCELED);
    const char* syscall;
    rc = file.commit(&syscall);
    return rc < 0 ? fail(syscall, -rc) : Step::kDone;
  }

 private:
  static bool keep_permissions(const Replacement& file) {
    const struct stat& old = file.old();
    struct stat now;
    // Only root may give a file away; another owner, where that is not permitted, is no error.
    bool owned =
        fstat(file.fd(), &now) == 0 && now.st_uid == old.st_uid && now.st_gid == old.st_gid;
    if (!owned && fchown(file.fd(), old.st_uid, old.st_gid) < 0) {
      static_cast<void>(fchown(file.fd(), static_cast<uid_t>(-1), old.st_gid) == 0);
    }
    return fchmod(file.fd(), old.st_mode & 07777) == 0;
  }
};

// Content and permissions. The copy is made beside and takes its place when it is complete.
class CopyFile : public Job {
 public:
  CopyFile(std::string from, std::string to) : Job(std::move(from)), new_(to) {
    dest_ = std::move(to);
  }
  ~CopyFile() override {
    if (in_ >= 0) close(in_);
    if (device_ >= 0) close(device_);
  }

 protected:
  int permit(const Access& access) override {
    syscall_ = "copyfile";
    int rc = permit_path(access, Access::kRead, Access::Last::kObject);
    if (rc == 0) rc = permit_dest(access, Access::kWrite, Access::Last::kNew);
    if (rc == 0) new_.set_target(dest_);
    return rc;
  }

  Step work() override {
    if (!begun_) {
      if (!begin()) return Step::kDone;
      begun_ = true;
    }
    if (device_ >= 0) return copy_by_hand(device_);
    copy_in_kernel();
    if (status_ == 0) copy_by_hand(new_.fd());  // what there may be left
    if (status_ < 0) return Step::kDone;
    if (fchmod(new_.fd(), mode_) < 0 && errno != EPERM) return failed(errno);
    if (stopped()) return failed(ECANCELED);
    const char* syscall;
    int rc = new_.commit(&syscall);
    return rc < 0 ? failed(-rc) : Step::kDone;
  }

 private:
  Step failed(int error) { return fail("copyfile", error); }

  // Opens both. False with the job failed.
  bool begin() {
    struct stat st;
    in_ = open_file(path_.c_str(), O_RDONLY, 0, &st);
    int error = in_ < 0 ? -in_ : S_ISDIR(st.st_mode) ? EISDIR : S_ISREG(st.st_mode) ? 0 : EINVAL;
    if (error == 0) error = -new_.look();
    if (error == 0 && new_.exists()) {
      const struct stat& old = new_.old();
      if (old.st_dev == st.st_dev && old.st_ino == st.st_ino) {
        error = EINVAL;
      } else if (S_ISDIR(old.st_mode)) {
        error = EISDIR;
      } else if (!S_ISREG(old.st_mode)) {
        return open_device();
      }
    }
    mode_ = st.st_mode & 07777;
    constexpr mode_t kUntilComplete = 0600;
    if (error == 0) error = -new_.open(kUntilComplete);
    if (error != 0) failed(error);
    return error == 0;
  }

  // A device or a FIFO is not replaced, but written to.
  bool open_device() {
    struct stat st;
    device_ = open_file(dest_.c_str(), O_WRONLY | no_follow(), 0, &st);
    if (device_ < 0) failed(-device_);
    return device_ >= 0;
  }

  // As far as the file systems of both can; the rest is left to `copy_by_hand`.
  void copy_in_kernel() {
    bool by_range = true;
    for (;;) {
      if (stopped()) {
        failed(ECANCELED);
        return;
      }
      ssize_t n = by_range ? copy_file_range(in_, nullptr, new_.fd(), nullptr, kPiece, 0)
                           : sendfile(new_.fd(), in_, nullptr, kPiece);
      if (n > 0) continue;
      if (n < 0 && errno == EINTR) continue;
      if (n == 0) return;
      if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO) {
        failed(errno);
        return;
      }
      if (!by_range) return;
      by_range = false;
    }
  }

  Step copy_by_hand(int out) {
    constexpr std::size_t kBlock = 256 << 10;
    for (;;) {
      if (stopped()) return failed(ECANCELED);
      if (written_ == block_.size()) {
        if (!block_.reserve(kBlock)) return failed(ENOMEM);
        ssize_t n = read_some(in_, block_.data(), kBlock);
        if (n < 0) return failed(errno);
        if (n == 0) return Step::kDone;
        block_.set_size(static_cast<std::size_t>(n));
        written_ = 0;
      }
      ssize_t n = write_some(out, block_.data() + written_, block_.size() - written_);
      if (n < 0 && errno == EAGAIN) return block(out, Step::kWritable);
      if (n < 0) return failed(errno);
      written_ += static_cast<std::size_t>(n);
    }
  }

  Replacement new_;
  mode_t mode_ = 0;
  int in_ = -1;
  int device_ = -1;
  bool begun_ = false;
  Buffer block_;
  std::size_t written_ = 0;

  friend int rille::fs::copy_file(lua_State* L);
};

std::size_t most_bytes(lua_State* L) {
  std::size_t limit = memory_limit_of(L);
  return limit > 0 ? limit : kMostBytes;
}

}  // namespace

// read_file(path) -> err, string
int read_file(lua_State* L) {
  return Job::run(L,
                  std::make_unique<ReadFile>(to_string(L, 1), false, most_bytes(L), Shared::of(L)));
}

// read_lines(path) -> err, list
int read_lines(lua_State* L) {
  return Job::run(L,
                  std::make_unique<ReadFile>(to_string(L, 1), true, most_bytes(L), Shared::of(L)));
}

// write_file(path, data, mode, append, atomic) -> err
int write_file(lua_State* L) {
  std::size_t size;
  const char* bytes = lua_tolstring(L, 2, &size);
  auto mode = static_cast<mode_t>(lua_tointeger(L, 3));
  Buffer data{Charge(L)};
  if (!data.append(bytes, size)) {
    rille_push_os_error(L, UV_ENOMEM, "write", lua_tostring(L, 1), nullptr, nullptr);
    return 1;
  }
  int flags = lua_toboolean(L, 4) ? O_APPEND : O_TRUNC;
  std::unique_ptr<WriteFile> job;
  if (lua_toboolean(L, 5)) {
    job = std::make_unique<ReplaceFile>(to_string(L, 1), std::move(data), mode);
  } else {
    job = std::make_unique<WriteFile>(to_string(L, 1), std::move(data), mode, flags);
  }
  job->writes_ = true;
  job->shared_ = Shared::of(L);
  return Job::run(L, std::move(job));
}

// copy(from, to) -> err
int copy_file(lua_State* L) {
  auto job = std::make_unique<CopyFile>(to_string(L, 1), to_string(L, 2));
  job->writes_ = true;  // it must not be cut short by the program's end: nothing shall be left
  job->shared_ = Shared::of(L);
  return Job::run(L, std::move(job));
}

}  // namespace rille::fs
