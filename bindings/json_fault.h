// Why a text is not JSON, and where: asked only once simdjson or the decoder has refused it.
#pragma once

#include <cstddef>
#include <string>

namespace rille::json {

// What becomes of numbers that neither 64 bits nor a double can hold.
enum class Big : unsigned char { kError, kDouble, kString };

struct Limits {
  std::size_t depth;
  Big big;
};

struct Fault {
  std::string message;   // empty if there is nothing wrong
  std::size_t position;  // from 0
};

// The first fault of a text that ends with a NUL. It stands where the token that is wrong begins;
// in a string, at the very byte or escape; in a text that is cut off, at its end.
Fault find_fault(const char* text, std::size_t size, const Limits& limits);

// Line and column of a position, both from 1; columns count bytes.
struct Place {
  std::size_t line;
  std::size_t column;
};
Place place_of(const char* text, std::size_t position);

}  // namespace rille::json
