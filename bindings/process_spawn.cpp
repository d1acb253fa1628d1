#include "process_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "process_capture.h"
#include "stream.h"

namespace rille::process {

namespace {

// What posix_spawn takes, freed at the end.
struct Attributes {
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  Attributes() {
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&actions);
  }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  ~Attributes() {
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
  }
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> list;
  list.reserve(texts.size() + 1);
  for (std::string& text : texts) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

// A descriptor in the place of the standard ones would be overwritten before it is used.
Descriptor above_standard(Descriptor fd) {
  if (fd.get() < 0 || fd.get() > 2) return fd;
  return Descriptor(fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
}

bool is_program(int directory, const char* path) {
  struct stat st;
  if (faccessat(directory, path, X_OK, AT_EACCESS) != 0) return false;
  if (fstatat(directory, path, &st, 0) != 0) return false;
  errno = EACCES;
  return S_ISREG(st.st_mode);
}

}  // namespace

// ---- streams -----------------------------------------------------------------------------------

int Launch::give(int stream, int fd) {
  Descriptor& place = theirs_[static_cast<std::size_t>(stream)];
  place = copy_for_child(fd);
  return place.is_open() ? 0 : -errno;
}

int Launch::give_null(int stream) {
  Descriptor& place = theirs_[static_cast<std::size_t>(stream)];
  place = above_standard(Descriptor(::open("/dev/null", O_RDWR | O_CLOEXEC)));
  return place.is_open() ? 0 : -errno;
}

int Launch::pipe(int stream, Kind kind) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  bool is_input = stream == 0;
  auto at = static_cast<std::size_t>(stream);
  theirs_[at] = above_standard(Descriptor(ends[is_input ? 0 : 1]));
  ours_[at] = above_standard(Descriptor(ends[is_input ? 1 : 0]));
  if (!theirs_[at].is_open() || !ours_[at].is_open()) return -errno;
  fcntl(ours_[at].get(), F_SETFL, O_NONBLOCK);
  kinds_[at] = kind;
  return 0;
}

// ---- on the thread -----------------------------------------------------------------------------

int Launch::fail(const char* syscall, const std::string& path, int error) {
  syscall_ = syscall;
  error_path_ = path;
  status_ = -error;
  return status_;
}

// The program's file, as execvp looks for it: in the child's own directory and PATH.
bool Launch::find_program(int directory, std::string* program) {
  const std::string& name = options_.args[0];
  if (name.find('/') != name.npos) {
    *program = name;
    return true;
  }
  int error = ENOENT;
  std::size_t begin = 0;
  while (!name.empty() && begin <= options_.path.size()) {
    std::size_t end = std::min(options_.path.find(':', begin), options_.path.size());
    std::string candidate = options_.path.substr(begin, end - begin);
    candidate = candidate.empty() ? "./" + name : candidate + "/" + name;
    if (is_program(directory, candidate.c_str())) {
      *program = std::move(candidate);
      return true;
    }
    if (errno == EACCES) error = EACCES;
    begin = end + 1;
  }
  fail("spawn", name, error);
  return false;
}

int Launch::start(int directory, const std::string& program) {
  Attributes with;
  sigset_t signals;
  sigemptyset(&signals);
  posix_spawnattr_setsigmask(&with.attributes, &signals);
  // sigfillset leaves the C library's own out, which would be ignored then.
  std::memset(&signals, 0xff, sizeof signals);
  posix_spawnattr_setsigdefault(&with.attributes, &signals);
  int flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
  if (options_.session) {
    flags |= POSIX_SPAWN_SETSID;
  } else if (options_.group) {
    flags |= POSIX_SPAWN_SETPGROUP;
    posix_spawnattr_setpgroup(&with.attributes, 0);
  }
  posix_spawnattr_setflags(&with.attributes, static_cast<short>(flags));

  int rc = 0;
  for (int i = 0; i < 3 && rc == 0; ++i) {
    const Descriptor& fd = theirs_[static_cast<std::size_t>(i)];
    if (fd.is_open()) rc = posix_spawn_file_actions_adddup2(&with.actions, fd.get(), i);
  }
  if (rc == 0 && options_.error_to_output) {
    rc = posix_spawn_file_actions_adddup2(&with.actions, 1, 2);
  }
  if (rc == 0 && directory != AT_FDCWD) {
    rc = posix_spawn_file_actions_addfchdir_np(&with.actions, directory);
  }
  if (rc == 0) rc = posix_spawn_file_actions_addclosefrom_np(&with.actions, 3);
  if (rc != 0) return rc;
  return posix_spawn(&pid_, program.c_str(), &with.actions, &with.attributes,
                     pointers(options_.args).data(), pointers(options_.environment).data());
}

void Launch::on_pool() {
  Children::reap_orphans();
  int directory = AT_FDCWD;
  Descriptor cwd;
  CheckedPath checked;
  if (options_.has_cwd) {
    // Its entry "." can be had only by those who may enter it.
    std::string folder = options_.cwd;
    if (options_.access) {
      int rc = options_.access->check_path(folder, Access::kRead, Access::Last::kObject, &checked,
                                           &refusal_);
      if (rc < 0) {
        fail("chdir", options_.cwd, -rc);
        return;
      }
      folder = checked.path();
    }
    std::string inside = folder + (folder.empty() ? "" : "/.");
    cwd = above_standard(Descriptor(::open(inside.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)));
    if (!cwd.is_open()) {
      fail("chdir", options_.cwd, errno);
      return;
    }
    directory = cwd.get();
  }
  std::string program;
  if (!find_program(directory, &program)) return;
  if (options_.access &&
      !options_.access->may_run(directory, &program, options_.args[0], &refusal_)) {
    status_ = Access::kRefused;
    return;
  }
  if (given_up_) {
    fail("spawn", options_.args[0], ECANCELED);
    return;
  }
  int rc = start(directory, program);
  if (rc != 0) {
    fail("spawn", options_.args[0], rc);
    return;
  }
  begun_ = true;
  pidfd_ = Descriptor(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  if (pidfd_.is_open()) return;
  fail("pidfd_open", options_.args[0], errno);
  begun_ = false;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

// ---- on the loop -------------------------------------------------------------------------------

int Launch::run(lua_State* L, std::unique_ptr<Launch> launch) {
  Launch* self = launch.get();
  self->loop_ = rille_loop(L);
  self->children_ = Children::of(L);
  // One that nobody waits for any more, and that has not begun, need not begin.
  auto give_up = [](rille_waiter*, void* data) {
    auto* launch = static_cast<Launch*>(data);
    launch->given_up_ = true;
    launch->withdraw();
  };
  self->waiter_ = rille_prepare(L, give_up, self);
  self->children_->count_launching(1);
  rille_waiter* waiter = self->waiter_;
  launch.release()->submit(pools_of(L), PoolKind::kFiles);
  return rille_park(L, waiter);
}

void Launch::after_pool(int status) {
  children_->count_launching(-1);
  if (status < 0 && status_ == 0 && !begun_) fail("spawn", options_.args[0], -status);
  for (Descriptor& fd : theirs_) fd.close();
  if (begun_ && !children_->is_closed()) {
    child_ = children_->add(loop_, pid_, std::move(pidfd_), options_.session || options_.group);
    if (options_.hold) child_->hold();
  } else if (begun_) {
    ::kill(pid_, SIGKILL);
    Children::orphan(pid_);
  }
  rille_complete(
      waiter_,
      [](lua_State* L, void* data) {
        std::unique_ptr<Launch> self(static_cast<Launch*>(data));
        if (L) return self->push(L);
        if (!self->child_) return 0;
        // Nobody has got it.
        self->child_->hold();
        self->child_->kill(SIGKILL, self->child_->leads_group());
        self->child_->release();
        return 0;
      },
      this);
}

void Launch::push_stream(lua_State* L, int index) {
  static const char* const kNames[] = {"stdin", "stdout", "stderr"};
  auto at = static_cast<std::size_t>(index);
  if (!ours_[at].is_open()) {
    lua_pushnil(L);
    return;
  }
  auto transport = make_pipe_transport(
      loop_, std::move(ours_[at]), index == 0 ? Direction::kOut : Direction::kIn, read_space(L));
  switch (kinds_[at]) {
    case Kind::kCapture:
      Class<Capture>::push(L, std::move(transport), Charge(L))->start();
      break;
    case Kind::kFeed:
      Class<Feed>::push(L, std::move(transport));
      break;
    default: {
      std::string name = std::string(kNames[index]) + " of process " + std::to_string(pid_);
      Class<Stream>::push(L, std::move(transport), std::move(name));
    }
  }
}

int Launch::push(lua_State* L) {
  if (status_ == Access::kRefused) return push_refusal(L, refusal_);
  if (status_ < 0) {
    rille_push_os_error(L, status_, syscall_, error_path_.c_str(), nullptr, nullptr);
    return 1;
  }
  lua_pushnil(L);
  Class<ChildHandle>::push(L, child_);
  lua_pushinteger(L, pid_);
  for (int i = 0; i < 3; ++i) push_stream(L, i);
  return 6;
}

}  // namespace rille::process
