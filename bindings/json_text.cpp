#include "json_text.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace rille::json {

namespace {

unsigned char byte_at(const char* p) { return static_cast<unsigned char>(*p); }

bool is_tail(unsigned char c) { return (c & 0xC0) == 0x80; }

// The size of the UTF-8 sequence at `p`, 0 if it is none.
int sequence_size(const char* p, const char* end) {
  unsigned char first = byte_at(p);
  auto left = end - p;
  if (first < 0x80) return 1;
  if (first < 0xC2) return 0;  // a tail, or two bytes for what one can say
  if (first < 0xE0) return left >= 2 && is_tail(byte_at(p + 1)) ? 2 : 0;
  if (first < 0xF0) {
    if (left < 3 || !is_tail(byte_at(p + 1)) || !is_tail(byte_at(p + 2))) return 0;
    unsigned char second = byte_at(p + 1);
    if (first == 0xE0 && second < 0xA0) return 0;
    if (first == 0xED && second >= 0xA0) return 0;  // a surrogate
    return 3;
  }
  if (first > 0xF4 || left < 4) return 0;
  if (!is_tail(byte_at(p + 1)) || !is_tail(byte_at(p + 2)) || !is_tail(byte_at(p + 3))) return 0;
  unsigned char second = byte_at(p + 1);
  if (first == 0xF0 && second < 0x90) return 0;
  if (first == 0xF4 && second >= 0x90) return 0;  // beyond U+10FFFF
  return 4;
}

// The same as an automaton without branches: the transitions from all states for a byte stand in
// one word, those from a state at its own shift, which is what represents it.
enum Utf8State { kWhole, kBroken, kOneTail, kTwoTails, kThreeTails, kE0, kED, kF0, kF4, kStates };
constexpr int kStateBits = 6;

constexpr int next_state(int state, int byte) {
  auto within = [byte](int first, int last, int next) {
    return byte >= first && byte <= last ? next : kBroken;
  };
  switch (state) {
    case kWhole:
      if (byte < 0x80) return kWhole;
      if (byte == 0xE0) return kE0;
      if (byte == 0xED) return kED;
      if (byte == 0xF0) return kF0;
      if (byte == 0xF4) return kF4;
      if (byte >= 0xC2 && byte <= 0xDF) return kOneTail;
      if (byte >= 0xE1 && byte <= 0xEF) return kTwoTails;
      return within(0xF1, 0xF3, kThreeTails);
    case kOneTail:
      return within(0x80, 0xBF, kWhole);
    case kTwoTails:
      return within(0x80, 0xBF, kOneTail);
    case kThreeTails:
      return within(0x80, 0xBF, kTwoTails);
    case kE0:
      return within(0xA0, 0xBF, kOneTail);
    case kED:
      return within(0x80, 0x9F, kOneTail);
    case kF0:
      return within(0x90, 0xBF, kTwoTails);
    case kF4:
      return within(0x80, 0x8F, kTwoTails);
    default:
      return kBroken;
  }
}

constexpr std::array<std::uint64_t, 256> kTransitions = [] {
  std::array<std::uint64_t, 256> table{};
  for (int byte = 0; byte < 256; ++byte) {
    for (int state = 0; state < kStates; ++state) {
      auto next = static_cast<std::uint64_t>(next_state(state, byte) * kStateBits);
      table[byte] |= next << (state * kStateBits);
    }
  }
  return table;
}();

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The four hexadecimal digits at `p`, or -1.
int hex4(const char* p) {
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    int digit = hex_digit(p[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

unsigned char put_utf8(int code, char* to) {
  auto tail = [](int bits) { return static_cast<char>(0x80 | (bits & 0x3F)); };
  if (code < 0x80) {
    to[0] = static_cast<char>(code);
    return 1;
  }
  if (code < 0x800) {
    to[0] = static_cast<char>(0xC0 | (code >> 6));
    to[1] = tail(code);
    return 2;
  }
  if (code < 0x10000) {
    to[0] = static_cast<char>(0xE0 | (code >> 12));
    to[1] = tail(code >> 6);
    to[2] = tail(code);
    return 3;
  }
  to[0] = static_cast<char>(0xF0 | (code >> 18));
  to[1] = tail(code >> 12);
  to[2] = tail(code >> 6);
  to[3] = tail(code);
  return 4;
}

// What the letter behind a backslash stands for, but for 'u'.
constexpr std::array<char, 256> kLetters = [] {
  std::array<char, 256> table{};
  table['"'] = '"';
  table['\\'] = '\\';
  table['/'] = '/';
  table['b'] = '\b';
  table['f'] = '\f';
  table['n'] = '\n';
  table['r'] = '\r';
  table['t'] = '\t';
  return table;
}();

Escape wrong(const char* what, const char* end) { return Escape{what, end, {}, 0}; }

// A \u escape, with the second one that a high surrogate needs.
Escape read_unicode(const char* p) {
  int code = hex4(p + 2);
  if (code < 0) return wrong("\\u needs four hexadecimal digits", p + 2);
  const char* end = p + 6;
  if (code >= 0xDC00 && code <= 0xDFFF) return wrong("a low surrogate without a high one", end);
  if (code >= 0xD800 && code <= 0xDBFF) {
    int low = end[0] == '\\' && end[1] == 'u' ? hex4(end + 2) : -1;
    if (low < 0xDC00 || low > 0xDFFF) return wrong("a high surrogate without a low one", end);
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    end += 6;
  }
  Escape e{nullptr, end, {}, 0};
  e.size = put_utf8(code, e.bytes);
  return e;
}

}  // namespace

bool is_utf8(const char* begin, const char* end) {
  const char* p = begin;
  std::uint64_t state = 0;
  while (end - p >= 8) {
    std::uint64_t eight;
    std::memcpy(&eight, p, 8);
    if (state != kWhole || (eight & 0x8080808080808080) != 0) {
      for (int i = 0; i < 8; ++i) state = kTransitions[byte_at(p + i)] >> state & 63;
      if (state == kBroken * kStateBits) return false;
    }
    p += 8;
  }
  while (p != end) state = kTransitions[byte_at(p++)] >> state & 63;
  return state == kWhole;
}

const char* find_invalid_utf8(const char* begin, const char* end) {
  const char* p = begin;
  while (p != end) {
    int size = sequence_size(p, end);
    if (size == 0) return p;
    p += size;
  }
  return nullptr;
}

Escape read_escape(const char* p) {
  if (p[1] == 'u') return read_unicode(p);
  char c = kLetters[static_cast<unsigned char>(p[1])];
  if (c == 0) return wrong("there is no such escape", p + 1);
  return Escape{nullptr, p + 2, {c}, 1};
}

char* unescape(const char* begin, const char* end, char* to) {
  const char* p = begin;
  for (;;) {
    // Escapes often come close together, so a few bytes are looked at one by one before blocks are.
    const char* soon = p + std::min<std::ptrdiff_t>(end - p, 8);
    while (p != soon && *p != '\\') *to++ = *p++;
    if (p == soon) {
#ifdef __SSE2__
      int plain = 16;
      while (plain == 16 && end - p >= 16) {
        __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
        int found = _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
        if (found != 0) plain = std::countr_zero(static_cast<unsigned>(found));
        p += plain;
        to += plain;
      }
#endif
      while (p != end && *p != '\\') *to++ = *p++;
      if (p == end) return to;
    }
    if (char c = kLetters[static_cast<unsigned char>(p[1])]) {
      *to++ = c;
      p += 2;
      continue;
    }
    Escape e = read_escape(p);
    if (e.error) return nullptr;
    std::memcpy(to, e.bytes, sizeof e.bytes);
    to += e.size;
    p = e.end;
  }
}

}  // namespace rille::json
