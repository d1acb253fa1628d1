#include "http2_session.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace rille::http2 {

namespace {

constexpr std::size_t kPiece = 65536;       // bytes of frames put out at once
constexpr std::size_t kRoom = 20480;        // for what may come on top: a frame and its head
constexpr std::size_t kMostKept = 16384;    // capacity that a buffer keeps
constexpr std::size_t kDirect = 32768;      // from here on it is worth to send without a copy
constexpr std::size_t kMostHead = 1 << 24;  // bytes of a head that is sent
constexpr std::size_t kMostAcks = 1000;     // for a peer that does not read them

std::string_view view(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace

// ---- one stream ---------------------------------------------------------------------------------

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

// ---- what nghttp2 tells -------------------------------------------------------------------------

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

  static nghttp2_session_callbacks* make() {
    nghttp2_session_callbacks* c = nullptr;
    if (nghttp2_session_callbacks_new(&c) != 0) throw std::bad_alloc();
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(c, invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, frame);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(c, not_sent);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, invalid_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, chunk);
    nghttp2_session_callbacks_set_on_frame_send_callback(c, sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, stream_closed);
    nghttp2_session_callbacks_set_send_data_callback(c, write);
    return c;
  }

  static nghttp2_data_provider provider(Exchange* e) {
    nghttp2_data_provider p;
    p.source.ptr = e;
    p.read_callback = read;
    return p;
  }
};

namespace {

nghttp2_option* make_option() {
  nghttp2_option* o = nullptr;
  if (nghttp2_option_new(&o) != 0) throw std::bad_alloc();
  nghttp2_option_set_no_auto_window_update(o, 1);
  nghttp2_option_set_no_closed_streams(o, 1);
  nghttp2_option_set_max_outbound_ack(o, kMostAcks);
  nghttp2_option_set_max_send_header_block_length(o, kMostHead);
  return o;
}

}  // namespace

// ---- beginning ----------------------------------------------------------------------------------

// A write in progress. Belongs to the transport until it ends.
struct Session::Sending final : Transport::Writer {
  explicit Sending(Session* s) : session(s) {}
  Session* session;  // null once that is closed

  void written(const Failure& failure) override {
    std::unique_ptr<Sending> self(this);
    if (!session) return;
    session->sending_ = nullptr;
    if (failure) session->broken_ = true;
    // Not here, inside of the transport.
    session->flush_later();
  }
};

Session::Session(uv_loop_t* loop, std::unique_ptr<Transport> transport, const Options& options)
    : loop_(loop),
      transport_(std::move(transport)),
      flusher_(new uv_prepare_t),
      timer_(new uv_timer_t),
      is_server_(options.is_server) {
  uv_prepare_init(loop, flusher_.get());
  uv_timer_init(loop, timer_.get());
  flusher_->data = timer_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(flusher_.get()));
  uv_unref(reinterpret_cast<uv_handle_t*>(timer_.get()));

  // Both are the same for all, and only read.
  static nghttp2_session_callbacks* const kCallbacks = SessionCallbacks::make();
  static nghttp2_option* const kOption = make_option();
  auto* make = is_server_ ? nghttp2_session_server_new2 : nghttp2_session_client_new2;
  if (make(&session_, kCallbacks, this, kOption) != 0) throw std::bad_alloc();

  std::vector<nghttp2_settings_entry> settings;
  settings.push_back({NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options.stream_window});
  if (is_server_) {
    settings.push_back({NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options.streams});
    settings.push_back({NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1});
  } else {
    settings.push_back({NGHTTP2_SETTINGS_ENABLE_PUSH, 0});
  }
  if (options.head_bytes > 0) {
    settings.push_back({NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options.head_bytes});
  }
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                        static_cast<std::int32_t>(options.window));
}

void Session::begin(std::string_view input) {
  flush_later();
  if (!input.empty()) take(input.data(), input.size());
  if (transport_) transport_->read(this);
}

// ---- the end ------------------------------------------------------------------------------------

Session::~Session() {
  silent_ = true;
  close();
}

void Session::close() {
  if (!transport_) return;
  std::unique_ptr<Transport> transport = std::move(transport_);
  if (sending_) std::exchange(sending_, nullptr)->session = nullptr;
  while (first_) release(first_, NGHTTP2_CANCEL);
  nghttp2_session_del(std::exchange(session_, nullptr));
  flusher_.reset();
  timer_.reset();
  transport.reset();
  if (!silent_) over();
}

void Session::drain() {
  if (draining_ || !transport_) return;
  draining_ = true;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                        nullptr, 0);
  flush_later();
}

void Session::terminate(std::uint32_t code) {
  if (terminated_ || !transport_) return;
  terminated_ = draining_ = true;
  nghttp2_session_terminate_session(session_, code);
  flush_later();
}

// Closing while bytes are still to be read would reset the connection, and the peer might lose what
// was sent last. So it is told that nothing follows, and given time to close its end.
void Session::linger() {
  if (linger_until_ != 0) return;
  bool nothing_left = transport_->pending() == 0 && !transport_->needs_shutdown();
  if (ended_ && nothing_left) return close();
  linger_until_ = now() + linger_ms;
  watch(linger_until_);
  if (!ended_) return transport_->shutdown(nullptr);
  // Nothing more will come, so the end of this side is the end: see flush().
  auto op = std::make_unique<Sending>(this);
  sending_ = op.get();
  transport_->shutdown(op.release());
}

void Session::finish_if_over() {
  if (sending_) return;
  if (linger_until_ != 0) {
    if (ended_) close();
    return;
  }
  bool nothing_to_do =
      nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0;
  if (nothing_to_do || (ended_ && count_ == 0)) linger();
}

