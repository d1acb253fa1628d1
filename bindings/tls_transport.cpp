#include "tls_transport.h"

#include <utility>

namespace rille::tls {

TlsTransport::~TlsTransport() {
  for (Guard* g = guards_; g; g = g->outer) g->gone = true;
  for (Flight* f : flights_) f->owner = nullptr;
  Failure closed = failure_of(UV_ECANCELED);
  stream_closed();
  for (Queued& q : std::exchange(queue_, {})) {
    if (q.writer) q.writer->written(closed);
  }
  if (shutdown_writer_) std::exchange(shutdown_writer_, nullptr)->written(closed);
}

void TlsTransport::start() {
  Guard guard(this);
  ERR_clear_error();
  ssl_.reset(SSL_new(context_->of(side_)));
  if (!ssl_ || !set_up()) return fail(failure_from_queue(peer_.name));
  if (peer_.limit_ms > 0) limit_handshake();
  shake_hands();
  if (!guard.gone) update_reading();
}

std::string TlsTransport::server_name() const {
  if (side_ == Side::kClient) return peer_.host;
  const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
  return name ? name : "";
}

void TlsTransport::stream_closed() {
  for (Waiting* w : std::exchange(waiting_, {})) {
    w->failure.status = UV_ECANCELED;
    w->failure.kind = "InvalidStateError";
    w->failure.message = "the stream " + peer_.name + " was closed during the TLS handshake";
    wake(w);
  }
}

std::size_t TlsTransport::take_input(char* to, std::size_t size) {
  size = in_.copy(to, size);
  in_.remove_prefix(size);
  return size;
}

void TlsTransport::note_verification(int error, X509* certificate) {
  verification_ = verification_failure(error, certificate, peer_.host, peer_.name);
}

void TlsTransport::note_session(SessionPtr session) {
  if (!peer_.session.empty()) context_->sessions().add(peer_.session, std::move(session));
}

void TlsTransport::start_timer(std::uint64_t ms, uv_timer_cb callback) {
  if (!timer_) {
    timer_.reset(new uv_timer_t);
    uv_timer_init(loop_, timer_.get());
    timer_->data = this;
  }
  uv_timer_start(timer_.get(), callback, ms, 0);
}

Failure TlsTransport::current_failure() {
  if (verification_) {
    ERR_clear_error();
    return verification_;
  }
  return failure_from_queue(peer_.name);
}

void TlsTransport::fail(Failure failure) {
  Guard guard(this);
  state_ = State::kFailed;
  timer_.reset();
  end_ = std::move(failure);
  flush_control();  // the alert
  if (guard.gone) return;
  for (Waiting* w : std::exchange(waiting_, {})) {
    w->failure = end_;
    wake(w);
  }
  kept_.clear();
  in_ = {};
  fail_writes(end_);
  if (!guard.gone) tell_end();
}

void TlsTransport::fail_writes(const Failure& failure) {
  if (write_failure_) return;
  Guard guard(this);
  write_failure_ = failure;
  queued_ = 0;
  for (Queued& q : std::exchange(queue_, {})) {
    if (q.writer) q.writer->written(failure);
  }
  if (!guard.gone && shutdown_writer_) {
    std::exchange(shutdown_writer_, nullptr)->written(failure);
  }
}

// ---- what OpenSSL calls -------------------------------------------------------------------------

namespace {

TlsTransport* transport_of(const SSL* ssl) {
  return static_cast<TlsTransport*>(SSL_get_ex_data(ssl, 0));
}

int bio_read(BIO* bio, char* to, std::size_t size, std::size_t* taken) {
  BIO_clear_retry_flags(bio);
  *taken = static_cast<TlsTransport*>(BIO_get_data(bio))->take_input(to, size);
  if (*taken > 0) return 1;
  BIO_set_retry_read(bio);
  return -1;
}

int bio_write(BIO* bio, const char* data, std::size_t size, std::size_t* taken) {
  BIO_clear_retry_flags(bio);
  static_cast<TlsTransport*>(BIO_get_data(bio))->add_output(data, size);
  *taken = size;
  return 1;
}

long bio_control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD* bio_method() {
  static BIO_METHOD* const kMethod = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "rille");
    BIO_meth_set_read_ex(m, bio_read);
    BIO_meth_set_write_ex(m, bio_write);
    BIO_meth_set_ctrl(m, bio_control);
    return m;
  }();
  return kMethod;
}

}  // namespace

bool TlsTransport::set_up() {
  SSL_set_ex_data(ssl_.get(), 0, this);
  BIO* bio = BIO_new(bio_method());
  if (!bio) return false;
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  if (side_ == Side::kServer) {
    SSL_set_accept_state(ssl_.get());
    return true;
  }
  return set_up_client();
}

std::unique_ptr<Connection> make_connection(uv_loop_t* loop, std::unique_ptr<Transport> inner,
                                            std::shared_ptr<Context> context, Side side,
                                            Peer peer) {
  auto connection = std::make_unique<TlsTransport>(loop, std::move(inner), std::move(context), side,
                                                   std::move(peer));
  connection->start();
  return connection;
}

void note_verification(SSL* ssl, int error, X509* certificate) {
  transport_of(ssl)->note_verification(error, certificate);
}

void note_session(SSL* ssl, SessionPtr session) {
  transport_of(ssl)->note_session(std::move(session));
}

}  // namespace rille::tls
