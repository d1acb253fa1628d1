// Strings of JSON: escapes and UTF-8.
#pragma once

#include <cstddef>

namespace rille::json {

bool is_utf8(const char* begin, const char* end);

// The first byte of the first sequence that is not UTF-8, or null.
const char* find_invalid_utf8(const char* begin, const char* end);

// One escape sequence, in a text that ends with a NUL or a quote.
struct Escape {
  const char* error;  // what is wrong with it, or null
  const char* end;    // behind it
  char bytes[4];      // what it stands for
  unsigned char size;
};

// REQUIRES: a backslash stands at `p`.
Escape read_escape(const char* p);

// Writes what the string between `begin` and `end` stands for and returns where that ends, or null
// if an escape in it is wrong. REQUIRES: room for as many bytes as there are to read, and
// kUnescapeSlack more.
constexpr std::size_t kUnescapeSlack = 16;
char* unescape(const char* begin, const char* end, char* to);

}  // namespace rille::json
