// bindings/fs.cpp: rille.core.fs, operations on paths. Each is one trip to libuv's pool. Arguments
// come checked from stdlib/fs.lua; errors come first among the results, see rille/module.h.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "fs_job.h"

namespace rille::fs {
namespace {

std::string to_string(lua_State* L, int index) {
  std::size_t size;
  const char* text = lua_tolstring(L, index, &size);
  return {text, size};
}

// ---- whole files -------------------------------------------------------------------------------

class ReadFile : public Job {
 public:
  ReadFile(std::string path, bool lines, std::shared_ptr<Shared> shared)
      : Job(std::move(path)), lines_(lines), data_(shared->take_buffer()) {
    shared_ = std::move(shared);
  }
  ~ReadFile() override {
    if (fd_ >= 0) close(fd_);
    shared_->give_back(std::move(data_));
  }

 protected:
  Step work() override {
    if (fd_ < 0) {
      struct stat st;
      int fd = open_file(path_.c_str(), O_RDONLY, 0, &st);
      if (fd < 0) return fail("open", -fd);
      fd_ = fd;
      if (S_ISREG(st.st_mode) && st.st_size > 0) expected_ = static_cast<std::size_t>(st.st_size);
      // A byte more than there should be tells the end without another call.
      if (!data_.reserve(std::min(expected_ + 1, kMostBytes))) return fail("read", ENOMEM);
      if (S_ISFIFO(st.st_mode) && is_silent(fd_)) return block(fd_, Step::kReadable);
    }
    for (;;) {
      if (stopped()) return fail("read", ECANCELED);
      std::size_t free = data_.capacity() - data_.size();
      if (free == 0) {
        if (data_.size() >= kMostBytes) return fail("read", EFBIG);
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
  Step work() override {
    if (fd_ < 0) {
      struct stat st;
      int fd = open_file(path_.c_str(), O_WRONLY | O_CREAT | flags_, mode_, &st);
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
      // In pieces, so that a cancelled job ends before it has written a whole disk.
      constexpr std::size_t kPiece = 16 << 20;
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
  friend int write_file(lua_State* L);
};

// Writes beside the file and renames, so that others see the old or the new content, whole.
class ReplaceFile : public WriteFile {
 public:
  using WriteFile::WriteFile;

 protected:
  Step work() override {
    std::string target;
    if (!find_target(&target)) return Step::kDone;
    struct stat old;
    bool exists = stat(target.c_str(), &old) == 0;
    if (exists && S_ISDIR(old.st_mode)) return fail("open", EISDIR);
    // To put a plain file in the place of a device or a FIFO would break what others do with it.
    if (exists && !S_ISREG(old.st_mode)) return fail("rename", EINVAL);
    std::string beside = open_beside(target);
    if (fd_ < 0) return fail("open");
    if (exists && fchmod(fd_, old.st_mode & 07777) < 0) fail("fchmod");
    if (status_ == 0) write_data();
    if (status_ == 0 && fsync(fd_) < 0) fail("fsync");
    if (close(std::exchange(fd_, -1)) < 0 && status_ == 0 && errno != EINTR) fail("close");
    if (status_ == 0 && stopped()) fail("rename", ECANCELED);
    if (status_ == 0 && rename(beside.c_str(), target.c_str()) < 0) fail("rename");
    if (status_ < 0) unlink(beside.c_str());
    return Step::kDone;
  }

 private:
  // The file itself where the path is a link to it. The file need not exist.
  bool find_target(std::string* target) {
    *target = path_;
    char link[PATH_MAX];
    for (int depth = 0; depth < 40; ++depth) {
      ssize_t n = readlink(target->c_str(), link, sizeof link);
      if (n < 0) return true;  // no link, or nothing there
      std::string to(link, static_cast<std::size_t>(n));
      std::size_t slash = target->rfind('/');
      if (to[0] != '/' && slash != std::string::npos) to = target->substr(0, slash + 1) + to;
      *target = to;
    }
    fail("open", ELOOP);
    return false;
  }

  // Opens a new file next to `target`, with the permissions that a new file gets.
  std::string open_beside(const std::string& target) {
    std::size_t slash = target.rfind('/');
    std::size_t start = slash == std::string::npos ? 0 : slash + 1;
    std::string beside;
    for (int tries = 0; tries < 100; ++tries) {
      uint32_t number;
      if (uv_random(nullptr, nullptr, &number, sizeof number, 0, nullptr) != 0) number = tries;
      char suffix[16];
      std::snprintf(suffix, sizeof suffix, ".%08x", number);
      beside = target.substr(0, start) + ".tmp" + suffix;
      fd_ = open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode_);
      if (fd_ >= 0 || errno != EEXIST) break;
    }
    return beside;
  }
};

// read_file(path) -> err, string
int read_file(lua_State* L) {
  return Job::run(L, std::make_unique<ReadFile>(to_string(L, 1), false, Shared::of(L)));
}

// read_lines(path) -> err, list
int read_lines(lua_State* L) {
  return Job::run(L, std::make_unique<ReadFile>(to_string(L, 1), true, Shared::of(L)));
}

// write_file(path, data, mode, append, atomic) -> err
int write_file(lua_State* L) {
  std::size_t size;
  const char* bytes = lua_tolstring(L, 2, &size);
  auto mode = static_cast<mode_t>(lua_tointeger(L, 3));
  Buffer data;
  if (!data.append(bytes, size)) {
    rille_push_os_error(L, UV_ENOMEM, "write", lua_tostring(L, 1), nullptr, nullptr);
    return 1;
  }
  int flags = lua_toboolean(L, 4) ? O_APPEND : O_TRUNC;
  std::unique_ptr<WriteFile> job;
  if (lua_toboolean(L, 5)) {
    job = std::make_unique<ReplaceFile>(to_string(L, 1), std::move(data), mode, 0);
  } else {
    job = std::make_unique<WriteFile>(to_string(L, 1), std::move(data), mode, flags);
  }
  job->writes_ = true;
  job->shared_ = Shared::of(L);
  return Job::run(L, std::move(job));
}

// ---- what is there -----------------------------------------------------------------------------

class Stat : public Job {
 public:
  enum What { kTable, kType };
  Stat(std::string path, bool follow, What what)
      : Job(std::move(path)), follow_(follow), what_(what) {}

 protected:
  Step work() override {
    uv_fs_t req;
    const char* path = path_.c_str();
    int rc = follow_ ? uv_fs_stat(nullptr, &req, path, nullptr)
                     : uv_fs_lstat(nullptr, &req, path, nullptr);
    stat_ = req.statbuf;
    uv_fs_req_cleanup(&req);
    exists_ = rc == 0;
    if (rc < 0 && what_ == kTable) return fail(follow_ ? "stat" : "lstat", -rc);
    return Step::kDone;
  }

  int push(lua_State* L) override {
    if (!exists_) return 0;
    if (what_ == kType) {
      push_type(L, stat_);
    } else {
      push_stat(L, stat_);
    }
    return 1;
  }

 private:
  bool follow_;
  What what_;
  bool exists_ = false;
  uv_stat_t stat_{};
};

// stat(path) -> err, table
int stat_path(lua_State* L) {
  return Job::run(L, std::make_unique<Stat>(to_string(L, 1), true, Stat::kTable));
}

// lstat(path) -> err, table
int lstat_path(lua_State* L) {
  return Job::run(L, std::make_unique<Stat>(to_string(L, 1), false, Stat::kTable));
}

// type(path) -> err, name of its type, or nothing if there is none
int type_of(lua_State* L) {
  return Job::run(L, std::make_unique<Stat>(to_string(L, 1), true, Stat::kType));
}

class List : public Job {
 public:
  using Job::Job;

 protected:
  Step work() override {
    std::unique_ptr<DIR, int (*)(DIR*)> dir(opendir(path_.c_str()), closedir);
    if (!dir) return fail("opendir");
    for (;;) {
      if (stopped()) return fail("readdir", ECANCELED);
      errno = 0;
      dirent* entry = readdir(dir.get());
      if (!entry && errno != 0) return fail("readdir");
      if (!entry) break;
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
        names_.emplace_back(entry->d_name);
      }
    }
    std::sort(names_.begin(), names_.end());
    return Step::kDone;
  }

  int push(lua_State* L) override {
    lua_createtable(L, static_cast<int>(names_.size()), 0);
    int i = 0;
    for (const std::string& name : names_) {
      lua_pushlstring(L, name.data(), name.size());
      lua_rawseti(L, -2, ++i);
    }
    return 1;
  }

 private:
  std::vector<std::string> names_;
};

// list(path) -> err, sorted names
int list(lua_State* L) { return Job::run(L, std::make_unique<List>(to_string(L, 1))); }

// ---- changes -----------------------------------------------------------------------------------

class Remove : public Job {
 public:
  Remove(std::string path, bool recursive, bool missing_ok)
      : Job(std::move(path)), recursive_(recursive), missing_ok_(missing_ok) {}

 protected:
  Step work() override {
    const std::string path = path_;
    if (unlink(path.c_str()) == 0) return Step::kDone;
    int error = errno;
    if (error == ENOENT && missing_ok_) return Step::kDone;
    if (error != EISDIR && error != EPERM) return fail("unlink", error);
    if (recursive_ && !empty(AT_FDCWD, path.c_str(), path) && status_ < 0) return Step::kDone;
    if (rmdir(path.c_str()) == 0 || (errno == ENOENT && missing_ok_)) return Step::kDone;
    return errno == ENOTDIR ? fail("unlink", error) : fail("rmdir");
  }

 private:
  // Removes what is in a directory, without going through links. False if it is none, or with the
  // job failed.
  bool empty(int parent, const char* name, const std::string& path) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
      int error = errno;
      if (error != ENOTDIR && error != ENOENT) fail_at("opendir", path, error);
      return false;
    }
    std::unique_ptr<DIR, int (*)(DIR*)> dir(fdopendir(fd), closedir);
    if (!dir) {
      int error = errno;
      close(fd);
      fail_at("opendir", path, error);
      return false;
    }
    // All names first: what a directory tells while it changes is undefined.
    std::vector<std::string> names;
    while (dirent* entry = readdir(dir.get())) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
        names.emplace_back(entry->d_name);
      }
    }
    for (const std::string& entry : names) {
      if (!remove_entry(dirfd(dir.get()), entry, path + "/" + entry)) return false;
    }
    return true;
  }

