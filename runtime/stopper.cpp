#include "stopper.h"

#include <luajit.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace rille {

namespace {

// LuaJIT's own mark in the mask of hooks: a sample is to be taken.
constexpr unsigned char kProfile = 0x80;
constexpr int kLineMode = 'l';

// Where the fields are, seen from the first state of a universe.
struct Places {
  std::ptrdiff_t mode;  // int: what the compiler is told
  std::ptrdiff_t mask;  // byte: what compiled code looks at
};

// The first thing that LuaJIT allocates holds the whole of a state but its objects.
struct Block {
  unsigned char* start = nullptr;
  std::size_t size = 0;

  static void* allocate(void* self, void* old, std::size_t, std::size_t size) {
    if (size == 0) {
      std::free(old);
      return nullptr;
    }
    void* memory = std::realloc(old, size);
    auto* block = static_cast<Block*>(self);
    if (!block->start) *block = {static_cast<unsigned char*>(memory), size};
    return memory;
  }

  std::vector<unsigned char> copy() const { return {start, start + size}; }
};

void ignore_sample(void*, lua_State*, int, int) {}
void ignore_hook(lua_State*, lua_Debug*) {}

// The profiler takes a signal and a timer of the process, which may be somebody else's.
class ProfilerSignal {
 public:
  ProfilerSignal() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPROF);
    pthread_sigmask(SIG_BLOCK, &set, &signals_);
    getitimer(ITIMER_PROF, &timer_);
    sigaction(SIGPROF, nullptr, &action_);
  }
  ~ProfilerSignal() {
    sigaction(SIGPROF, &action_, nullptr);
    setitimer(ITIMER_PROF, &timer_, nullptr);
    pthread_sigmask(SIG_SETMASK, &signals_, nullptr);
  }
  ProfilerSignal(const ProfilerSignal&) = delete;
  ProfilerSignal& operator=(const ProfilerSignal&) = delete;

 private:
  sigset_t signals_;
  itimerval timer_;
  struct sigaction action_;
};

// The place that changes as the profiler is switched on and off, and no other one.
std::optional<std::size_t> find_mode(lua_State* L, const Block& block) {
  std::vector<unsigned char> before = block.copy();
  std::vector<unsigned char> during;
  {
    ProfilerSignal keep;
    luaJIT_profile_start(L, "li1000000", ignore_sample, nullptr);
    during = block.copy();
    luaJIT_profile_stop(L);
  }
  std::vector<unsigned char> after = block.copy();
  auto number = [](const std::vector<unsigned char>& bytes, std::size_t at) {
    int value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  };
  std::optional<std::size_t> found;
  for (std::size_t at = 0; at + sizeof(int) <= block.size; at += sizeof(int)) {
    if (number(before, at) != 0 || number(during, at) != kLineMode || number(after, at) != 0) {
      continue;
    }
    if (found) return std::nullopt;
    found = at;
  }
  return found;
}

// The byte that is what lua_sethook was last told.
std::optional<std::size_t> find_mask(lua_State* L, const Block& block) {
  std::vector<bool> fits(block.size, true);
  for (int mask :
       {LUA_MASKCOUNT, LUA_MASKLINE, LUA_MASKCALL | LUA_MASKRET, LUA_MASKLINE | LUA_MASKCOUNT, 0}) {
    lua_sethook(L, mask ? ignore_hook : nullptr, mask, 1000);
    for (std::size_t at = 0; at < block.size; ++at) {
      if (block.start[at] != mask) fits[at] = false;
    }
  }
  std::optional<std::size_t> found;
  for (std::size_t at = 0; at < block.size; ++at) {
    if (!fits[at]) continue;
    if (found) return std::nullopt;
    found = at;
  }
  return found;
}

std::optional<Places> look_for_places() {
  Block block;
  lua_State* L = lua_newstate(Block::allocate, &block);
  if (!L) return std::nullopt;
  std::ptrdiff_t state = reinterpret_cast<unsigned char*>(L) - block.start;
  std::optional<std::size_t> mode = find_mode(L, block);
  std::optional<std::size_t> mask = find_mask(L, block);
  lua_close(L);
  if (!mode || !mask) return std::nullopt;
  return Places{static_cast<std::ptrdiff_t>(*mode) - state,
                static_cast<std::ptrdiff_t>(*mask) - state};
}

