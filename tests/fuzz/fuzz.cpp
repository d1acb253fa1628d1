#include "fuzz.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>

namespace rille::fuzz {

namespace {

constexpr std::array<std::string_view, 8> kLuaTargets = {
    "http1_client", "http1_server", "http2_client", "http2_server",
    "json",         "multipart",    "websocket",    "worker"};

}  // namespace

bool is_target(std::string_view name) {
  return name == "http1_parser" ||
         std::find(kLuaTargets.begin(), kLuaTargets.end(), name) != kLuaTargets.end();
}

void run(std::string_view target, std::string_view input) {
  if (target == "http1_parser") return parse_http1(input);
  run_lua(target, input);
}

void fail(std::string_view what) {
  std::fprintf(stderr, "\nfailed: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

std::string_view Cutter::next() {
  std::size_t size = rest_.size();
  if (seed_ > 0 && seed_ < 10) {
    size = seed_;
  } else if (seed_ >= 10) {
    // Numbers as random as they have to be, mostly small ones.
    state_ = (state_ + seed_) * 1664525 + 1013904223;
    size = 1 + ((state_ >> 16) & ((state_ >> 28) < 12 ? 15U : 1023U));
  }
  std::string_view piece = rest_.substr(0, size);
  rest_.remove_prefix(piece.size());
  return piece;
}

}  // namespace rille::fuzz
