// Targets in Lua: a runtime that stays from one input to the next.
#include <lua.hpp>
#include <rille/rille.hpp>
#include <string>

#include "fuzz.h"
#include "wire.h"

namespace rille::fuzz {

namespace {

#ifdef RILLE_FUZZ
// The fuzzer sees which lines of Lua an input reaches as it sees the edges of compiled code.
constexpr std::uint32_t kLines = 1 << 15;
__attribute__((section("__libfuzzer_extra_counters"))) std::uint8_t lines[kLines];

void count_line(lua_State* L, lua_Debug* at) {
  lua_getinfo(L, "S", at);
  std::uint32_t hash = static_cast<std::uint32_t>(at->currentline) * 2654435761U;
  for (const char* c = at->short_src; *c; ++c) {
    hash = (hash ^ static_cast<unsigned char>(*c)) * 16777619U;
  }
  ++lines[(hash >> 8) % kLines];
}

void watch_lines(lua_State* L) {
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);  // compiled code calls no hooks
  lua_sethook(L, count_line, LUA_MASKLINE, 0);
}
#else
void watch_lines(lua_State*) {}
#endif

void run_code(Runtime& runtime, const std::string& code) {
  try {
    runtime.execute_string(code, "=fuzz");
  } catch (const Error& e) {
    fail(e.text());
  }
  if (runtime.lost_errors() > 0) fail("an error went to nobody");
}

class Driver {
 public:
  explicit Driver(std::string_view target) {
    lua_State* L = runtime_.lua_state();
    preload_wire(L);
    run_code(runtime_, "package.path = '" RILLE_FUZZ_DIR
                       "/?.lua;' .. package.path\n"
                       "fuzz_one = require '" +
                           std::string(target) + "'");
    watch_lines(L);
  }

  void run(std::string_view input) {
    lua_State* L = runtime_.lua_state();
    lua_pushlstring(L, input.data(), input.size());
    lua_setglobal(L, "fuzz_input");
    run_code(runtime_, "fuzz_one(fuzz_input)");
  }

 private:
  Runtime runtime_;
};

}  // namespace

void run_lua(std::string_view target, std::string_view input) {
  static Driver driver(target);
  driver.run(input);
}

}  // namespace rille::fuzz
