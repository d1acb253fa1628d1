#include "http2_fields.h"

#include <array>
#include <charconv>

#include "http1_grammar.h"

namespace rille::http2 {

namespace {

using http1::equals;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// RFC 9113, section 8.2.2.
bool belongs_to_connection(std::string_view name) {
  switch (name.size()) {
    case 7:
      return equals(name, "upgrade");
    case 10:
      return equals(name, "connection") || equals(name, "keep-alive");
    case 16:
      return equals(name, "proxy-connection");
    case 17:
      return equals(name, "transfer-encoding");
    default:
      return false;
  }
}

}  // namespace

void Fields::add(std::string_view name, std::string_view value) {
  nghttp2_nv nv;
  nv.name = nv.value = nullptr;  // `text_` may still move
  nv.namelen = name.size();
  nv.valuelen = value.size();
  nv.flags = NGHTTP2_NV_FLAG_NONE;
  for (char c : name) text_ += lower(c);
  text_.append(value);
  // What is secret, or never the same, has no place in the peer's table.
  bool is_own = equals(name, "set-cookie") || equals(name, "authorization");
  if (is_own) nv.flags = NGHTTP2_NV_FLAG_NO_INDEX;
  all_.push_back(nv);
}

void Fields::add_number(std::string_view name, std::uint64_t value) {
  std::array<char, 20> digits;
  char* end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  add(name, {digits.data(), static_cast<std::size_t>(end - digits.data())});
}

void Fields::add_lines(std::string_view lines) {
  while (!lines.empty()) {
    std::size_t end = lines.find("\r\n");
    std::string_view line = lines.substr(0, end);
    lines = end == lines.npos ? std::string_view() : lines.substr(end + 2);
    std::size_t colon = line.find(':');
    if (colon == line.npos || belongs_to_connection(line.substr(0, colon))) continue;
    std::string_view value = line.substr(colon + 1);
    std::size_t first = value.find_first_not_of(" \t");
    std::size_t last = value.find_last_not_of(" \t");
    value = first == value.npos ? std::string_view() : value.substr(first, last + 1 - first);
    add(line.substr(0, colon), value);
  }
}

const std::vector<nghttp2_nv>& Fields::all() {
  auto* at = reinterpret_cast<std::uint8_t*>(text_.data());
  for (nghttp2_nv& nv : all_) {
    nv.name = at;
    nv.value = at + nv.namelen;
    at = nv.value + nv.valuelen;
  }
  return all_;
}

}  // namespace rille::http2
