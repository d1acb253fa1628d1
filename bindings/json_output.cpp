#include "json_output.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <new>

#include "json_text.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace rille::json {

namespace {

constexpr std::size_t kFirst = 512;
constexpr std::size_t kKept = 1 << 20;
constexpr std::size_t kLongest = 0x7FFFFF00;  // of LuaJIT's strings

// What stands behind the backslash: 0 for what needs none, 'u' for four digits.
constexpr std::array<char, 256> kEscapes = [] {
  std::array<char, 256> table{};
  for (int c = 0; c < 0x20; ++c) table[c] = 'u';
  table['\b'] = 'b';
  table['\f'] = 'f';
  table['\n'] = 'n';
  table['\r'] = 'r';
  table['\t'] = 't';
  table['"'] = '"';
  table['\\'] = '\\';
  return table;
}();

char escape_of(char c) { return kEscapes[static_cast<unsigned char>(c)]; }

constexpr std::size_t kLongestEscape = 6;

char* write_escape(char* to, char c) {
  char letter = escape_of(c);
  *to++ = '\\';
  *to++ = letter;
  if (letter != 'u') return to;
  constexpr char kDigits[] = "0123456789abcdef";
  *to++ = '0';
  *to++ = '0';
  *to++ = kDigits[static_cast<unsigned char>(c) >> 4];
  *to++ = kDigits[c & 0xF];
  return to;
}

#ifdef __SSE2__
constexpr std::ptrdiff_t kBlock = 16;

// Copies a block; returns a bit for each byte of it that has to be escaped, and adds to `high`
// those that are not ASCII.
unsigned copy_block(const char* from, char* to, unsigned* high) {
  __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  __m128i last_control = _mm_set1_epi8(0x1F);
  __m128i found = _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes);
  found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
  found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
  *high |= static_cast<unsigned>(_mm_movemask_epi8(bytes));
  return static_cast<unsigned>(_mm_movemask_epi8(found));
}
#endif

}  // namespace

bool Output::put_string(std::string_view text) {
  const char* p = text.data();
  const char* end = p + text.size();
  unsigned high = 0;
  // A block may be written past what is left to write.
  constexpr std::size_t kSlack = 2 + kLongestEscape + 16;
  char* to = room_for(text.size() + kSlack);
  *to++ = '"';
  for (;;) {
#ifdef __SSE2__
    unsigned found = 0;
    while (end - p >= kBlock && (found = copy_block(p, to, &high)) == 0) {
      p += kBlock;
      to += kBlock;
    }
    if (found != 0) {
      int plain = std::countr_zero(found);
      p += plain;
      to += plain;
    }
#endif
    while (p != end && escape_of(*p) == 0) {
      high |= static_cast<unsigned char>(*p) & 0x80;
      *to++ = *p++;
    }
    if (p == end) break;
    to = write_escape(to, *p++);
    wrote(to);
    to = room_for(static_cast<std::size_t>(end - p) + kSlack);
  }
  *to++ = '"';
  wrote(to);
  return high == 0 || !find_invalid_utf8(text.data(), end);
}

void Output::grow(std::size_t size) {
  std::size_t used = this->size();
  std::size_t wanted = std::max({kFirst, used + size, 2 * used});
  if (used + size > kLongest) throw std::bad_alloc();
  auto* data = static_cast<char*>(std::realloc(data_.get(), wanted));
  if (!data) throw std::bad_alloc();
  data_.release();
  data_.reset(data);
  end_ = data + used;
  limit_ = data + wanted;
}

void Output::shrink() {
  if (static_cast<std::size_t>(limit_ - data_.get()) > kKept) {
    data_.reset();
    limit_ = nullptr;
  }
  end_ = data_.get();
}

}  // namespace rille::json
