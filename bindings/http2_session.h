// A connection of HTTP/2, by nghttp2: what servers and clients have in common. Frames are put
// together while tasks and callbacks run, and go out in one write before the loop waits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "http2_fields.h"
#include "http2_library.h"
#include "transport.h"

namespace rille::http2 {

class Session;

// A stream: one request and its response. Both the session and whoever waits for it hold it; the
// session lets go of it when it is closed.
class Exchange {
 public:
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  virtual ~Exchange() = default;

  std::int32_t id() const { return id_; }
  // Null once the stream is closed: nothing more comes, nothing more goes.
  Session* session() const { return session_; }

  // What holds it while the stream is open.
  const std::shared_ptr<Exchange>& keeper() const { return keep_; }

  // What is sent. The head goes by Session::request or Session::respond, with `ends` false.

  // Adds to the body. It is kept until the peer takes it: unsent() tells how much that is. `ends`:
  // that was all of it.
  void send(std::string_view data, bool ends = false);
  // Ends the body, perhaps with trailers, which may be empty.
  void finish(Fields trailers = {});
  std::size_t unsent() const { return source().size() - sent_; }
  bool is_finished() const { return finished_; }

  // Ends the stream at once, with an error of RFC 9113, section 7 (NGHTTP2_CANCEL, ...).
  void reset(std::uint32_t code);

  // The peer may send so many bytes more: as many as were taken of what had come.
  void give_window(std::size_t size);

 protected:
  // What arrives, told in callbacks of the loop: no Lua. What is false here makes the message
  // malformed, which resets the stream.
  virtual bool field(std::string_view name, std::string_view value) = 0;
  // The end of a head, or of trailers. `ends`: with it the message ends.
  virtual bool head(bool ends) = 0;
  virtual void data(std::string_view bytes) = 0;
  // The message has ended behind data.
  virtual void ended() = 0;
  // Some of the body has gone out.
  virtual void sent() {}
  // Everything has gone out.
  virtual void finished() {}
  // The last call. 0: both sides have ended it in order.
  virtual void closed(std::uint32_t code) = 0;

  // The peer has ended the stream by a reset.
  bool was_reset() const { return was_reset_; }

 private:
  friend class Session;
  friend struct SessionCallbacks;

  std::shared_ptr<Exchange> keep_;  // while the session has it
  Session* session_ = nullptr;
  std::int32_t id_ = -1;
  // What there is of the body.
  std::string_view source() const { return direct_.empty() ? std::string_view(out_) : direct_; }

  std::string out_;
  std::string_view direct_;  // somebody else's memory, while it is being sent
  std::size_t sent_ = 0;     // of it
  Fields trailers_;
  bool waits_ = false;  // nghttp2 has been told that there is nothing to send
  bool finished_ = false;
  bool refused_ = false;  // malformed; it is being reset
  bool was_reset_ = false;
  Exchange* next_ = nullptr;
  Exchange* prev_ = nullptr;
};

class Session : protected Transport::Sink {
 public:
  struct Options {
    bool is_server = false;
    std::uint32_t streams = 100;           // that the peer may open at a time
    std::uint32_t stream_window = 131072;  // bytes of a body that may come before they are taken
    std::uint32_t window = 1048576;        // of all bodies; given back as they come
    std::uint32_t head_bytes = 0;          // told to the peer; 0: nothing is
  };

  // REQUIRES: load_library() has succeeded.
  Session(uv_loop_t* loop, std::unique_ptr<Transport> transport, const Options& options);
  virtual ~Session();

  // Begins to read; `input` is what has come already. REQUIRES: once, after the constructor.
  void begin(std::string_view input);

  // Client: sends the head of a request. False if the connection takes no more of them.
  bool request(std::shared_ptr<Exchange> exchange, Fields* fields, bool ends);
  // Server: the head of a response, or of an interim one.
  void respond(Exchange* exchange, Fields* fields, bool ends);
  void inform(Exchange* exchange, Fields* fields);

  // No new streams; those that are open go on, and with the last one the connection ends.
  void drain();
  // Tells the peer why, and ends.
  void terminate(std::uint32_t code);
  // Ends at once. What was not written is lost.
  void close();

  bool is_open() const { return transport_ != nullptr; }
  // Whether it takes new requests.
  bool is_usable() const { return is_open() && !draining_ && !goaway_received_ && !ended_; }
  bool has_ended() const { return ended_ || !transport_; }
  std::size_t exchanges() const { return count_; }
  std::uint64_t now() const { return uv_now(loop_); }
  // When something has come last.
  std::uint64_t heard_at() const { return heard_at_; }
  Transport* transport() { return transport_.get(); }
  // What the peer allows, and whether it has said so: what holds until then is a guess.
  std::uint32_t most_streams() const;
  bool has_settings() const { return has_settings_; }

  // Sends what is ready once all callbacks and tasks have run.
  void flush_later();
  void flush();

 protected:
  // A stream that the peer opens; null refuses it.
  virtual std::shared_ptr<Exchange> opened() { return nullptr; }
  // Nothing more comes from the peer: an end, or an error; streams that are open may still be
  // answered after an end.
  virtual void input_ended(const Failure&) {}
  // Everything is over. Called once, not by the destructor.
  virtual void over() {}
  // Something has come or gone; a good time to look at limits.
  virtual void changed() {}
  // The time given to `watch` has come.
  virtual void tick(std::uint64_t) {}
  // A frame that costs its sender next to nothing; false: these are too many.
  virtual bool allow_frame() { return true; }

  // Calls `tick` at that time, in the loop's milliseconds, or earlier.
  void watch(std::uint64_t deadline);
  Exchange* first() const { return first_; }
  static Exchange* next(Exchange* e) { return e->next_; }
  bool is_draining() const { return draining_; }
  std::uint64_t bytes_written() const { return written_; }
  // A write has failed, and everything with it.
  bool is_broken() const { return broken_; }
  // True while the peer is slow to take what was written.
  bool is_blocked() const { return sending_ != nullptr; }
  // Milliseconds that the peer has to close its side.
  std::uint64_t linger_ms = 2000;

 private:
  friend class Exchange;
  friend struct SessionCallbacks;
  struct Sending;

  void received(const char* data, std::size_t size) final;
  void ended(const Failure& failure) final;
  void take(const char* data, std::size_t size);
  void adopt(Exchange* e, std::shared_ptr<Exchange> keep, std::int32_t id);
  void release(Exchange* e, std::uint32_t code);
  void refuse(Exchange* e, std::uint32_t code);
  void finish_if_over();
  void linger();
  void expire();

  uv_loop_t* loop_;
  std::unique_ptr<Transport> transport_;
  nghttp2_session* session_ = nullptr;
  Handle<uv_prepare_t> flusher_;
  Handle<uv_timer_t> timer_;
  Sending* sending_ = nullptr;  // what the peer is slow to take
  Exchange* first_ = nullptr;
  std::size_t count_ = 0;
  std::string out_;
  std::uint64_t written_ = 0;
  std::uint64_t due_ = UINT64_MAX;
  std::uint64_t last_tick_ = 0;
  std::uint64_t heard_at_ = 0;
  std::uint64_t linger_until_ = 0;  // 0: not yet
  bool is_server_;
  bool scheduled_ = false;
  bool broken_ = false;  // a write has failed
  bool silent_ = false;  // nobody is there to be told
  bool draining_ = false;
  bool goaway_received_ = false;
  bool has_settings_ = false;
  bool terminated_ = false;
  bool ended_ = false;  // the peer sends no more
};

}  // namespace rille::http2
