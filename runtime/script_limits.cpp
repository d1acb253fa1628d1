#include "script_limits.h"

#include <rille/access.hpp>

#include "permissions.h"
#include "sandbox.h"

namespace rille {

Limits::Limits(const Options& options) : options_(options) {
  if (!options.permissions.everything()) access_ = std::make_shared<Grants>(options.permissions);
}

Limits::~Limits() = default;

lua_State* Limits::new_state() { return luaL_newstate(); }

void Limits::install(lua_State* L) {
  if (access_) Access::install(L, access_.get());
  if (access_ || !options_.modules.empty()) install_sandbox(L, options_);
}

void Limits::interrupt(std::string_view) {}

}  // namespace rille
