// rille.core.worker_socket: what a pool and its processes speak through.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <rille/builtin.hpp>
#include <rille/rille.hpp>
#include <thread>

#include "socket.h"
#include "stream.h"

namespace rille {

namespace {

// Moments from the parent's end: a job that waits may clean up, one that does not is killed with
// all that it has started. A worker that is merely told to end is gone before the first.
constexpr unsigned kGraceUs = 200'000;
constexpr unsigned kPatienceUs = 2'000'000;

void end_with_parent(int fd) {
  pollfd parent = {fd, 0, 0};
  while (poll(&parent, 1, -1) < 1) {
  }
  usleep(kGraceUs);
  kill(getpid(), SIGTERM);
  usleep(kPatienceUs);
  kill(getpgrp() == getpid() ? 0 : getpid(), SIGKILL);
}

int push_socket(lua_State* L, Socket socket, const char* name) {
  StreamHandle handle = make_pipe(rille_loop(L));
  int rc = uv_pipe_open(&handle->pipe, socket.get());
  if (rc < 0) {
    rille_push_os_error(L, rc, "socketpair", nullptr, nullptr, nullptr);
    return lua_error(L);
  }
  static_cast<void>(socket.release());
  push_stream(L, std::move(handle), name);
  return 1;
}

// pair() -> stream, the descriptor of its other end, which is nobody's yet
int pair(lua_State* L) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    rille_push_os_error(L, -errno, "socketpair", nullptr, nullptr, nullptr);
    return lua_error(L);
  }
  Socket theirs(ends[1]);
  push_socket(L, Socket(ends[0]), "worker");
  lua_pushinteger(L, theirs.release());
  return 2;
}

// release(descriptor): closes it
int release(lua_State* L) {
  Socket closed(luaL_checkint(L, 1));
  return 0;
}

// adopt() -> the stream to the pool, which a worker has got as its standard input. From here on it
// ends with its parent, whatever it is doing.
int adopt(lua_State* L) {
  int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) return luaL_error(L, "this is no worker");
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) {
    dup2(null, STDIN_FILENO);
    close(null);
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread(end_with_parent, fd).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return push_socket(L, Socket(fd), "the pool");
}

// may_start() -> whether this runtime may start others that nothing restrains
int may_start(lua_State* L) {
  const Options& options = options_of(L);
  lua_pushboolean(L, options.permissions.everything() && options.modules.empty());
  return 1;
}

const rille_reg kFunctions[] = {{"pair", pair, 0},
                                {"release", release, 0},
                                {"adopt", adopt, 0},
                                {"may_start", may_start, 0},
                                {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_worker_socket(lua_State* L) {
  rille_newlib(L, rille::kFunctions);
  return 1;
}
