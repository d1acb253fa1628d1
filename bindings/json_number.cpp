#include "json_number.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace rille::json {

namespace {

// The nearest double of a well-formed number whose last digit counts for 10 to the `exponent`.
double nearest(const char* begin, const char* end, std::int64_t exponent) {
  double value = 0;
  if (std::from_chars(begin, end, value).ec != std::errc::result_out_of_range) return value;
  std::int64_t digits = 0;  // from the first that is not 0
  for (const char* p = begin; p != end && *p != 'e' && *p != 'E'; ++p) {
    if (is_digit(*p) && (digits > 0 || *p != '0')) ++digits;
  }
  value = digits + exponent > 0 ? std::numeric_limits<double>::infinity() : 0;
  return *begin == '-' ? -value : value;
}

}  // namespace

Number read_large_integer(const char* begin, const char* end, bool negative) {
  Number n;
  n.end = end;
  if (negative) {
    n.kind = Number::kSigned;
    if (std::from_chars(begin, end, n.as_signed).ec == std::errc()) return n;
  } else {
    n.kind = Number::kUnsigned;
    if (std::from_chars(begin, end, n.as_unsigned).ec == std::errc()) {
      if (n.as_unsigned <= std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
        n.kind = Number::kSigned;
        n.as_signed = static_cast<std::int64_t>(n.as_unsigned);
      }
      return n;
    }
  }
  n.kind = Number::kTooLarge;
  n.as_double = nearest(begin, end, 0);
  return n;
}

Number read_long_double(const char* begin, const char* end, std::int64_t exponent) {
  Number n;
  n.end = end;
  n.as_double = nearest(begin, end, exponent);
  n.kind = std::isinf(n.as_double) ? Number::kTooLarge : Number::kDouble;
  return n;
}

char* write_number(char* to, double value) {
  // Larger ones would be read back as int64_t, were they written as integers.
  if (std::fabs(value) <= static_cast<double>(kMaxExact)) {
    auto integer = static_cast<std::int64_t>(value);
    if (static_cast<double>(integer) == value) {
      if (integer == 0 && std::signbit(value)) *to++ = '-';
      return std::to_chars(to, to + kNumberSpace, integer).ptr;
    }
    return std::to_chars(to, to + kNumberSpace, value).ptr;
  }
  return std::to_chars(to, to + kNumberSpace, value, std::chars_format::scientific).ptr;
}

}  // namespace rille::json
