// Every C function of rille.core.task is a closure over the same upvalues: reaching a table through
// one costs a nanosecond, through the registry ten.
#pragma once

#include <lua.hpp>

namespace rille {

enum Upvalue {
  kSchedulerUpvalue = 1,
  kStateUpvalue,    // state[1]: index of the running task, 0 outside of tasks
  kTasksUpvalue,    // tasks[index]: the Task object or callback handle
  kThreadsUpvalue,  // anchors coroutines
  kHooksUpvalue,    // Lua functions the scheduler calls, by Scheduler::Hook
  kPushUpvalue,     // calls the push function of a completion
  kUpvalues = kPushUpvalue,
};

inline int upvalue(Upvalue which) { return lua_upvalueindex(which); }

}  // namespace rille
