// Requests of HTTP/2 as servers take them: the head, and what comes of the body.
#include <algorithm>
#include <charconv>
#include <utility>

#include "http1_grammar.h"
#include "http2_server.h"

namespace rille::http2 {

namespace {

constexpr std::size_t kMostDrained = 65536;  // of a body that nobody wanted
constexpr std::size_t kMostKept = 65536;     // capacity of a buffer
constexpr std::size_t kBombFactor = 8;       // times the limit, and it is no mere mistake

bool equals_in_any_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    auto low = [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c + 0; };
    return low(x) == low(y);
  });
}

}  // namespace

Connection* Request::connection() const { return static_cast<Connection*>(session()); }

// ---- the head of a request ----------------------------------------------------------------------

// Whether there is room for another field.
bool Request::count_field(std::size_t size) {
  const http1::Limits& limits = server_->options.limits;
  head_bytes_ += size + 4;
  ++fields_;
  bool too_many = limits.headers > 0 && fields_ > limits.headers;
  bool too_large = limits.head_bytes > 0 && head_bytes_ > limits.head_bytes;
  if (!too_many && !too_large) return true;
  if (refusal_ == 0) {
    refusal_ = 431;
    refusal_text_ = too_many ? "too many header fields" : "header too large";
  }
  // A few bytes can stand for many fields.
  if ((too_large && head_bytes_ > limits.head_bytes * kBombFactor) ||
      (too_many && fields_ > limits.headers * kBombFactor)) {
    session()->terminate(NGHTTP2_ENHANCE_YOUR_CALM);
  }
  return false;
}

bool Request::field(std::string_view name, std::string_view value) {
  if (has_head_) return trailer(name, value);
  if (name.empty()) return false;
  if (name[0] == ':') {
    const http1::Limits& limits = server_->options.limits;
    head_bytes_ += value.size();
    std::string* to = name == ":method"      ? &method_
                      : name == ":path"      ? &path_
                      : name == ":authority" ? &authority_
                                             : nullptr;
    if (to == &path_) {
      std::size_t most = limits.target_bytes;
      if (most > 0 && value.size() > most) {
        refusal_ = 414;
        refusal_text_ = "target too long";
        value = value.substr(0, most);
      }
    }
    if (limits.head_bytes > 0 && head_bytes_ > limits.head_bytes) {
      value = {};
      if (refusal_ == 0) {
        refusal_ = 431;
        refusal_text_ = "header too large";
      }
    }
    if (to) to->assign(value);
    return true;
  }
  if (!count_field(name.size() + value.size())) return true;
  if (head_.empty()) begin_head();
  return special_field(name, value);
}

// The pseudo-header fields are there, which come first.
void Request::begin_head() {
  constexpr std::size_t kUsual = 256;
  head_.reserve(std::max(kUsual, method_.size() + path_.size() + authority_.size() + 32));
  head_.append(method_).append(" ").append(path_).append(" HTTP/2.0\r\n");
  if (!authority_.empty()) head_.append("host: ").append(authority_).append("\r\n");
}

// Fields that we look at; the others are kept as they are.
bool Request::special_field(std::string_view name, std::string_view value) {
  switch (name.size()) {
    case 4:
      if (name == "host") {
        // RFC 9113, section 8.3.1: whoever says it twice says it in the same way.
        if (has_host_) return false;
        has_host_ = true;
        if (!authority_.empty()) return equals_in_any_case(authority_, value);
        authority_.assign(value);
      }
      break;
    case 6:
      if (name == "cookie") {
        if (!cookie_.empty()) cookie_.append("; ");
        cookie_.append(value);
        return true;
      }
      if (name == "expect") {
        expects_continue_ = equals_in_any_case(value, "100-continue");
        if (!expects_continue_ && refusal_ == 0) {
          refusal_ = 417;
          refusal_text_ = "unknown expectation";
        }
      }
      break;
    case 14:
      if (name == "content-length") {
        if (has_length_) return false;
        has_length_ = true;
        auto result = std::from_chars(value.data(), value.data() + value.size(), length_);
        if (result.ec != std::errc() || result.ptr != value.data() + value.size()) return false;
      }
      break;
    default:
      break;
  }
  head_.append(name).append(": ").append(value).append("\r\n");
  return true;
}

bool Request::trailer(std::string_view name, std::string_view value) {
  if (name.empty() || name[0] == ':') return false;
  if (!count_field(name.size() + value.size())) {
    if (body_status_ == 0) {
      body_status_ = 431;
      body_fault_ = "too many trailer fields";
    }
    return true;
  }
  trailers_.emplace_back(name);
  trailers_.emplace_back(value);
  return true;
}

bool Request::head(bool ends) {
  if (has_head_) {  // trailers
    ended();
    return true;
  }
  has_head_ = true;
  head_deadline_ = 0;
  fields_ = head_bytes_ = 0;  // trailers have the same limits once more
  if (ends) {
    body_ended_ = true;
    has_body_ = false;
  }
  is_head_request_ = method_ == "HEAD";
  body_limit_ = server_->options.limits.body_bytes;
  auto refuse_once = [this](int status, const char* fault) {
    if (refusal_ != 0) return;
    refusal_ = status;
    refusal_text_ = fault;
  };
  if (refusal_ == 0) {
    // nghttp2 lets some bytes pass that have no place in a URL.
    bool strange = std::any_of(path_.begin(), path_.end(), [](char c) {
      return c <= ' ' || c == 0x7f || static_cast<unsigned char>(c) >= 0x80;
    });
    std::size_t most = server_->options.limits.target_bytes;
    if (!http1::is_method(method_)) {
      refuse_once(501, "unknown method");
    } else if (strange || path_.empty() || (path_[0] != '/' && path_ != "*")) {
      refuse_once(400, "malformed target");
    } else if (http1::Fault f = http1::fault_in_target(method_, path_, most); f.status != 0) {
      refuse_once(f.status, f.text);
    } else if (!http1::is_host(authority_)) {
      refuse_once(400, "malformed Host field");
    } else if (body_limit_ > 0 && length_ > body_limit_) {
      refuse_once(413, "body too large");
    }
  }
  Connection* c = connection();
  if (refusal_ != 0) {
    refuse(refusal_, refusal_text_);
    ++c->requests_;
    return true;
  }
  if (head_.empty()) begin_head();
  if (!cookie_.empty()) head_.append("cookie: ").append(cookie_).append("\r\n");
  head_.append("\r\n");
  c->ready(this);
  return true;
}

