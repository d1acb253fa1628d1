// The head of a response as bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

namespace rille::http1 {

// The standard text of a status, "Unknown" for one that has none.
std::string_view reason(int status);

// Whether responses with that status have a body at all.
inline bool may_have_body(int status) { return status >= 200 && status != 204 && status != 304; }

// The field "Date: ...\r\n", made anew once a second.
class DateField {
 public:
  std::string_view text();

 private:
  std::time_t made_ = -1;
  char text_[48];
  std::size_t size_ = 0;
};

struct ResponseHead {
  int status = 200;
  std::string_view content_type;  // none if empty
  std::string_view date;          // a whole field; none if empty
  std::string_view fields;        // further ones, each with its CR LF
  std::uint64_t length = 0;
  std::string_view connection;  // none if empty
  enum Framing : std::uint8_t { kLength, kChunked, kToEnd } framing = kLength;
};

void append(std::string* out, const ResponseHead& head);

}  // namespace rille::http1
