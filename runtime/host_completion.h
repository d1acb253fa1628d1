// The ends of waits that a host has in its hands.
#pragma once

#include <lua.hpp>
#include <rille/rille.hpp>
#include <string>

struct rille_waiter;

namespace rille {

struct CompletionAccess {
  // Prepares a wait of the calling task. Raises a Lua error where waiting is impossible.
  static Completion prepare(lua_State* L, Runtime::Impl* impl, const std::string& name,
                            rille_waiter** waiter);
  // The function itself has failed; `is_text`: the error is a plain text. Nothing happens if it has
  // ended the wait before.
  static void fail(const Completion& completion, const Error& error, bool is_text);
};

// Pushes an exception of the host's as an error object.
void push_exception(lua_State* L, const Error& error);

}  // namespace rille
