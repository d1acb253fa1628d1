// bindings/fs_path.cpp: what is at a path, and changes of it that are one call of the system.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <utility>

#include "fs_calls.h"

namespace rille::fs {
namespace {

class Stat : public Job {
 public:
  enum What { kTable, kType };
  Stat(std::string path, bool follow, What what)
      : Job(std::move(path)), follow_(follow), what_(what) {}

 protected:
  int permit(const Access& access) override {
    syscall_ = follow_ ? "stat" : "lstat";
    int rc =
        permit_path(access, Access::kRead, follow_ ? Access::Last::kObject : Access::Last::kEntry);
    missing_ = what_ == kType && rc < 0 && rc != Access::kRefused;
    return missing_ ? 0 : rc;
  }

  Step work() override {
    if (missing_) return Step::kDone;
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
  bool missing_ = false;
  uv_stat_t stat_{};
};

// What a script must have been granted for a path.
struct Right {
  unsigned needs;
  Access::Last last;
};
constexpr Right kReadObject = {Access::kRead, Access::Last::kObject};
constexpr Right kReadEntry = {Access::kRead, Access::Last::kEntry};
constexpr Right kWriteObject = {Access::kWrite, Access::Last::kObject};
constexpr Right kWriteEntry = {Access::kWrite, Access::Last::kEntry};
// What gets another name may be read by that.
constexpr Right kMoveEntry = {Access::kRead | Access::kWrite, Access::Last::kEntry};

// A single call: `run(path, dest)` gives 0, or -1 with errno.
template <class Run>
class Call : public Job {
 public:
  Call(const char* name, std::string path, Right right, std::string dest, Right dest_right, Run run)
      : Job(std::move(path)),
        name_(name),
        right_(right),
        dest_right_(dest_right),
        run_(std::move(run)) {
    dest_ = std::move(dest);
  }

 protected:
  int permit(const Access& access) override {
    syscall_ = name_;
    int rc = permit_path(access, right_.needs, right_.last);
    return rc == 0 && !dest_.empty() ? permit_dest(access, dest_right_.needs, dest_right_.last)
                                     : rc;
  }
  Step work() override {
    return run_(path_.c_str(), dest_.c_str()) == 0 ? Step::kDone : fail(name_);
  }

 private:
  const char* name_;
  Right right_, dest_right_;
  Run run_;
};

template <class Run>
int call(lua_State* L, const char* name, Right right, Run run) {
  return Job::run(
      L, std::make_unique<Call<Run>>(name, to_string(L, 1), right, "", right, std::move(run)));
}

template <class Run>
int call_with_dest(lua_State* L, const char* name, Run run) {
  return Job::run(L, std::make_unique<Call<Run>>(name, to_string(L, 1), kMoveEntry, to_string(L, 2),
                                                 kWriteEntry, std::move(run)));
}

// A link may lead to what is granted alone: other programs follow it too.
class MakeLink : public Job {
 public:
  MakeLink(std::string target, std::string path) : Job(std::move(target)) {
    dest_ = std::move(path);
  }

 protected:
  int permit(const Access& access) override {
    syscall_ = "symlink";
    std::size_t slash = dest_.rfind('/');
    std::string folder = slash == dest_.npos ? "" : dest_.substr(0, slash + 1);
    std::string target = path_[0] == '/' ? path_ : folder + path_;
    CheckedPath checked;
    int rc = access.check_path(target, Access::kRead | Access::kWrite, Access::Last::kObject,
                               &checked, &checked_->refusal);
    if (rc == Access::kRefused) return rc;
    return permit_dest(access, Access::kWrite, Access::Last::kEntry);
  }

  Step work() override {
    return ::symlink(path_.c_str(), dest_.c_str()) == 0 ? Step::kDone : fail("symlink");
  }
};

// A call that gives a path: `run(path, &result)`.
template <class Run>
class Ask : public Job {
 public:
  Ask(const char* name, std::string path, Right right, Run run)
      : Job(std::move(path)), name_(name), right_(right), run_(std::move(run)) {}

