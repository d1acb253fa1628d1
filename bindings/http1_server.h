// The server's side of HTTP/1: cutting connections into requests, answering.
//
// A connection belongs to a task, which asks for the next request, answers it, and so on. Requests
// are parsed as their bytes arrive, in the callbacks of the loop, so the task sleeps once for a
// request at most, and not at all if the next one is there. What is wrong with a request, or takes
// too long, is answered here; the task never hears of it.
#pragma once

#include <cstdint>
#include <lua.hpp>
#include <memory>
#include <string>
#include <vector>

#include "cached_file.h"
#include "http1_head.h"
#include "http1_message.h"
#include "stream.h"
#include "transport.h"
#include "wait_point.h"

namespace rille::http1 {

struct ServerOptions {
  Limits limits;
  std::uint64_t requests = 0;       // on a connection; 0: any number
  std::uint64_t header_ms = 10000;  // 0: as long as it takes
  std::uint64_t body_ms = 30000;
  std::uint64_t idle_ms = 60000;
  std::uint64_t write_ms = 30000;
  bool tells_refusals = false;
  bool http2 = false;  // a connection may begin with HTTP/2's preface
};

// Reads them from the table at the first index.
ServerOptions check_options(lua_State* L);

class Connection;

// What the connections of a server have in common: limits, the clock, memory. Shared by the
// server's object in Lua and its connections, whichever is collected last.
class Server {
 public:
  Server(uv_loop_t* loop, const ServerOptions& options);

  // Connections that end from now on are not given much time for it.
  void stop() { is_stopped_ = true; }

  const ServerOptions& options() const { return options_; }

 private:
  friend class Connection;

  void join(Connection* c);
  void leave(Connection* c);
  void watch(std::uint64_t deadline);
  void tick();
  void flush_later(Connection* c);
  void flush_all();

  ServerOptions options_;
  Handle<uv_timer_t> timer_;
  Handle<uv_prepare_t> flusher_;
  std::vector<Connection*> unsent_;  // that have something to send before the loop waits
  Connection* first_ = nullptr;      // all that are open
  std::uint64_t due_ = UINT64_MAX;
  std::uint64_t last_tick_ = 0;
  DateField date_;
  std::string out_;  // for putting a response together
  bool is_stopped_ = false;
};

class Connection final : Transport::Sink {
 public:
  // `peer` is its address, as text.
  Connection(std::shared_ptr<Server> server, std::unique_ptr<Transport> transport,
             std::string peer);
  ~Connection();

  // Waits for a request: nil and its head, or nil and nil when there are no more; and true if the
  // peer speaks HTTP/2: see `release`.
  int next_request(lua_State* L);

  // Hands the connection over, with all that has come. Null if it is closed.
  std::unique_ptr<Transport> release(std::string* input);

  // Waits for the body of the request: nil and the body; nil, nil, a status and what is wrong; or
  // nil and nil once the request has been answered.
  int read_body(lua_State* L, std::size_t most);

  // Waits for more of the body: nil and what has come; nil, "" at its end; else as read_body.
  int read_chunk(lua_State* L);

  // What the body of this request may have at most, as for Parser; false if it is larger.
  bool limit_body(std::uint64_t bytes) { return parser_.limit_body(bytes); }
  // True if the request has one.
  bool has_body() const { return parser_.is_chunked() || parser_.content_length() > 0; }
  const std::vector<std::string>& trailers() const { return parser_.trailers(); }

  // Answers the request, and waits if the peer is slow to take it. nil and false: it has gone.
  enum Flag { kClose = 1, kNoDate = 2 };
  int respond(lua_State* L, const ResponseHead& head, std::string_view body, int flags);

  // The same in parts. `start` takes the head, with a length of the body or without; it goes out
  // with the first bytes of the body or by `flush`, and until then `take_back` undoes it (false if
  // it is too late). True if the response has a body. Small parts that are sent one after the other
  // go out together, before the loop waits.
  bool start(const ResponseHead& head, int flags);
  bool take_back();
  void flush();

  // Sends a part of the body, and waits if the peer is slow. nil and true; nil and false if the
  // peer has gone, or takes no more than what was announced.
  int send(lua_State* L, std::string_view data);

  // Sends what it can of a part of the body at once, out of a file, and never waits: how many
  // bytes, or -1 if the peer has gone.
  ssize_t send_file(const CachedFile& file, off_t at, std::size_t size);

  // Ends the response; false if the body is shorter than was announced.
  bool finish(std::string_view trailers);

  // Waits until the peer has gone: nil and whether it has only ended its side; nil and nil once
  // the connection is closed.
  int wait_end(lua_State* L);

