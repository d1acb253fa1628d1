#include "http1_grammar.h"

#include <llhttp.h>

namespace rille::http1 {

namespace {

constexpr CharSet kHostChars("-._~%!$&'()*+;=");

// A UTF-8 decoder that only says whether the text is right.
class Utf8 {
 public:
  // False at the first byte that cannot stand there.
  bool take(unsigned char c) {
    if (more_ > 0) {
      if (c < low_ || c > high_) return false;
      low_ = 0x80;
      high_ = 0xbf;
      --more_;
      return true;
    }
    if (c < 0x80) return true;
    if (c < 0xc2 || c > 0xf4) return false;
    more_ = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
    // Overlong forms, surrogates and what lies beyond the last character.
    if (c == 0xe0) low_ = 0xa0;
    if (c == 0xed) high_ = 0x9f;
    if (c == 0xf0) low_ = 0x90;
    if (c == 0xf4) high_ = 0x8f;
    return true;
  }
  bool is_whole() const { return more_ == 0; }

 private:
  int more_ = 0;
  unsigned char low_ = 0x80;
  unsigned char high_ = 0xbf;
};

const char* fault_in_path(std::string_view path) {
  if (path.find('%') == std::string_view::npos) return nullptr;  // llhttp saw to the rest
  Utf8 utf8;
  for (std::size_t i = 0; i < path.size(); ++i) {
    auto c = static_cast<unsigned char>(path[i]);
    if (c == '%') {
      int high = i + 2 < path.size() ? hex_value(path[i + 1]) : -1;
      int low = i + 2 < path.size() ? hex_value(path[i + 2]) : -1;
      if (high < 0 || low < 0) return "percent sign without two hexadecimal digits in the path";
      c = static_cast<unsigned char>(high * 16 + low);
      if (c == 0) return "NUL in the path";
      i += 2;
    }
    if (!utf8.take(c)) return "path is not UTF-8";
  }
  return utf8.is_whole() ? nullptr : "path is not UTF-8";
}

}  // namespace

// host [":" port], where host is a name, an IPv4 address or an IPv6 address in brackets. An empty
// one is allowed: it says that the target has no authority.
bool is_host(std::string_view text) {
  std::size_t end;
  if (!text.empty() && text[0] == '[') {
    end = text.find(']');
    if (end == std::string_view::npos) return false;
    for (char c : text.substr(1, end - 1)) {
      if (hex_value(c) < 0 && c != ':' && c != '.') return false;
    }
    ++end;
  } else {
    end = text.find(':');
    if (end == std::string_view::npos) end = text.size();
    for (char c : text.substr(0, end)) {
      if (!kHostChars.has(c)) return false;
    }
  }
  if (end == text.size()) return true;
  if (text[end] != ':') return false;
  for (char c : text.substr(end + 1)) {
    if (!is_digit(c)) return false;
  }
  return true;
}

Fault fault_in_target(std::string_view method, std::string_view target, std::size_t most) {
  constexpr Fault kMalformed = {400, "malformed target"};
  if (most > 0 && target.size() > most) return {414, "target too long"};
  // A tunnel, and llhttp's word for Icecast's PUT.
  if (method == "CONNECT" || method == "SOURCE") return {501, "unknown method"};
  if (target == "*") return method == "OPTIONS" ? Fault() : kMalformed;
  if (target.find('#') != std::string_view::npos) return kMalformed;
  std::string_view path = target;
  if (path[0] != '/') {
    std::size_t host = equals(path.substr(0, 7), "http://")    ? 7
                       : equals(path.substr(0, 8), "https://") ? 8
                                                               : 0;
    if (host == 0 || path.size() == host) return kMalformed;
    path = path.substr(host);
    std::size_t end = path.find_first_of("/?");
    std::string_view authority = path.substr(0, end);
    if (authority.empty() || !is_host(authority)) return kMalformed;
    path = end == std::string_view::npos ? std::string_view() : path.substr(end);
  }
  const char* fault = fault_in_path(path.substr(0, path.find('?')));
  return fault ? Fault{400, fault} : Fault();
}

bool is_method(std::string_view text) {
  if (text == "CONNECT" || text == "SOURCE") return false;
#define RILLE_IS_METHOD(number, name, string) \
  if (text == #string) return true;
  HTTP_METHOD_MAP(RILLE_IS_METHOD)
#undef RILLE_IS_METHOD
  return false;
}

std::string unescape(std::string_view text, bool plus) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 &&
        hex_value(text[i + 2]) >= 0) {
      c = static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
      i += 2;
    } else if (c == '+' && plus) {
      c = ' ';
    }
    out += c;
  }
  return out;
}

}  // namespace rille::http1
