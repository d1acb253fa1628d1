// Connections of HTTP/1 servers: bytes that arrive, and requests made of them.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "http1_sending.h"
#include "http1_server.h"

namespace rille::http1 {

namespace {

constexpr std::uint64_t kLingerMs = 2000;
constexpr std::uint64_t kLastLingerMs = 200;  // once the server is closing
constexpr std::size_t kMostKept = 65536;      // of what comes before its time
constexpr std::size_t kLeastWritten = 65536;  // within the limit for writing, by a slow peer
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

}  // namespace

Connection::Connection(std::shared_ptr<Server> server, std::unique_ptr<Transport> transport,
                       std::string peer)
    : server_(std::move(server)),
      transport_(std::move(transport)),
      parser_(HTTP_REQUEST, server_->options_.limits),
      peer_(std::move(peer)),
      may_change_(server_->options_.http2) {
  server_->join(this);
  set_deadline(server_->options_.header_ms);
  transport_->read(this);
}

Connection::~Connection() { close(); }

void Connection::close() {
  if (state_ == kClosed) return;
  // What was sent arrives, whatever went wrong behind it.
  if (begun_ && transport_ && !kept_.empty()) {
    std::string out = std::exchange(kept_, {});
    uv_buf_t buffer;
    buffer.base = out.data();
    buffer.len = out.size();
    if (!sending_) transport_->try_write(&buffer, 1);
  }
  state_ = kClosed;
  deadline_ = 0;
  if (sending_) std::exchange(sending_, nullptr)->connection = nullptr;
  transport_.reset();
  server_->leave(this);
  body_point_.wake();
  request_point_.wake();
  end_point_.wake();
}

std::unique_ptr<Transport> Connection::release(std::string* input) {
  if (state_ == kClosed) return nullptr;
  *input = input_.substr(parsed_);
  transport_->pause();
  auto transport = std::move(transport_);
  close();
  return transport;
}

void Connection::cut() {
  if (state_ != kClosed && framing_ == ResponseHead::kToEnd) transport_->abort();
  close();
}

// ---- bytes that arrive --------------------------------------------------------------------------

void Connection::received(const char* data, std::size_t size) {
  std::size_t used = 0;
  switch (state_) {
    case kReading:
      used = may_change_ ? match_preface(data, size) : parse(data, size);
      break;
    case kHttp2:
      break;
    case kReady:
    case kHandling:
      used = take_body(data, size);
      break;
    case kDraining:
      used = drop_body(data, size);
      break;
    case kLingering:
    case kClosed:
      return;
  }
  if (used == size || state_ == kLingering || state_ == kClosed) return;
  // The rest belongs to a later request.
  input_.append(data + used, size - used);
  if (input_.size() > kMostKept) hold_back();
  if (state_ == kDraining) begin_next();
}

// What a client of HTTP/2 begins with is no request to a parser of HTTP/1.
std::size_t Connection::match_preface(const char* data, std::size_t size) {
  std::string_view rest = kPreface.substr(preface_);
  std::size_t common = std::min(size, rest.size());
  if (std::memcmp(data, rest.data(), common) != 0) {
    may_change_ = false;
    if (preface_ > 0) parse(kPreface.data(), preface_);
    return state_ == kReading ? parse(data, size) : size;
  }
  preface_ = static_cast<std::uint8_t>(preface_ + common);
  if (preface_ < kPreface.size()) return size;
  state_ = kHttp2;
  deadline_ = 0;
  input_.assign(kPreface);
  request_point_.wake();
  return common;
}

// Looks for the head of a request; returns how many bytes belong to it.
std::size_t Connection::parse(const char* data, std::size_t size) {
  bool had_begun = parser_.has_begun();
  std::size_t used = parser_.feed(data, size);
  if (parser_.has_head()) {
    state_ = kReady;
    deadline_ = 0;
    ++requests_;
    request_point_.wake();
  } else if (parser_.has_failed()) {
    refuse(parser_.refusal(), parser_.fault());
  } else if (!had_begun && parser_.has_begun()) {
    // Not moved by what follows: who sends a byte now and then is late all the same.
    set_deadline(server_->options_.header_ms);
  }
  return used;
}

std::size_t Connection::take_body(const char* data, std::size_t size) {
  if (parser_.has_failed()) return size;
  std::size_t used = parser_.is_complete() ? 0 : parser_.feed(data, size);
  bool enough = parser_.is_complete() || parser_.has_failed() || parser_.body().size() > most_body_;
  if (enough) body_point_.wake();
  bool kept = !body_point_.is_taken() && !parser_.is_complete();
  if (kept && parser_.body().size() > kMostKept) hold_back();
  return used;
}

std::size_t Connection::drop_body(const char* data, std::size_t size) {
  std::size_t used = parser_.feed(data, size);
  parser_.discard_body();
  drained_ += used;
  if (parser_.has_failed() || drained_ > most_drained_) {
    linger();
  } else if (parser_.is_complete() && used == size) {
    begin_next();
  }
  return used;
}

void Connection::hold_back() {
  if (held_ || ended_) return;
  held_ = true;
  transport_->pause();
}

void Connection::go_on_reading() {
  if (!held_) return;
  held_ = false;
  transport_->read(this);
}

// Begins with the next request, with what has come of it already.
void Connection::begin_next() {
  parser_.next();
  state_ = kReading;
  if (closing_) return linger();
  set_deadline(server_->options_.idle_ms);
  if (!input_.empty()) {
    parsed_ += parse(input_.data() + parsed_, input_.size() - parsed_);
    if (state_ == kLingering || state_ == kClosed) return;
    if (parsed_ == input_.size()) {
      input_.clear();
      parsed_ = 0;
    }
  }
  if (ended_ && state_ == kReading) return linger();
  if (input_.empty()) go_on_reading();
}

void Connection::ended(const Failure& failure) {
  ended_ = true;
  broken_ = failure.status != UV_EOF;
  if (state_ == kReady || state_ == kHandling || state_ == kHttp2) {
    // Half-closed connections get their answer; with others, writing it fails.
    body_point_.wake();
    end_point_.wake();
  } else if (state_ == kLingering || broken_) {
    close();
  } else {
    linger();
  }
}

void Connection::set_deadline(std::uint64_t ms) {
  deadline_ = ms == 0 ? 0 : now() + ms;
  if (deadline_ != 0) server_->watch(deadline_);
}

void Connection::expire() {
  deadline_ = 0;
  if (state_ == kReading && parser_.has_begun()) {
    refuse(408, "the header took too long");
  } else if (state_ != kHandling) {
    close();
  } else if (body_point_.is_taken()) {
    body_status_ = 408;
    body_fault_ = "the body took too long";
    body_point_.wake();
  } else if (sending_) {
    // A long answer may take its time, as long as it goes on.
    std::size_t before = std::exchange(pending_, transport_->pending());
    if (pending_ + kLeastWritten <= before) {
      set_deadline(server_->options_.write_ms);
    } else {
      close();
    }
  }
}

// ---- what the task asks for ---------------------------------------------------------------------

int Connection::next_request(lua_State* L) {
  if (state_ == kHandling) {
    if (closing_) {
      linger();
    } else if (parser_.is_complete()) {
      begin_next();
    } else {
      state_ = kDraining;
      drained_ = 0;
      parser_.discard_body();
      set_deadline(server_->options_.body_ms);
      if (ended_) {
        linger();
      } else {
        go_on_reading();
      }
    }
  }
  bool is_known = state_ == kReady || state_ == kHttp2 || state_ == kClosed || refused_ != 0;
  if (is_known) return push_request(L, this);
  return request_point_.wait(L, push_request, this);
}

int Connection::push_request(lua_State* L, void* self) {
  if (!L) return 0;
  auto* c = static_cast<Connection*>(self);
  lua_pushnil(L);
  if (c->state_ != kReady) {
    lua_pushnil(L);
    lua_pushboolean(L, c->state_ == kHttp2);
    return 3;
  }
  const std::string& head = c->parser_.head();
  lua_pushlstring(L, head.data(), head.size());
  c->state_ = kHandling;
  c->body_status_ = 0;
  c->body_fault_ = nullptr;
  c->body_waited_ = 0;
  c->framing_ = ResponseHead::kLength;
  c->started_ = c->begun_ = false;
  return 2;
}

// Whether there is no use in waiting for more of the body.
bool Connection::is_body_known(std::size_t most) const {
  return parser_.is_complete() || parser_.has_failed() || ended_ || body_status_ != 0 ||
         state_ != kHandling || parser_.content_length() > most;
}

void Connection::expect_body(std::uint64_t ms) {
  bool may_ask = !started_ && parser_.expects_continue() && parser_.body_received() == 0;
  if (may_ask) transport_->write("HTTP/1.1 100 Continue\r\n\r\n", nullptr);
  body_since_ = now();
  set_deadline(ms);
  go_on_reading();
}

int Connection::read_body(lua_State* L, std::size_t most) {
  most_body_ = most;
  waiting_ = answered_;
  if (is_body_known(most) || parser_.body().size() > most) return push_body(L);
  expect_body(server_->options_.body_ms);
  return body_point_.wait(
      L,
      [](lua_State* l, void* self) { return l ? static_cast<Connection*>(self)->push_body(l) : 0; },
      this);
}

int Connection::read_chunk(lua_State* L) {
  most_body_ = 0;
  waiting_ = answered_;
  if (!parser_.body().empty() || is_body_known(SIZE_MAX)) return push_chunk(L);
  // What waiting for all parts together may take, with a millisecond more for each byte: a large
  // upload goes on for as long as its sender does not dawdle.
  std::uint64_t most = server_->options_.body_ms;
  if (most > 0) {
    most += parser_.body_received();
    most = most > body_waited_ ? most - body_waited_ : 1;
  }
  expect_body(most);
  return body_point_.wait(
      L,
      [](lua_State* l, void* self) {
        return l ? static_cast<Connection*>(self)->push_chunk(l) : 0;
      },
      this);
}

// Pushes why there is no body, or no more of it; or nothing, if all is well.
int Connection::push_fault(lua_State* L, std::size_t most) {
  lua_pushnil(L);
  lua_pushnil(L);
  // Another task may have answered the request after this one was woken.
  if (waiting_ != answered_ || state_ != kHandling) return 2;
  int status = body_status_;
  const char* fault = body_fault_;
  if (status == 0 && (parser_.content_length() > most || parser_.body().size() > most)) {
    status = 413;
    fault = "body too large";
  } else if (status == 0 && parser_.has_failed()) {
    status = parser_.refusal();
    fault = parser_.fault();
  } else if (status == 0 && ended_ && !parser_.is_complete()) {
    status = 400;
    fault = "the body was cut off";
  }
  if (status == 0) {
    lua_pop(L, 2);
    return 0;
  }
  closing_ = true;
  lua_pushinteger(L, status);
  lua_pushstring(L, fault);
  return 4;
}

int Connection::push_body(lua_State* L) {
  deadline_ = 0;
  if (int n = push_fault(L, most_body_)) return n;
  lua_pushnil(L);
  lua_pushlstring(L, parser_.body().data(), parser_.body().size());
  return 2;
}

int Connection::push_chunk(lua_State* L) {
  if (deadline_ != 0) body_waited_ += now() - body_since_;
  deadline_ = 0;
  std::string& body = parser_.body();
  bool is_current = waiting_ == answered_ && state_ == kHandling;
  if (!is_current || body.empty()) {
    if (int n = push_fault(L, SIZE_MAX)) return n;
  }
  lua_pushnil(L);
  lua_pushlstring(L, body.data(), body.size());
  body.clear();
  if (body.capacity() > kMostKept) std::string().swap(body);
  if (!parser_.is_complete()) go_on_reading();
  return 2;
}

int Connection::wait_end(lua_State* L) {
  if (ended_ || state_ == kClosed || end_point_.is_taken()) return push_end(L, this);
  return end_point_.wait(L, push_end, this);
}

int Connection::push_end(lua_State* L, void* self) {
  if (!L) return 0;
  auto* c = static_cast<Connection*>(self);
  lua_pushnil(L);
  if (c->state_ == kClosed || !c->ended_) {
    lua_pushnil(L);
  } else {
    lua_pushboolean(L, !c->broken_);
  }
  return 2;
}

// ---- the end ------------------------------------------------------------------------------------

// Answers what the task shall not hear of, and ends.
void Connection::refuse(int status, const char* fault) {
  std::string body = std::string(reason(status)) + ": " + fault + "\n";
  ResponseHead head;
  head.status = status;
  head.content_type = "text/plain; charset=utf-8";
  head.date = server_->date_.text();
  head.length = body.size();
  head.connection = "close";
  std::string out;
  append(&out, head);
  if (!parser_.is_head_request()) out += body;
  transport_->write(std::move(out), nullptr);
  if (server_->options_.tells_refusals) {
    refused_ = status;
    refused_bytes_ = parser_.is_head_request() ? 0 : body.size();
    request_point_.wake();
  }
  linger();
}

int Connection::refusal(lua_State* L) {
  if (refused_ == 0) return 0;
  lua_pushinteger(L, std::exchange(refused_, 0));
  lua_pushinteger(L, static_cast<lua_Integer>(refused_bytes_));
  std::string_view line = parser_.head();
  line = line.substr(0, line.find_first_of("\r\n"));
  lua_pushlstring(L, line.data(), line.size());
  return 3;
}

// Closing while bytes are still to be read would reset the connection, and the peer might lose the
// response. So it is told that nothing follows, and given time to close its end.
void Connection::linger() {
  if (state_ == kClosed) return;
  if (ended_ && transport_->pending() == 0 && !transport_->needs_shutdown()) return close();
  state_ = kLingering;
  input_.clear();
  parsed_ = 0;
  set_deadline(server_->is_stopped_ ? kLastLingerMs : kLingerMs);
  if (!ended_) {
    transport_->shutdown(nullptr);
    go_on_reading();
    return;
  }
  // Nothing more will come, so the end of this side is the end.
  auto op = std::make_unique<Sending>(this);
  sending_ = op.get();
  transport_->shutdown(op.release());
  if (!sending_) close();
}

// Whether bytes have come that nobody has read yet.
bool Connection::has_unread() {
  uv_os_fd_t fd;
  uv_stream_t* handle = transport_->handle();
  char byte;
  return handle && uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd) == 0 &&
         ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

void Connection::drain() {
  closing_ = true;
  // A request that is on its way is still answered.
  bool idle = state_ == kReading && !parser_.has_begun() && !has_unread();
  if (idle && !transport_->needs_shutdown()) return close();
  if (idle) return linger();
  if (state_ == kDraining || state_ == kLingering) close();
}

}  // namespace rille::http1
