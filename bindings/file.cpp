// bindings/file.cpp: rille.core.file, open files. stdlib/fs/file.lua decides what to read, and
// passes what `open` gave: the userdata is not checked again at each line.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "file_state.h"

namespace rille::fs {
namespace {

// ---- the jobs ----------------------------------------------------------------------------------

class Read : public FileJob {
 public:
  Read(std::shared_ptr<OpenFile> file, std::size_t want)
      : FileJob(std::move(file)), want_(want), had_(file_->available()) {
    moves_ = true;
  }

 protected:
  void begin() override {
    file_->forget_early();
    data_ = std::move(file_->spare);
    data_.set_size(0);
    data_.count_like(file_->shared->charge());
    // The job before may have been a read that its task gave up, and have brought what is wanted.
    satisfied_ = file_->available() > had_;
  }

  Step operate() override {
    if (satisfied_) return Step::kDone;
    OpenFile* f = file_.get();
    if (f->fifo && is_silent(f->fd)) return block(f->fd, Step::kReadable);
    std::size_t room = std::min(want_, kLongestRead);
    if (want_ > kLongestRead && f->regular) room = std::max(room, rest_of_file());
    while (data_.size() < want_ && !stopped()) {
      if (data_.size() == room) room *= 2;
      if (!data_.reserve(std::min(room, want_))) {
        return data_.empty() ? fail("read", ENOMEM) : Step::kDone;
      }
      ssize_t n = read_some(f->fd, data_.data() + data_.size(), data_.capacity() - data_.size());
      if (n < 0 && errno == EAGAIN && data_.empty()) return block(f->fd, Step::kReadable);
      // What there is comes first, the error at the next time.
      if (n < 0) return data_.empty() ? fail("read") : Step::kDone;
      end_ = n == 0;
      if (end_) break;
      data_.set_size(data_.size() + static_cast<std::size_t>(n));
      if (!f->regular) break;
    }
    return Step::kDone;
  }

  void ended() override {
    if (!file_->accept(std::move(data_)) && status_ == 0) fail("read", ENOMEM);
    FileJob::ended();
  }

  int push(lua_State* L) override {
    lua_pushboolean(L, end_);
    return 1;
  }

 private:
  std::size_t rest_of_file() const {
    struct stat st;
    off_t at = lseek(file_->fd, 0, SEEK_CUR);
    if (at < 0 || fstat(file_->fd, &st) < 0 || st.st_size <= at) return 0;
    // A byte more, so that one call meets the end.
    return static_cast<std::size_t>(st.st_size - at) + 1;
  }

  std::size_t want_;
  std::size_t had_;
  bool satisfied_ = false;
  bool end_ = false;
  Buffer data_;
};

class Flush : public FileJob {
 public:
  using FileJob::FileJob;
};

class Sync : public FileJob {
 public:
  using FileJob::FileJob;

 protected:
  Step operate() override { return fsync(file_->fd) == 0 ? Step::kDone : fail("fsync"); }
};

class Seek : public FileJob {
 public:
  Seek(std::shared_ptr<OpenFile> file, int whence, off_t offset)
      : FileJob(std::move(file)), whence_(whence), offset_(offset) {
    moves_ = true;
  }

 protected:
  void begin() override { back_ += file_->forget_input(); }
  Step operate() override {
    offset_ = lseek(file_->fd, offset_, whence_);
    return offset_ >= 0 ? Step::kDone : fail("lseek");
  }
  int push(lua_State* L) override {
    lua_pushnumber(L, static_cast<lua_Number>(offset_));
    return 1;
  }

 private:
  int whence_;
  off_t offset_;
};

class Truncate : public FileJob {
 public:
  Truncate(std::shared_ptr<OpenFile> file, off_t size) : FileJob(std::move(file)), size_(size) {
    moves_ = true;
  }

 protected:
  void begin() override { back_ += file_->forget_input(); }
  Step operate() override {
    return ftruncate(file_->fd, size_) == 0 ? Step::kDone : fail("ftruncate");
  }

