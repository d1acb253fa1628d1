#include "json_text.h"

#include <cstring>

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

const char* find_invalid_utf8(const char* begin, const char* end) {
  const char* p = begin;
  while (p != end) {
    std::uint64_t eight;
    while (end - p >= 8) {
      std::memcpy(&eight, p, 8);
      if (eight & 0x8080808080808080) break;
      p += 8;
    }
    if (p == end) break;
    int size = sequence_size(p, end);
    if (size == 0) return p;
    p += size;
  }
  return nullptr;
}

Escape read_escape(const char* p) {
  char c = 0;
  switch (p[1]) {
    case '"':
    case '\\':
    case '/':
      c = p[1];
      break;
    case 'b':
      c = '\b';
      break;
    case 'f':
      c = '\f';
      break;
    case 'n':
      c = '\n';
      break;
    case 'r':
      c = '\r';
      break;
    case 't':
      c = '\t';
      break;
    case 'u':
      return read_unicode(p);
    default:
      return wrong("there is no such escape", p + 1);
  }
  return Escape{nullptr, p + 2, {c}, 1};
}

char* unescape(const char* begin, const char* end, char* to) {
  const char* p = begin;
  for (;;) {
    auto* backslash = static_cast<const char*>(std::memchr(p, '\\', end - p));
    const char* stop = backslash ? backslash : end;
    std::memcpy(to, p, stop - p);
    to += stop - p;
    if (!backslash) return to;
    Escape e = read_escape(backslash);
    if (e.error) return nullptr;
    std::memcpy(to, e.bytes, e.size);
    to += e.size;
    p = e.end;
  }
}

}  // namespace rille::json
