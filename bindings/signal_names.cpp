#include "signal_names.h"

#include <signal.h>

#include <cstdlib>

namespace rille {

namespace {

struct Name {
  const char* name;
  int number;
};

#define NAME(x) \
  { #x, x }
constexpr Name kNames[] = {
    NAME(SIGHUP),  NAME(SIGINT),    NAME(SIGQUIT), NAME(SIGILL),    NAME(SIGTRAP), NAME(SIGABRT),
    NAME(SIGBUS),  NAME(SIGFPE),    NAME(SIGKILL), NAME(SIGUSR1),   NAME(SIGSEGV), NAME(SIGUSR2),
    NAME(SIGPIPE), NAME(SIGALRM),   NAME(SIGTERM), NAME(SIGSTKFLT), NAME(SIGCHLD), NAME(SIGCONT),
    NAME(SIGSTOP), NAME(SIGTSTP),   NAME(SIGTTIN), NAME(SIGTTOU),   NAME(SIGURG),  NAME(SIGXCPU),
    NAME(SIGXFSZ), NAME(SIGVTALRM), NAME(SIGPROF), NAME(SIGWINCH),  NAME(SIGIO),   NAME(SIGPWR),
    NAME(SIGSYS),
};
#undef NAME

}  // namespace

std::string signal_name(int number) {
  for (const Name& entry : kNames) {
    if (entry.number == number) return entry.name;
  }
  // The real-time ones are numbered from SIGRTMIN on, which differs from system to system.
  if (number < SIGRTMIN || number > SIGRTMAX) return "";
  if (number == SIGRTMIN) return "SIGRTMIN";
  return "SIGRTMIN+" + std::to_string(number - SIGRTMIN);
}

int signal_number(const std::string& name) {
  for (const Name& entry : kNames) {
    if (name == entry.name) return entry.number;
  }
  if (name == "SIGRTMIN") return SIGRTMIN;
  if (name.rfind("SIGRTMIN+", 0) != 0) return 0;
  const char* digits = name.c_str() + 9;
  char* end = nullptr;
  long n = std::strtol(digits, &end, 10);
  if (end == digits || *end != '\0' || n < 0 || n > SIGRTMAX - SIGRTMIN) return 0;
  return SIGRTMIN + static_cast<int>(n);
}

}  // namespace rille
