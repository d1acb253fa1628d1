// Header fields on their way to nghttp2.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rille::http2 {

// Header fields that are to be sent. Names become lower case.
class Fields {
 public:
  void add(std::string_view name, std::string_view value);
  void add_number(std::string_view name, std::uint64_t value);
  // "Name: value\r\n" one after another, less what HTTP/2 has no place for (Connection and the
  // like).
  void add_lines(std::string_view lines);
  void clear() {
    text_.clear();
    all_.clear();
  }
  bool empty() const { return all_.empty(); }

  // For nghttp2, which copies what it is given. Valid until something is added.
  const std::vector<nghttp2_nv>& all();

 private:
  std::string text_;  // names and values, one behind the other
  std::vector<nghttp2_nv> all_;
};

}  // namespace rille::http2
