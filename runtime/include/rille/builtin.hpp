// What the bindings that come with Rille see of the core beyond module.h: the table that `require`
// looks into, and the runtime's threads.
#pragma once

#include <rille/module.h>

#include <atomic>
#include <cstddef>
#include <functional>
#include <lua.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace rille {

class Limits;
struct Options;

// What the runtime that `L` belongs to was made with.
const Options& options_of(lua_State* L);

// Whether a wait keeps the program going: for waits that only another task of the same runtime can
// end. By default they do. REQUIRES: prepared, and not completed; loop's thread.
void count_wait(rille_waiter* w, bool yes);

// Stops the Lua that the runtime of `L` runs when this is called, as Runtime::interrupt does; false
// if none runs. Any thread, until the runtime is closed.
std::function<bool(std::string_view reason)> interrupter_of(lua_State* L);

// Says something on the runtime's own account: to the host, or on stderr.
void report_text(lua_State* L, const std::string& message);

struct BuiltinModule {
  const char* name;  // null ends the table
  lua_CFunction open;
};

extern const BuiltinModule kBuiltinModules[];

// What strings and buffers of this runtime may take in all; 0: anything.
std::size_t memory_limit_of(lua_State* L);

// Bytes that a script makes others than its interpreter hold. All of a runtime's together are kept
// under its ceiling of memory, too. Whoever holds them has a Charge beside them.
class Charge {
 public:
  struct Account {
    std::atomic<std::size_t> used{0};
    std::size_t limit;
  };

  Charge() = default;  // there is no ceiling
  explicit Charge(lua_State* L);
  Charge(Charge&& other) noexcept { *this = std::move(other); }
  Charge& operator=(Charge&& other) noexcept {
    std::swap(account_, other.account_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Charge() { set(0); }

  // For other bytes of the same runtime.
  Charge another() const {
    Charge charge;
    charge.account_ = account_;
    return charge;
  }

  // So many bytes from now on. False if that is too much, and nothing has changed. Any thread.
  bool set(std::size_t bytes) { return !account_ || change(bytes); }

 private:
  bool change(std::size_t bytes);

  std::shared_ptr<Account> account_;
  std::size_t bytes_ = 0;
};

// Raises what the interpreter raises when it runs out of memory.
int raise_out_of_memory(lua_State* L);

// Whether the script that calls has had its time, for what may take long in one call. To ask costs
// next to nothing. Where it has, the call ends as soon as it can, and raises the error.
class Deadline {
 public:
  explicit Deadline(lua_State* L);

  // Counts steps of some nanoseconds each.
  bool passed(std::size_t steps = 1) {
    if (steps < left_) [[likely]] {
      left_ -= steps;
      return false;
    }
    return look();
  }

 private:
  static constexpr std::size_t kInterval = 20000;

  bool look();

  Limits* limits_;
  std::size_t left_ = kInterval;
};

// Raises the error that ends a script which has had its time. REQUIRES: `passed`.
int raise_interruption(lua_State* L);

// The signal by which threads are told of that, or 0 as long as none is used. Any thread.
int interruption_signal();

// ---- threads -----------------------------------------------------------------------------------

class Pools;

// The thread pools of the runtime that `L` belongs to. They do not share threads, so that a slow
// name server holds no file up, and nobody's own work either of them.
Pools& pools_of(lua_State* L);
enum class PoolKind { kFiles, kNames, kWork };

// Something that blocks, and so runs on a thread of a pool. From `submit` on it has to stay where
// it is, and to own what it uses, until `after_pool` is called; it may be submitted again then.
class PoolJob {
 public:
  PoolJob() = default;
  PoolJob(const PoolJob&) = delete;
  PoolJob& operator=(const PoolJob&) = delete;

  // Puts the job into the queue of a pool. REQUIRES: the loop's thread, and that the runtime's own
  // `after_pool` calls are the only ones that come after its end.
  void submit(Pools& pools, PoolKind kind);

  // A job that has not begun never will: `after_pool` comes soon, with UV_ECANCELED. Returns false
  // for one that runs or has ended. REQUIRES: submitted, and the loop's thread.
  bool withdraw();

 protected:
  ~PoolJob() = default;

  // On a thread of the pool. No Lua, and no exceptions.
  virtual void on_pool() = 0;

  // The end, on the loop's thread. `status` is 0 if the job has run, or a status of libuv:
  // UV_ECANCELED if it was withdrawn, UV_EAGAIN if the system gave no thread. If the job runs
  // longer than the runtime waits for it when it is closed, the call comes with UV_ECANCELED and on
  // the job's own thread, one job at a time, with neither loop nor Lua there any more.
  virtual void after_pool(int status) = 0;

 private:
  friend class Pools;
  enum class State : unsigned char { kOutside, kQueued, kBegun };

  Pools* pools_ = nullptr;
  PoolJob* next_ = nullptr;
  PoolJob* prev_ = nullptr;
  int status_ = 0;
  PoolKind kind_ = PoolKind::kFiles;
  State state_ = State::kOutside;
};

}  // namespace rille
