#include "http1_message.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

namespace rille::http1 {

namespace {

constexpr int kMostBlankLines = 8;
constexpr std::size_t kReserved = 65536;   // for a body, at its first bytes
constexpr std::size_t kBesideTarget = 64;  // method and version have their place there

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

constexpr CharSet kHostChars("-._~%!$&'()*+;=");
constexpr CharSet kTokenChars("!#$%&'*+-.^_`|~");

std::string_view trim(std::string_view text) {
  std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool equals(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c >= 'A' && c <= 'Z') c |= 32;
    if (c != lower[i]) return false;
  }
  return true;
}

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

// 0 for what is spoken here, 505 for another version of HTTP, 400 for anything else.
int fault_in_version(std::string_view text) {
  if (text == "HTTP/1.1" || text == "HTTP/1.0") return 0;
  if (text.substr(0, 5) != "HTTP/" || text.size() < 6 || text.size() > 8) return 400;
  for (std::size_t i = 5; i < text.size(); ++i) {
    if (i == 6 ? text[i] != '.' : !is_digit(text[i])) return 400;
  }
  return 505;
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

bool is_token(std::string_view text) {
  for (char c : text) {
    if (!kTokenChars.has(c)) return false;
  }
  return !text.empty();
}

Fault fault_in_target(std::string_view method, std::string_view target, const Limits& limits) {
  constexpr Fault kMalformed = {400, "malformed target"};
  if (limits.target_bytes > 0 && target.size() > limits.target_bytes) {
    return {414, "target too long"};
  }
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

// ---- parsing ------------------------------------------------------------------------------------

const llhttp_settings_t Parser::kSettings = [] {
  llhttp_settings_t s;
  llhttp_settings_init(&s);
  s.on_header_field = on_field;
  s.on_header_value = on_value;
  s.on_header_value_complete = on_value_complete;
  s.on_headers_complete = on_headers_complete;
  s.on_body = on_body;
  s.on_message_complete = on_message_complete;
  return s;
}();

Parser::Parser(llhttp_type_t type, const Limits& limits) : limits_(limits), type_(type) { next(); }

void Parser::next() {
  // Whoever keeps a connection mostly asks with the same bytes again: then what is known of them
  // still holds.
  repeats_ = type_ == HTTP_REQUEST && state_ == kComplete && !has_length_ && !chunked_ &&
             !expects_continue_;
  if (!repeats_) forget_head();
  if (body_.capacity() > 65536) {
    std::string().swap(body_);
  } else {
    body_.clear();
  }
  if (!trailers_.empty()) trailers_.clear();
  body_limit_ = limits_.body_bytes;
  received_ = framing_ = 0;
  state_ = kHead;
  discard_ = false;
}

void Parser::forget_head() {
  llhttp_init(&llhttp_, type_, &kSettings);
  llhttp_.data = this;
  head_.clear();
  repeats_ = false;
  length_ = 0;
  start_ = line_ = scanned_ = lines_ = 0;
  blank_lines_ = hosts_ = 0;
  chunked_ = has_length_ = expects_continue_ = http_1_0_ = head_request_ = false;
}

bool Parser::fail(int status, const char* fault) {
  state_ = kFailed;
  refusal_ = status;
  fault_ = fault;
  return false;
}

std::size_t Parser::feed(const char* data, std::size_t size) {
  std::size_t used = 0;
  if (state_ == kHead) used = feed_head(data, size);
  if (state_ == kBody && used < size) used += feed_body(data + used, size - used);
  return used;
}

std::size_t Parser::feed_head(const char* data, std::size_t size) {
  if (repeats_) {
    if (size >= head_.size() && std::memcmp(data, head_.data(), head_.size()) == 0) {
      repeats_ = false;
      state_ = kComplete;
      return head_.size();
    }
    forget_head();
  }
  // Mostly the whole head comes at once and is looked at where it is.
  std::size_t before = head_.size();
  std::string_view text(data, size);
  if (before > 0) {
    if (limits_.head_bytes > 0 && size > limits_.head_bytes) size = limits_.head_bytes + 1;
    head_.append(data, size);
    text = head_;
  }
  bool whole = scan(text);
  if (state_ == kFailed) {
    // Its first line is asked for in the log.
    if (before == 0) head_.assign(text.substr(start_, limits_.target_bytes + kBesideTarget));
    return size;
  }
  std::size_t end = whole ? scanned_ : text.size();
  std::size_t used = whole ? end - before : size;
  if (before == 0) {
    head_.assign(data + start_, end - start_);
  } else {
    head_.resize(end);
    head_.erase(0, start_);
  }
  if (!whole) {
    line_ -= start_;
    scanned_ -= start_;
    start_ = 0;
    return used;
  }
  if (!check_fields_together()) return used;
  llhttp_errno_t error = llhttp_execute(&llhttp_, head_.data(), head_.size());
  if (error != HPE_OK && error != HPE_PAUSED && state_ != kFailed) fail_head(error);
  return used;
}

// Goes through the lines that are whole; true at the empty one that ends the head.
bool Parser::scan(std::string_view text) {
  for (;;) {
    const void* found = std::memchr(text.data() + scanned_, '\n', text.size() - scanned_);
    std::size_t end = found
                          ? static_cast<std::size_t>(static_cast<const char*>(found) - text.data())
                          : text.size();
    if (!check_size(end - line_, end)) return false;
    if (!found) {
      scanned_ = end;
      return false;
    }
    scanned_ = end + 1;
    if (end == line_ || text[end - 1] != '\r')
      return fail(400, "line that does not end with CR LF");
    std::string_view line = text.substr(line_, end - 1 - line_);
    line_ = scanned_;
    if (line.empty()) {
      if (lines_ > 0) return true;
      // Old clients end a body with a line too many.
      if (++blank_lines_ > kMostBlankLines) return fail(400, "empty lines instead of a request");
      start_ = line_;
      continue;
    }
    bool good = lines_ > 0              ? check_field(line)
                : type_ == HTTP_REQUEST ? check_request_line(line)
                                        : check_status_line(line);
    if (!good) return false;
    ++lines_;
  }
}

bool Parser::check_size(std::size_t line_size, std::size_t total) {
  if (lines_ == 0 && limits_.target_bytes > 0 && line_size > limits_.target_bytes + kBesideTarget) {
    return fail(414, "target too long");
  }
  if (limits_.head_bytes > 0 && total >= limits_.head_bytes) {
    return fail(lines_ == 0 ? 414 : 431, "header too large");
  }
  return true;
}

bool Parser::check_request_line(std::string_view line) {
  constexpr const char* kMalformed = "malformed request line";
  std::size_t first = line.find(' ');
  std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return fail(400, kMalformed);
  std::string_view method = line.substr(0, first);
  std::string_view target = line.substr(first + 1, last - first - 1);
  if (int status = fault_in_version(line.substr(last + 1))) {
    return fail(status, status == 505 ? "only HTTP/1.0 and HTTP/1.1 are spoken here" : kMalformed);
  }
  if (!is_token(method) || target.empty()) return fail(400, kMalformed);
  if (target.find(' ') != std::string_view::npos) return fail(400, kMalformed);
  http_1_0_ = line.back() == '0';
  head_request_ = method == "HEAD";
  Fault fault = fault_in_target(method, target, limits_);
  return fault.status == 0 || fail(fault.status, fault.text);
}

bool Parser::check_status_line(std::string_view line) {
  // "HTTP/1.1 200" and, mostly, a reason.
  if (line.size() < 12 || line[8] != ' ' || fault_in_version(line.substr(0, 8)) == 400) {
    return fail(400, "malformed status line");
  }
  if (fault_in_version(line.substr(0, 8)) != 0) return fail(505, "unknown version of HTTP");
  bool digits = is_digit(line[9]) && is_digit(line[10]) && is_digit(line[11]);
  if (!digits || line[9] == '0' || (line.size() > 12 && line[12] != ' ')) {
    return fail(400, "malformed status line");
  }
  http_1_0_ = line[7] == '0';
  return true;
}

bool Parser::check_field(std::string_view line) {
  if (limits_.headers > 0 && lines_ > limits_.headers) return fail(431, "too many header fields");
  if (line[0] == ' ' || line[0] == '\t') return fail(400, "folded header field");
  std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return fail(400, "malformed header field");
  }
  std::string_view name = line.substr(0, colon);
  std::string_view value = trim(line.substr(colon + 1));
  switch (name.size()) {
    case 4:
      if (type_ == HTTP_REQUEST && equals(name, "host")) {
        if (++hosts_ > 1) return fail(400, "more than one Host field");
        if (!is_host(value)) return fail(400, "malformed Host field");
      }
      return true;
    case 6:
      if (type_ == HTTP_REQUEST && equals(name, "expect")) {
        if (!equals(value, "100-continue")) return fail(417, "unknown expectation");
        expects_continue_ = !http_1_0_;
      }
      return true;
    case 14:
      return !equals(name, "content-length") || check_length(value);
    case 17:
      return !equals(name, "transfer-encoding") || check_coding(value);
    default:
      return true;
  }
}

bool Parser::check_length(std::string_view value) {
  if (has_length_) return fail(400, "more than one Content-Length field");
  has_length_ = true;
  if (value.empty()) return fail(400, "malformed Content-Length field");
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 53;
  for (char c : value) {
    if (!is_digit(c)) return fail(400, "malformed Content-Length field");
    if (length_ < kLargest) length_ = length_ * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (length_ >= kLargest) return fail(413, "body too large");
  return true;
}

bool Parser::check_coding(std::string_view value) {
  if (value.empty()) return fail(400, "malformed Transfer-Encoding field");
  while (!value.empty()) {
    std::size_t comma = value.find(',');
    std::string_view coding = trim(value.substr(0, comma));
    value = comma == std::string_view::npos ? std::string_view() : value.substr(comma + 1);
    if (!is_token(coding.substr(0, coding.find(';')))) {
      return fail(400, "malformed Transfer-Encoding field");
    }
    if (!equals(coding, "chunked")) return fail(501, "unknown transfer coding");
    if (chunked_) return fail(400, "chunked more than once");
    chunked_ = true;
  }
  return true;
}

// What can be said only when all fields are there.
bool Parser::check_fields_together() {
  if (chunked_ && has_length_) return fail(400, "both Content-Length and Transfer-Encoding");
  if (chunked_ && http_1_0_) return fail(400, "Transfer-Encoding in HTTP/1.0");
  if (type_ != HTTP_REQUEST) return true;
  if (hosts_ == 0 && !http_1_0_) return fail(400, "no Host field");
  if (limits_.body_bytes > 0 && length_ > limits_.body_bytes) return fail(413, "body too large");
  return true;
}

bool Parser::fail_head(llhttp_errno_t error) {
  switch (error) {
    case HPE_INVALID_METHOD:
    case HPE_INVALID_CONSTANT:  // a method of RTSP
      return fail(501, "unknown method");
    case HPE_INVALID_URL:
      return fail(400, "malformed target");
    default:
      return fail(400, "malformed header field");
  }
}

int Parser::on_headers_complete(llhttp_t* p) {
  auto* self = static_cast<Parser*>(p->data);
  self->keep_alive_ = llhttp_should_keep_alive(p) != 0;
  self->state_ = kBody;
  p->upgrade = 0;  // whoever asks for another protocol gets this one
  bool bodiless = self->type_ == HTTP_RESPONSE && !may_have_body(p->status_code);
  return self->no_body_ || bodiless ? 1 : 0;
}

int Parser::on_field(llhttp_t* p, const char* text, std::size_t size) {
  auto* self = static_cast<Parser*>(p->data);
  if (self->state_ == kBody) self->add_trailer({text, size}, false);
  return self->state_ == kFailed ? HPE_USER : 0;
}

int Parser::on_value(llhttp_t* p, const char* text, std::size_t size) {
  auto* self = static_cast<Parser*>(p->data);
  if (self->state_ == kBody) self->add_trailer({text, size}, true);
  return self->state_ == kFailed ? HPE_USER : 0;
}

int Parser::on_value_complete(llhttp_t* p) {
  auto* self = static_cast<Parser*>(p->data);
  // An empty one has no bytes to tell of.
  if (self->state_ == kBody) self->add_trailer({}, true);
  return 0;
}

// Names and values may come in pieces.
void Parser::add_trailer(std::string_view text, bool is_value) {
  bool has_both = trailers_.size() % 2 == 0;
  if (limits_.headers > 0 && trailers_.size() / 2 >= limits_.headers && !is_value && has_both) {
    fail(431, "too many trailer fields");
    return;
  }
  if (is_value != has_both) trailers_.emplace_back();
  trailers_.back().append(text);
}

int Parser::on_body(llhttp_t* p, const char* data, std::size_t size) {
  auto* self = static_cast<Parser*>(p->data);
  if (self->chunked_ && !self->check_framing(data)) return HPE_USER;
  self->received_ += size;
  if (self->body_limit_ > 0 && self->received_ > self->body_limit_) {
    self->fail(413, "body too large");
    return HPE_USER;
  }
  if (self->discard_) return 0;
  // Not all that was promised: it costs the one who promises nothing.
  if (self->body_.capacity() < size && self->length_ > size) {
    self->body_.reserve(std::min<std::uint64_t>(self->length_, kReserved));
  }
  self->body_.append(data, size);
  return 0;
}

int Parser::on_message_complete(llhttp_t* p) {
  static_cast<Parser*>(p->data)->state_ = kComplete;
  return HPE_PAUSED;
}

// What chunks need besides the body, up to there in the piece that is looked at. Chunks of one byte
// need five more; extensions and trailers could go on for ever.
bool Parser::check_framing(const char* to) {
  std::size_t most = limits_.head_bytes > 0 ? limits_.head_bytes : Limits().head_bytes;
  std::uint64_t framing = framing_ + static_cast<std::size_t>(to - piece_) - received_;
  return framing <= most + 8 * received_ || fail(400, "more chunk headers than body");
}

std::size_t Parser::feed_body(const char* data, std::size_t size) {
  piece_ = data;
  llhttp_errno_t error = llhttp_execute(&llhttp_, data, size);
  std::size_t used = size;
  if (error == HPE_PAUSED) used = static_cast<std::size_t>(llhttp_.error_pos - data);
  if (state_ == kFailed) return used;
  if (error != HPE_OK && error != HPE_PAUSED) {
    fail(400, "malformed body");
    return used;
  }
  if (!chunked_ || used == 0) return used;
  if (!check_framing(data + used)) return used;
  framing_ += used;
  if (state_ == kComplete && (used > 1 ? data[used - 2] : last_byte_) != '\r') {
    fail(400, "line that does not end with CR LF");
  }
  last_byte_ = data[used - 1];
  return used;
}

bool Parser::finish() {
  if (state_ == kBody && llhttp_finish(&llhttp_) == HPE_PAUSED) return is_complete();
  return state_ == kComplete;
}

bool Parser::limit_body(std::uint64_t bytes) {
  body_limit_ = bytes;
  return bytes == 0 || (length_ <= bytes && received_ <= bytes);
}

void Parser::discard_body() {
  discard_ = true;
  body_.clear();
}

// ---- responses ----------------------------------------------------------------------------------

std::string_view reason(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 101:
      return "Switching Protocols";
    case 102:
      return "Processing";
    case 103:
      return "Early Hints";
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 202:
      return "Accepted";
    case 203:
      return "Non-Authoritative Information";
    case 204:
      return "No Content";
    case 205:
      return "Reset Content";
    case 206:
      return "Partial Content";
    case 207:
      return "Multi-Status";
    case 208:
      return "Already Reported";
    case 226:
      return "IM Used";
    case 300:
      return "Multiple Choices";
    case 301:
      return "Moved Permanently";
    case 302:
      return "Found";
    case 303:
      return "See Other";
    case 304:
      return "Not Modified";
    case 305:
      return "Use Proxy";
    case 307:
      return "Temporary Redirect";
    case 308:
      return "Permanent Redirect";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 402:
      return "Payment Required";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 406:
      return "Not Acceptable";
    case 407:
      return "Proxy Authentication Required";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 410:
      return "Gone";
    case 411:
      return "Length Required";
    case 412:
      return "Precondition Failed";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 416:
      return "Range Not Satisfiable";
    case 417:
      return "Expectation Failed";
    case 418:
      return "I'm a teapot";
    case 421:
      return "Misdirected Request";
    case 422:
      return "Unprocessable Content";
    case 423:
      return "Locked";
    case 424:
      return "Failed Dependency";
    case 425:
      return "Too Early";
    case 426:
      return "Upgrade Required";
    case 428:
      return "Precondition Required";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 451:
      return "Unavailable For Legal Reasons";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    case 506:
      return "Variant Also Negotiates";
    case 507:
      return "Insufficient Storage";
    case 508:
      return "Loop Detected";
    case 511:
      return "Network Authentication Required";
    default:
      return "Unknown";
  }
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

namespace {

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
