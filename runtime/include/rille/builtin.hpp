// What the bindings that come with Rille see of the core beyond module.h: the table that `require`
// looks into, and the runtime's threads.
#pragma once

#include <rille/module.h>

#include <cstddef>
#include <functional>
#include <lua.hpp>
#include <string>
#include <string_view>

namespace rille {

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
