#include "http2_callbacks.h"

#include <algorithm>
#include <new>

namespace rille::http2 {

namespace {

constexpr std::size_t kRoom = 20480;  // for what may come on top: a frame and its head

std::string_view view(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

// A friend of exchanges and sessions.
struct SessionCallbacks {
  static Exchange* exchange(nghttp2_session* session, std::int32_t id) {
    return static_cast<Exchange*>(nghttp2_session_get_stream_user_data(session, id));
  }

  static int begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* data) {
    auto* self = static_cast<Session*>(data);
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    std::int32_t id = frame->hd.stream_id;
    std::shared_ptr<Exchange> e = self->draining_ ? nullptr : self->opened();
    if (!e) {
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id, NGHTTP2_REFUSED_STREAM);
      return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    nghttp2_session_set_stream_user_data(session, id, e.get());
    Exchange* raw = e.get();
    self->adopt(raw, std::move(e), id);
    return 0;
  }

  static int header(nghttp2_session* session, const nghttp2_frame* frame, const std::uint8_t* name,
                    std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                    std::uint8_t, void* data) {
    Exchange* e = exchange(session, frame->hd.stream_id);
    if (!e || e->refused_) return 0;
    if (e->field(view(name, name_size), view(value, value_size))) return 0;
    static_cast<Session*>(data)->refuse(e, NGHTTP2_PROTOCOL_ERROR);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  // nghttp2 would leave such a field out and go on: RFC 9113, section 8.2.1, calls the message
  // malformed.
  static int invalid_header(nghttp2_session* session, const nghttp2_frame* frame,
                            const std::uint8_t*, std::size_t, const std::uint8_t*, std::size_t,
                            std::uint8_t, void* data) {
    Exchange* e = exchange(session, frame->hd.stream_id);
    if (!e) return 0;
    if (!e->refused_) static_cast<Session*>(data)->refuse(e, NGHTTP2_PROTOCOL_ERROR);
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }

  static int frame(nghttp2_session* session, const nghttp2_frame* frame, void* data) {
    auto* self = static_cast<Session*>(data);
    bool ends = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        if (Exchange* e = exchange(session, frame->hd.stream_id); e && !e->refused_) {
          if (!e->head(ends)) self->refuse(e, NGHTTP2_PROTOCOL_ERROR);
        }
        break;
      case NGHTTP2_DATA:
        if (!ends) {
          // Without data, padding or not, it says nothing at all.
          if (frame->hd.length == frame->data.padlen) count(self);
          break;
        }
        if (Exchange* e = exchange(session, frame->hd.stream_id); e && !e->refused_) e->ended();
        break;
      case NGHTTP2_GOAWAY:
        self->goaway_received_ = true;
        break;
      case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) self->has_settings_ = true;
        [[fallthrough]];
      case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) count(self);
        break;
      case NGHTTP2_RST_STREAM:
        if (Exchange* e = exchange(session, frame->hd.stream_id)) e->was_reset_ = true;
        // A client's streams are its own: there cannot be more resets than requests.
        if (self->is_server_) count(self);
        break;
      default:
        break;
    }
    return 0;
  }

  static void count(Session* self) {
    if (!self->terminated_ && !self->allow_frame()) self->terminate(NGHTTP2_ENHANCE_YOUR_CALM);
  }

  static int invalid_frame(nghttp2_session*, const nghttp2_frame*, int, void* data) {
    count(static_cast<Session*>(data));
    return 0;
  }

  static int chunk(nghttp2_session* session, std::uint8_t, std::int32_t id,
                   const std::uint8_t* data, std::size_t size, void*) {
    // One body that nobody reads must not stop the others.
    nghttp2_session_consume_connection(session, size);
    if (Exchange* e = exchange(session, id); e && !e->refused_) e->data(view(data, size));
    return 0;
  }

