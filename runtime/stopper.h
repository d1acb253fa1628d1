// Stops Lua that runs, from another thread: interpreted code and compiled loops.
#pragma once

#include <lua.hpp>

namespace rille {

// A count hook stops the interpreter at its next instruction. Compiled code looks at no hooks: but
// if it was compiled for LuaJIT's profiler, it looks at each line whether a sample is to be taken,
// and goes back to the interpreter then. The profiler itself can serve one state of a process; what
// it tells the compiler and compiled code are two fields of a state, which are found out once.
//
// A state is only touched by the thread that runs it: others send that thread a signal, SIGURG or,
// if the program has a use of its own for it, one of the real-time signals.
class Stopper {
 public:
  Stopper() = default;
  Stopper(const Stopper&) = delete;
  Stopper& operator=(const Stopper&) = delete;
  ~Stopper() { detach(); }

  // REQUIRES: nothing is compiled yet. Without a way to stop compiled code there will be none:
  // `may_switch_off` the compiler.
  void prepare(lua_State* L, bool may_switch_off);

  // True if compiled code can be stopped.
  bool is_complete() const { return mask_ != nullptr || is_off_; }

  // The calling thread is the one that runs `L` from now on, until `detach`.
  void attach(lua_State* L);
  void detach();

  // Makes `hook` be called soon, on the thread that runs the state. Any thread, but no two at once.
  // REQUIRES: attached, and that thread has not ended.
  void call_soon(lua_Hook hook);

  // Ends that; or lets `count` instructions go by until the hook is called again. REQUIRES: the
  // thread of `L`.
  void stop_calling(lua_State* L) const;
  void call_later(lua_State* L, lua_Hook hook, int count) const;

 private:
  struct Target;
  friend struct StopperSignal;

  Target* target_ = nullptr;
  unsigned char* mask_ = nullptr;
  bool is_off_ = false;
};

}  // namespace rille