 protected:
  int permit(const Access& access) override {
    syscall_ = name_;
    return permit_path(access, right_.needs, right_.last);
  }
  Step work() override { return run_(path_.c_str(), &result_) == 0 ? Step::kDone : fail(name_); }
  int push(lua_State* L) override {
    lua_pushlstring(L, result_.data(), result_.size());
    return 1;
  }

 private:
  const char* name_;
  Right right_;
  Run run_;
  std::string result_;
};

template <class Run>
int ask(lua_State* L, const char* name, Right right, Run run) {
  return Job::run(L, std::make_unique<Ask<Run>>(name, to_string(L, 1), right, std::move(run)));
}

class AskAccess : public Job {
 public:
  AskAccess(std::string path, int mode) : Job(std::move(path)), mode_(mode) {}

 protected:
  int permit(const Access& access) override {
    int rc = permit_path(access, Access::kRead, Access::Last::kObject);
    missing_ = rc < 0 && rc != Access::kRefused;
    return missing_ ? 0 : rc;
  }

  Step work() override {
    granted_ = !missing_ && ::access(path_.c_str(), mode_) == 0;
    return Step::kDone;
  }
  int push(lua_State* L) override {
    lua_pushboolean(L, granted_);
    return 1;
  }

 private:
  int mode_;
  bool granted_ = false;
  bool missing_ = false;
};

class MakeDir : public Job {
 public:
  MakeDir(std::string path, bool parents, mode_t mode)
      : Job(std::move(path)), parents_(parents), mode_(mode) {}

 protected:
  int permit(const Access& access) override {
    syscall_ = "mkdir";
    return permit_path(access, Access::kWrite,
                       parents_ ? Access::Last::kTree : Access::Last::kEntry);
  }