 private:
  off_t size_;
};

class StatFile : public FileJob {
 public:
  using FileJob::FileJob;

 protected:
  Step operate() override {
    uv_fs_t req;
    int rc = uv_fs_fstat(nullptr, &req, file_->fd, nullptr);
    stat_ = req.statbuf;
    uv_fs_req_cleanup(&req);
    return rc == 0 ? Step::kDone : fail("fstat", -rc);
  }
  int push(lua_State* L) override {
    push_stat(L, stat_);
    return 1;
  }

 private:
  uv_stat_t stat_{};
};

class Close : public FileJob {
 public:
  explicit Close(std::shared_ptr<OpenFile> file) : FileJob(std::move(file)) { must_write_ = true; }

 protected:
  void begin() override {
    file_->release_input();
    late_error_ = std::exchange(file_->late_error, 0);
  }
  Step operate() override {
    while (file_->early_reads > 0) usleep(100);  // it ends by itself, and soon
    // Closing may be what tells that the data does not fit on the disk.
    if (::close(std::exchange(file_->fd, -1)) < 0 && errno != EINTR) return fail("close");
    return late_error_ < 0 ? fail("write", -late_error_) : Step::kDone;
  }
  void write_failed() override { ::close(std::exchange(file_->fd, -1)); }

 private:
  int late_error_ = 0;
};

class Open : public Job {
 public:
  Open(std::string path, int flags, mode_t permissions, std::shared_ptr<Shared> shared)
      : Job(std::move(path)), flags_(flags), permissions_(permissions) {
    file_->path = path_;
    file_->shared = std::move(shared);
  }

 protected:
  int permit(const Access& access) override {
    int mode = flags_ & O_ACCMODE;
    unsigned needs = (mode == O_WRONLY ? 0u : unsigned{Access::kRead}) |
                     (mode == O_RDONLY ? 0u : unsigned{Access::kWrite});
    if (!(flags_ & O_CREAT)) return permit_path(access, needs, Access::Last::kObject);
    bool is_new = flags_ & O_EXCL;  // which no link can be
    flags_ |= O_NOFOLLOW;
    return permit_path(access, needs, is_new ? Access::Last::kEntry : Access::Last::kNew);
  }

  Step work() override {
    struct stat st;
    int fd = open_file(path_.c_str(), flags_, permissions_, &st);
    if (fd == -ENXIO && S_ISFIFO(st.st_mode)) return block(-1, Step::kLater);
    if (fd < 0) return fail("open", -fd);
    file_->fd = fd;
    if (S_ISDIR(st.st_mode)) return fail("open", EISDIR);
    file_->writable = (flags_ & O_ACCMODE) != O_RDONLY;
    file_->regular = S_ISREG(st.st_mode);
    file_->fifo = S_ISFIFO(st.st_mode);
    file_->seekable = file_->regular || S_ISBLK(st.st_mode);
    return Step::kDone;
  }
  int push(lua_State* L) override;

 private:
  int flags_;
  mode_t permissions_;
  std::shared_ptr<OpenFile> file_ = std::make_shared<OpenFile>();
};

class MakeTempFile : public Job {
 public:
  MakeTempFile(std::string path_template, std::shared_ptr<Shared> shared)
      : Job(std::move(path_template)) {
    file_->shared = std::move(shared);
  }

 protected:
  int permit(const Access& access) override {
    file_->path = path_;
    syscall_ = "mkstemp";
    return permit_path(access, Access::kWrite, Access::Last::kEntry);
  }

  Step work() override {
    file_->fd = mkostemp(path_.data(), O_CLOEXEC);
    if (file_->fd < 0) return fail("mkstemp");
    file_->path = checked_ ? as_asked(file_->path, path_) : path_;
    file_->writable = file_->regular = file_->seekable = true;
    return Step::kDone;
  }
  int push(lua_State* L) override;
  void dropped() override {
    // A file that nobody knows of would stay for ever.
    if (status_ == 0) unlink(path_.c_str());
  }