void Session::watch(std::uint64_t deadline) {
  if (deadline >= due_ || !timer_) return;
  due_ = deadline;
  std::uint64_t now = this->now();
  uv_timer_start(
      timer_.get(), [](uv_timer_t* t) { static_cast<Session*>(t->data)->expire(); },
      deadline > now ? deadline - now : 0, 0);
}

// If Lua held the loop, what is missing may have come and not been read. So what is due is looked
// at twice, with a poll in between: `tick` is told the time of the tick before.
void Session::expire() {
  std::uint64_t before = std::exchange(last_tick_, now());
  due_ = UINT64_MAX;
  if (linger_until_ != 0) {
    if (linger_until_ <= last_tick_) return close();
    return watch(linger_until_);
  }
  tick(before);
}

// ---- exchanges ----------------------------------------------------------------------------------

void Session::adopt(Exchange* e, std::shared_ptr<Exchange> keep, std::int32_t id) {
  e->keep_ = std::move(keep);
  e->session_ = this;
  e->id_ = id;
  e->next_ = first_;
  if (first_) first_->prev_ = e;
  first_ = e;
  ++count_;
}

void Session::release(Exchange* e, std::uint32_t code) {
  std::shared_ptr<Exchange> keep = std::move(e->keep_);
  (e->prev_ ? e->prev_->next_ : first_) = e->next_;
  if (e->next_) e->next_->prev_ = e->prev_;
  e->next_ = e->prev_ = nullptr;
  e->session_ = nullptr;
  --count_;
  if (e->refused_ && code == 0) code = NGHTTP2_PROTOCOL_ERROR;
  e->closed(code);
}

void Session::refuse(Exchange* e, std::uint32_t code) {
  e->refused_ = true;
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, e->id_, code);
}

bool Session::request(std::shared_ptr<Exchange> exchange, Fields* fields, bool ends) {
  if (!is_usable()) return false;
  const auto& all = fields->all();
  nghttp2_data_provider body = SessionCallbacks::provider(exchange.get());
  std::int32_t id = nghttp2_submit_request(session_, nullptr, all.data(), all.size(),
                                           ends ? nullptr : &body, exchange.get());
  if (id < 0) return false;
  exchange->finished_ = ends;
  Exchange* raw = exchange.get();
  adopt(raw, std::move(exchange), id);
  flush_later();
  return true;
}

void Session::respond(Exchange* exchange, Fields* fields, bool ends) {
  if (!exchange->session_) return;
  const auto& all = fields->all();
  nghttp2_data_provider body = SessionCallbacks::provider(exchange);
  nghttp2_submit_response(session_, exchange->id_, all.data(), all.size(), ends ? nullptr : &body);
  if (ends) exchange->finished_ = true;
  flush_later();
}

void Session::inform(Exchange* exchange, Fields* fields) {
  if (!exchange->session_) return;
  const auto& all = fields->all();
  nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, exchange->id_, nullptr, all.data(),
                         all.size(), nullptr);
  flush_later();
}

std::uint32_t Session::most_streams() const {
  return session_ ? nghttp2_session_get_remote_settings(session_,
                                                        NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
                  : 0;
}

// ---- bytes that come ----------------------------------------------------------------------------

void Session::received(const char* data, std::size_t size) {
  heard_at_ = now();
  if (linger_until_ == 0) take(data, size);
}

void Session::take(const char* data, std::size_t size) {
  ssize_t n = nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(data), size);
  if (n < 0) {
    // nghttp2 takes nothing more; the peer is still told why.
    bool is_flood = n == NGHTTP2_ERR_FLOODED || n == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS;
    terminate(is_flood ? NGHTTP2_ENHANCE_YOUR_CALM : NGHTTP2_PROTOCOL_ERROR);
  }
  flush_later();
  changed();
}

void Session::ended(const Failure& failure) {
  ended_ = true;
  if (failure.status != UV_EOF) {
    input_ended(failure);
    return close();
  }
  input_ended(failure);
  if (transport_) flush_later();
}

// ---- bytes that go ------------------------------------------------------------------------------

void Session::flush_later() {
  if (scheduled_ || !flusher_) return;
  scheduled_ = true;
  uv_prepare_start(flusher_.get(), [](uv_prepare_t* p) {
    uv_prepare_stop(p);
    auto* self = static_cast<Session*>(p->data);
    self->scheduled_ = false;
    self->flush();
  });
}

void Session::flush() {
  if (!transport_) return;
  if (broken_) return close();
  while (!sending_ && linger_until_ == 0) {
    out_.clear();
    while (out_.size() < kPiece) {
      const std::uint8_t* data = nullptr;
      ssize_t n = nghttp2_session_mem_send(session_, &data);
      if (n < 0) return close();
      if (n == 0) break;
      out_.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(n));
    }
    if (out_.empty()) break;
    written_ += out_.size();
    uv_buf_t buffer = uv_buf_init(out_.data(), static_cast<unsigned>(out_.size()));
    ssize_t n = transport_->try_write(&buffer, 1);
    broken_ = n < 0;
    if (broken_) return close();
    auto done = static_cast<std::size_t>(n);
    if (done == out_.size()) continue;
    auto op = std::make_unique<Sending>(this);
    sending_ = op.get();
    transport_->write(out_.substr(done), op.release());
  }
  if (out_.capacity() > kMostKept) std::string().swap(out_);
  finish_if_over();
  if (transport_) changed();
}

}  // namespace rille::http2
