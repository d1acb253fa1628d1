// Responses of HTTP/2 servers, and the time that they and their requests may take.
#include <algorithm>

#include "http2_server.h"

namespace rille::http2 {

namespace {

constexpr std::size_t kMostDrained = 65536;   // of a body that nobody wanted
constexpr std::size_t kMostUnsent = 65536;    // before whoever sends has to wait
constexpr std::size_t kFewUnsent = 16384;     // and when he goes on
constexpr std::size_t kLeastWritten = 65536;  // within the limit for writing, by a slow peer

int push_taken(lua_State* L, bool taken) {
  lua_pushnil(L);
  lua_pushboolean(L, taken);
  return 2;
}

}  // namespace

// ---- the response -------------------------------------------------------------------------------

void Request::append_head(Fields* to, const http1::ResponseHead& head, int flags) const {
  to->clear();
  if (head.status == 200) {
    to->add(":status", "200");
  } else {
    to->add_number(":status", static_cast<std::uint64_t>(head.status));
  }
  if (!head.content_type.empty()) to->add("content-type", head.content_type);
  if (http1::may_have_body(head.status) && head.framing == http1::ResponseHead::kLength) {
    to->add_number("content-length", head.length);
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
  if (!taken_) {  // nor will it be
    std::string().swap(head_);
    std::string().swap(body_);
  }
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

}  // namespace rille::http2