 private:
  std::shared_ptr<OpenFile> file_ = std::make_shared<OpenFile>();
};

// ---- Lua ---------------------------------------------------------------------------------------

int Open::push(lua_State* L) {
  Class<FileHandle>::push(L, std::move(file_));
  return 1;
}

int MakeTempFile::push(lua_State* L) {
  std::string path = file_->path;
  Class<FileHandle>::push(L, std::move(file_));
  lua_pushlstring(L, path.data(), path.size());
  return 2;
}

int push_error(lua_State* L, const OpenFile* f, const char* syscall, int status) {
  rille_push_os_error(L, status, syscall, f->path.c_str(), nullptr, nullptr);
  return 1;
}

// An error of a write that nobody waited for comes up at the next call.
int push_late_error(lua_State* L, OpenFile* f) {
  return f->late_error == 0 ? 0 : push_error(L, f, "write", std::exchange(f->late_error, 0));
}

template <class T, class... Args>
int run_job(lua_State* L, Args&&... args) {
  const std::shared_ptr<OpenFile>& file = file_at(L, 1);
  if (int n = push_late_error(L, file.get())) return n;
  return FileJob::run(L, std::make_unique<T>(file, std::forward<Args>(args)...));
}

// open(path, flags, permissions) -> err, file. Flags are letters: r, w, a (append), t (truncate),
// c (create), x (it must not exist).
int open_path(lua_State* L) {
  std::size_t size;
  const char* path = lua_tolstring(L, 1, &size);
  const char* letters = lua_tostring(L, 2);
  auto has = [&](char c) { return std::strchr(letters, c) != nullptr; };
  int flags = has('r') && has('w') ? O_RDWR : has('w') ? O_WRONLY : O_RDONLY;
  if (has('a')) flags |= O_APPEND;
  if (has('t')) flags |= O_TRUNC;
  if (has('c')) flags |= O_CREAT;
  if (has('x')) flags |= O_EXCL;
  auto permissions = static_cast<mode_t>(lua_tointeger(L, 3));
  return Job::run(
      L, std::make_unique<Open>(std::string(path, size), flags, permissions, Shared::of(L)));
}

// mkstemp(template) -> err, file, path
int make_temp_file(lua_State* L) {
  std::size_t size;
  const char* path = lua_tolstring(L, 1, &size);
  return Job::run(L, std::make_unique<MakeTempFile>(std::string(path, size), Shared::of(L)));
}

// fill(file, want) -> err, ended, turn: reads on, at least a byte unless the end is there
// (`ended`). `turn`: it has not waited for long, others should have a turn.
int fill(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  if (f->available() >= kMostBytes) return push_error(L, f, "read", UV_EFBIG);
  // What reads on and on gets more at a time.
  f->ahead = f->ahead == 0 ? kFirstRead : kLongestDirect;
  double most = static_cast<double>(kMostBytes);
  auto want = static_cast<std::size_t>(std::min(lua_tonumber(L, 2), most));
  bool ended;
  // Who wants all of a long file gets it in one trip.
  bool is_long = want > kLongestRead && f->available() >= kFirstRead;
  if (!is_long && f->read_direct(&ended)) {
    lua_pushnil(L);
    lua_pushboolean(L, ended);
    if (!ended) f->read_early(rille_loop(L), &pools_of(L), file_at(L, 1));
    lua_pushboolean(L, f->was_direct >= kMostDirect);
    f->was_direct %= kMostDirect;
    return 3;
  }
  // A trip is worth more bytes.
  std::size_t least = f->ahead < kLongestDirect ? f->ahead : kLongestRead;
  return run_job<Read>(L, std::max(want, least));
}

int flush(lua_State* L) { return run_job<Flush>(L); }

int sync(lua_State* L) { return run_job<Sync>(L); }

// stat(file) -> err, table
int stat_file(lua_State* L) { return run_job<StatFile>(L); }

// seek(file, whence, offset) -> err, position
int seek(lua_State* L) {
  const char* whence = lua_tostring(L, 2);
  int from = whence[0] == 's' ? SEEK_SET : whence[0] == 'c' ? SEEK_CUR : SEEK_END;
  return run_job<Seek>(L, from, static_cast<off_t>(lua_tonumber(L, 3)));
}

// truncate(file, size) -> err
int truncate(lua_State* L) { return run_job<Truncate>(L, static_cast<off_t>(lua_tonumber(L, 2))); }

// close(file) -> err. Whoever waits for a job on the file gets an InvalidStateError.
int close_file(lua_State* L) { return FileJob::close(L, std::make_unique<Close>(file_at(L, 1))); }

// ---- writing -----------------------------------------------------------------------------------

constexpr int kBuffered = 0;
constexpr int kFull = 1;
constexpr int kBusy = 2;

// write(file, ...) -> 0 if the texts are in the buffer, 1 if that should now be put out, 2 if a
// running job has to end first, the negated number of an argument that is no text, or an error
// object.
int write(lua_State* L) {
  OpenFile* f = file_at(L, 1).get();
  int count = lua_gettop(L);
  for (int i = 2; i <= count; ++i) {
    if (!lua_isstring(L, i)) {
      lua_pushinteger(L, 1 - i);
      return 1;
    }
  }
  if (int n = push_late_error(L, f)) return n;
  if (!f->writable) return push_error(L, f, "write", UV_EBADF);
  // What a read brings belongs in front of what is written, and it may be one that was given up.
  if (f->movers > 0) {
    lua_pushinteger(L, kBusy);
    return 1;
  }
  if (f->out.empty()) f->back = f->forget_input();
  std::size_t before = f->out.size();
  if (!f->out.reserve(kFirstOutput)) return push_error(L, f, "write", UV_ENOMEM);
  for (int i = 2; i <= count; ++i) {
    std::size_t size;
    const char* text = lua_tolstring(L, i, &size);
    if (!f->out.append(text, size)) {
      f->out.set_size(before);
      return push_error(L, f, "write", UV_ENOMEM);
    }
  }
  lua_pushinteger(L, f->out.size() >= kFullOutput ? kFull : kBuffered);
  return 1;
}

// put_out(file) -> err: writes the buffer, holding everything up, when the program ends.
// REQUIRES: no job on the pool writes.
int put_out(lua_State* L) {
  constexpr int kPatienceMs = 2000;  // with a pipe that nobody reads
  OpenFile* f = file_at(L, 1).get();
  if (f->fd < 0) return 0;
  int status = f->active ? f->active->write_rest(kPatienceMs) : 0;
  if (status == 0) status = f->write_out(kPatienceMs);
  if (status == 0) status = std::exchange(f->late_error, 0);
  return status == 0 ? 0 : push_error(L, f, "write", status);
}

// descriptor(file) -> its number, for a child to get
int descriptor(lua_State* L) {
  lua_pushinteger(L, file_at(L, 1)->fd);
  return 1;
}

// stdlib/fs/file.lua raises the errors itself, so these need no wrapper.
const rille_reg kFunctions[] = {
    {"open", open_path, 0},
    {"fill", fill, 0},
    {"flush", flush, 0},
    {"sync", sync, 0},
    {"stat", stat_file, 0},
    {"seek", seek, 0},
    {"truncate", truncate, 0},
    {"close", close_file, 0},
    {"take_line", take_line, 0},
    {"take_bytes", take_bytes, 0},
    {"take_all", take_all, 0},
    {"take_number", take_number, 0},
    {"hold", hold, 0},
    {"release", release, 0},
    {"write", write, 0},
    {"put_out", put_out, 0},
    {"mkstemp", make_temp_file, 0},
    {"descriptor", descriptor, 0},
    {"open_beneath", open_beneath, 0},
    {"adopt", adopt, 0},
    {nullptr, nullptr, 0},
};

}  // namespace
}  // namespace rille::fs

extern "C" int luaopen_rille_core_file(lua_State* L) {
  using namespace rille;
  const rille_reg none[] = {{nullptr, nullptr, 0}};
  Class<fs::FileHandle>::define(L, none);
  rille_newlib(L, fs::kFunctions);
  return 1;
}