  bool remove_entry(int parent, const std::string& name, const std::string& path) {
    if (stopped()) return fail_at("unlink", path, ECANCELED);
    if (unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return true;
    int error = errno;
    if (error != EISDIR && error != EPERM) return fail_at("unlink", path, error);
    if (!empty(parent, name.c_str(), path) && status_ < 0) return false;
    if (unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return true;
    return errno == ENOTDIR ? fail_at("unlink", path, error) : fail_at("rmdir", path, errno);
  }

  bool fail_at(const char* syscall, const std::string& path, int error) {
    path_ = path;
    fail(syscall, error);
    return false;
  }

  bool recursive_;
  bool missing_ok_;
};

// remove(path, recursive, missing_ok) -> err
int remove_path(lua_State* L) {
  bool recursive = lua_toboolean(L, 2);
  bool missing_ok = lua_toboolean(L, 3);
  return Job::run(L, std::make_unique<Remove>(to_string(L, 1), recursive, missing_ok));
}

class MakeDir : public Job {
 public:
  MakeDir(std::string path, bool parents, mode_t mode)
      : Job(std::move(path)), parents_(parents), mode_(mode) {}

 protected:
  Step work() override {
    if (mkdir(path_.c_str(), mode_) == 0) return Step::kDone;
    if (parents_ && errno == ENOENT) {
      if (!make_parents()) return Step::kDone;
      if (mkdir(path_.c_str(), mode_) == 0) return Step::kDone;
    }
    int error = errno;
    struct stat st;
    if (parents_ && error == EEXIST && stat(path_.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) {
      return Step::kDone;
    }
    return fail("mkdir", error);
  }

 private:
  bool make_parents() {
    std::size_t end = path_.find_last_not_of('/');
    for (std::size_t at = 1; (at = path_.find('/', at)) < end; ++at) {
      std::string parent = path_.substr(0, at);
      if (mkdir(parent.c_str(), 0777) == 0 || errno == EEXIST) continue;
      // One that exists may be on a disk that forbids writing.
      int error = errno;
      if (access(parent.c_str(), F_OK) == 0) continue;
      path_ = parent;
      fail("mkdir", error);
      return false;
    }
    return true;
  }

  bool parents_;
  mode_t mode_;
};

// mkdir(path, parents, mode) -> err
int make_dir(lua_State* L) {
  bool parents = lua_toboolean(L, 2);
  auto mode = static_cast<mode_t>(lua_tointeger(L, 3));
  return Job::run(L, std::make_unique<MakeDir>(to_string(L, 1), parents, mode));
}

class Rename : public Job {
 public:
  Rename(std::string from, std::string to) : Job(std::move(from)) { dest_ = std::move(to); }

 protected:
  Step work() override {
    return rename(path_.c_str(), dest_.c_str()) == 0 ? Step::kDone : fail("rename");
  }
};

// rename(from, to) -> err
int rename_path(lua_State* L) {
  return Job::run(L, std::make_unique<Rename>(to_string(L, 1), to_string(L, 2)));
}

class MakeTempDir : public Job {
 public:
  using Job::Job;

 protected:
  Step work() override { return mkdtemp(path_.data()) ? Step::kDone : fail("mkdtemp"); }
  int push(lua_State* L) override {
    lua_pushlstring(L, path_.data(), path_.size());
    return 1;
  }
  void dropped() override {
    // A folder that nobody knows of would stay for ever.
    if (status_ == 0) rmdir(path_.c_str());
  }
};

// mkdtemp(template) -> err, path
int make_temp_dir(lua_State* L) {
  return Job::run(L, std::make_unique<MakeTempDir>(to_string(L, 1)));
}

// tempdir() -> path
int temp_dir(lua_State* L) {
  char path[PATH_MAX];
  std::size_t size = sizeof path;
  if (uv_os_tmpdir(path, &size) < 0) return luaL_error(L, "tempdir: the path is too long");
  lua_pushlstring(L, path, size);
  return 1;
}

// wait_for_writers() -> true once no job writes any more; meanwhile everything stands still.
int wait_for_writers(lua_State* L) {
  constexpr double kSeconds = 5;
  lua_pushboolean(L, Shared::of(L)->wait_for_writers(kSeconds));
  return 1;
}

// stdlib/fs.lua raises the errors itself, so these need no wrapper.
const rille_reg kFunctions[] = {
    {"read_file", read_file, 0},
    {"read_lines", read_lines, 0},
    {"write_file", write_file, 0},
    {"stat", stat_path, 0},
    {"lstat", lstat_path, 0},
    {"type", type_of, 0},
    {"list", list, 0},
    {"remove", remove_path, 0},
    {"mkdir", make_dir, 0},
    {"rename", rename_path, 0},
    {"mkdtemp", make_temp_dir, 0},
    {"tempdir", temp_dir, 0},
    {"wait_for_writers", wait_for_writers, 0},
    {nullptr, nullptr, 0},
};

}  // namespace
}  // namespace rille::fs

extern "C" int luaopen_rille_core_fs(lua_State* L) {
  rille_newlib(L, rille::fs::kFunctions);
  return 1;
}
