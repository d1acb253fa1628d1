// The writing side of a TLS connection.
#include <algorithm>
#include <cstring>
#include <utility>

#include "tls_transport.h"

namespace rille::tls {

namespace {

constexpr std::size_t kOverhead = 64;        // a record's header and tag, at most
constexpr std::size_t kPiece = 8 * kRecord;  // encrypted before it is given away
constexpr std::size_t kInFlight = 2 * kPiece;
constexpr std::size_t kKept = 2 * kRecord;   // a buffer that an idle connection may keep
constexpr std::size_t kMostControl = 65536;  // answers that a peer causes and does not take

Failure system_failure(ssize_t status) { return failure_of(static_cast<int>(status)); }

}  // namespace

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

ssize_t TlsTransport::try_write(const uv_buf_t* buffers, unsigned count) {
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

void TlsTransport::write(std::string data, Writer* writer) {
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

void TlsTransport::shutdown(Writer* writer) {
  if (write_failure_ || shutdown_asked_) {
    if (writer) writer->written(write_failure_);
    return;
  }
  shutdown_asked_ = true;
  shutdown_writer_ = writer;
  pump();
}

// Encrypts into out_. A failure is told to all writers.
bool TlsTransport::encrypt(std::string_view data) {
  out_.reserve(out_.size() + data.size() + (data.size() / kRecord + 1) * kOverhead);
  std::size_t written = 0;
  if (SSL_write_ex(ssl_.get(), data.data(), data.size(), &written) == 1) return true;
  out_.clear();
  fail_writes(current_failure());
  return false;
}

ssize_t TlsTransport::send_at_once(Writer* writer, std::size_t plain) {
  std::size_t done = 0;
  if (inner_->pending() == 0) {
    uv_buf_t buffer = buffer_of(out_);
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
void TlsTransport::let_go_of_buffer() {
  if (out_.capacity() > kKept) std::string().swap(out_);
}

void TlsTransport::flush_control() {
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
void TlsTransport::pump() {
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

void TlsTransport::say_goodbye() {
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
  if (!out_.empty()) send_at_once();
  shutdown_sent_ = true;
  // Peers that wait for the end of the connection itself see it too.
  inner_->shutdown(std::exchange(shutdown_writer_, nullptr));
}

void TlsTransport::landed(Flight* flight, const Failure& failure) {
  std::erase(flights_, flight);
  in_flight_ -= flight->size;
  if (failure && state_ != State::kHandshake) fail_writes(failure);
}

}  // namespace rille::tls
