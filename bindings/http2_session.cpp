#include "http2_session.h"

#include <utility>

#include "http2_callbacks.h"

namespace rille::http2 {

namespace {

constexpr std::size_t kMostHead = 1 << 24;  // bytes of a head that is sent
constexpr std::size_t kMostAcks = 1000;     // for a peer that does not read them

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

  static nghttp2_option* const kOption = make_option();  // the same for all, and only read
  auto* make = is_server_ ? nghttp2_session_server_new2 : nghttp2_session_client_new2;
  if (make(&session_, session_callbacks(), this, kOption) != 0) throw std::bad_alloc();

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
  nghttp2_data_provider body = body_of(exchange.get());
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
  nghttp2_data_provider body = body_of(exchange);
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
