#include "process_child.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <mutex>
#include <vector>

#include "signal_names.h"

#ifndef P_PIDFD
#define P_PIDFD static_cast<idtype_t>(3)
#endif

namespace rille::process {

// ---- waiting -----------------------------------------------------------------------------------

// A task that waits for the end. Belongs to the waiter.
struct Child::Waiter {
  std::shared_ptr<Child> child;
  rille_waiter* waiter = nullptr;

  static int push(lua_State* L, void* data) {
    std::unique_ptr<Waiter> self(static_cast<Waiter*>(data));
    if (!L) return 0;
    lua_pushnil(L);
    self->child->push_status(L);
    return 2;
  }

  static void give_up(rille_waiter* waiter, void* data) {
    auto* self = static_cast<Waiter*>(data);
    self->child->waiters_.remove(self);
    rille_complete(waiter, push, self);
  }
};

void Child::push_status(lua_State* L) const {
  lua_createtable(L, 0, 3);
  if (signal_ == 0) {
    lua_pushinteger(L, code_);
    lua_setfield(L, -2, "code");
  } else {
    std::string name = signal_name(signal_);
    lua_pushlstring(L, name.data(), name.size());
    lua_setfield(L, -2, "signal");
  }
  lua_pushboolean(L, signal_ == 0 && code_ == 0);
  lua_setfield(L, -2, "ok");
}

int Child::wait(lua_State* L) {
  look();
  if (ended_) {
    lua_pushnil(L);
    push_status(L);
    return 2;
  }
  auto entry = std::make_unique<Waiter>();
  entry->child = *place_;
  entry->waiter = rille_prepare(L, Waiter::give_up, entry.get());
  rille_waiter* waiter = entry->waiter;
  waiters_.push_back(entry.release());
  return rille_park(L, waiter);
}

// ---- the end -----------------------------------------------------------------------------------

void Child::watch(uv_loop_t* loop) {
  poll_.reset(new uv_poll_t);
  uv_poll_init(loop, poll_.get(), pidfd_.get());
  poll_->data = this;
  // It is the tasks that wait for it that keep the program going.
  uv_unref(reinterpret_cast<uv_handle_t*>(poll_.get()));
  uv_poll_start(poll_.get(), UV_READABLE,
                [](uv_poll_t* poll, int, int) { static_cast<Child*>(poll->data)->look(); });
}

// REQUIRES of callers: they hold the child, or need it no more.
void Child::look() {
  if (ended_) return;
  siginfo_t info{};
  auto id = static_cast<id_t>(pidfd_.get());
  int rc;
  do {
    rc = waitid(P_PIDFD, id, &info, WEXITED | WNOHANG | WNOWAIT);
  } while (rc < 0 && errno == EINTR);
  if (rc == 0 && info.si_pid == 0) return;
  if (rc < 0 && errno == EAGAIN) return;
  ended_ = true;
  if (rc < 0) {
    code_ = 255;  // somebody else has reaped it, and knows
  } else if (info.si_code == CLD_EXITED) {
    code_ = info.si_status;
  } else {
    signal_ = info.si_status;
  }
  poll_.reset();
  for (Waiter* w : std::exchange(waiters_, {})) rille_complete(w->waiter, Waiter::push, w);
  if (!held_) reap();
}

void Child::reap() {
  if (reaped_) return;
  reaped_ = true;
  siginfo_t info{};
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) < 0 &&
         errno == EINTR) {
  }
  pidfd_.close();
  if (leads_group()) Children::leave_group(pid_);
  // This may be the last of the child.
  if (children_) std::exchange(children_, nullptr)->list_.erase(place_);
}

bool Child::has_ended() {
  look();
  return ended_;
}

void Child::release() {
  held_ = false;
  if (ended_) reap();
}

int Child::kill(int signal, bool group) {
  if (group) {
    if (!held_) look();
    if (reaped_ || (ended_ && !held_)) return 0;
    if (::kill(-pid_, signal) == 0) return 1;
    return errno == ESRCH ? 0 : -errno;
  }
  look();
  if (ended_) return 0;
  if (syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0) == 0) return 1;
  return errno == ESRCH ? 0 : -errno;
}

// ---- all of a runtime --------------------------------------------------------------------------

namespace {

const char kChildrenKey = 0;

struct ChildrenHolder {
  static constexpr char kName[] = "rille.core.Children";
  std::shared_ptr<Children> children = std::make_shared<Children>();
  ~ChildrenHolder() { children->close(); }
};

struct Orphans {
  std::mutex mutex;
  std::vector<pid_t> list;
  std::vector<pid_t> groups;
  static Orphans& all() {
    static auto* it = new Orphans;  // threads may use it to the very end
    return *it;
  }
};

}  // namespace

std::shared_ptr<Children> Children::of(lua_State* L) {
  void* key = const_cast<char*>(&kChildrenKey);
  lua_pushlightuserdata(L, key);
  lua_rawget(L, LUA_REGISTRYINDEX);
  auto* holder = static_cast<ChildrenHolder*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  if (!holder) {
    const rille_reg none[] = {{nullptr, nullptr, 0}};
    Class<ChildrenHolder>::define(L, none);
    lua_pushlightuserdata(L, key);
    holder = Class<ChildrenHolder>::push(L);
    lua_rawset(L, LUA_REGISTRYINDEX);
  }
  return holder->children;
}

std::shared_ptr<Child> Children::add(uv_loop_t* loop, pid_t pid, Descriptor pidfd,
                                     bool leads_group) {
  auto child = std::make_shared<Child>(pid, std::move(pidfd), leads_group);
  list_.push_front(child);
  child->children_ = this;
  child->place_ = list_.begin();
  child->watch(loop);
  return child;
}

void Children::finish_launching(uv_loop_t* loop) {
  constexpr std::uint64_t kMostNs = 2000000000;
  std::uint64_t end = uv_hrtime() + kMostNs;
  while (launching_ > 0 && uv_hrtime() < end) {
    uv_run(loop, UV_RUN_NOWAIT);
    if (launching_ > 0) usleep(200);
  }
}

void Children::close() {
  closed_ = true;
  for (const std::shared_ptr<Child>& child : std::exchange(list_, {})) {
    child->children_ = nullptr;
    child->poll_.reset();
    child->reaped_ = true;
    child->ended_ = true;
    orphan(child->pid_);
  }
}

void Children::adopt(bool on) {
  static std::mutex mutex;
  static int users = 0;
  static int former = 0;
  std::lock_guard lock(mutex);
  if (on && users++ == 0) {
    prctl(PR_GET_CHILD_SUBREAPER, &former);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
  } else if (!on && --users == 0) {
    prctl(PR_SET_CHILD_SUBREAPER, former);
  }
}

bool Children::reap_group(pid_t group) {
  while (waitpid(-group, nullptr, WNOHANG) > 0) {
  }
  return ::kill(-group, 0) < 0 && errno == ESRCH;
}

void Children::orphan(pid_t pid) {
  Orphans& orphans = Orphans::all();
  std::lock_guard lock(orphans.mutex);
  orphans.list.push_back(pid);
}

void Children::leave_group(pid_t group) {
  if (::kill(-group, 0) < 0 && errno == ESRCH) return;  // nobody, as a rule
  Orphans& orphans = Orphans::all();
  std::lock_guard lock(orphans.mutex);
  orphans.groups.push_back(group);
}

void Children::reap_orphans() {
  Orphans& orphans = Orphans::all();
  std::lock_guard lock(orphans.mutex);
  std::erase_if(orphans.list, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; });
  std::erase_if(orphans.groups, reap_group);
}

}  // namespace rille::process
