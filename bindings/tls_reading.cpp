// The reading side of a TLS connection: ciphertext comes in, plaintext goes to whoever reads.
#include <utility>

#include "tls_transport.h"

namespace rille::tls {

void TlsTransport::read(Sink* sink) {
  sink_ = sink;
  wanted_ = true;
  if (end_ || !kept_.empty() || has_plaintext()) {
    deliver_later();
  } else {
    update_reading();
  }
}

void TlsTransport::pause() {
  wanted_ = false;
  update_reading();
}

void TlsTransport::received(const char* data, std::size_t size) {
  Guard guard(this);
  // Input is kept only while the inner transport does not read.
  in_ = {data, size};
  go_on(guard);
  if (guard.gone) return;
  if (!in_.empty() && !end_) kept_.assign(in_);
  in_ = {};
  update_reading();
}

void TlsTransport::ended(const Failure& failure) {
  inner_reading_ = false;
  if (end_) return;
  Failure f = failure;
  if (f.status == UV_EOF) {
    const char* what = state_ == State::kHandshake
                           ? "the peer has closed the connection during the TLS handshake: "
                           : "the connection was cut off, without TLS's close_notify: ";
    f = make_failure("UNEXPECTED_EOF_WHILE_READING", what + peer_.name);
  }
  if (state_ == State::kHandshake) return fail(std::move(f));
  end_ = std::move(f);
  if (!has_plaintext()) tell_end();
}

// Works off what has come.
void TlsTransport::go_on(const Guard& guard) {
  shake_hands();
  while (!guard.gone && state_ == State::kOpen && !in_end_) {
    if (wanted_) {
      char plain[kRecord];
      std::size_t size = 0;
      ERR_clear_error();
      int rc = SSL_read_ex(ssl_.get(), plain, sizeof plain, &size);
      if (rc != 1) return stopped(rc);
      looks_ahead_ = false;
      sink_->received(plain, size);
      if (!guard.gone) flush_control();
    } else if (looks_ahead_) {
      char c;
      std::size_t size = 0;
      ERR_clear_error();
      int rc = SSL_peek_ex(ssl_.get(), &c, 1, &size);
      if (rc != 1) return stopped(rc);
      looks_ahead_ = false;
    } else {
      return;
    }
  }
}

// OpenSSL has no more plaintext.
void TlsTransport::stopped(int rc) {
  switch (SSL_get_error(ssl_.get(), rc)) {
    case SSL_ERROR_WANT_READ:
      return flush_control();
    case SSL_ERROR_ZERO_RETURN:
      in_ = {};
      kept_.clear();
      in_end_ = true;
      if (!end_ || end_.status != UV_EOF) {
        end_ = Failure();
        end_.status = UV_EOF;
      }
      return tell_end();
    default:
      return fail(current_failure());
  }
}

// Nothing more arrives. REQUIRES: end_ is set.
void TlsTransport::tell_end() {
  Guard guard(this);
  looks_ahead_ = false;
  update_reading();
  if (!guard.gone && wanted_) {
    wanted_ = false;
    sink_->ended(end_);
  }
}

// What has been kept is handed out from the loop, as all that arrives.
void TlsTransport::deliver_later() {
  if (state_ == State::kHandshake) return;
  start_timer(0, [](uv_timer_t* t) { static_cast<TlsTransport*>(t->data)->deliver(); });
}

void TlsTransport::deliver() {
  if (!wanted_) return;
  Guard guard(this);
  std::string kept = std::exchange(kept_, {});
  in_ = kept;
  go_on(guard);
  if (guard.gone) return;
  if (!in_.empty() && !end_) kept_.assign(in_);
  in_ = {};
  bool more = !kept_.empty() || has_plaintext();
  if (end_ && wanted_ && !more) {
    tell_end();
  } else {
    update_reading();
  }
}

// The inner transport reads as long as somebody wants what it gives.
void TlsTransport::update_reading() {
  bool wants = !end_ && kept_.empty() && (state_ == State::kHandshake || wanted_ || looks_ahead_);
  if (wants == inner_reading_) return;
  inner_reading_ = wants;
  if (wants) {
    inner_->read(this);
  } else {
    inner_->pause();
  }
}

}  // namespace rille::tls
