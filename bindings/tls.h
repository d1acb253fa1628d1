// TLS over any transport, on OpenSSL: what a script has set up (Context), connections made with it,
// and how their errors are told.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tls_library.h"
#include "transport.h"

namespace rille::tls {

enum class Side { kClient, kServer };

template <auto* free>
struct Free {
  template <class T>
  void operator()(T* object) const {
    (*free)(object);
  }
};
using SslPtr = std::unique_ptr<SSL, Free<&SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, Free<&SSL_CTX_free>>;
using StorePtr = std::unique_ptr<X509_STORE, Free<&X509_STORE_free>>;
using SessionPtr = std::unique_ptr<SSL_SESSION, Free<&SSL_SESSION_free>>;
using CertificatePtr = std::unique_ptr<X509, Free<&X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free<&EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, Free<&BIO_free>>;

// ---- errors (tls_error.cpp) ---------------------------------------------------------------------

// A TLSError.
Failure make_failure(std::string code, std::string message);

// The one that stands in OpenSSL's queue, which is emptied; `after` is put behind its text.
Failure failure_from_queue(const std::string& after);

// The one that verification has come to: X509_V_ERR_...
Failure verification_failure(int error, X509* certificate, const std::string& wanted_name,
                             const std::string& peer);

// "CN=localhost, O=Rille"
std::string name_text(const X509_NAME* name);
// Seconds since 1970, and "2026-01-31 12:00:00 UTC".
double seconds_of(const ASN1_TIME* time);
std::string time_text(const ASN1_TIME* time);
// The names that a certificate is for: DNS names and IP addresses.
std::vector<std::string> names_of(X509* certificate);

// ---- contexts (tls_context.cpp) -----------------------------------------------------------------

// A file's content, or text that stood in its place, and what errors call it.
struct Source {
  std::string pem;
  std::string label;
  bool is_file = false;
  bool is_given() const { return !label.empty(); }
};

struct Options {
  Source ca, certificate, key;
  std::string password;
  bool has_password = false;
  int verify = -1;        // 1, 0; -1: as the side has it by default
  std::string protocols;  // ALPN's wire format
  int min_version = TLS1_2_VERSION;
  int max_version = 0;  // none
  std::string ciphers;
  bool for_client = true;
  bool for_server = true;
};

// The sessions that a client may take up again, by peer; the least used go first.
class SessionCache {
 public:
  void add(const std::string& key, SessionPtr session);
  SessionPtr take(const std::string& key);

 private:
  static constexpr std::size_t kMostPeers = 256;
  static constexpr std::size_t kMostOfOne = 4;  // TLS 1.3's are used once

  struct Entry {
    std::string key;
    std::deque<SessionPtr> sessions;
  };
  std::list<Entry> entries_;  // those used last first
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
};

class Context {
 public:
  // Parses everything; a failure's message names the source, and `where` is set to it if it is
  // one's fault. On any thread.
  static std::shared_ptr<Context> make(const Options& options, Failure* failure,
                                       const Source** where);

  SSL_CTX* of(Side side) { return side == Side::kClient ? client_.get() : server_.get(); }
  bool verifies(Side side) const { return verify_ < 0 ? side == Side::kClient : verify_ == 1; }
  bool has_ca() const { return has_ca_; }
  bool has_certificate() const { return has_certificate_; }
  // The store that a context without `ca` verifies by.
  void use_store(Side side, X509_STORE* store);
  SessionCache& sessions() { return sessions_; }

 private:
  int verify_ = -1;
  bool has_ca_ = false;
  bool has_certificate_ = false;
  std::string protocols_;
  SslContextPtr client_, server_;
  SessionCache sessions_;
  friend class ContextMaker;
};

// The system's certificates, as SSL_CERT_FILE and SSL_CERT_DIR have it. On any thread.
StorePtr system_store();

// ---- connections (tls_transport.h) --------------------------------------------------------------

struct Peer {
  std::string name;            // what errors call it: "localhost:443"
  std::string host;            // a client's: sent as SNI, checked in the certificate; may be empty
  std::string session;         // a client's: the key of its sessions
  std::uint64_t limit_ms = 0;  // for the handshake; 0: none
};

class Connection : public Transport {
 public:
  // Puts the calling task to sleep until the handshake is done: nil, or its error.
  virtual int wait_for_handshake(lua_State* L) = 0;
  // What has been agreed on. REQUIRES: the handshake is done.
  virtual SSL* ssl() = 0;
  // A name that the peer's certificate was asked for by SNI, on either side; may be empty.
  virtual std::string server_name() const = 0;
};

// Starts the handshake over `inner`, at once.
std::unique_ptr<Connection> make_connection(uv_loop_t* loop, std::unique_ptr<Transport> inner,
                                            std::shared_ptr<Context> context, Side side, Peer peer);

// The failure that ended the verification within `ssl`, for Context's callbacks.
void note_verification(SSL* ssl, int error, X509* certificate);
// A session has come in for a client's connection.
void note_session(SSL* ssl, SessionPtr session);

}  // namespace rille::tls