// Answers what no task shall hear of.
void Request::refuse(int status, const char* fault) {
  std::string body = std::string(http1::reason(status)) + ": " + fault + "\n";
  Fields fields;
  fields.add_number(":status", static_cast<std::uint64_t>(status));
  fields.add("content-type", "text/plain; charset=utf-8");
  fields.add_number("content-length", body.size());
  fields.add_lines(server_->date.text());
  answered_ = discards_ = true;
  session()->respond(this, &fields, is_head_request_);
  if (server_->options.tells_refusals) {
    std::string line = method_ + " " + path_ + " HTTP/2.0";
    connection()->refused({status, is_head_request_ ? 0 : body.size(), std::move(line)});
  }
  if (!is_head_request_) queue(body, true);
}

// ---- its body -----------------------------------------------------------------------------------

void Request::data(std::string_view bytes) {
  received_ += bytes.size();
  if (discards_ || answered_) {
    if (received_ <= kMostDrained) give_window(bytes.size());
    return;
  }
  owed_ += bytes.size();
  if (body_limit_ > 0 && received_ > body_limit_) {
    if (body_status_ == 0) {
      body_status_ = 413;
      body_fault_ = "body too large";
    }
    body_point_.wake();
    return;
  }
  body_.append(bytes);
  if (!body_point_.is_taken()) return;
  if (most_body_ > 0) give_back();  // it is collected
  if (body_.size() > most_body_) body_point_.wake();
}

void Request::ended() {
  body_ended_ = true;
  body_point_.wake();
}

void Request::give_back() { give_window(std::exchange(owed_, 0)); }

bool Request::limit_body(std::uint64_t bytes) {
  body_limit_ = bytes;
  return bytes == 0 || (length_ <= bytes && received_ <= bytes);
}

bool Request::is_body_known(std::size_t most) const {
  return body_ended_ || body_status_ != 0 || !is_live() || peer_ended_ || length_ > most;
}

void Request::expect_body(std::uint64_t ms) {
  if (!begun_ && expects_continue_ && received_ == 0) {
    expects_continue_ = false;
    Fields fields;
    fields.add(":status", "100");
    session()->inform(this, &fields);
  }
  body_since_ = session()->now();
  body_deadline_ = ms == 0 ? 0 : body_since_ + ms;
  if (body_deadline_ != 0) connection()->watch(body_deadline_);
}

int Request::read_body(lua_State* L, std::size_t most) {
  most_body_ = std::max<std::size_t>(most, 1);
  give_back();
  if (is_body_known(most) || body_.size() > most) return push_body(L);
  expect_body(server_->options.body_ms);
  return body_point_.wait(
      L, [](lua_State* l, void* self) { return l ? static_cast<Request*>(self)->push_body(l) : 0; },
      this);
}

int Request::read_chunk(lua_State* L) {
  most_body_ = 0;
  if (!body_.empty() || is_body_known(SIZE_MAX)) return push_chunk(L);
  // As in HTTP/1: a large upload goes on for as long as its sender does not dawdle.
  std::uint64_t most = server_->options.body_ms;
  if (most > 0) {
    most += received_;
    most = most > body_waited_ ? most - body_waited_ : 1;
  }
  expect_body(most);
  return body_point_.wait(
      L,
      [](lua_State* l, void* self) { return l ? static_cast<Request*>(self)->push_chunk(l) : 0; },
      this);
}

// Pushes why there is no body, or no more of it; or nothing, if all is well.
int Request::push_fault(lua_State* L, std::size_t most) {
  lua_pushnil(L);
  lua_pushnil(L);
  if (answered_) return 2;
  int status = body_status_;
  const char* fault = body_fault_;
  if (status == 0 && (length_ > most || body_.size() > most)) {
    status = 413;
    fault = "body too large";
  } else if (status == 0 && !body_ended_ && (session() == nullptr || peer_ended_)) {
    status = 400;
    fault = "the body was cut off";
  }
  if (status == 0) {
    lua_pop(L, 2);
    return 0;
  }
  discards_ = true;
  lua_pushinteger(L, status);
  lua_pushstring(L, fault);
  return 4;
}

int Request::push_body(lua_State* L) {
  body_deadline_ = 0;
  if (int n = push_fault(L, most_body_)) return n;
  lua_pushnil(L);
  lua_pushlstring(L, body_.data(), body_.size());
  return 2;
}

int Request::push_chunk(lua_State* L) {
  if (body_deadline_ != 0 && session()) body_waited_ += session()->now() - body_since_;
  body_deadline_ = 0;
  if (answered_ || body_.empty()) {
    if (int n = push_fault(L, SIZE_MAX)) return n;
  }
  lua_pushnil(L);
  lua_pushlstring(L, body_.data(), body_.size());
  body_.clear();
  if (body_.capacity() > kMostKept) std::string().swap(body_);
  give_back();
  return 2;
}

}  // namespace rille::http2