  static int sent(nghttp2_session* session, const nghttp2_frame* frame, void* data) {
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
      case NGHTTP2_DATA:
        if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
          if (Exchange* e = exchange(session, frame->hd.stream_id)) e->finished();
        }
        break;
      case NGHTTP2_RST_STREAM:
        // Peers can make us send them as well as send them.
        if (static_cast<Session*>(data)->is_server_ &&
            frame->rst_stream.error_code != NGHTTP2_NO_ERROR) {
          count(static_cast<Session*>(data));
        }
        break;
      default:
        break;
    }
    return 0;
  }

  // A head that cannot be sent leaves the peer waiting for ever. A request's peer knows nothing of
  // it: nghttp2 closes the stream, and a reset of it would break the rules.
  static int not_sent(nghttp2_session* session, const nghttp2_frame* frame, int, void* data) {
    bool is_request = !static_cast<Session*>(data)->is_server_;
    if (frame->hd.type != NGHTTP2_HEADERS || is_request) return 0;
    if (Exchange* e = exchange(session, frame->hd.stream_id)) e->reset(NGHTTP2_INTERNAL_ERROR);
    return 0;
  }

  static int stream_closed(nghttp2_session* session, std::int32_t id, std::uint32_t code,
                           void* data) {
    if (Exchange* e = exchange(session, id)) static_cast<Session*>(data)->release(e, code);
    return 0;
  }

  // ---- bodies that are sent ---------------------------------------------------------------------

  static ssize_t read(nghttp2_session* session, std::int32_t id, std::uint8_t*, std::size_t most,
                      std::uint32_t* flags, nghttp2_data_source* source, void*) {
    auto* e = static_cast<Exchange*>(source->ptr);
    std::size_t size = std::min(most, e->unsent());
    if (size == e->unsent()) {
      if (e->finished_) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (!e->trailers_.empty()) {
          *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
          const auto& all = e->trailers_.all();
          nghttp2_submit_trailer(session, id, all.data(), all.size());
        }
      } else if (size == 0) {
        e->waits_ = true;
        return NGHTTP2_ERR_DEFERRED;
      }
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    return static_cast<ssize_t>(size);
  }

  static int write(nghttp2_session*, nghttp2_frame*, const std::uint8_t* head, std::size_t size,
                   nghttp2_data_source* source, void* data) {
    auto* self = static_cast<Session*>(data);
    auto* e = static_cast<Exchange*>(source->ptr);
    constexpr std::size_t kHead = 9;
    if (self->out_.size() >= kPiece) return NGHTTP2_ERR_WOULDBLOCK;
    if (size > kMostKept / 2) self->out_.reserve(kPiece + kRoom);
    self->out_.append(reinterpret_cast<const char*>(head), kHead);
    self->out_.append(e->source().substr(e->sent_, size));
    e->sent_ += size;
    if (e->unsent() == 0 && e->direct_.empty()) {
      e->sent_ = 0;
      if (e->out_.capacity() > kMostKept) {
        std::string().swap(e->out_);
      } else {
        e->out_.clear();
      }
    }
    e->sent();
    return 0;
  }
};

namespace {

nghttp2_session_callbacks* make_callbacks() {
  nghttp2_session_callbacks* c = nullptr;
  if (nghttp2_session_callbacks_new(&c) != 0) throw std::bad_alloc();
  nghttp2_session_callbacks_set_on_begin_headers_callback(c, SessionCallbacks::begin_headers);
  nghttp2_session_callbacks_set_on_header_callback(c, SessionCallbacks::header);
  nghttp2_session_callbacks_set_on_invalid_header_callback(c, SessionCallbacks::invalid_header);
  nghttp2_session_callbacks_set_on_frame_recv_callback(c, SessionCallbacks::frame);
  nghttp2_session_callbacks_set_on_frame_not_send_callback(c, SessionCallbacks::not_sent);
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, SessionCallbacks::invalid_frame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, SessionCallbacks::chunk);
  nghttp2_session_callbacks_set_on_frame_send_callback(c, SessionCallbacks::sent);
  nghttp2_session_callbacks_set_on_stream_close_callback(c, SessionCallbacks::stream_closed);
  nghttp2_session_callbacks_set_send_data_callback(c, SessionCallbacks::write);
  return c;
}

}  // namespace

nghttp2_session_callbacks* session_callbacks() {
  static nghttp2_session_callbacks* const kCallbacks = make_callbacks();
  return kCallbacks;
}

nghttp2_data_provider body_of(Exchange* e) {
  nghttp2_data_provider p;
  p.source.ptr = e;
  p.read_callback = SessionCallbacks::read;
  return p;
}

}  // namespace rille::http2
