#include "pattern.h"

#include <cctype>
#include <cstring>

namespace rille {

namespace {

unsigned char byte(char c) { return static_cast<unsigned char>(c); }

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(unsigned char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(unsigned char c) { return c >= 'A' && c <= 'Z'; }
bool is_alpha(unsigned char c) { return is_lower(c) || is_upper(c); }
bool is_graph(unsigned char c) { return c > 0x20 && c < 0x7f; }
bool is_space(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// What stands behind a percent sign: a class, in capitals its opposite, or the character itself.
bool is_in_class(unsigned char c, unsigned char name) {
  bool found;
  unsigned char lower = is_upper(name) ? static_cast<unsigned char>(name + 32) : name;
  switch (lower) {
    case 'a':
      found = is_alpha(c);
      break;
    case 'c':
      found = c < 0x20 || c == 0x7f;
      break;
    case 'd':
      found = is_digit(static_cast<char>(c));
      break;
    case 'g':
      found = is_graph(c);
      break;
    case 'l':
      found = is_lower(c);
      break;
    case 'p':
      found = is_graph(c) && !is_alpha(c) && !is_digit(static_cast<char>(c));
      break;
    case 's':
      found = is_space(c);
      break;
    case 'u':
      found = is_upper(c);
      break;
    case 'w':
      found = is_alpha(c) || is_digit(static_cast<char>(c));
      break;
    case 'x':
      found = is_digit(static_cast<char>(c)) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
      break;
    case 'z':
      found = c == 0;
      break;
    default:
      return c == name;
  }
  return found == is_lower(name);
}

// `set` is at its bracket, `end` at the closing one.
bool is_in_set(unsigned char c, const char* set, const char* end) {
  bool wanted = true;
  const char* p = set + 1;
  if (*p == '^') {
    wanted = false;
    ++p;
  }
  while (p < end) {
    if (*p == '%') {
      if (is_in_class(c, byte(p[1]))) return wanted;
      p += 2;
    } else if (p[1] == '-' && p + 2 < end) {
      if (byte(p[0]) <= c && c <= byte(p[2])) return wanted;
      p += 3;
    } else {
      if (byte(*p) == c) return wanted;
      ++p;
    }
  }
  return !wanted;
}

}  // namespace

// ---- items --------------------------------------------------------------------------------------

// The end of what matches one character: a character, a class or a set.
const char* Pattern::end_of(const char* item) {
  if (*item == '%') {
    if (item[1] == '\0') luaL_error(L_, "malformed pattern (ends with '%%')");
    return item + 2;
  }
  if (*item != '[') return item + 1;
  const char* p = item + 1;
  if (*p == '^') ++p;
  bool is_first = true;  // a bracket that stands first belongs to the set
  while (is_first || *p != ']') {
    if (*p == '\0') luaL_error(L_, "malformed pattern (missing ']')");
    bool escapes = *p == '%' && p[1] != '\0';
    p += escapes ? 2 : 1;
    is_first = false;
  }
  return p + 1;
}

bool Pattern::fits(const char* at, const char* item, const char* item_end) const {
  if (at == end_) return false;
  switch (*item) {
    case '.':
      return true;
    case '%':
      return is_in_class(byte(*at), byte(item[1]));
    case '[':
      return is_in_set(byte(*at), item, item_end - 1);
    default:
      return *at == *item;
  }
}

const char* Pattern::balanced(const char* at, const char* pair) {
  if (pair[0] == '\0' || pair[1] == '\0') luaL_error(L_, "unbalanced pattern");
  if (*at != pair[0] || at == end_) return nullptr;
  int depth = 1;
  for (const char* p = at + 1; p < end_; ++p) {
    if (*p == pair[1]) {
      if (--depth == 0) {
        count(static_cast<std::size_t>(p - at));
        return p + 1;
      }
    } else if (*p == pair[0]) {
      ++depth;
    }
  }
  count(static_cast<std::size_t>(end_ - at));
  return nullptr;
}

const char* Pattern::repeated(const char* at, char digit) {
  int index = digit - '1';
  if (index < 0 || index >= captures_count_ || captures_[index].size == kOpen) {
    luaL_error(L_, "invalid capture index");
  }
  const Capture& capture = captures_[index];
  if (capture.size == kPosition) return nullptr;
  auto size = static_cast<std::size_t>(capture.size);
  count(size / 16);
  if (static_cast<std::size_t>(end_ - at) < size) return nullptr;
  return std::memcmp(at, capture.start, size) == 0 ? at + size : nullptr;
}

bool Pattern::is_frontier(const char* at, const char* set, const char* set_end) const {
  char before = at == begin_ ? '\0' : at[-1];
  return !is_in_set(byte(before), set, set_end - 1) && is_in_set(byte(*at), set, set_end - 1);
}

// ---- captures -----------------------------------------------------------------------------------

void Pattern::open(const char* at, std::ptrdiff_t size) {
  if (captures_count_ == static_cast<int>(captures_.size())) luaL_error(L_, "too many captures");
  captures_[captures_count_++] = {at, size};
  add(Kind::kOpened);
}

void Pattern::close(const char* at) {
  int index = captures_count_ - 1;
  while (index >= 0 && captures_[index].size != kOpen) --index;
  if (index < 0) luaL_error(L_, "invalid pattern capture");
  captures_[index].size = at - captures_[index].start;
  add(Kind::kClosed).capture = index;
}

void Pattern::push_capture(int index, const char* from, const char* to) {
  if (index >= captures_count_) {
    if (index != 0) luaL_error(L_, "invalid capture index");
    lua_pushlstring(L_, from, static_cast<std::size_t>(to - from));
    return;
  }
  const Capture& capture = captures_[index];
  if (capture.size == kOpen) luaL_error(L_, "unfinished capture");
  if (capture.size == kPosition) {
    lua_pushinteger(L_, capture.start - begin_ + 1);
  } else {
    lua_pushlstring(L_, capture.start, static_cast<std::size_t>(capture.size));
  }
}

int Pattern::push_captures(const char* from, const char* to) {
  int n = captures_count_ == 0 && from ? 1 : captures_count_;
  luaL_checkstack(L_, n, "too many captures");
  for (int i = 0; i < n; ++i) push_capture(i, from, to);
  return n;
}

// ---- the machine --------------------------------------------------------------------------------

Pattern::Choice& Pattern::add(Kind kind) {
  if (choices_count_ == static_cast<int>(choices_.size())) luaL_error(L_, "pattern too complex");
  Choice& choice = choices_[choices_count_++];
  choice.kind = kind;
  return choice;
}

// Goes back to the last place where something else can be tried. False if there is none.
bool Pattern::back(const char** at, const char** pattern) {
  while (choices_count_ > 0) {
    Choice& choice = choices_[choices_count_ - 1];
    bool goes_on = false;
    switch (choice.kind) {
      case Kind::kOpened:
        --captures_count_;
        break;
      case Kind::kClosed:
        captures_[choice.capture].size = kOpen;
        break;
      case Kind::kFewer:
        goes_on = choice.at > choice.least;
        if (goes_on) --choice.at;
        break;
      case Kind::kMore:
        goes_on = fits(choice.at, choice.item, choice.item_end);
        if (goes_on) ++choice.at;
        break;
      case Kind::kWithout:
        --choices_count_;
        *at = choice.at;
        *pattern = choice.rest;
        return true;
    }
    if (goes_on) {
      *at = choice.at;
      *pattern = choice.rest;
      return true;
    }
    --choices_count_;
  }
  return false;
}

const char* Pattern::match_at(const char* at, const char* p) {
  captures_count_ = choices_count_ = 0;
  for (;;) {
    count(1);
    bool matches = true;
    if (*p == '\0') return at;
    if (*p == '$' && p[1] == '\0') {
      if (at == end_) return at;
      matches = false;
    } else if (*p == '(') {
      bool is_position = p[1] == ')';
      open(at, is_position ? kPosition : kOpen);
      p += is_position ? 2 : 1;
    } else if (*p == ')') {
      close(at);
      ++p;
    } else if (*p == '%' && p[1] == 'b') {
      at = balanced(at, p + 2);
      matches = at != nullptr;
      p += 4;
    } else if (*p == '%' && p[1] == 'f') {
      if (p[2] != '[') luaL_error(L_, "missing '[' after '%%f' in pattern");
      const char* set = p + 2;
      p = end_of(set);
      matches = is_frontier(at, set, p);
    } else if (*p == '%' && is_digit(p[1])) {
      at = repeated(at, p[1]);
      matches = at != nullptr;
      p += 2;
    } else {
      const char* item = p;
      const char* item_end = end_of(item);
      bool fits_once = fits(at, item, item_end);
      p = item_end + 1;
      switch (*item_end) {
        case '?':
          if (!fits_once) break;
          {
            Choice& choice = add(Kind::kWithout);
            choice.at = at;
            choice.rest = p;
          }
          ++at;
          break;
        case '+':
          matches = fits_once;
          if (!matches) break;
          [[fallthrough]];
        case '*': {
          const char* least = *item_end == '+' ? at + 1 : at;
          const char* most = least;
          while (fits(most, item, item_end)) ++most;
          count(static_cast<std::size_t>(most - least));
          at = most;
          if (most == least) break;
          Choice& choice = add(Kind::kFewer);
          choice.at = most;
          choice.least = least;
          choice.rest = p;
          break;
        }
        case '-': {
          Choice& choice = add(Kind::kMore);
          choice.at = at;
          choice.item = item;
          choice.item_end = item_end;
          choice.rest = p;
          break;
        }
        default:
          p = item_end;
          matches = fits_once;
          ++at;
      }
    }
    if (!matches && !back(&at, &p)) return nullptr;
  }
}

}  // namespace rille
