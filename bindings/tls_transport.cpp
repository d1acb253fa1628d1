// TLS over another transport. OpenSSL reads ciphertext straight from the buffer in which the inner
// transport has it, and writes into one string that goes to the inner transport in a piece.

#include <algorithm>
#include <cstring>
#include <string_view>

#include "tls.h"

namespace rille::tls {

namespace {

constexpr std::size_t kRecord = 16384;       // a record's plaintext, at most
constexpr std::size_t kOverhead = 64;        // a record's header and tag, at most
constexpr std::size_t kPiece = 8 * kRecord;  // encrypted before it is given away
constexpr std::size_t kInFlight = 2 * kPiece;
constexpr std::size_t kKept = 2 * kRecord;   // a buffer that an idle connection may keep
constexpr std::size_t kMostControl = 65536;  // answers that a peer causes and does not take

class TlsTransport;

// The end of a write that the inner transport has. Belongs to itself until then.
struct Flight final : Transport::Writer {
  TlsTransport* owner;  // null once that is gone
  Transport::Writer* writer;
  std::size_t size;

  Flight(TlsTransport* o, Transport::Writer* w, std::size_t n) : owner(o), writer(w), size(n) {}
  void written(const Failure& failure) override;
};

// A task that waits for the handshake. Belongs to its waiter.
struct Waiting {
  TlsTransport* owner;  // null once it has been woken
  rille_waiter* waiter = nullptr;
  Failure failure;
  std::string peer;

  static int push(lua_State* L, void* data) {
    std::unique_ptr<Waiting> self(static_cast<Waiting*>(data));
    if (!L) return 0;
    if (!self->failure) return 0;
    self->failure.push(L, "read", self->peer);
    return 1;
  }
  static void give_up(rille_waiter* w, void* data);
};

class TlsTransport final : public Connection, Transport::Sink {
 public:
  using Sink = Transport::Sink;

  TlsTransport(uv_loop_t* loop, std::unique_ptr<Transport> inner, std::shared_ptr<Context> context,
               Side side, Peer peer)
      : loop_(loop),
        inner_(std::move(inner)),
        context_(std::move(context)),
        side_(side),
        peer_(std::move(peer)) {}

  ~TlsTransport() override {
    for (Guard* g = guards_; g; g = g->outer) g->gone = true;
    for (Flight* f : flights_) f->owner = nullptr;
    Failure closed = system_failure(UV_ECANCELED);
    stream_closed();
    for (Queued& q : std::exchange(queue_, {})) {
      if (q.writer) q.writer->written(closed);
    }
    if (shutdown_writer_) std::exchange(shutdown_writer_, nullptr)->written(closed);
  }

  void start() {
    Guard guard(this);
    ERR_clear_error();
    ssl_.reset(SSL_new(context_->of(side_)));
    if (!ssl_ || !set_up()) return fail(failure_from_queue(peer_.name));
    if (peer_.limit_ms > 0) limit_handshake();
    shake_hands();
    if (!guard.gone) update_reading();
  }

  // ---- Connection -------------------------------------------------------------------------------