const std::optional<Places>& places() {
  static const std::optional<Places> found = look_for_places();
  return found;
}

}  // namespace

// ---- the signal ---------------------------------------------------------------------------------

// What a signal is about. Never freed, only used again, since one may come late.
struct Stopper::Target {
  std::atomic<lua_State*> state{nullptr};
  std::atomic<lua_Hook> hook{nullptr};
  std::atomic<unsigned char*> mask{nullptr};
  std::atomic<pthread_t> thread{};
  Target* next = nullptr;  // of those that nobody uses
};

struct StopperSignal {
  using Target = Stopper::Target;

  static void handle(int, siginfo_t* info, void*) {
    if (info->si_code != SI_QUEUE || info->si_pid != getpid()) return;
    auto* target = static_cast<Target*>(info->si_value.sival_ptr);
    lua_State* L = target->state;
    if (!L || !pthread_equal(target->thread, pthread_self())) return;
    int error = errno;
    lua_sethook(L, nullptr, 0, 0);  // one that is there already may have got lost
    lua_sethook(L, target->hook, LUA_MASKCOUNT, 1);
    if (unsigned char* mask = target->mask) __atomic_fetch_or(mask, kProfile, __ATOMIC_SEQ_CST);
    errno = error;
  }

  // The signal that is ours, or 0.
  static int number() {
    static const int found = [] {
      struct sigaction action = {}, before = {};
      action.sa_sigaction = handle;
      action.sa_flags = SA_SIGINFO | SA_RESTART;
      sigemptyset(&action.sa_mask);
      for (int signal = 0; signal <= SIGRTMAX - SIGRTMIN; ++signal) {
        int candidate = signal == 0 ? SIGURG : SIGRTMAX - signal;
        if (sigaction(candidate, nullptr, &before) != 0) continue;
        bool is_free = !(before.sa_flags & SA_SIGINFO) && before.sa_handler == SIG_DFL;
        if (is_free && sigaction(candidate, &action, nullptr) == 0) {
          claimed() = candidate;
          return candidate;
        }
      }
      return 0;
    }();
    return found;
  }

  static std::atomic<int>& claimed() {
    static std::atomic<int> number{0};
    return number;
  }

  static std::mutex& mutex() {
    static std::mutex m;
    return m;
  }
  static Target*& spares() {
    static Target* first = nullptr;
    return first;
  }
};

int interruption_signal() { return StopperSignal::claimed(); }

void Stopper::attach(lua_State* L) {
  pthread_t self = pthread_self();
  if (target_ && pthread_equal(target_->thread.load(std::memory_order_relaxed), self)) return;
  if (!target_) {
    std::lock_guard lock(StopperSignal::mutex());
    Target*& spares = StopperSignal::spares();
    target_ = spares ? std::exchange(spares, spares->next) : new Target;
  }
  target_->mask = mask_;
  target_->thread = self;
  target_->state = L;
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, StopperSignal::number());
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

void Stopper::detach() {
  if (!target_) return;
  target_->state = nullptr;
  std::lock_guard lock(StopperSignal::mutex());
  target_->next = std::exchange(StopperSignal::spares(), target_);
  target_ = nullptr;
}

void Stopper::call_soon(lua_Hook hook) {
  target_->hook = hook;
  sigval about;
  about.sival_ptr = target_;
  pthread_sigqueue(target_->thread, StopperSignal::number(), about);
}

// ---- hooks --------------------------------------------------------------------------------------

void Stopper::prepare(lua_State* L, bool may_switch_off) {
  if (const auto& at = places()) {
    auto* state = reinterpret_cast<unsigned char*>(L);
    std::memcpy(state + at->mode, &kLineMode, sizeof kLineMode);
    mask_ = state + at->mask;
  } else if (may_switch_off) {
    is_off_ = luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF) != 0;
  }
}

void Stopper::stop_calling(lua_State* L) const {
  if (mask_) __atomic_fetch_and(mask_, static_cast<unsigned char>(~kProfile), __ATOMIC_SEQ_CST);
  lua_sethook(L, nullptr, 0, 0);
}

void Stopper::call_later(lua_State* L, lua_Hook hook, int count) const {
  if (mask_) __atomic_fetch_and(mask_, static_cast<unsigned char>(~kProfile), __ATOMIC_SEQ_CST);
  lua_sethook(L, hook, LUA_MASKCOUNT, count);
}

}  // namespace rille
