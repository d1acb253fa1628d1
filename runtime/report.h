// Where the runtime's own words go: to the host, or to stderr.
#pragma once

#include <lua.hpp>
#include <rille/rille.hpp>
#include <string>

namespace rille {

class Reporter {
 public:
  explicit Reporter(std::function<void(const Report&)> to) : to_(std::move(to)) {}

  void report(const Report& report) const;
  // A line of its own, without the name in front.
  void report(const std::string& message) const;

 private:
  std::function<void(const Report&)> to_;
};

// The same for those who have but the Lua state.
void report_text(lua_State* L, const std::string& message);

// Lets rille.core.report and report_text use the reporter, which has to live as long as the state.
void install_reporter(lua_State* L, const Reporter* reporter);

}  // namespace rille
