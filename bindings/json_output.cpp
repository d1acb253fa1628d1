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

// How each byte is written: as itself or as an escape.
struct Written {
  char bytes[7];
  unsigned char size;
};
constexpr std::size_t kLongestEscape = 6;

constexpr std::array<Written, 256> kWritten = [] {
  constexpr char kDigits[] = "0123456789abcdef";
  std::array<Written, 256> table{};
  for (int c = 0; c < 256; ++c) table[c] = {{static_cast<char>(c)}, 1};
  for (int c = 0; c < 0x20; ++c) {
    table[c] = {{'\\', 'u', '0', '0', kDigits[c >> 4], kDigits[c & 15]}, kLongestEscape};
  }
  table['\b'] = {{'\\', 'b'}, 2};
  table['\f'] = {{'\\', 'f'}, 2};
  table['\n'] = {{'\\', 'n'}, 2};
  table['\r'] = {{'\\', 'r'}, 2};
  table['\t'] = {{'\\', 't'}, 2};
  table['"'] = {{'\\', '"'}, 2};
  table['\\'] = {{'\\', '\\'}, 2};
  return table;
}();

const Written& written(char c) { return kWritten[static_cast<unsigned char>(c)]; }

#ifdef __SSE2__
// Copies `size` bytes, 16, 8 or 4; returns a bit for each of them that has to be escaped, and adds
// to `high` those that are not ASCII.
template <int size>
unsigned copy_block(const char* from, char* to, unsigned* high) {
  __m128i bytes;
  if constexpr (size == 16) {
    bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  } else {
    std::int64_t word = 0;
    std::memcpy(&word, from, size);
    std::memcpy(to, &word, size);
    bytes = _mm_cvtsi64_si128(word);
  }
  __m128i found = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);  // controls
  found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
  found = _mm_or_si128(found, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
  *high |= static_cast<unsigned>(_mm_movemask_epi8(bytes));
  return static_cast<unsigned>(_mm_movemask_epi8(found)) & ((1U << size) - 1);
}
#endif

// Copies what needs no escape; returns where that ends in both texts.
struct Copied {
  const char* from;
  char* to;
};
Copied copy_plain(const char* p, const char* end, char* to, unsigned* high) {
#ifdef __SSE2__
  auto stop = [&](unsigned found) {
    int plain = std::countr_zero(found);
    return Copied{p + plain, to + plain};
  };
  for (; end - p >= 16; p += 16, to += 16) {
    if (unsigned found = copy_block<16>(p, to, high)) return stop(found);
  }
  if (end - p >= 8) {
    if (unsigned found = copy_block<8>(p, to, high)) return stop(found);
    p += 8;
    to += 8;
  }
  if (end - p >= 4) {
    if (unsigned found = copy_block<4>(p, to, high)) return stop(found);
    p += 4;
    to += 4;
  }
#endif
  for (; p != end && written(*p).size == 1; ++p) {
    *high |= static_cast<unsigned char>(*p) & 0x80;
    *to++ = *p;
  }
  return {p, to};
}

}  // namespace

bool Output::put_string(std::string_view text) {
  const char* p = text.data();
  const char* end = p + text.size();
  unsigned high = 0;
  // Both quotes, what is written one by one, and a block of which not all counts.
  constexpr std::ptrdiff_t kOneByOne = 16;
  constexpr std::size_t kSlack = 2 + kOneByOne * kLongestEscape + sizeof(Written);
  char* to = room_for(text.size() + kSlack);
  *to++ = '"';
  for (;;) {
    Copied copied = copy_plain(p, end, to, &high);
    p = copied.from;
    to = copied.to;
    if (p == end) break;
    // Escapes often come close together, and are hard to foresee: so here is no branch for them.
    for (auto n = std::min(end - p, kOneByOne); n > 0; --n, ++p) {
      const Written& as = written(*p);
      high |= static_cast<unsigned char>(*p) & 0x80;
      std::memcpy(to, &as, sizeof as);
      to += as.size;
    }
    wrote(to);
    to = room_for(static_cast<std::size_t>(end - p) + kSlack);
  }
  *to++ = '"';
  wrote(to);
  return high == 0 || is_utf8(text.data(), end);
}

void Output::grow(std::size_t size) {
  std::size_t used = this->size();
  std::size_t wanted = std::max({kFirst, used + size, 2 * used});
  if (used + size > most_) throw std::bad_alloc();
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
