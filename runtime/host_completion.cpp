#include "host_completion.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "host.h"
#include "waiter.h"

namespace rille {

struct Completion::State : std::enable_shared_from_this<State> {
  std::mutex mutex;
  rille_waiter* waiter = nullptr;  // until the wait has ended
  std::shared_ptr<Home> home;
  std::string name;  // of the function
  bool resolved = false;
  bool cancelled = false;
  std::vector<std::function<void()>> callbacks;
};

// What all copies of a completion share. Its end is the last moment to end the wait.
struct Completion::Handle {
  explicit Handle(std::shared_ptr<State> of) : state(std::move(of)) {}
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  const std::shared_ptr<State> state;
};

namespace {

// How a wait ended, on its way to the task.
struct End {
  std::shared_ptr<void> state;  // on_cancel may still be called with it
  std::shared_ptr<Home> home;
  std::vector<Value> results;
  std::optional<Error> error;
  bool is_text = false;
};

int push_end(lua_State* L, void* data) {
  std::unique_ptr<End> end(static_cast<End*>(data));
  if (!L) return 0;
  if (!end->error) {
    lua_pushnil(L);
    try {
      ValueAccess::push_list(L, end->home->impl, end->results);
    } catch (const Error& e) {
      end->error = e;
    }
    if (!end->error) return 1 + static_cast<int>(end->results.size());
  }
  const Error& e = *end->error;
  if (end->is_text) {
    lua_pushlstring(L, e.message().data(), e.message().size());
  } else {
    push_exception(L, e);
  }
  return 1;
}

int push_nothing(lua_State*, void*) { return 0; }

void caught_twice([[maybe_unused]] const std::string& name) {
#ifndef NDEBUG
  std::fprintf(stderr, "rille: fatal: a completion of '%s' was ended twice\n", name.c_str());
  std::abort();
#endif
}

// Takes the wait's end, unless there was one.
template <class State>
bool take(const std::shared_ptr<State>& state, rille_waiter** waiter, bool may_be_second) {
  std::unique_lock lock(state->mutex);
  if (state->cancelled) return false;
  if (state->resolved) {
    lock.unlock();
    if (!may_be_second) caught_twice(state->name);
    return false;
  }
  state->resolved = true;
  *waiter = std::exchange(state->waiter, nullptr);
  state->callbacks.clear();
  return true;
}

template <class State>
void end(const std::shared_ptr<State>& state, std::unique_ptr<End> how, bool may_be_second) {
  rille_waiter* waiter = nullptr;
  if (!take(state, &waiter, may_be_second)) return;
  how->state = state;
  how->home = state->home;
  if (state->home->user.load(std::memory_order_relaxed) == std::this_thread::get_id()) {
    rille_complete(waiter, push_end, how.release());  // this is the loop's thread
  } else {
    rille_complete_from_thread(waiter, push_end, how.release());
  }
}

}  // namespace

Completion::Handle::~Handle() {
  {
    std::lock_guard lock(state->mutex);
    if (state->resolved || state->cancelled) return;
  }
  auto how = std::make_unique<End>();
  how->error.emplace("Error", "'" + state->name +
                                  "' will never end: the host has dropped its Completion without "
                                  "resolving it");
  end(state, std::move(how), true);
}

Completion::Completion(std::shared_ptr<Handle> handle) : handle_(std::move(handle)) {}

void Completion::resolve_with(std::vector<Value> results) const {
  if (!handle_) return;
  auto how = std::make_unique<End>();
  how->results = std::move(results);
  end(handle_->state, std::move(how), false);
}

void Completion::fail(const Error& error) const {
  if (!handle_) return;
  auto how = std::make_unique<End>();
  how->error = error;
  end(handle_->state, std::move(how), false);
}

void Completion::fail(std::string_view kind, std::string_view message) const {
  fail(Error(std::string(kind), std::string(message)));
}

void Completion::on_cancel(std::function<void()> fn) const {
  if (!handle_) return;
  {
    std::lock_guard lock(handle_->state->mutex);
    if (handle_->state->resolved) return;
    if (!handle_->state->cancelled) {
      handle_->state->callbacks.push_back(std::move(fn));
      return;
    }
  }
  fn();
}

bool Completion::cancelled() const {
  if (!handle_) return false;
  std::lock_guard lock(handle_->state->mutex);
  return handle_->state->cancelled;
}

Completion CompletionAccess::prepare(lua_State* L, Runtime::Impl* impl, const std::string& name,
                                     rille_waiter** waiter) {
  using State = Completion::State;
  auto state = std::make_shared<State>();
  state->home = impl->home;
  state->name = name;
  auto on_cancel = [](rille_waiter* w, void* data) {
    // Until here the wait has kept it; from `cancelled` on other threads may let go of it.
    std::shared_ptr<State> s = static_cast<State*>(data)->shared_from_this();
    std::vector<std::function<void()>> callbacks;
    {
      std::lock_guard lock(s->mutex);
      if (s->resolved) return;  // its end is on the way
      s->cancelled = true;
      s->waiter = nullptr;
      callbacks.swap(s->callbacks);
    }
    std::shared_ptr<Mailbox> mailbox = s->home->mailbox;
    rille_complete(w, push_nothing, nullptr);
    for (auto& fn : callbacks) post_letter(mailbox, std::move(fn), true);
  };
  // The handle keeps the state alive until the wait has ended: its own end is one.
  *waiter = state->waiter = rille_prepare(L, on_cancel, state.get());
  return Completion(std::make_shared<Completion::Handle>(std::move(state)));
}

void CompletionAccess::fail(const Completion& completion, const Error& error, bool is_text) {
  auto how = std::make_unique<End>();
  how->error = error;
  how->is_text = is_text;
  end(completion.handle_->state, std::move(how), true);
}

void push_exception(lua_State* L, const Error& error) {
  rille_push_error(L, error.kind().c_str(), error.code().empty() ? nullptr : error.code().c_str(),
                   error.message().c_str());
}

}  // namespace rille
