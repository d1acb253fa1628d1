// Every C function of rille.core.task is a closure over the same upvalues: reaching a table through
// one costs a nanosecond, through the registry ten.
#pragma once

#include <lua.hpp>

namespace rille {

enum Upvalue {
  kSchedulerUpvalue = 1,
  kStateUpvalue,    // what Lua and C++ both look at, see State
  kTasksUpvalue,    // tasks[index]: the Task object or callback handle
  kThreadsUpvalue,  // anchors coroutines
  kHooksUpvalue,    // Lua functions the scheduler calls, by Scheduler::Hook
  kPushUpvalue,     // calls the push function of a completion
  kUpvalues = kPushUpvalue,
};

// Places in the state table.
enum State {
  kCurrent = 1,   // index of the running task, 0 outside of tasks; false: see show_current
  kScopesInside,  // true once a scope was opened in a coroutine of the script's own
  kBatchOpen,     // true while spawned tasks join the batch at the end of the ready queue
  kSpawned,       // how many tasks were ever spawned
  kBatchLeft,     // how many of the running batch have not started
  kBatchMost,     // how many of them the running coroutine may start
  kLists,         // the wait list a slot stands in, where nothing else keeps that
};

inline int upvalue(Upvalue which) { return lua_upvalueindex(which); }

}  // namespace rille
