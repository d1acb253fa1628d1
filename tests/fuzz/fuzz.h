// What is fuzzed: one function for each target, given whatever bytes the fuzzer has thought of.
// It ends the process if something is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rille::fuzz {

// Tries one input. REQUIRES: `target` is one of those that `is_target` knows.
void run(std::string_view target, std::string_view input);

bool is_target(std::string_view name);

// Prints what is wrong, and ends the process.
[[noreturn]] void fail(std::string_view what);

// HTTP/1 messages by the parser alone.
void parse_http1(std::string_view input);

// Everything else is driven from Lua, by the module of the target's name in this folder.
void run_lua(std::string_view target, std::string_view input);

// Cuts bytes into pieces, of sizes that follow from a number: 0 is one piece, up to 9 that size.
class Cutter {
 public:
  Cutter(std::string_view bytes, unsigned seed) : rest_(bytes), seed_(seed) {}
  bool is_done() const { return rest_.empty(); }
  std::string_view next();

 private:
  std::string_view rest_;
  unsigned seed_;
  std::uint32_t state_ = 1;
};

}  // namespace rille::fuzz
