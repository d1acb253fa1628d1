// Numbers of JSON: read exactly, written in as few digits as read back the same.
#pragma once

#include <cstdint>

namespace rille::json {

constexpr std::uint64_t kMaxExact = std::uint64_t{1} << 53;  // up to here doubles have no gaps

struct Number {
  enum Kind : unsigned char {
    kMalformed,
    kDouble,
    kSigned,    // an integer beyond 2^53 that an int64_t holds
    kUnsigned,  // one that only a uint64_t holds
    kTooLarge   // an integer beyond 64 bits, or beyond a double's range: see `as_double`
  };
  Kind kind;
  const char* end;  // behind the number, or where it goes wrong
  union {
    double as_double;  // infinite if it is beyond the range of doubles
    std::int64_t as_signed;
    std::uint64_t as_unsigned;
  };
};

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// The rest of read_number, for what is rare.
Number read_large_integer(const char* begin, const char* end, bool negative);
Number read_long_double(const char* begin, const char* end, std::int64_t exponent);

// Reads the number that begins at `p`, in a text that ends with a NUL. What follows it is for the
// caller to look at.
inline Number read_number(const char* p) {
  static constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                       1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                       1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  constexpr std::int64_t kLargestPower = 22;
  Number n;
  const char* begin = p;
  bool negative = *p == '-';
  if (negative) ++p;

  std::uint64_t mantissa = 0;
  const char* digits = p;
  while (is_digit(*p)) mantissa = mantissa * 10 + static_cast<unsigned char>(*p++ - '0');
  auto count = p - digits;
  if (count == 0 || (*digits == '0' && count > 1)) {
    n.kind = Number::kMalformed;
    n.end = count == 0 ? p : digits + 1;
    return n;
  }

  if (*p != '.' && *p != 'e' && *p != 'E') {
    // Nineteen digits cannot overflow 64 bits.
    if (count > 19 || mantissa > kMaxExact) return read_large_integer(begin, p, negative);
    auto value = static_cast<double>(mantissa);
    n.kind = Number::kDouble;
    n.as_double = negative ? -value : value;
    n.end = p;
    return n;
  }

  std::int64_t exponent = 0;
  if (*p == '.') {
    const char* fraction = ++p;
    while (is_digit(*p)) mantissa = mantissa * 10 + static_cast<unsigned char>(*p++ - '0');
    if (p == fraction) {
      n.kind = Number::kMalformed;
      n.end = p;
      return n;
    }
    exponent = fraction - p;
    count += p - fraction;
  }
  if (*p == 'e' || *p == 'E') {
    ++p;
    bool shrinks = *p == '-';
    if (*p == '-' || *p == '+') ++p;
    if (!is_digit(*p)) {
      n.kind = Number::kMalformed;
      n.end = p;
      return n;
    }
    // No text has so many digits that more could make a difference.
    constexpr std::int64_t kEnough = std::int64_t{1} << 40;
    std::int64_t written = 0;
    for (; is_digit(*p); ++p) {
      if (written < kEnough) written = written * 10 + (*p - '0');
    }
    exponent += shrinks ? -written : written;
  }

  // Both factors are exact, so the one operation rounds correctly.
  if (count <= 19 && mantissa <= kMaxExact && exponent >= -kLargestPower &&
      exponent <= kLargestPower) {
    auto value = static_cast<double>(mantissa);
    value = exponent < 0 ? value / kPowers[-exponent] : value * kPowers[exponent];
    n.kind = Number::kDouble;
    n.as_double = negative ? -value : value;
    n.end = p;
    return n;
  }
  return read_long_double(begin, p, exponent);
}

// The most that write_number writes.
constexpr int kNumberSpace = 32;

// Writes a number and returns where it ends. REQUIRES: it is finite.
char* write_number(char* to, double value);

}  // namespace rille::json