  bool has_ended() const { return ended_ || state_ == kClosed; }

  // Answers with 101 and these fields, and hands the connection over: nil, a Stream.
  int upgrade(lua_State* L, std::string_view fields);

  // No further request is taken; the one in progress is still answered.
  void drain();
  void close();
  // The same, and the peer must not take what it has got for all of the response.
  void cut();

  // If the options say so: pushes the status with which the last request was refused, how many
  // bytes its answer had and what is known of the request's first line; once, and else nothing.
  int refusal(lua_State* L);

  const std::string& peer() const { return peer_; }

 private:
  friend class Server;
  struct Sending;

  enum State : std::uint8_t {
    kReading,    // for a request to come
    kReady,      // its head is there, the task comes for it
    kHandling,   // the task has it
    kDraining,   // it is answered, but not all of its body has come
    kLingering,  // nothing is sent any more, the peer is given time to take what was
    kHttp2,      // the peer has begun to speak that
    kClosed,
  };

  void received(const char* data, std::size_t size) override;
  void ended(const Failure& failure) override;

  std::size_t match_preface(const char* data, std::size_t size);
  void begin_next();
  std::size_t parse(const char* data, std::size_t size);
  std::size_t take_body(const char* data, std::size_t size);
  std::size_t drop_body(const char* data, std::size_t size);
  void refuse(int status, const char* fault);
  void linger();
  void set_deadline(std::uint64_t ms);
  void expire();
  void go_on_reading();
  void hold_back();
  bool answers_close(int flags);
  bool has_unread();
  bool is_body_known(std::size_t most) const;
  void expect_body(std::uint64_t ms);
  int push_fault(lua_State* L, std::size_t most);
  int push_body(lua_State* L);
  int push_chunk(lua_State* L);
  int write(lua_State* L, const uv_buf_t* buffers, unsigned count);
  int wait_for_write(lua_State* L, std::string rest);
  void put_out(std::string_view data);
  void put_out_kept();
  void flush_begun();
  std::uint64_t now() const { return uv_now(server_->timer_->loop); }

  static int push_request(lua_State* L, void* self);
  static int push_end(lua_State* L, void* self);

  std::shared_ptr<Server> server_;
  std::unique_ptr<Transport> transport_;
  Parser parser_;
  std::string input_;       // came before its time
  std::size_t parsed_ = 0;  // of it
  std::string peer_;
  std::string kept_;  // of a response that has been started: its head, small parts of its body
  WaitPoint request_point_;
  WaitPoint body_point_;  // mostly the same task's, but a handler may share its request
  WaitPoint end_point_;
  Sending* sending_ = nullptr;  // the write or shutdown that the peer is slow to take
  std::uint64_t deadline_ = 0;  // 0: none
  std::uint64_t left_ = 0;      // of the length that was announced
  std::uint64_t requests_ = 0;
  std::uint64_t body_since_ = 0;   // when waiting for it began
  std::uint64_t body_waited_ = 0;  // before that, for other parts of it
  std::size_t pending_ = 0;        // bytes, when the deadline for writing was set
  std::size_t most_body_ = 0;
  unsigned answered_ = 0;  // how many requests
  unsigned waiting_ = 0;   // what it was when the body was asked for
  std::size_t drained_ = 0;
  std::size_t most_drained_ = 0;  // of a body that nobody wanted, behind the response
  const char* body_fault_ = nullptr;
  int body_status_ = 0;
  int refused_ = 0;  // the status, until it is told
  std::size_t refused_bytes_ = 0;
  Connection* next_ = nullptr;
  Connection* prev_ = nullptr;
  std::uint8_t preface_ = 0;  // bytes of HTTP/2's that have come
  State state_ = kReading;
  ResponseHead::Framing framing_ = ResponseHead::kLength;
  bool may_change_;          // to HTTP/2, which would show in the first bytes
  bool closing_ = false;     // after this request
  bool ended_ = false;       // the peer sends no more
  bool broken_ = false;      // nor does it take anything
  bool held_ = false;        // reading pauses
  bool started_ = false;     // the response has been started, and not been finished
  bool begun_ = false;       // something of it has gone out
  bool sends_body_ = false;  // of a response that has been started
  bool closes_ = false;      // the connection ends with it
  bool flushes_ = false;     // the server knows that there is something in kept_
};

// server(options) -> what connections are made with. Every option is there, 0 for no limit.
int make_server(lua_State* L);

// Makes the classes of servers and connections.
void define_server(lua_State* L);

}  // namespace rille::http1
