#include "http1_head.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>

namespace rille::http1 {

namespace {

struct Status {
  int code;
  std::string_view reason;
};

// In order: RFC 9110, section 15, and the registry of statuses.
constexpr Status kStatuses[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {102, "Processing"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {208, "Already Reported"},
    {226, "IM Used"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {418, "I'm a teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {511, "Network Authentication Required"},
};

void append_number(std::string* out, std::uint64_t n) {
  std::array<char, 20> digits;
  std::size_t at = digits.size();
  do {
    digits[--at] = static_cast<char>('0' + n % 10);
    n /= 10;
  } while (n > 0);
  out->append(digits.data() + at, digits.size() - at);
}

}  // namespace

std::string_view reason(int status) {
  const Status* found = std::lower_bound(std::begin(kStatuses), std::end(kStatuses), status,
                                         [](const Status& s, int code) { return s.code < code; });
  return found != std::end(kStatuses) && found->code == status ? found->reason : "Unknown";
}

std::string_view DateField::text() {
  std::time_t now = std::time(nullptr);
  if (now != made_) {
    made_ = now;
    // Not strftime, whose names of days and months are those of the locale.
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    std::tm t;
    gmtime_r(&now, &t);
    size_ = static_cast<std::size_t>(std::snprintf(
        text_, sizeof text_, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n", kDays[t.tm_wday],
        t.tm_mday, kMonths[t.tm_mon], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec));
  }
  return {text_, size_};
}

void append(std::string* out, const ResponseHead& head) {
  if (head.status == 200) {
    out->append("HTTP/1.1 200 OK\r\n");
  } else {
    out->append("HTTP/1.1 ");
    append_number(out, static_cast<std::uint64_t>(head.status));
    out->append(" ").append(reason(head.status)).append("\r\n");
  }
  if (!head.content_type.empty()) {
    out->append("Content-Type: ").append(head.content_type).append("\r\n");
  }
  if (!may_have_body(head.status)) {
    // Neither has a place here.
  } else if (head.framing == ResponseHead::kLength) {
    out->append("Content-Length: ");
    append_number(out, head.length);
    out->append("\r\n");
  } else if (head.framing == ResponseHead::kChunked) {
    out->append("Transfer-Encoding: chunked\r\n");
  }
  out->append(head.date);
  if (!head.connection.empty()) {
    out->append("Connection: ").append(head.connection).append("\r\n");
  }
  out->append(head.fields);
  out->append("\r\n");
}

}  // namespace rille::http1
