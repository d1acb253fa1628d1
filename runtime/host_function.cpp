// Calls from scripts into the host: arguments, results, exceptions, and waits.
#include "host_function.h"

#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <typeinfo>

#include "error.h"
#include "host.h"
#include "host_class.h"
#include "host_completion.h"
#include "waiter.h"

namespace rille {

namespace {

struct HostFunction {
  Runtime::Impl* impl;
  std::string name;
  std::string class_name;
  bool is_method;
  detail::Body body;
};

// A wrong argument, as Lua says it.
struct BadArgument : std::exception {
  explicit BadArgument(std::string t) : text(std::move(t)) {}
  std::string text;
};

// What a call ended with, if not well. Kept outside of the catch clauses, since pushing it may
// raise.
struct Failure {
  enum { kNone, kArgument, kError } kind = kNone;
  Error error{"Error", ""};
};

std::string type_of(lua_State* L, int index) {
  if (lua_type(L, index) == LUA_TNONE) return "no value";
  if (detail::Object* object = object_at(L, index);
      object && luaL_getmetafield(L, index, "__name")) {
    std::string name = lua_tostring(L, -1);
    lua_pop(L, 1);
    return name;
  }
  return lua_typename(L, lua_type(L, index));
}

// The name of a type as it is written in C++.
std::string name_of(const std::type_info& type) {
  std::unique_ptr<char, decltype(&std::free)> name(
      abi::__cxa_demangle(type.name(), nullptr, nullptr, nullptr), std::free);
  return name ? name.get() : type.name();
}

// Pushes "file:line: " of the innermost function that is not the runtime's own. A script that ends
// in the call (`return add(1)`) has left the stack, and is not there to be blamed.
void push_position(lua_State* L) {
  lua_Debug frame;
  for (int level = 1; lua_getstack(L, level, &frame); ++level) {
    lua_getinfo(L, "Sl", &frame);
    if (frame.currentline <= 0 || std::strncmp(frame.source, "=rille/", 7) == 0) continue;
    lua_pushfstring(L, "%s:%d: ", frame.short_src, frame.currentline);
    return;
  }
  lua_pushliteral(L, "");
}

}  // namespace

namespace detail {

struct CallAccess {
  static Call make(lua_State* L, const HostFunction* f) {
    Call call;
    call.state_ = L;
    call.name_ = &f->name;
    call.class_name_ = f->is_method ? &f->class_name : nullptr;
    call.first_ = f->is_method ? 2 : 1;
    return call;
  }

