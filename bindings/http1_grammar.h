// The words that requests and responses are made of: RFC 9110, section 5.6, and RFC 9112.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace rille::http1 {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_alpha(char c) { return (c | 32) >= 'a' && (c | 32) <= 'z'; }

constexpr int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  char lower = static_cast<char>(c | 32);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Letters, digits and some more characters, as a table.
class CharSet {
 public:
  constexpr explicit CharSet(std::string_view more) {
    for (int c = 0; c < 128; ++c) {
      char as_char = static_cast<char>(c);
      has_[static_cast<std::size_t>(c)] = is_alpha(as_char) || is_digit(as_char);
    }
    for (char c : more) has_[static_cast<unsigned char>(c)] = true;
  }
  constexpr bool has(char c) const { return has_[static_cast<unsigned char>(c)]; }

 private:
  std::array<bool, 256> has_{};
};

constexpr CharSet kTokenChars("!#$%&'*+-.^_`|~");

inline std::string_view trim(std::string_view text) {
  std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Whether a text is another one, written in lower case, but for the case of its letters.
inline bool equals(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c >= 'A' && c <= 'Z') c |= 32;
    if (c != lower[i]) return false;
  }
  return true;
}

inline bool is_token(std::string_view text) {
  for (char c : text) {
    if (!kTokenChars.has(c)) return false;
  }
  return !text.empty();
}

// host [":" port], as in Host and in a URL.
bool is_host(std::string_view text);

// Whether a server knows that method; others are a 501.
bool is_method(std::string_view text);

// What is wrong with a method and a target of at most so many bytes (0: any number): the status to
// answer with, and why; 0: nothing.
struct Fault {
  int status = 0;
  const char* text = "";
};
Fault fault_in_target(std::string_view method, std::string_view target, std::size_t most);

// Undoes percent-encoding; what is not encoded well stays as it is. `plus`: a plus is a space.
std::string unescape(std::string_view text, bool plus);

}  // namespace rille::http1
