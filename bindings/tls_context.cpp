// What TLS connections are set up with: certificates, keys, whom to trust, versions. Parsed once,
// on a thread of the pool.

#include <cstring>

#include "tls.h"

namespace rille::tls {

// ---- sessions -----------------------------------------------------------------------------------

void SessionCache::add(const std::string& key, SessionPtr session) {
  auto found = index_.find(key);
  if (found == index_.end()) {
    entries_.push_front({key, {}});
    found = index_.emplace(key, entries_.begin()).first;
  } else {
    entries_.splice(entries_.begin(), entries_, found->second);
  }
  auto& sessions = found->second->sessions;
  sessions.push_front(std::move(session));
  if (sessions.size() > kMostOfOne) sessions.pop_back();
  if (entries_.size() > kMostPeers) {
    index_.erase(entries_.back().key);
    entries_.pop_back();
  }
}

SessionPtr SessionCache::take(const std::string& key) {
  auto found = index_.find(key);
  if (found == index_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found->second);
  auto& sessions = found->second->sessions;
  while (!sessions.empty()) {
    SessionPtr session = std::move(sessions.front());
    sessions.pop_front();
    if (!SSL_SESSION_is_resumable(session.get())) continue;
    // Whoever sees a ticket twice knows that it is the same client; older versions have no choice.
    if (SSL_SESSION_get_protocol_version(session.get()) < TLS1_3_VERSION) {
      SSL_SESSION_up_ref(session.get());
      sessions.emplace_front(session.get());
    }
    return session;
  }
  return nullptr;
}

// ---- callbacks of OpenSSL's ---------------------------------------------------------------------

namespace {

int verify_certificate(int ok, X509_STORE_CTX* store) {
  if (ok) return ok;
  auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  note_verification(ssl, X509_STORE_CTX_get_error(store), X509_STORE_CTX_get_current_cert(store));
  return 0;
}

// The server's order decides. A client that offers other protocols only is refused, as RFC 7301
// says.
int select_protocol(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in,
                    unsigned in_size, void* arg) {
  const auto& ours = *static_cast<const std::string*>(arg);
  unsigned char* selected;
  int rc =
      SSL_select_next_proto(&selected, size, reinterpret_cast<const unsigned char*>(ours.data()),
                            static_cast<unsigned>(ours.size()), in, in_size);
  *out = selected;
  return rc == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

int keep_session(SSL* ssl, SSL_SESSION* session) {
  note_session(ssl, SessionPtr(session));
  return 1;  // it is ours now
}

struct Password {
  const Options* options;
  bool asked = false;
};

// Without it OpenSSL would ask at the terminal.
int give_password(char* buffer, int size, int, void* data) {
  auto* p = static_cast<Password*>(data);
  p->asked = true;
  const std::string& text = p->options->password;
  if (!p->options->has_password || text.size() > static_cast<std::size_t>(size)) return -1;
  std::memcpy(buffer, text.data(), text.size());
  return static_cast<int>(text.size());
}

BioPtr reader_of(const Source& source) {
  return BioPtr(BIO_new_mem_buf(source.pem.data(), static_cast<int>(source.pem.size())));
}

// All certificates of a text.
bool read_certificates(const Source& source, std::vector<CertificatePtr>* out, Failure* failure) {
  BioPtr in = reader_of(source);
  Options none;
  Password password{&none};
  ERR_clear_error();
  while (X509* x = PEM_read_bio_X509_AUX(in.get(), nullptr, give_password, &password)) {
    out->emplace_back(x);
  }
  unsigned long error = ERR_peek_last_error();
  bool at_end = ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  if (at_end && !out->empty()) {
    ERR_clear_error();
    return true;
  }
  *failure = at_end ? make_failure("NO_START_LINE", "no certificate in PEM form: " + source.label)
                    : failure_from_queue("not a certificate: " + source.label);
  ERR_clear_error();
  return false;
}

KeyPtr read_key(const Options& options, const Source& source, Failure* failure) {
  BioPtr in = reader_of(source);
  Password password{&options};
  ERR_clear_error();
  KeyPtr key(PEM_read_bio_PrivateKey(in.get(), nullptr, give_password, &password));
  if (key) return key;
  if (password.asked && !options.has_password) {
    *failure = make_failure("BAD_PASSWORD_READ",
                            "the key is encrypted, and no password was given: " + source.label);
  } else if (password.asked) {
    *failure = make_failure("BAD_DECRYPT", "wrong password for the key: " + source.label);
  } else if (source.pem.find("PRIVATE KEY-----") == std::string::npos) {
    *failure = make_failure("NO_START_LINE", "no private key in PEM form: " + source.label);
  } else {
    *failure = failure_from_queue("not a private key: " + source.label);
  }
  ERR_clear_error();
  return nullptr;
}

// TLS 1.3's suites have a list of their own in OpenSSL.
void split_ciphers(const std::string& all, std::string* suites, std::string* older) {
  std::size_t at = 0;
  while (at < all.size()) {
    std::size_t end = std::min(all.find_first_of(": ,;", at), all.size());
    std::string name = all.substr(at, end - at);
    std::string* list = name.rfind("TLS_", 0) == 0 ? suites : older;
    if (!name.empty()) *list += (list->empty() ? "" : ":") + name;
    at = end + 1;
  }
}

// True if the list consists of names of suites alone, without "HIGH" and the like.
bool names_suites_only(SSL_CTX* context, const std::string& list) {
  std::size_t count = 1;
  for (char c : list) count += c == ':';
  STACK_OF(SSL_CIPHER)* ciphers = SSL_CTX_get_ciphers(context);
  std::size_t named = 0;
  for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); ++i) {
    const SSL_CIPHER* cipher = sk_SSL_CIPHER_value(ciphers, i);
    std::string name = SSL_CIPHER_get_name(cipher);
    if ((":" + list + ":").find(":" + name + ":") != std::string::npos) ++named;
  }
  return named == count;
}

}  // namespace

