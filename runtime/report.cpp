#include "report.h"

#include <cstdio>

namespace rille {

namespace {

const char kReporterKey = 0;

void print(const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }

std::string field(lua_State* L, int table, const char* name) {
  lua_getfield(L, table, name);
  std::size_t size = 0;
  const char* text = lua_tolstring(L, -1, &size);
  std::string copy = text ? std::string(text, size) : std::string();
  lua_pop(L, 1);
  return copy;
}

// write(text [, { message =, error =, traceback = }])
int write(lua_State* L) {
  auto* reporter = static_cast<const Reporter*>(lua_touserdata(L, lua_upvalueindex(1)));
  std::size_t size = 0;
  const char* text = luaL_checklstring(L, 1, &size);
  Report report;
  report.text.assign(text, size);
  if (lua_istable(L, 2)) {
    report.message = field(L, 2, "message");
    report.error = field(L, 2, "error");
    report.traceback = field(L, 2, "traceback");
  } else {
    report.message = report.text;
  }
  reporter->report(report);
  return 0;
}

}  // namespace

void Reporter::report(const Report& report) const {
  if (!to_) return print(report.text);
  try {
    to_(report);
  } catch (const std::exception& e) {
    print(report.text);
    print(std::string("rille: the host's on_report has thrown: ") + e.what());
  } catch (...) {
    print(report.text);
    print("rille: the host's on_report has thrown what is no std::exception");
  }
}

void Reporter::report(const std::string& message) const {
  report(Report{message, "", "", "rille: " + message});
}

void report_text(lua_State* L, const std::string& message) {
  lua_pushlightuserdata(L, const_cast<char*>(&kReporterKey));
  lua_rawget(L, LUA_REGISTRYINDEX);
  auto* reporter = static_cast<const Reporter*>(lua_touserdata(L, -1));
  lua_pop(L, 1);
  if (reporter) {
    reporter->report(message);
  } else {
    print("rille: " + message);
  }
}

void install_reporter(lua_State* L, const Reporter* reporter) {
  lua_pushlightuserdata(L, const_cast<char*>(&kReporterKey));
  lua_pushlightuserdata(L, const_cast<Reporter*>(reporter));
  lua_rawset(L, LUA_REGISTRYINDEX);
  lua_pushlightuserdata(L, const_cast<Reporter*>(reporter));
  lua_pushcclosure(L, write, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.write");
}

}  // namespace rille
