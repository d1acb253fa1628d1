// TLS over another transport. OpenSSL reads ciphertext straight from the buffer in which the inner
// transport has it, and writes into one string that goes to the inner transport in a piece.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tls.h"

namespace rille::tls {

constexpr std::size_t kRecord = 16384;  // a record's plaintext, at most

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

  static int push(lua_State* L, void* data);
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

  ~TlsTransport() override;

  // Begins the handshake.
  void start();

  int wait_for_handshake(lua_State* L) override;
  SSL* ssl() override { return ssl_.get(); }
  std::string server_name() const override;

  void read(Sink* sink) override;
  void pause() override;
  ssize_t try_write(const uv_buf_t* buffers, unsigned count) override;
  void write(std::string data, Writer* writer) override;
  void shutdown(Writer* writer) override;
  std::size_t pending() const override { return queued_ + inner_->pending(); }
  void abort() override { inner_->abort(); }
  bool needs_shutdown() const override { return state_ == State::kOpen && !shutdown_asked_; }
  uv_stream_t* handle() override { return inner_->handle(); }
  void stream_closed() override;

  // What OpenSSL's callbacks need.
  std::size_t take_input(char* to, std::size_t size);
  void add_output(const char* data, std::size_t size) { out_.append(data, size); }
  void note_verification(int error, X509* certificate);
  void note_session(SessionPtr session);

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

  void start_timer(std::uint64_t ms, uv_timer_cb callback);
  // What OpenSSL has found, or the verification within it.
  Failure current_failure();
  // The connection is of no use any more.
  void fail(Failure failure);
  void fail_writes(const Failure& failure);

  // The handshake: tls_handshake.cpp.
  bool set_up();
  bool set_up_client();
  void limit_handshake();
  void shake_hands();
  void open();
  static void wake(Waiting* w);

  // Reading: tls_reading.cpp.
  void received(const char* data, std::size_t size) override;
  void ended(const Failure& failure) override;
  // True if OpenSSL has some that nobody has taken yet.
  bool has_plaintext() const {
    return state_ == State::kOpen && !in_end_ && SSL_pending(ssl_.get()) > 0;
  }
  void go_on(const Guard& guard);
  void stopped(int rc);
  void tell_end();
  void deliver_later();
  void deliver();
  void update_reading();

  // Writing: tls_writing.cpp.
  bool encrypt(std::string_view data);
  // Gives out_ away. Returns 0 if the system has all of it, an error of libuv's, or how much is
  // left; that is then on its way, and `writer` told of its end.
  ssize_t send_at_once(Writer* writer = nullptr, std::size_t plain = 0);
  void let_go_of_buffer();
  // Puts out what OpenSSL writes by itself: the handshake, alerts, answers to key updates.
  void flush_control();
  void pump();
  void say_goodbye();
  void landed(Flight* flight, const Failure& failure);

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

}  // namespace rille::tls