  Step work() override {
    if (checked_ && parents_) return make_below(checked_->path.below());
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
  // From a folder that was checked: no link is followed that has come there since.
  Step make_below(std::string rest) {
    int at = checked_->path.descriptor();
    int own = -1;
    int error = 0;
    if (rest.empty()) {
      struct stat st;
      error = fstat(at, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : EEXIST;
    }
    while (!rest.empty() && error == 0) {
      std::size_t end = std::min(rest.find('/'), rest.size());
      std::string name = rest.substr(0, end);
      rest.erase(0, std::min(rest.find_first_not_of('/', end), rest.size()));
      if (mkdirat(at, name.c_str(), rest.empty() ? mode_ : 0777) != 0 && errno != EEXIST) {
        error = errno;
        break;
      }
      int next = openat(at, name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (next < 0) error = rest.empty() ? EEXIST : errno;
      if (own >= 0) ::close(own);
      at = own = next;
    }
    if (own >= 0) ::close(own);
    return error == 0 ? Step::kDone : fail("mkdir", error);
  }

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

class MakeTempDir : public Job {
 public:
  using Job::Job;

 protected:
  int permit(const Access& access) override {
    asked_ = path_;
    syscall_ = "mkdtemp";
    return permit_path(access, Access::kWrite, Access::Last::kEntry);
  }
  Step work() override { return mkdtemp(path_.data()) ? Step::kDone : fail("mkdtemp"); }
  int push(lua_State* L) override {
    std::string path = checked_ ? as_asked(asked_, path_) : path_;
    lua_pushlstring(L, path.data(), path.size());
    return 1;
  }
  void dropped() override {
    // A folder that nobody knows of would stay for ever.
    if (status_ == 0) rmdir(path_.c_str());
  }

 private:
  std::string asked_;
};

// A time in seconds, or nil for now.
timespec time_at(lua_State* L, int index) {
  if (lua_isnil(L, index)) return {0, UTIME_NOW};
  double seconds = lua_tonumber(L, index);
  double whole = std::floor(seconds);
  auto nanoseconds = static_cast<long>((seconds - whole) * 1e9);
  return {static_cast<time_t>(whole), nanoseconds};
}

}  // namespace

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

// access(path, r, w, x) -> err, boolean
int access_path(lua_State* L) {
  int mode = F_OK;
  if (lua_toboolean(L, 2)) mode |= R_OK;
  if (lua_toboolean(L, 3)) mode |= W_OK;
  if (lua_toboolean(L, 4)) mode |= X_OK;
  return Job::run(L, std::make_unique<AskAccess>(to_string(L, 1), mode));
}

// mkdir(path, parents, mode) -> err
int make_dir(lua_State* L) {
  bool parents = lua_toboolean(L, 2);
  auto mode = static_cast<mode_t>(lua_tointeger(L, 3));
  return Job::run(L, std::make_unique<MakeDir>(to_string(L, 1), parents, mode));
}

// rename(from, to) -> err
int rename_path(lua_State* L) { return call_with_dest(L, "rename", ::rename); }

// link(old, new) -> err
int link_path(lua_State* L) { return call_with_dest(L, "link", ::link); }

// symlink(target, path) -> err
int symlink_path(lua_State* L) {
  return Job::run(L, std::make_unique<MakeLink>(to_string(L, 1), to_string(L, 2)));
}

// readlink(path) -> err, target
int read_link(lua_State* L) {
  return ask(L, "readlink", kReadEntry, [](const char* path, std::string* target) {
    for (std::size_t size = 256;; size *= 2) {  // what lstat says of it is a lie in /proc
      target->resize(size);
      ssize_t n = ::readlink(path, target->data(), size);
      if (n < 0) return -1;
      if (static_cast<std::size_t>(n) == size) continue;
      target->resize(static_cast<std::size_t>(n));
      return 0;
    }
  });
}

// realpath(path) -> err, path
int real_path(lua_State* L) {
  return ask(L, "realpath", kReadObject, [](const char* path, std::string* real) {
    std::unique_ptr<char, void (*)(void*)> found(::realpath(path, nullptr), std::free);
    if (found) *real = found.get();
    return found ? 0 : -1;
  });
}

// chmod(path, mode) -> err
int change_mode(lua_State* L) {
  auto mode = static_cast<mode_t>(lua_tointeger(L, 2));
  return call(L, "chmod", kWriteObject,
              [mode](const char* path, const char*) { return ::chmod(path, mode); });
}

// chown(path, uid, gid) -> err; nil leaves one as it is.
int change_owner(lua_State* L) {
  auto id = [L](int i) {
    return lua_isnil(L, i) ? static_cast<uid_t>(-1) : static_cast<uid_t>(lua_tonumber(L, i));
  };
  return call(L, "chown", kWriteObject, [uid = id(2), gid = id(3)](const char* path, const char*) {
    return ::chown(path, uid, gid);
  });
}

// utime(path, atime, mtime) -> err; nil is now.
int change_times(lua_State* L) {
  return call(L, "utime", kWriteObject,
              [atime = time_at(L, 2), mtime = time_at(L, 3)](const char* path, const char*) {
                const timespec times[] = {atime, mtime};
                return utimensat(AT_FDCWD, path, times, 0);
              });
}

// mkdtemp(template) -> err, path
int make_temp_dir(lua_State* L) {
  return Job::run(L, std::make_unique<MakeTempDir>(to_string(L, 1)));
}

// chdir(path) -> err
int change_dir(lua_State* L) {
  Refusal refusal;
  Access* access = Access::of(L);
  if (access && !access->may_steer_process("another folder for the whole process", &refusal)) {
    return push_refusal(L, refusal);
  }
  return call(L, "chdir", kReadObject, [](const char* path, const char*) { return ::chdir(path); });
}

}  // namespace rille::fs
