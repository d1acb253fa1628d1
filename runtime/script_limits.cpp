#include "script_limits.h"

namespace rille {

Limits::Limits(const Options& options) : options_(options) {}

Limits::~Limits() = default;

lua_State* Limits::new_state() { return luaL_newstate(); }

void Limits::install(lua_State*) {}

void Limits::interrupt(std::string_view) {}

}  // namespace rille
