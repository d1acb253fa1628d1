#include "http1_message.h"

#include <algorithm>
#include <cstring>

#include "http1_grammar.h"
#include "http1_head.h"

namespace rille::http1 {

namespace {

constexpr int kMostBlankLines = 8;
constexpr std::size_t kReserved = 65536;   // for a body, at its first bytes
constexpr std::size_t kBesideTarget = 64;  // method and version have their place there

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
  trailer_bytes_ = 0;
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
  Fault fault = fault_in_target(method, target, limits_.target_bytes);
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
  trailer_bytes_ += text.size();
  if (trailer_bytes_ > most_head()) {
    fail(431, "trailers too large");
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

std::size_t Parser::most_head() const {
  return limits_.head_bytes > 0 ? limits_.head_bytes : Limits().head_bytes;
}

// What chunks need besides the body, up to there in the piece that is looked at. Chunks of one byte
// need five more; extensions and trailers could go on for ever.
bool Parser::check_framing(const char* to) {
  std::uint64_t framing = framing_ + static_cast<std::size_t>(to - piece_) - received_;
  return framing <= most_head() + 8 * received_ || fail(400, "more chunk headers than body");
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

}  // namespace rille::http1
