// What other threads hand to a runtime: it is taken in between two steps of the loop.
#pragma once

#include <rille/module.h>
#include <uv.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

namespace rille {

// Completions from other threads, and calls. Shared with every waiter, since a thread may finish
// after the runtime is gone.
struct Mailbox {
  struct Letter {
    rille_waiter* waiter;  // null: it is a call
    int (*push)(lua_State*, void*);
    void* data;
    std::function<void()> call;
    bool at_end_too = false;  // it is called even if the runtime is closed meanwhile
  };
  std::mutex mutex;
  std::vector<Letter> letters;
  std::atomic<bool> any{false};
  uv_async_t* wakeup = nullptr;  // null once the runtime is closed
};

}  // namespace rille
