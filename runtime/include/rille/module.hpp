// module.h with owners: Waiting, Request, Handle, Class. Headers only.
#ifndef RILLE_MODULE_HPP
#define RILLE_MODULE_HPP

#include <rille/module.h>

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <utility>

namespace rille {

// What the errors of an operation name: the system call, and the path or the address.
struct Operation {
  const char* syscall;
  std::optional<std::string> path;
  std::optional<std::string> dest;
  std::optional<std::string> address;

  // Pushes the OSError for a negative libuv status.
  void push_error(lua_State* L, int status) const {
    auto text = [](const std::optional<std::string>& s) { return s ? s->c_str() : nullptr; };
    rille_push_os_error(L, status, syscall, text(path), text(dest), text(address));
  }
};

// One operation that a task waits for, and all that libuv touches until it ends. Owned by a
// unique_ptr until `park`, then by itself until its completion.
class Waiting {
 public:
  explicit Waiting(Operation what) : what_(std::move(what)) {}
  virtual ~Waiting() = default;
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

  // Called once when the task gives up: end the operation early if that is possible. The
  // operation's own callback still comes and completes.
  virtual void stop() {}

  // Pushes results (not the leading nil) and returns how many. Runs in a protected call on the
  // loop's thread when the task resumes; not called when nobody waits any more.
  virtual int push(lua_State*) { return 0; }

  const Operation& what() const { return what_; }
  int status() const { return status_; }

  // The operation has ended; `self` is given up. REQUIRES: loop's thread.
  static void complete(std::unique_ptr<Waiting> self, int status) {
    self->status_ = status;
    rille_waiter* waiter = self->waiter_;
    rille_complete(waiter, push_results, self.release());
  }

  // Prepares the wait; call it when all arguments are read, before the operation starts.
  void prepare(lua_State* L) {
    waiter_ = rille_prepare(
        L, [](rille_waiter*, void* data) { static_cast<Waiting*>(data)->stop(); }, this);
  }

 private:
  friend int park(lua_State* L, std::unique_ptr<Waiting> self);
  friend int fail(lua_State* L, std::unique_ptr<Waiting> self, int status);
  template <class Begin>
  friend int start(lua_State* L, std::unique_ptr<Waiting> self, Begin&& begin);

  static int push_results(lua_State* L, void* data) {
    // LuaJIT unwinds C++ frames when it raises, so the owner frees the operation either way.
    std::unique_ptr<Waiting> self(static_cast<Waiting*>(data));
    if (!L) return 0;
    if (self->status_ < 0) {
      self->what_.push_error(L, self->status_);
      return 1;
    }
    lua_pushnil(L);
    int top = lua_gettop(L);
    std::string thrown;  // pushed where no exception is in hand: that may raise
    try {
      return 1 + self->push(L);
    } catch (const std::exception& e) {  // a Lua error passes through
      thrown = e.what();
    }
    lua_settop(L, top);
    rille_push_error(L, "Error", nullptr, thrown.c_str());
    return 1;
  }

  Operation what_;
  rille_waiter* waiter_ = nullptr;
  int status_ = 0;
};

// Puts the task to sleep; the operation owns itself from here on. REQUIRES: `prepare` was called
// and the operation has started.
inline int park(lua_State* L, std::unique_ptr<Waiting> self) {
  return rille_park(L, self.release()->waiter_);
}

// Begins a prepared operation that may end, and so be freed, in `begin()` already. It owns itself
// from there on.
template <class Begin>
int start(lua_State* L, std::unique_ptr<Waiting> self, Begin&& begin) {
  rille_waiter* waiter = self.release()->waiter_;
  begin();
  return rille_park(L, waiter);
}

// Ends a prepared operation that could not be started, as the result of the call.
inline int fail(lua_State* L, std::unique_ptr<Waiting> self, int status) {
  rille_waiter* waiter = self->waiter_;
  Waiting::complete(std::move(self), status);
  return rille_park(L, waiter);
}

// An operation over one libuv request.
template <class T>
struct Request : Waiting {
  using Waiting::Waiting;
  T req{};

  // Starts the request by `start(req)`, which returns a libuv status, and parks the task. A status
  // below zero becomes the call's error. `req.data` is the Request, for its callback to reclaim.
  template <class Start>
  static int run(lua_State* L, std::unique_ptr<Request> self, Start&& start) {
    self->req.data = self.get();
    self->prepare(L);
    int status = start(&self->req);
    return status < 0 ? fail(L, std::move(self), status) : park(L, std::move(self));
  }
};

// In a request's callback: takes the operation back, to complete it.
template <class R>
std::unique_ptr<Waiting> reclaim(R* req) {
  return std::unique_ptr<Waiting>(static_cast<Request<R>*>(req->data));
}

// A libuv handle with an owner: closing is asynchronous, and the memory goes in the close callback.
template <class T>
struct HandleDeleter {
  void operator()(T* handle) const {
    uv_close(reinterpret_cast<uv_handle_t*>(handle),
             [](uv_handle_t* h) { delete reinterpret_cast<T*>(h); });
  }
};
template <class T>
using Handle = std::unique_ptr<T, HandleDeleter<T>>;

// A C++ object inside a Lua userdata, destroyed by the collector. T has `static constexpr char
// kName[]`, the name of its metatable.
template <class T>
struct Class {
  template <class... Args>
  static T* push(lua_State* L, Args&&... args) {
    // Whatever may run out of memory comes first: an object without its metatable would never be
    // destroyed.
    luaL_getmetatable(L, T::kName);
    void* memory = lua_newuserdata(L, sizeof(T));
    T* object = new (memory) T(std::forward<Args>(args)...);
    lua_insert(L, -2);
    lua_setmetatable(L, -2);
    return object;
  }
  static T* check(lua_State* L, int index) {
    // Without looking the metatable up by its name, which each call of a method would have to.
    void* memory = lua_touserdata(L, index);
    if (memory && lua_getmetatable(L, index)) {
      lua_rawgeti(L, -1, 1);
      bool is_own = lua_touserdata(L, -1) == tag();
      lua_pop(L, 2);
      if (is_own) return static_cast<T*>(memory);
    }
    return static_cast<T*>(luaL_checkudata(L, index, T::kName));
  }
  // In a finalizer: the object is none of T's from here on, for scripts that still have it as the
  // key of a weak table.
  static void retire(lua_State* L) {
    lua_pushnil(L);
    lua_setmetatable(L, 1);
  }
  // Makes the metatable, with `methods` (and their RILLE_WAITS wrappers) as its __index.
  static void define(lua_State* L, const rille_reg* methods) {
    luaL_newmetatable(L, T::kName);
    lua_pushlightuserdata(L, tag());
    lua_rawseti(L, -2, 1);
    lua_pushcfunction(L, [](lua_State* l) {
      retire(l);
      static_cast<T*>(lua_touserdata(l, 1))->~T();
      return 0;
    });
    lua_setfield(L, -2, "__gc");
    rille_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
  }

 private:
  // What the metatable has at [1].
  static void* tag() { return const_cast<char*>(T::kName); }
};

}  // namespace rille

#endif
