#include "host_name.h"

#include <algorithm>
#include <cstdint>
#include <limits>

namespace rille {

namespace {

constexpr std::size_t kLongestLabel = 63;
constexpr std::size_t kLongestName = 253;

// Appends the next character of UTF-8 text to `out`; false if it is none.
bool decode(std::string_view* text, std::u32string* out) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>((*text)[i]); };
  unsigned first = byte(0);
  std::size_t length = first < 0x80   ? 1
                       : first < 0xc2 ? 0
                       : first < 0xe0 ? 2
                       : first < 0xf0 ? 3
                       : first < 0xf5 ? 4
                                      : 0;
  if (length == 0 || length > text->size()) return false;
  char32_t c = length == 1 ? first : first & (0x7fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return false;
    c = (c << 6) | (byte(i) & 0x3fu);
  }
  static constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (c < kLeast[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
  text->remove_prefix(length);
  out->push_back(c);
  return true;
}

// Punycode, RFC 3492. False if the label gets too long.
bool encode(const std::u32string& label, std::string* out) {
  constexpr std::uint32_t kBase = 36, kTMin = 1, kTMax = 26, kSkew = 38, kDamp = 700;
  out->append("xn--");
  std::size_t start = out->size();
  for (char32_t c : label) {
    if (c < 0x80) out->push_back(static_cast<char>(c));
  }
  auto basic = static_cast<std::uint32_t>(out->size() - start);
  if (basic > 0) out->push_back('-');

  std::uint32_t n = 0x80, delta = 0, bias = 72, done = basic;
  while (done < label.size()) {
    char32_t next = 0x10ffff;
    for (char32_t c : label) {
      if (c >= n) next = std::min(next, c);
    }
    std::uint64_t wide = delta + std::uint64_t{next - n} * (done + 1);
    if (wide > std::numeric_limits<std::uint32_t>::max() / 2) return false;
    delta = static_cast<std::uint32_t>(wide);
    n = next;
    for (char32_t c : label) {
      if (c < n) ++delta;
      if (c != n) continue;
      std::uint32_t q = delta;
      for (std::uint32_t k = kBase;; k += kBase) {
        std::uint32_t t = k <= bias ? kTMin : std::min(k - bias, kTMax);
        std::uint32_t digit = q < t ? q : t + (q - t) % (kBase - t);
        out->push_back(static_cast<char>(digit < 26 ? 'a' + digit : '0' + (digit - 26)));
        if (q < t) break;
        q = (q - t) / (kBase - t);
      }
      // How far the next one lies tells the base for its digits.
      delta = done == basic ? delta / kDamp : delta / 2;
      delta += delta / (done + 1);
      std::uint32_t steps = 0;
      for (; delta > (kBase - kTMin) * kTMax / 2; steps += kBase) delta /= kBase - kTMin;
      bias = steps + (kBase - kTMin + 1) * delta / (delta + kSkew);
      delta = 0;
      ++done;
    }
    ++delta;
    ++n;
  }
  return true;
}

bool append_label(std::string_view label, std::string* out) {
  std::size_t start = out->size();
  bool ascii = std::all_of(label.begin(), label.end(),
                           [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  if (ascii) {
    out->append(label);
  } else {
    if (label.size() > 4 * kLongestLabel) return false;
    std::u32string text;
    while (!label.empty()) {
      if (!decode(&label, &text)) return false;
      if (text.back() >= U'A' && text.back() <= U'Z') text.back() += U'a' - U'A';
    }
    if (!encode(text, out)) return false;
  }
  std::size_t size = out->size() - start;
  return size > 0 && size <= kLongestLabel;
}

}  // namespace

std::optional<std::string> host_name(std::string_view name) {
  std::string out;
  std::string_view rest = name;
  if (!rest.empty() && rest.back() == '.') rest.remove_suffix(1);
  for (;;) {
    std::size_t dot = rest.find('.');
    if (!append_label(rest.substr(0, dot), &out) || out.size() > kLongestName) return std::nullopt;
    if (dot == std::string_view::npos) break;
    out.push_back('.');
    rest.remove_prefix(dot + 1);
  }
  if (name.back() == '.') out.push_back('.');
  return out;
}

}  // namespace rille
