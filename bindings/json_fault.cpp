#include "json_fault.h"

#include <cctype>
#include <cstdio>
#include <cstring>

#include "json_number.h"
#include "json_text.h"

namespace rille::json {

namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

// A character as messages show it.
std::string shown(char c) {
  if (c > 0x20 && c < 0x7F) return std::string("'") + c + "'";
  char text[24];
  std::snprintf(text, sizeof text, "byte 0x%02X", static_cast<unsigned char>(c));
  return text;
}

class Scanner {
 public:
  Scanner(const char* text, std::size_t size, const Limits& limits)
      : text_(text), p_(text), end_(text + size), limits_(limits) {}

  Fault run() {
    if (size_left() >= 3 && std::memcmp(p_, "\xEF\xBB\xBF", 3) == 0) {
      fail("a byte order mark is not part of JSON", p_);
    } else if (whole_value()) {
      skip_space();
      if (p_ != end_) unexpected("the end of the text");
    }
    return std::move(fault_);
  }

 private:
  std::size_t size_left() const { return static_cast<std::size_t>(end_ - p_); }

  bool fail(std::string message, const char* at) {
    fault_ = Fault{std::move(message), static_cast<std::size_t>(at - text_)};
    return false;
  }

  // Something other than what was wanted stands here.
  bool unexpected(const char* wanted) {
    std::string expected = std::string("expected ") + wanted + ", got ";
    if (p_ == end_) return fail(expected + "the end of the text", p_);
    const char* word = p_;
    while (word != end_ && (std::isalnum(static_cast<unsigned char>(*word)) || *word == '_')) {
      ++word;
    }
    constexpr int kLongest = 20;
    if (word - p_ > 1 && word - p_ <= kLongest) {
      return fail(expected + "'" + std::string(p_, word) + "'", p_);
    }
    return fail(expected + shown(*p_), p_);
  }

  void skip_space() {
    while (p_ != end_ && is_space(*p_)) ++p_;
  }

  // A value with all that is in it. Brackets that are open are kept in a string, not on the stack.
  bool whole_value() {
    for (;;) {
      skip_space();
      if (p_ != end_ && (*p_ == '[' || *p_ == '{')) {
        if (open_.size() >= limits_.depth) {
          return fail("deeper than " + std::to_string(limits_.depth) + " arrays and objects", p_);
        }
        char bracket = *p_++;
        skip_space();
        if (p_ == end_ || *p_ != closing(bracket)) {
          open_ += bracket;
          if (bracket == '{' && !key("a string or '}'")) return false;
          continue;
        }
        ++p_;
      } else if (!scalar()) {
        return false;
      }
      if (!after_value()) return false;
      if (open_.empty()) return true;
    }
  }

  static char closing(char bracket) { return bracket == '[' ? ']' : '}'; }

  // Takes the brackets that close behind a value and the comma behind them.
  bool after_value() {
    while (!open_.empty()) {
      char bracket = open_.back();
      skip_space();
      if (p_ != end_ && *p_ == ',') {
        ++p_;
        if (bracket == '[') return true;
        skip_space();
        return key("a string");
      }
      if (p_ == end_ || *p_ != closing(bracket)) {
        return unexpected(bracket == '[' ? "',' or ']'" : "',' or '}'");
      }
      ++p_;
      open_.pop_back();
    }
    return true;
  }

  bool key(const char* wanted) {
    if (p_ == end_ || *p_ != '"') return unexpected(wanted);
    if (!string()) return false;
    skip_space();
    if (p_ == end_ || *p_ != ':') return unexpected("':'");
    ++p_;
    return true;
  }

  bool scalar() {
    if (p_ == end_) return unexpected("a value");
    if (*p_ == '"') return string();
    if (*p_ == '-' || is_digit(*p_)) return number();
    for (const char* word : {"null", "true", "false"}) {
      std::size_t size = std::strlen(word);
      if (size_left() >= size && std::memcmp(p_, word, size) == 0 && ends_at(p_ + size)) {
        p_ += size;
        return true;
      }
    }
    return unexpected("a value");
  }

  // Numbers and literals reach up to one of these.
  bool ends_at(const char* p) const {
    return p == end_ || is_space(*p) || (*p && std::strchr("[]{},:", *p));
  }

  bool number() {
    Number n = read_number(p_);
    if (n.kind == Number::kMalformed || !ends_at(n.end)) {
      const char* last = p_;
      while (!ends_at(last) && *last > 0x20) ++last;
      constexpr int kLongest = 40;
      std::string text = last - p_ <= kLongest ? " '" + std::string(p_, last) + "'" : "";
      return fail("malformed number" + text, p_);
    }
    if (n.kind == Number::kTooLarge && limits_.big == Big::kError) {
      return fail("a number beyond 64 bits, or beyond a double's range", p_);
    }
    p_ = n.end;
    return true;
  }

  bool string() {
    const char* begin = p_++;
    while (p_ != end_) {
      unsigned char c = static_cast<unsigned char>(*p_);
      if (c == '"') return well_formed(begin + 1, p_++);
      if (c < 0x20) {
        if (!well_formed(begin + 1, p_)) return false;
        return fail("a control character (" + shown(*p_) + ") in a string", p_);
      }
      if (c == '\\') {
        if (p_ + 1 == end_) break;
        Escape e = read_escape(p_);
        if (e.error) {
          if (!well_formed(begin + 1, p_)) return false;
          // An escape that the end of the text cuts off is not to blame.
          if (e.end >= end_ || cut_off(p_)) break;
          return fail(std::string("a bad escape in a string: ") + e.error, p_);
        }
        p_ = e.end;
      } else {
        ++p_;
      }
    }
    p_ = end_;
    if (!well_formed(begin + 1, p_)) return false;
    Place place = place_of(text_, static_cast<std::size_t>(begin - text_));
    return fail("the text ends in a string (begun at line " + std::to_string(place.line) +
                    ", column " + std::to_string(place.column) + ")",
                p_);
  }

  // Whether the text ends in this \u escape, or in the pair that it begins.
  bool cut_off(const char* p) const {
    const char* q = p;
    for (int i = 0; i < 2 && end_ - q >= 2 && q[0] == '\\' && q[1] == 'u'; ++i) {
      q += 2;
      for (int k = 0; k < 4 && q != end_ && std::isxdigit(static_cast<unsigned char>(*q)); ++k) ++q;
    }
    return q == end_ || (q + 1 == end_ && *q == '\\' && q != p);
  }

  bool well_formed(const char* begin, const char* end) {
    const char* invalid = find_invalid_utf8(begin, end);
    return !invalid || fail("invalid UTF-8 in a string (" + shown(*invalid) + ")", invalid);
  }

  const char* text_;
  const char* p_;
  const char* end_;
  Limits limits_;
  std::string open_;
  Fault fault_{};
};

}  // namespace

Fault find_fault(const char* text, std::size_t size, const Limits& limits) {
  return Scanner(text, size, limits).run();
}

Place place_of(const char* text, std::size_t position) {
  Place place{1, 1};
  const char* p = text;
  const char* at = text + position;
  while (auto* newline = static_cast<const char*>(std::memchr(p, '\n', at - p))) {
    ++place.line;
    p = newline + 1;
  }
  place.column = static_cast<std::size_t>(at - p) + 1;
  return place;
}

}  // namespace rille::json
