// What a runtime's script may use: memory, time, modules, and what lies outside of the interpreter.
#pragma once

#include <lua.hpp>
#include <memory>
#include <rille/rille.hpp>
#include <string_view>

namespace rille {

class Access;

// One for each runtime; lives longer than its Lua state.
class Limits {
 public:
  explicit Limits(const Options& options);
  ~Limits();
  Limits(const Limits&) = delete;
  Limits& operator=(const Limits&) = delete;

  // What this runtime was made with, for runtimes that it makes.
  const Options& options() const { return options_; }

  // Makes the Lua state, with an allocator that keeps Options::memory_limit. Null without memory.
  lua_State* new_state();

  // The libraries and rille.core are there, and no script has run: takes away what is not granted.
  // Called in a protected call.
  void install(lua_State* L);

  // Around everything that runs Lua on the loop's thread, from one poll of the loop to the next:
  // the time in between is what Options::slice_limit is about.
  void begin_slice() {}
  void end_slice() {}

  // Stops what runs, or what runs next. Any thread.
  void interrupt(std::string_view reason);

 private:
  const Options options_;
  std::shared_ptr<Access> access_;  // null where everything is granted
};

}  // namespace rille
