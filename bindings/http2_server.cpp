#include "http2_server.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

namespace rille::http2 {

namespace {

constexpr std::uint64_t kTickMs = 20;         // limits are that exact
constexpr std::size_t kMostDrained = 65536;   // of a body that nobody wanted
constexpr std::size_t kMostKept = 65536;      // capacity of a buffer
constexpr std::size_t kMostUnsent = 65536;    // before whoever sends has to wait
constexpr std::size_t kFewUnsent = 16384;     // and when he goes on
constexpr std::size_t kLeastWritten = 65536;  // within the limit for writing, by a slow peer
constexpr std::size_t kBombFactor = 8;        // times the limit, and it is no mere mistake
constexpr std::uint64_t kLastLingerMs = 200;  // once the server is closing
// Resets, pings, settings and the like: so many at once, and so many a second.
constexpr double kAllowance = 400;
constexpr double kAllowedPerSecond = 100;

int push_taken(lua_State* L, bool taken) {
  lua_pushnil(L);
  lua_pushboolean(L, taken);
  return 2;
}

bool equals_in_any_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    auto low = [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c + 0; };
    return low(x) == low(y);
  });
}

template <class N>
std::string_view digits(char (&buffer)[24], N number) {
  char* end = std::to_chars(buffer, buffer + sizeof buffer, number).ptr;
  return {buffer, static_cast<std::size_t>(end - buffer)};
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
    head_bytes_ += value.size();
    std::string* to = name == ":method"      ? &method_
                      : name == ":path"      ? &path_
                      : name == ":authority" ? &authority_
                                             : nullptr;
    if (to == &path_) {
      std::size_t most = server_->options.limits.target_bytes;
      if (most > 0 && value.size() > most) {
        refusal_ = 414;
        refusal_text_ = "target too long";
        value = value.substr(0, most);
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
    if (!http1::is_method(method_)) {
      refuse_once(501, "unknown method");
    } else if (strange || path_.empty() || (path_[0] != '/' && path_ != "*")) {
      refuse_once(400, "malformed target");
    } else if (http1::Fault f = fault_in_target(method_, path_, server_->options.limits);
               f.status != 0) {
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
  char number[24];
  std::string body = std::string(http1::reason(status)) + ": " + fault + "\n";
  Fields fields;
  fields.add(":status", digits(number, status));
  fields.add("content-type", "text/plain; charset=utf-8");
  fields.add("content-length", digits(number, body.size()));
  fields.add_lines(server_->date.text());
  answered_ = discards_ = true;
  session()->respond(this, &fields, is_head_request_);
  if (server_->options.tells_refusals) {
    std::string line = method_ + " " + path_ + " HTTP/2.0";
    Connection* c = connection();
    c->refusals_.push_back({status, is_head_request_ ? 0 : body.size(), std::move(line)});
    c->point_.wake();
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

// ---- the response -------------------------------------------------------------------------------

void Request::append_head(Fields* to, const http1::ResponseHead& head, int flags) const {
  char number[24];
  to->clear();
  if (head.status == 200) {
    to->add(":status", "200");
  } else {
    to->add(":status", digits(number, head.status));
  }
  if (!head.content_type.empty()) to->add("content-type", head.content_type);
  if (http1::may_have_body(head.status) && head.framing == http1::ResponseHead::kLength) {
    to->add("content-length", digits(number, head.length));
  }
  if (!(flags & http1::Connection::kNoDate)) to->add_lines(server_->date.text());
  to->add_lines(head.fields);
}

void Request::queue(std::string_view data, bool ends) {
  queued_ += data.size();
  Exchange::send(data, ends);
  if (unsent() == 0 || send_deadline_ != 0 || server_->options.write_ms == 0 || !session()) return;
  sent_mark_ = queued_ - unsent();
  send_deadline_ = session()->now() + server_->options.write_ms;
  connection()->watch(send_deadline_);
}

int Request::push_sent(lua_State* L, void* self) {
  if (!L) return 0;
  auto* r = static_cast<Request*>(self);
  return push_taken(L, r->session() ? !r->is_cut_ : r->unsent() == 0);
}

int Request::wait_until_sent(lua_State* L) {
  if (!session() || is_cut_) return push_taken(L, false);
  if (unsent() <= kMostUnsent || send_point_.is_taken()) return push_taken(L, true);
  return send_point_.wait(L, push_sent, this);
}

void Request::sent() {
  if (unsent() == 0) send_deadline_ = 0;
  if (unsent() <= kFewUnsent) send_point_.wake();
}

int Request::respond(lua_State* L, const http1::ResponseHead& given, std::string_view body,
                     int flags) {
  if (!is_live()) return push_taken(L, false);
  http1::ResponseHead head = given;
  head.length = body.size();
  answered_ = begun_ = true;
  Fields* fields = &server_->fields;
  append_head(fields, head, flags);
  bool has_body = http1::may_have_body(head.status) && !is_head_request_ && !body.empty();
  session()->respond(this, fields, !has_body);
  body_point_.wake();
  if (has_body) queue(body, true);
  if ((flags & http1::Connection::kClose) && session()) connection()->stop();
  return wait_until_sent(L);
}

bool Request::start(const http1::ResponseHead& head, int flags) {
  if (!is_live() || started_) return false;
  started_ = true;
  sends_body_ = http1::may_have_body(head.status) && !is_head_request_;
  has_length_left_ = head.framing == http1::ResponseHead::kLength;
  left_ = head.length;
  closes_ = (flags & http1::Connection::kClose) != 0;
  append_head(&response_, head, flags);
  return sends_body_;
}

bool Request::take_back() {
  if (begun_ || !is_live()) return false;
  started_ = false;
  return true;
}

void Request::flush() {
  if (!is_live() || !started_ || begun_) return;
  begun_ = true;
  session()->respond(this, &response_, !sends_body_);
  if (closes_) connection()->stop();
}

int Request::send(lua_State* L, std::string_view data) {
  if (!is_live() || !started_ || !sends_body_) return push_taken(L, false);
  flush();
  if (has_length_left_) {
    if (data.size() > left_) {
      cut();
      return push_taken(L, false);
    }
    left_ -= data.size();
  }
  if (!data.empty()) queue(data, false);
  return wait_until_sent(L);
}

bool Request::finish(std::string_view trailers) {
  if (!is_live() || !started_) return true;
  if (sends_body_ && has_length_left_ && left_ > 0) return false;
  started_ = false;
  Fields fields;
  fields.add_lines(trailers);
  if (!begun_) {
    begun_ = true;
    sends_body_ = sends_body_ && !fields.empty();
    session()->respond(this, &response_, !sends_body_);
    if (closes_) connection()->stop();
  }
  answered_ = true;
  body_point_.wake();
  if (sends_body_) Exchange::finish(std::move(fields));
  return true;
}

void Request::cut() {
  if (!session() || is_cut_ || (answered_ && is_finished())) return;
  is_cut_ = answered_ = true;
  reset(begun_ ? NGHTTP2_INTERNAL_ERROR : NGHTTP2_CANCEL);
  body_point_.wake();
  send_point_.wake();
  end_point_.wake();
}

void Request::leave() {
  if (!answered_) cut();
  discards_ = true;
}

// The response has gone. What the peer has not sent yet is not wanted any more.
void Request::finished() {
  if (body_ended_ || !session()) return;
  std::uint64_t left = has_length_ && length_ > received_ ? length_ - received_ : UINT64_MAX;
  if (left > kMostDrained || expects_continue_) return reset(NGHTTP2_NO_ERROR);
  std::uint64_t ms = server_->options.body_ms;
  body_deadline_ = ms == 0 ? 0 : session()->now() + ms;
  if (body_deadline_ != 0) connection()->watch(body_deadline_);
}

void Request::closed(std::uint32_t) {
  body_point_.wake();
  send_point_.wake();
  end_point_.wake();
}

int Request::wait_end(lua_State* L) {
  if (has_ended() || answered_ || end_point_.is_taken()) return push_end(L, this);
  return end_point_.wait(L, push_end, this);
}

int Request::push_end(lua_State* L, void* self) {
  if (!L) return 0;
  auto* r = static_cast<Request*>(self);
  lua_pushnil(L);
  if (r->answered_) {
    lua_pushnil(L);
  } else {
    lua_pushboolean(L, r->session() != nullptr);
  }
  return 2;
}

std::uint64_t Request::check_deadlines(std::uint64_t time) {
  std::uint64_t earliest = UINT64_MAX;
  if (head_deadline_ != 0 && head_deadline_ <= time) {
    // A head that does not come to its end holds up all streams.
    session()->terminate(NGHTTP2_ENHANCE_YOUR_CALM);
    head_deadline_ = 0;
  } else if (head_deadline_ != 0) {
    earliest = head_deadline_;
  }
  if (body_deadline_ != 0 && body_deadline_ <= time) {
    body_deadline_ = 0;
    if (answered_) {
      reset(NGHTTP2_NO_ERROR);
    } else if (body_point_.is_taken()) {
      body_status_ = 408;
      body_fault_ = "the body took too long";
      body_point_.wake();
    }
  } else if (body_deadline_ != 0) {
    earliest = std::min(earliest, body_deadline_);
  }
  if (send_deadline_ != 0 && send_deadline_ <= time) {
    // A long answer may take its time, as long as it goes on.
    std::uint64_t mark = queued_ - unsent();
    if (mark - sent_mark_ >= kLeastWritten / std::max<std::size_t>(1, session()->exchanges())) {
      sent_mark_ = mark;
      send_deadline_ = session()->now() + server_->options.write_ms;
      earliest = std::min(earliest, send_deadline_);
    } else {
      send_deadline_ = 0;
      is_cut_ = answered_ = true;
      reset(NGHTTP2_CANCEL);
    }
  } else if (send_deadline_ != 0) {
    earliest = std::min(earliest, send_deadline_);
  }
  return earliest;
}

// ---- connections --------------------------------------------------------------------------------

namespace {

Session::Options session_options(const http1::ServerOptions& options) {
  Session::Options o;
  o.is_server = true;
  o.head_bytes =
      static_cast<std::uint32_t>(std::min<std::size_t>(options.limits.head_bytes, UINT32_MAX));
  return o;
}

}  // namespace

Connection::Connection(uv_loop_t* loop, std::shared_ptr<Server> server,
                       std::unique_ptr<Transport> transport, std::string peer)
    : Session(loop, std::move(transport), session_options(server->options)),
      server_(std::move(server)),
      peer_(std::make_shared<const std::string>(std::move(peer))),
      allowance_time_(now()),
      allowance_(kAllowance) {
  if (server_->options.header_ms > 0) {
    idle_deadline_ = now() + server_->options.header_ms;
    watch(idle_deadline_);
  }
}

std::shared_ptr<Exchange> Connection::opened() {
  auto request = std::make_shared<Request>(server_, peer_);
  if (std::uint64_t ms = server_->options.header_ms; ms > 0) {
    request->head_deadline_ = now() + ms;
    watch(request->head_deadline_);
  }
  return request;
}

void Connection::ready(Request* r) {
  ++requests_;
  ready_.push_back(std::static_pointer_cast<Request>(r->keeper()));
  if (server_->options.requests > 0 && requests_ >= server_->options.requests) drain();
  point_.wake();
}

int Connection::next_request(lua_State* L) {
  while (!ready_.empty() && ready_.front()->session() == nullptr) ready_.pop_front();
  if (!ready_.empty() || !refusals_.empty() || !is_open()) return push_request(L, this);
  return point_.wait(L, push_request, this);
}

int Connection::push_request(lua_State* L, void* self) {
  if (!L) return 0;
  auto* c = static_cast<Connection*>(self);
  while (!c->ready_.empty() && c->ready_.front()->session() == nullptr) c->ready_.pop_front();
  lua_pushnil(L);
  if (c->ready_.empty()) {
    // The peer may have taken back what woke the task, or there is a refusal.
    if (c->is_open()) {
      lua_pushboolean(L, 0);
    } else {
      lua_pushnil(L);
    }
    return 2;
  }
  auto* box = Class<RequestBox>::push(L, c->ready_.front());
  c->ready_.pop_front();
  const std::string& head = box->request->head();
  lua_pushlstring(L, head.data(), head.size());
  return 3;
}

int Connection::refusal(lua_State* L) {
  if (refusals_.empty()) return 0;
  const Refusal& r = refusals_.front();
  lua_pushinteger(L, r.status);
  lua_pushinteger(L, static_cast<lua_Integer>(r.bytes));
  lua_pushlstring(L, r.line.data(), r.line.size());
  refusals_.pop_front();
  return 3;
}

void Connection::stop() {
  if (server_->is_stopped) linger_ms = kLastLingerMs;
  drain();
}

void Connection::input_ended(const Failure&) {
  for (Exchange* e = first(); e; e = next(e)) {
    auto* r = static_cast<Request*>(e);
    r->peer_ended_ = true;
    r->body_point_.wake();
    r->end_point_.wake();
  }
}

void Connection::over() {
  ready_.clear();
  point_.wake();
}

// Sees to the deadlines that hold for the connection as a whole.
void Connection::changed() {
  if (exchanges() > 0) {
    idle_deadline_ = 0;
  } else if (idle_deadline_ == 0 && server_->options.idle_ms > 0) {
    idle_deadline_ = now() + server_->options.idle_ms;
    watch(idle_deadline_);
  }
  if (!is_blocked()) {
    block_deadline_ = 0;
  } else if (block_deadline_ == 0 && server_->options.write_ms > 0) {
    block_deadline_ = now() + server_->options.write_ms;
    pending_ = transport()->pending();
    watch(block_deadline_);
  }
}

void Connection::tick(std::uint64_t time) {
  if (block_deadline_ != 0 && block_deadline_ <= time) {
    std::size_t before = std::exchange(pending_, transport()->pending());
    if (pending_ + kLeastWritten > before) return close();
    block_deadline_ = now() + server_->options.write_ms;
  }
  if (idle_deadline_ != 0 && idle_deadline_ <= time) {
    idle_deadline_ = 0;
    terminate(NGHTTP2_NO_ERROR);
  }
  std::uint64_t earliest = UINT64_MAX;
  for (Exchange *e = first(), *following; e; e = following) {
    following = next(e);
    earliest = std::min(earliest, static_cast<Request*>(e)->check_deadlines(time));
  }
  if (idle_deadline_ != 0) earliest = std::min(earliest, idle_deadline_);
  if (block_deadline_ != 0) earliest = std::min(earliest, block_deadline_);
  if (earliest == UINT64_MAX) return;
  watch(earliest <= now() ? now() + 1 : std::max(earliest, now() + kTickMs));
}

bool Connection::allow_frame() {
  std::uint64_t passed = now() - std::exchange(allowance_time_, now());
  allowance_ += static_cast<double>(passed) * kAllowedPerSecond / 1e3;
  allowance_ = std::min(allowance_, kAllowance) - 1;
  return allowance_ >= 0;
}

}  // namespace rille::http2