  int wait_for_handshake(lua_State* L) override {
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

  SSL* ssl() override { return ssl_.get(); }

  std::string server_name() const override {
    if (side_ == Side::kClient) return peer_.host;
    const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
    return name ? name : "";
  }

  // ---- Transport --------------------------------------------------------------------------------

  void read(Sink* sink) override {
    sink_ = sink;
    wanted_ = true;
    if (end_ || !kept_.empty() || has_plaintext()) {
      deliver_later();
    } else {
      update_reading();
    }
  }

  void pause() override {
    wanted_ = false;
    update_reading();
  }

  ssize_t try_write(const uv_buf_t* buffers, unsigned count) override {
    if (state_ != State::kOpen || write_failure_ || shutdown_asked_ || !queue_.empty() ||
        inner_->pending() > 0) {
      return 0;  // `write` knows what to do, and tells what is wrong
    }
    ERR_clear_error();
    std::size_t sent = 0;   // plaintext that has left us
    std::size_t taken = 0;  // and what stands in out_ or has left us
    char joined[kRecord];   // small pieces share a record
    std::size_t in_joined = 0;
    for (unsigned i = 0; i < count; ++i) {
      std::string_view left(buffers[i].base, buffers[i].len);
      while (!left.empty()) {
        bool join = in_joined > 0 || (count > 1 && left.size() < kRecord);
        std::size_t size = std::min(left.size(), join ? kRecord - in_joined : kPiece);
        std::string_view piece = left.substr(0, size);
        left.remove_prefix(size);
        if (join) {
          std::memcpy(joined + in_joined, piece.data(), size);
          in_joined += size;
          if (in_joined < kRecord) continue;
          piece = {joined, std::exchange(in_joined, 0)};
        }
        if (!encrypt(piece)) return static_cast<ssize_t>(sent);
        taken += piece.size();
        if (out_.size() < kPiece) continue;
        ssize_t rest = send_at_once();
        if (rest != 0) return rest < 0 ? rest : static_cast<ssize_t>(taken);
        sent = taken;
      }
    }
    if (in_joined > 0) {
      if (!encrypt({joined, in_joined})) return static_cast<ssize_t>(sent);
      taken += in_joined;
    }
    if (out_.empty()) return static_cast<ssize_t>(taken);
    ssize_t rest = send_at_once();
    let_go_of_buffer();
    return rest < 0 ? rest : static_cast<ssize_t>(taken);
  }

  void write(std::string data, Writer* writer) override {
    if (write_failure_ || shutdown_asked_) {
      Failure f = write_failure_;
      if (!f) f.status = UV_EPIPE;
      if (writer) writer->written(f);
      return;
    }
    queued_ += data.size();
    queue_.push_back({std::move(data), 0, writer});
    pump();
  }

  void shutdown(Writer* writer) override {
    if (write_failure_ || shutdown_asked_) {
      if (writer) writer->written(write_failure_);
      return;
    }
    shutdown_asked_ = true;
    shutdown_writer_ = writer;
    pump();
  }

  std::size_t pending() const override { return queued_ + inner_->pending(); }
  void abort() override { inner_->abort(); }
  bool needs_shutdown() const override { return state_ == State::kOpen && !shutdown_asked_; }
  uv_stream_t* handle() override { return inner_->handle(); }

  void stream_closed() override {
    for (Waiting* w : std::exchange(waiting_, {})) {
      w->failure.status = UV_ECANCELED;
      w->failure.kind = "InvalidStateError";
      w->failure.message = "the stream " + peer_.name + " was closed during the TLS handshake";
      wake(w);
    }
  }

  // ---- what OpenSSL's callbacks need ------------------------------------------------------------

  std::size_t take_input(char* to, std::size_t size) {
    size = in_.copy(to, size);
    in_.remove_prefix(size);
    return size;
  }

  void add_output(const char* data, std::size_t size) { out_.append(data, size); }

  void note_verification(int error, X509* certificate) {
    verification_ = verification_failure(error, certificate, peer_.host, peer_.name);
  }

  void note_session(SessionPtr session) {
    if (!peer_.session.empty()) context_->sessions().add(peer_.session, std::move(session));
  }

 private:
  friend struct Flight;
  friend struct Waiting;

  enum class State { kHandshake, kOpen, kFailed };

  struct Queued {
    std::string data;
    std::size_t done;
    Writer* writer;
  };

  // Stands on the stack while callbacks run that may destroy the transport.
  struct Guard {
    explicit Guard(TlsTransport* t) : owner(t), outer(t->guards_) { t->guards_ = this; }
    ~Guard() {
      if (!gone) owner->guards_ = outer;
    }
    TlsTransport* owner;
    Guard* outer;
    bool gone = false;
  };

  // ---- the handshake ----------------------------------------------------------------------------

  bool set_up();
  bool set_up_client();

  void limit_handshake() {
    start_timer(peer_.limit_ms, [](uv_timer_t* t) {
      auto* self = static_cast<TlsTransport*>(t->data);
      self->fail(make_failure("HANDSHAKE_TIMEOUT",
                              "the TLS handshake takes too long: " + self->peer_.name));
    });
  }

  void start_timer(std::uint64_t ms, uv_timer_cb callback) {
    if (!timer_) {
      timer_.reset(new uv_timer_t);
      uv_timer_init(loop_, timer_.get());
      timer_->data = this;
    }
    uv_timer_start(timer_.get(), callback, ms, 0);
  }

  void shake_hands() {
    if (state_ != State::kHandshake) return;
    ERR_clear_error();
    int rc = SSL_do_handshake(ssl_.get());
    if (rc == 1) return open();
    int what = SSL_get_error(ssl_.get(), rc);
    if (what == SSL_ERROR_WANT_READ) return flush_control();
    fail(current_failure());
  }

  void open() {
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

  static void wake(Waiting* w) {
    w->owner = nullptr;
    rille_complete(std::exchange(w->waiter, nullptr), Waiting::push, w);
  }

  // What OpenSSL has found, or the verification within it.
  Failure current_failure() {
    if (verification_) {
      ERR_clear_error();
      return verification_;
    }
    return failure_from_queue(peer_.name);
  }

  // The connection is of no use any more.
  void fail(Failure failure) {
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

  void fail_writes(const Failure& failure) {
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

  // ---- reading ----------------------------------------------------------------------------------

  void received(const char* data, std::size_t size) override {
    Guard guard(this);
    // Input is kept only while the inner transport does not read.
    in_ = {data, size};
    go_on(guard);
    if (guard.gone) return;
    if (!in_.empty() && !end_) kept_.assign(in_);
    in_ = {};
    update_reading();
  }

  void ended(const Failure& failure) override {
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

  // True if OpenSSL has some that nobody has taken yet.
  bool has_plaintext() const {
    return state_ == State::kOpen && !in_end_ && SSL_pending(ssl_.get()) > 0;
  }

  // Works off what has come.
  void go_on(const Guard& guard) {
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
  void stopped(int rc) {
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

  // Nothing more arrives; REQUIRES: end_ is set.
  void tell_end() {
    Guard guard(this);
    looks_ahead_ = false;
    update_reading();
    if (!guard.gone && wanted_) {
      wanted_ = false;
      sink_->ended(end_);
    }
  }

  // What has been kept is handed out from the loop, as all that arrives.
  void deliver_later() {
    if (state_ == State::kHandshake) return;
    start_timer(0, [](uv_timer_t* t) { static_cast<TlsTransport*>(t->data)->deliver(); });
  }

  void deliver() {
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
  void update_reading() {
    bool wants = !end_ && kept_.empty() && (state_ == State::kHandshake || wanted_ || looks_ahead_);
    if (wants == inner_reading_) return;
    inner_reading_ = wants;
    if (wants) {
      inner_->read(this);
    } else {
      inner_->pause();
    }
  }

  // ---- writing ----------------------------------------------------------------------------------

  // Encrypts into out_. A failure is told to all writers.
  bool encrypt(std::string_view data) {
    out_.reserve(out_.size() + data.size() + (data.size() / kRecord + 1) * kOverhead);
    std::size_t written = 0;
    if (SSL_write_ex(ssl_.get(), data.data(), data.size(), &written) == 1) return true;
    out_.clear();
    fail_writes(current_failure());
    return false;
  }

  static Failure system_failure(ssize_t status) {
    Failure f;
    f.status = static_cast<int>(status);
    return f;
  }

  // Gives out_ away. Returns 0 if the system has all of it, an error of libuv's, or how much is
  // left; that is then on its way, and `writer` told of its end.
  ssize_t send_at_once(Writer* writer = nullptr, std::size_t plain = 0) {
    std::size_t done = 0;
    if (inner_->pending() == 0) {
      uv_buf_t buffer;
      buffer.base = out_.data();
      buffer.len = out_.size();
      ssize_t n = inner_->try_write(&buffer, 1);
      if (n < 0) {
        out_.clear();
        return n;
      }
      done = static_cast<std::size_t>(n);
    }
    std::size_t left = out_.size() - done;
    if (left == 0) {
      out_.clear();
      return 0;
    }
    auto flight = std::make_unique<Flight>(this, writer, plain);
    flights_.push_back(flight.get());
    in_flight_ += plain;
    std::string rest = done == 0 ? std::exchange(out_, {}) : out_.substr(done);
    out_.clear();
    inner_->write(std::move(rest), flight.release());
    return static_cast<ssize_t>(left);
  }

  // Connections that are idle keep little.
  void let_go_of_buffer() {
    if (out_.capacity() > kKept) std::string().swap(out_);
  }

  // Puts out what OpenSSL writes by itself: the handshake, alerts, answers to key updates.
  void flush_control() {
    if (out_.empty()) return;
    if (write_failure_ || shutdown_sent_) return out_.clear();
    if (inner_->pending() == 0) control_ = 0;
    control_ += out_.size();
    if (state_ == State::kOpen && control_ > kMostControl) {
      out_.clear();
      return fail(make_failure("TOO_MANY_KEY_UPDATES",
                               "the peer causes answers and does not take them: " + peer_.name));
    }
    ssize_t rc = send_at_once();
    // During the handshake reading will say what is wrong.
    if (rc < 0 && state_ == State::kOpen) fail_writes(system_failure(rc));
  }

  // Encrypts what is queued, as fast as the inner transport takes it.
  void pump() {
    if (pumping_) return;
    Guard guard(this);
    pumping_ = true;
    while (state_ == State::kOpen && !write_failure_ && !queue_.empty() && in_flight_ < kInFlight) {
      ERR_clear_error();
      Queued& q = queue_.front();
      std::size_t size = std::min(kPiece, q.data.size() - q.done);
      if (size > 0 && !encrypt(std::string_view(q.data).substr(q.done, size))) break;
      q.done += size;
      queued_ -= size;
      Writer* writer = nullptr;
      if (q.done == q.data.size()) {
        writer = q.writer;
        queue_.pop_front();
      }
      ssize_t rest = out_.empty() ? 0 : send_at_once(writer, size);
      if (rest > 0) continue;  // the writer is told later
      if (writer) writer->written(rest < 0 ? system_failure(rest) : Failure());
      if (!guard.gone && rest < 0) fail_writes(system_failure(rest));
      if (guard.gone) return;
    }
    if (guard.gone) return;
    pumping_ = false;
    let_go_of_buffer();
    if (state_ == State::kOpen && !write_failure_ && queue_.empty() && shutdown_asked_ &&
        !shutdown_sent_) {
      say_goodbye();
    }
  }

  void say_goodbye() {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
    if (!out_.empty()) send_at_once();
    shutdown_sent_ = true;
    // Peers that wait for the end of the connection itself see it too.
    inner_->shutdown(std::exchange(shutdown_writer_, nullptr));
  }

  void landed(Flight* flight, const Failure& failure) {
    std::erase(flights_, flight);
    in_flight_ -= flight->size;
    if (failure && state_ != State::kHandshake) fail_writes(failure);
  }

  uv_loop_t* loop_;
  std::unique_ptr<Transport> inner_;
  std::shared_ptr<Context> context_;
  Side side_;
  Peer peer_;
  SslPtr ssl_;
  State state_ = State::kHandshake;
  std::vector<Waiting*> waiting_;
  Failure verification_;
  Handle<uv_timer_t> timer_;
  Guard* guards_ = nullptr;

  Sink* sink_ = nullptr;
  bool wanted_ = false;         // the sink reads
  bool inner_reading_ = false;  // and so do we
  bool looks_ahead_ = false;    // reads without anybody who wants it, until there is plaintext
  bool in_end_ = false;         // close_notify has come
  std::string_view in_;         // ciphertext, during a callback
  std::string kept_;            // and what was left of it at its end
  Failure end_;                 // why nothing more comes, once that is so

  std::string out_;  // ciphertext that nobody has been given yet
  std::deque<Queued> queue_;
  std::size_t queued_ = 0;  // bytes in it
  std::size_t in_flight_ = 0;
  std::size_t control_ = 0;
  std::vector<Flight*> flights_;
  Failure write_failure_;
  Writer* shutdown_writer_ = nullptr;
  bool shutdown_asked_ = false;
  bool shutdown_sent_ = false;
  bool pumping_ = false;
};

void Flight::written(const Failure& failure) {
  std::unique_ptr<Flight> self(this);
  TlsTransport* o = owner;
  if (!o) {
    if (writer) writer->written(failure);
    return;
  }
  TlsTransport::Guard guard(o);
  o->landed(this, failure);
  if (writer) writer->written(failure);
  if (!guard.gone) o->pump();
}

void Waiting::give_up(rille_waiter* w, void* data) {
  auto* self = static_cast<Waiting*>(data);
  std::erase(self->owner->waiting_, self);
  self->waiter = nullptr;
  rille_complete(w, push, data);
}

// ---- the BIO ------------------------------------------------------------------------------------

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

}  // namespace

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