// ---- making one ---------------------------------------------------------------------------------

class ContextMaker {
 public:
  ContextMaker(const Options& options, Failure* failure, const Source** where)
      : options_(options), failure_(failure), where_(where) {}

  std::shared_ptr<Context> make() {
    if (!read()) return nullptr;
    context_ = std::make_shared<Context>();
    context_->verify_ = options_.verify;
    context_->has_ca_ = options_.ca.is_given();
    context_->has_certificate_ = options_.certificate.is_given();
    context_->protocols_ = options_.protocols;
    if (options_.for_client && !make_side(Side::kClient)) return nullptr;
    if (options_.for_server && !make_side(Side::kServer)) return nullptr;
    return context_;
  }

 private:
  bool read() {
    const Options& o = options_;
    *where_ = &o.ca;
    if (o.ca.is_given() && !read_certificates(o.ca, &trusted_, failure_)) return false;
    if (!o.certificate.is_given()) return true;
    *where_ = &o.certificate;
    if (!read_certificates(o.certificate, &chain_, failure_)) return false;
    const Source& source = o.key.is_given() ? o.key : o.certificate;
    *where_ = &source;
    key_ = read_key(o, source, failure_);
    if (!key_) return false;
    if (X509_check_private_key(chain_[0].get(), key_.get()) == 1) return true;
    ERR_clear_error();
    *failure_ = make_failure("KEY_VALUES_MISMATCH", "the key does not fit the certificate " +
                                                        o.certificate.label + ": " + source.label);
    return false;
  }

  bool fail(const std::string& after) {
    *failure_ = failure_from_queue(after);
    *where_ = nullptr;
    return false;
  }

  bool fail(const Source& source) {
    fail(source.label);
    *where_ = &source;
    return false;
  }