  static Runtime::Impl* impl(lua_State* L) {
    return static_cast<HostFunction*>(lua_touserdata(L, lua_upvalueindex(1)))->impl;
  }
};

}  // namespace detail

namespace {

Failure run(const HostFunction* f, detail::Call& call) {
  Failure failure;
  auto failed = [&](const std::string& kind, const std::string& message) {
    failure.kind = Failure::kError;
    failure.error = Error(kind, message);
  };
  try {
    f->body(call);
  } catch (const BadArgument& e) {
    failed("", e.text);
    failure.kind = Failure::kArgument;
  } catch (const Error& e) {
    failure.kind = Failure::kError;
    failure.error = e;
  } catch (const std::exception& e) {
    failed("Error", e.what());
  } catch (...) {
    const std::type_info* type = abi::__cxa_current_exception_type();
    if (!type) throw;  // a Lua error, which is no exception of C++'s
    failed("Error", "an exception of type " + name_of(*type));
  }
  return failure;
}

// Pushes the results. Throws nothing: one that cannot be pushed is a failure.
Failure push_results(lua_State* L, Runtime::Impl* impl, const std::vector<Value>& results) {
  Failure failure;
  try {
    ValueAccess::push_list(L, impl, results);
  } catch (const Error& e) {
    failure.kind = Failure::kError;
    failure.error = e;
  }
  return failure;
}

int invoke(lua_State* L) {
  auto* f = static_cast<HostFunction*>(lua_touserdata(L, lua_upvalueindex(1)));
  detail::Call call = detail::CallAccess::make(L, f);
  int top = lua_gettop(L);
  Failure failure;
  {
    Called called(f->impl, L);
    failure = run(f, call);
  }
  lua_settop(L, top);
  if (failure.kind == Failure::kNone) {
    failure = push_results(L, f->impl, call.results);
    if (failure.kind == Failure::kNone) return lua_gettop(L) - top;
  }
  if (failure.kind == Failure::kArgument) {
    push_position(L);
    lua_pushlstring(L, failure.error.message().data(), failure.error.message().size());
    lua_concat(L, 2);
  } else {
    push_exception(L, failure.error);
  }
  return lua_error(L);
}

int invoke_waiting(lua_State* L) {
  auto* f = static_cast<HostFunction*>(lua_touserdata(L, lua_upvalueindex(1)));
  detail::Call call = detail::CallAccess::make(L, f);
  int top = lua_gettop(L);
  rille_waiter* waiter = nullptr;
  Failure failure;
  {
    Completion completion = CompletionAccess::prepare(L, f->impl, f->name, &waiter);
    call.completion = &completion;
    Called called(f->impl, L);
    failure = run(f, call);
    if (failure.kind != Failure::kNone) {
      CompletionAccess::fail(completion, failure.error, failure.kind == Failure::kArgument);
    }
  }
  lua_settop(L, top);
  return rille_park(L, waiter);
}

}  // namespace

namespace detail {

int Call::size() const { return lua_gettop(static_cast<lua_State*>(state_)) - first_ + 1; }

Value Call::argument(int position, Want want, const char* expected) {
  auto* L = static_cast<lua_State*>(state_);
  int index = first_ + position - 1;
  int type = lua_type(L, index);
  if (want == Want::kString && type == LUA_TNUMBER) {
    char text[32];
    std::snprintf(text, sizeof text, "%.14g", lua_tonumber(L, index));
    return text;
  }
  if ((want == Want::kNumber || want == Want::kInteger) && type == LUA_TSTRING &&
      lua_isnumber(L, index)) {
    return lua_tonumber(L, index);
  }
  // What it is not, it need not be copied for.
  bool plain = want == Want::kNumber || want == Want::kInteger || want == Want::kString ||
               want == Want::kBoolean;
  if (plain && (type == LUA_TTABLE || type == LUA_TFUNCTION)) bad_type(position, expected);
  try {
    return ValueAccess::read(L, CallAccess::impl(L), index);
  } catch (const Error& e) {
    if (type != LUA_TTABLE) bad_type(position, expected);
    bad_argument(position, e.message());
  }
}

void Call::bad_argument(int position, const std::string& what) {
  throw BadArgument("bad argument #" + std::to_string(position) + " to '" + *name_ + "' (" + what +
                    ")");
}

void Call::bad_type(int position, const char* expected) {
  auto* L = static_cast<lua_State*>(state_);
  bad_argument(position,
               std::string(expected) + " expected, got " + type_of(L, first_ + position - 1));
}

std::shared_ptr<void> Call::self(const void* type) {
  auto* L = static_cast<lua_State*>(state_);
  Object* object = object_at(L, 1);
  if (object && object->type == type) return object->pointer;
  throw BadArgument("calling '" + *name_ + "' on bad self (" + *class_name_ + " expected, got " +
                    type_of(L, 1) + ")");
}

}  // namespace detail

void push_function(lua_State* L, Runtime::Impl* impl, const std::string& name, detail::Body body,
                   bool waits, const std::string* class_name) {
  new (lua_newuserdata(L, sizeof(HostFunction))) HostFunction{
      impl, name, class_name ? *class_name : "", class_name != nullptr, std::move(body)};
  if (luaL_newmetatable(L, "rille.HostFunction")) {
    lua_pushcfunction(L, [](lua_State* l) {
      static_cast<HostFunction*>(lua_touserdata(l, 1))->~HostFunction();
      return 0;
    });
    lua_setfield(L, -2, "__gc");
  }
  lua_setmetatable(L, -2);
  lua_pushcclosure(L, waits ? invoke_waiting : invoke, 1);
  if (waits) wrap_waiting(L, name.c_str());
}

}  // namespace rille
