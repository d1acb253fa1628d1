// A stream of HTTP/2, as far as it is the same for servers and clients.
#include <utility>

#include "http2_session.h"

namespace rille::http2 {

namespace {

constexpr std::size_t kDirect = 32768;  // from here on it is worth to send without a copy

}  // namespace

void Exchange::send(std::string_view data, bool ends) {
  if (!session_ || finished_) return;
  finished_ = ends;
  if (std::exchange(waits_, false)) nghttp2_session_resume_data(session_->session_, id_);
  if (data.size() < kDirect || unsent() > 0 || session_->is_blocked()) {
    out_.append(data);
    return session_->flush_later();
  }
  direct_ = data;
  session_->flush();
  out_.assign(direct_.substr(sent_));
  sent_ = 0;
  direct_ = {};
}

void Exchange::finish(Fields trailers) {
  if (!session_ || finished_) return;
  finished_ = true;
  trailers_ = std::move(trailers);
  if (std::exchange(waits_, false)) nghttp2_session_resume_data(session_->session_, id_);
  session_->flush_later();
}

void Exchange::reset(std::uint32_t code) {
  if (!session_) return;
  nghttp2_submit_rst_stream(session_->session_, NGHTTP2_FLAG_NONE, id_, code);
  session_->flush_later();
}

void Exchange::give_window(std::size_t size) {
  if (!session_ || size == 0) return;
  nghttp2_session_consume_stream(session_->session_, id_, size);
  if (nghttp2_session_want_write(session_->session_)) session_->flush_later();
}

}  // namespace rille::http2
