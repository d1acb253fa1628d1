#include "worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace rille {

namespace {

constexpr unsigned kPatience = 15;  // seconds from the parent's end to this process's

// The signal by which a worker learns of its parent's end is a request, which a script that never
// waits does not hear.
void* end_with_parent(void* channel) {
  pollfd parent = {static_cast<int>(reinterpret_cast<std::intptr_t>(channel)), 0, 0};
  while (poll(&parent, 1, -1) < 1) {
  }
  // Its own end may come meanwhile, and with it that of this thread.
  sleep(kPatience);
  kill(getpid(), SIGKILL);
  return nullptr;
}

void watch_parent(int channel) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  void* argument = reinterpret_cast<void*>(static_cast<std::intptr_t>(channel));
  if (pthread_create(&thread, nullptr, end_with_parent, argument) == 0) pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

WorkerProcess become_worker() {
  WorkerProcess own;
  const char* text = std::getenv("RILLE_WORKER");
  int number = 0, parent = 0;
  if (!text || std::sscanf(text, "%d:%d", &number, &parent) != 2) return own;
  // Not for the processes that this one starts, nor for those of somebody who has left it there.
  unsetenv("RILLE_WORKER");
  if (number < 1 || getppid() != parent) return own;
  own.channel = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
  if (own.channel < 0) return own;
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (null >= 0) {
    dup2(null, STDIN_FILENO);
    close(null);
  }
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) raise(SIGTERM);  // it ended in between
  watch_parent(own.channel);
  own.number = number;
  return own;
}

}  // namespace rille
