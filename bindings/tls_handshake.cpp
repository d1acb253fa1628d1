// The handshake of a TLS connection, and the tasks that wait for its end.
#include <utility>

#include "tls_transport.h"

namespace rille::tls {

int Waiting::push(lua_State* L, void* data) {
  std::unique_ptr<Waiting> self(static_cast<Waiting*>(data));
  if (!L) return 0;
  if (!self->failure) return 0;
  self->failure.push(L, "read", self->peer);
  return 1;
}

void Waiting::give_up(rille_waiter* w, void* data) {
  auto* self = static_cast<Waiting*>(data);
  std::erase(self->owner->waiting_, self);
  self->waiter = nullptr;
  rille_complete(w, push, data);
}

int TlsTransport::wait_for_handshake(lua_State* L) {
  if (state_ == State::kOpen) return 0;
  if (state_ == State::kFailed) {
    end_.push(L, "read", peer_.name);
    return 1;
  }
  auto op = std::make_unique<Waiting>();
  op->peer = peer_.name;
  op->owner = this;
  op->waiter = rille_prepare(L, Waiting::give_up, op.get());
  rille_waiter* waiter = op->waiter;
  waiting_.push_back(op.release());
  return rille_park(L, waiter);
}

bool TlsTransport::set_up_client() {
  SSL* ssl = ssl_.get();
  SSL_set_connect_state(ssl);
  const std::string& host = peer_.host;
  if (!host.empty()) {
    X509_VERIFY_PARAM* param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    // An address is no name: it is not sent, and looked for among the addresses.
    if (X509_VERIFY_PARAM_set1_ip_asc(param, host.c_str()) != 1) {
      ERR_clear_error();
      if (!SSL_set_tlsext_host_name(ssl, host.c_str())) return false;
      if (!X509_VERIFY_PARAM_set1_host(param, host.data(), host.size())) return false;
    }
  }
  if (SessionPtr session = context_->sessions().take(peer_.session)) {
    SSL_set_session(ssl, session.get());
  }
  return true;
}

void TlsTransport::limit_handshake() {
  start_timer(peer_.limit_ms, [](uv_timer_t* t) {
    auto* self = static_cast<TlsTransport*>(t->data);
    self->fail(
        make_failure("HANDSHAKE_TIMEOUT", "the TLS handshake takes too long: " + self->peer_.name));
  });
}

void TlsTransport::shake_hands() {
  if (state_ != State::kHandshake) return;
  ERR_clear_error();
  int rc = SSL_do_handshake(ssl_.get());
  if (rc == 1) return open();
  int what = SSL_get_error(ssl_.get(), rc);
  if (what == SSL_ERROR_WANT_READ) return flush_control();
  fail(current_failure());
}

void TlsTransport::open() {
  state_ = State::kOpen;
  timer_.reset();
  // Its tickets are taken even if nobody reads; and a server may refuse our certificate only now.
  looks_ahead_ = side_ == Side::kClient && SSL_version(ssl_.get()) == TLS1_3_VERSION;
  Guard guard(this);
  flush_control();
  if (guard.gone) return;
  for (Waiting* w : std::exchange(waiting_, {})) wake(w);
  pump();
}

void TlsTransport::wake(Waiting* w) {
  w->owner = nullptr;
  rille_complete(std::exchange(w->waiter, nullptr), Waiting::push, w);
}

}  // namespace rille::tls
