// Connections of HTTP/1 servers: responses.
#include "http1_sending.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "stream.h"

namespace rille::http1 {

namespace {

constexpr std::size_t kMostDrained = 65536;  // of a body that nobody wanted
// The same behind a response in parts: what is missing at its head may be read before its end.
constexpr std::size_t kMostDrainedLater = 262144;
constexpr std::size_t kCopied = 16384;  // bodies up to that go out in one piece

int push_taken(lua_State* L, bool taken) {
  lua_pushnil(L);
  lua_pushboolean(L, taken);
  return 2;
}

}  // namespace

// ---- writing ------------------------------------------------------------------------------------

void Connection::Sending::written(const Failure& failure) {
  failed = static_cast<bool>(failure);
  if (connection) {
    connection->sending_ = nullptr;
    connection->deadline_ = 0;
    if (failed) connection->broken_ = true;
    // Nobody waits for a shutdown but the connection, which ends with it. Not here, inside of the
    // transport: its deadline has come.
    if (!waiter && connection->state_ == kLingering) connection->set_deadline(1);
  }
  if (waiter) {
    rille_complete(std::exchange(waiter, nullptr), push, this);
  } else {
    delete this;
  }
}

int Connection::Sending::push(lua_State* L, void* data) {
  std::unique_ptr<Sending> self(static_cast<Sending*>(data));
  return L ? push_taken(L, !self->failed) : 0;
}

// Writes, and waits if the peer is slow; nil and whether it has taken all.
int Connection::write(lua_State* L, const uv_buf_t* buffers, unsigned count) {
  std::size_t total = 0;
  for (unsigned i = 0; i < count; ++i) total += buffers[i].len;
  ssize_t n = sending_ ? 0 : transport_->try_write(buffers, count);
  if (n < 0) {
    cut();
    return push_taken(L, false);
  }
  auto skip = static_cast<std::size_t>(n);
  if (skip == total) return push_taken(L, true);
  std::string rest;
  rest.reserve(total - skip);
  for (unsigned i = 0; i < count; ++i) {
    std::size_t skipped = std::min(skip, buffers[i].len);
    rest.append(buffers[i].base + skipped, buffers[i].len - skipped);
    skip -= skipped;
  }
  return wait_for_write(L, std::move(rest));
}

int Connection::wait_for_write(lua_State* L, std::string rest) {
  // Of several tasks that send, the last one's write is the last to end.
  if (sending_) sending_->connection = nullptr;
  auto op = std::make_unique<Sending>(this);
  // Whoever is cancelled meanwhile gives up waiting, not writing.
  rille_waiter* waiter = op->waiter = rille_prepare(L, nullptr, nullptr);
  sending_ = op.get();
  set_deadline(server_->options_.write_ms);
  transport_->write(std::move(rest), op.release());
  if (state_ != kClosed) pending_ = transport_->pending();
  return rille_park(L, waiter);
}

// ---- responses ----------------------------------------------------------------------------------

// Whether the connection ends with this response.
bool Connection::answers_close(int flags) {
  if (closing_ || ended_ || (flags & kClose) || !parser_.keep_alive()) return true;
  if (requests_ == server_->options_.requests) return true;
  if (parser_.is_complete()) return false;
  // A client that was not told to go on may send its body or not. And what is too long to be
  // drained is not begun with.
  return parser_.has_failed() || (parser_.expects_continue() && parser_.body_received() == 0) ||
         parser_.content_length() > parser_.body_received() + most_drained_;
}

int Connection::respond(lua_State* L, const ResponseHead& given, std::string_view body, int flags) {
  if (state_ != kHandling) return push_taken(L, false);  // it was closed meanwhile
  deadline_ = 0;
  ++answered_;
  begun_ = true;
  body_point_.wake();
  ResponseHead head = given;
  most_drained_ = kMostDrained;
  closing_ = answers_close(flags);
  if (closing_) {
    head.connection = "close";
  } else if (parser_.is_http_1_0()) {
    head.connection = "keep-alive";
  }
  if (!(flags & kNoDate)) head.date = server_->date_.text();
  head.length = body.size();
  bool has_body = may_have_body(head.status) && !parser_.is_head_request();
  if (!has_body) body = {};

  std::string& out = server_->out_;
  out.clear();
  append(&out, head);
  if (body.size() <= kCopied) {
    out.append(body);
    body = {};
  }
  uv_buf_t buffers[] = {buffer_of(out), buffer_of(body)};
  return write(L, buffers, body.empty() ? 1 : 2);
}

bool Connection::start(const ResponseHead& given, int flags) {
  if (state_ != kHandling || started_) return false;
  ResponseHead head = given;
  started_ = true;
  sends_body_ = may_have_body(head.status) && !parser_.is_head_request();
  if (head.framing == ResponseHead::kChunked && parser_.is_http_1_0()) {
    head.framing = ResponseHead::kToEnd;
    if (sends_body_) flags |= kClose;
  }
  framing_ = head.framing;
  left_ = head.length;
  most_drained_ = kMostDrainedLater;
  closes_ = answers_close(flags);
  if (closes_) {
    head.connection = "close";
  } else if (parser_.is_http_1_0()) {
    head.connection = "keep-alive";
  }
  if (!(flags & kNoDate)) head.date = server_->date_.text();
  kept_.clear();
  append(&kept_, head);
  return sends_body_;
}

bool Connection::take_back() {
  if (begun_ || state_ != kHandling) return false;
  kept_.clear();
  started_ = false;
  framing_ = ResponseHead::kLength;
  return true;
}

// Sends what nobody has to wait for.
void Connection::put_out(std::string_view data) {
  uv_buf_t buffer = buffer_of(data);
  ssize_t n = sending_ ? 0 : transport_->try_write(&buffer, 1);
  if (n < 0) return cut();
  auto sent = static_cast<std::size_t>(n);
  if (sent < data.size()) transport_->write(std::string(data.substr(sent)), nullptr);
}

void Connection::put_out_kept() {
  std::string out = std::exchange(kept_, {});
  put_out(out);
  if (state_ == kClosed || out.capacity() > 2 * kCopied) return;
  out.clear();
  kept_ = std::move(out);  // its memory
}

void Connection::flush() {
  if (state_ != kHandling || !started_ || kept_.empty()) return;
  closing_ = closes_;
  begun_ = true;
  put_out_kept();
}

void Connection::flush_begun() {
  if (begun_) flush();
}

int Connection::send(lua_State* L, std::string_view data) {
  if (state_ != kHandling || !started_ || !sends_body_) return push_taken(L, false);
  deadline_ = 0;
  if (data.empty()) {
    flush();
    return push_taken(L, state_ == kHandling);
  }
  begun_ = true;
  closing_ = closes_;
  std::array<char, 20> size_line;
  std::string_view before, behind;
  if (framing_ == ResponseHead::kChunked) {
    char* end = std::to_chars(size_line.data(), size_line.data() + 16, data.size(), 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    before = {size_line.data(), static_cast<std::size_t>(end - size_line.data())};
    behind = "\r\n";
  } else if (framing_ == ResponseHead::kLength) {
    if (data.size() > left_) {
      cut();
      return push_taken(L, false);
    }
    left_ -= data.size();
  }
  // While the peer is slow, whoever sends has to wait for it.
  if (!sending_ && kept_.size() + data.size() <= kCopied && transport_->pending() == 0) {
    kept_.append(before).append(data).append(behind);
    server_->flush_later(this);
    return push_taken(L, true);
  }
  std::string kept = std::exchange(kept_, {});
  std::array<uv_buf_t, 4> buffers;
  unsigned count = 0;
  for (std::string_view part : {std::string_view(kept), before, data, behind}) {
    if (!part.empty()) buffers[count++] = buffer_of(part);
  }
  return write(L, buffers.data(), count);
}

ssize_t Connection::send_file(const CachedFile& file, off_t at, std::size_t size) {
  if (state_ != kHandling || !started_ || !sends_body_) return -1;
  // What is encrypted, or stands behind something else, goes another way.
  bool is_plain = framing_ == ResponseHead::kLength && size <= left_ && !sending_ &&
                  transport_->pending() == 0 && !transport_->needs_shutdown();
  uv_stream_t* handle = transport_->handle();
  uv_os_fd_t fd;
  if (!is_plain || !handle || uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &fd) != 0) return 0;
  deadline_ = 0;
  if (!kept_.empty()) {
    std::string head = std::exchange(kept_, {});
    closing_ = closes_;
    begun_ = true;
    ssize_t n = ::send(fd, head.data(), head.size(), MSG_MORE | MSG_NOSIGNAL | MSG_DONTWAIT);
    auto sent = static_cast<std::size_t>(std::max<ssize_t>(n, 0));
    if (sent < head.size()) {
      transport_->write(head.substr(sent), nullptr);
      return 0;
    }
  }
  ssize_t n = file.send(fd, at, size);
  if (n < 0) {
    cut();
    return -1;
  }
  left_ -= static_cast<std::uint64_t>(n);
  return n;
}

bool Connection::finish(std::string_view trailers) {
  if (state_ != kHandling || !started_) return true;
  if (sends_body_ && framing_ == ResponseHead::kLength && left_ > 0) return false;
  started_ = false;
  begun_ = true;
  closing_ = closes_;
  ++answered_;
  body_point_.wake();
  if (sends_body_ && framing_ == ResponseHead::kChunked) {
    kept_.append("0\r\n").append(trailers).append("\r\n");
  }
  if (!kept_.empty()) put_out_kept();
  return true;
}

int Connection::upgrade(lua_State* L, std::string_view fields) {
  if (state_ != kHandling || started_ || !parser_.is_complete()) {
    const char* why = state_ != kHandling || started_ ? "the request has been answered"
                                                      : "the request's body has not been read";
    rille_push_error(L, "InvalidStateError", nullptr, (std::string("upgrade: ") + why).c_str());
    return 1;
  }
  std::string out("HTTP/1.1 101 Switching Protocols\r\n");
  out.append(fields).append("\r\n");
  transport_->pause();
  put_out(out);
  lua_pushnil(L);
  // If the peer is gone already, the stream is a closed one.
  auto* stream = Class<Stream>::push(L, std::move(transport_), peer_, true);
  stream->put_back(input_.substr(parsed_));
  close();
  return 2;
}

}  // namespace rille::http1