  bool make_side(Side side) {
    ERR_clear_error();
    bool is_client = side == Side::kClient;
    SslContextPtr made(SSL_CTX_new(is_client ? TLS_client_method() : TLS_server_method()));
    if (!made) return fail("");
    SSL_CTX* c = made.get();
    SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    // Idle connections need no buffers.
    SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (!set_versions(c) || !set_trust(c, side) || !set_certificate(c)) return false;
    if (is_client) {
      SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
      SSL_CTX_sess_set_new_cb(c, keep_session);
    } else {
      static const unsigned char kId[] = "rille";
      SSL_CTX_set_session_id_context(c, kId, sizeof kId - 1);
      SSL_CTX_sess_set_cache_size(c, 2048);  // of clients that take no tickets
      SSL_CTX_set_dh_auto(c, 1);
    }
    const std::string& protocols = context_->protocols_;
    if (!protocols.empty() && is_client) {
      SSL_CTX_set_alpn_protos(c, reinterpret_cast<const unsigned char*>(protocols.data()),
                              static_cast<unsigned>(protocols.size()));
    } else if (!protocols.empty()) {
      SSL_CTX_set_alpn_select_cb(c, select_protocol, &context_->protocols_);
    }
    (is_client ? context_->client_ : context_->server_) = std::move(made);
    return true;
  }

  bool set_versions(SSL_CTX* c) {
    SSL_CTX_set_min_proto_version(c, options_.min_version);
    if (options_.max_version) SSL_CTX_set_max_proto_version(c, options_.max_version);
    if (options_.ciphers.empty()) return true;
    std::string suites, older;
    split_ciphers(options_.ciphers, &suites, &older);
    const std::string what = "the option 'ciphers' (" + options_.ciphers + ")";
    if (!suites.empty() && !SSL_CTX_set_ciphersuites(c, suites.c_str())) return fail(what);
    if (!older.empty() && !SSL_CTX_set_cipher_list(c, older.c_str())) return fail(what);
    // Suites that are named are all that there are, so a version without any is out.
    int max = options_.max_version ? options_.max_version : TLS1_3_VERSION;
    if (older.empty() && max == TLS1_3_VERSION) {
      SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
    } else if (suites.empty() && options_.min_version < TLS1_3_VERSION && max == TLS1_3_VERSION &&
               names_suites_only(c, older)) {
      SSL_CTX_set_max_proto_version(c, TLS1_2_VERSION);
    }
    return true;
  }

  bool set_trust(SSL_CTX* c, Side side) {
    int mode = SSL_VERIFY_NONE;
    if (context_->verifies(side)) mode = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    SSL_CTX_set_verify(c, mode, mode == SSL_VERIFY_NONE ? nullptr : verify_certificate);
    if (trusted_.empty()) return true;
    X509_STORE* store = SSL_CTX_get_cert_store(c);
    // What is named is trusted, also if it is no root.
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    constexpr std::size_t kMostNames = 100;
    for (const CertificatePtr& x : trusted_) {
      if (!X509_STORE_add_cert(store, x.get())) return fail(options_.ca);
      // Tells clients which of their certificates will do.
      if (side == Side::kServer && mode != SSL_VERIFY_NONE && trusted_.size() <= kMostNames) {
        SSL_CTX_add_client_CA(c, x.get());
      }
    }
    return true;
  }

  bool set_certificate(SSL_CTX* c) {
    if (chain_.empty()) return true;
    const Source& source = options_.certificate;
    if (SSL_CTX_use_certificate(c, chain_[0].get()) != 1) return fail(source);
    if (SSL_CTX_use_PrivateKey(c, key_.get()) != 1) return fail(source);
    for (std::size_t i = 1; i < chain_.size(); ++i) {
      if (SSL_CTX_add1_chain_cert(c, chain_[i].get()) != 1) return fail(source);
    }
    return true;
  }

  const Options& options_;
  Failure* failure_;
  const Source** where_;
  std::shared_ptr<Context> context_;
  std::vector<CertificatePtr> trusted_, chain_;
  KeyPtr key_;
};

std::shared_ptr<Context> Context::make(const Options& options, Failure* failure,
                                       const Source** where) {
  return ContextMaker(options, failure, where).make();
}

void Context::use_store(Side side, X509_STORE* store) {
  SSL_CTX* c = of(side);
  if (SSL_CTX_get_cert_store(c) != store) SSL_CTX_set1_cert_store(c, store);
}

StorePtr system_store() {
  StorePtr store(X509_STORE_new());
  // What cannot be read is not trusted: verification then says so.
  if (store) X509_STORE_set_default_paths(store.get());
  ERR_clear_error();
  return store;
}

}  // namespace rille::tls
