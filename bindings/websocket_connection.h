// A WebSocket (RFC 6455) over any transport: messages, pings and the closing handshake.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec.h"
#include "transport.h"
#include "wait_point.h"
#include "websocket_frames.h"

namespace rille::websocket {

struct Options {
  bool is_server = false;
  bool deflates = false;
  bool keeps_history = false;  // the peer's messages are compressed with those before them
  std::uint64_t most = 0;      // bytes of a message; 0: any
  std::uint64_t ping_interval_ms = 0;
  std::uint64_t ping_timeout_ms = 0;
  std::optional<std::uint64_t> close_timeout_ms;  // without one the peer may take its time
};

// A message to many: what servers send is the same for all, but for the compression.
class Broadcast {
 public:
  Broadcast(std::string_view data, bool is_binary) : data_(data), is_binary_(is_binary) {}

  std::string_view data() const { return data_; }
  bool is_binary() const { return is_binary_; }

  // With or without compression; made once.
  const std::string& frame(bool deflates);

 private:
  std::string_view data_;
  bool is_binary_;
  std::string plain_;
  std::string coded_;
};

class WebSocket;

// A task that waits for the answer to its ping, or for the end.
struct Waiting {
  WebSocket* socket;
  rille_waiter* waiter = nullptr;
  std::string payload;
  std::uint64_t begun = 0;
  std::uint64_t ended = 0;  // 0: there was no answer
  bool is_ping = false;

  static int push(lua_State* L, void* data);
};

// Lives in a userdata: Class<WebSocket>.
class WebSocket final : Transport::Sink, FrameParser::Sink {
 public:
  static constexpr char kName[] = "rille.WebSocket";

  WebSocket(std::unique_ptr<Transport> transport, std::string name, const Options& options)
      : transport_(std::move(transport)), name_(std::move(name)), options_(options) {}

  ~WebSocket();

  // Begins to read; `early` has come already.
  void start(std::string_view early);

  // Waits for a message: nil, the data and whether it is binary; or nil and nil at the end.
  int recv(lua_State* L);

  // Queues a message and puts it out; the task sleeps while the peer is slow. nil and false if
  // nothing can be sent any more.
  int send(lua_State* L, std::string_view data, bool is_binary);

  // The same without waiting, of a message that goes to others too.
  void post(Broadcast* message);

  // Waits for the pong: nil and the seconds it took; or nil and nil if the end came first.
  int ping(lua_State* L, std::string_view payload);

  // Begins the closing handshake, if that has not been done.
  void close(int code, std::string_view reason);

  int wait_for_end(lua_State* L);

  // Ends the connection there and then.
  void cut_off();

  bool is_over() const { return code_ != 0; }
  bool is_closing() const { return is_closing_ || is_over(); }
  int code() const { return code_; }
  const std::string& reason() const { return reason_; }
  std::size_t backlog() const { return transport_ ? transport_->pending() : 0; }

 private:
  static constexpr std::size_t kMostKept = 1 << 20;  // of messages that nobody comes for
  static constexpr std::size_t kMessageCost = 96;    // of each, besides what it holds

  struct Message {
    std::string data;
    bool is_binary;
  };

  // Is told when all that is to be written now has been written.
  struct Drain final : Transport::Writer {
    explicit Drain(WebSocket* s) : socket(s) {}
    WebSocket* socket;  // null once that has ended
    void written(const Failure&) override;
  };

  int wait(lua_State* L, std::unique_ptr<Waiting> w);
  void wake_all();
  int push_message(lua_State* L);
  // No message follows. Our side of the connection is closed in order; the peer may take its time
  // to close its own, but not for ever.
  void end_with(int code, std::string reason);

  void queue(std::string_view data, bool is_binary);
  void send_frame(unsigned opcode, std::string_view payload, bool is_coded);
  void send_ping(std::string_view payload);
  // The closing handshake's half that is ours; nothing is sent after it.
  void send_close(int code, std::string_view reason);
  // Writes what can be written without waiting; gives the rest.
  std::string put_out();
  void flush();

  // What comes: websocket_input.cpp.
  void go_on_reading();
  void stop_reading();
  void wait_for_drain();
  void received(const char* data, std::size_t size) override;
  void ended(const Failure&) override;
  int frame_begins(const FrameHead& head) override;
  int frame_holds(std::string_view data) override;
  int frame_ends() override;
  bool is_text() const { return !message_.is_binary && !is_coded_; }
  int take_close();
  int take_message();
  // Undoes permessage-deflate (RFC 7692). Returns 0, or the code with which the connection has to
  // be closed.
  int inflate(std::string_view data, std::string* out);
  void answer(std::string_view payload);

  // Time: websocket_liveness.cpp.
  void make_timer(Handle<uv_timer_t>* timer);
  void expect_life();
  void check_life_after(std::uint64_t ms);
  void check_life();
  void give_time_to_close();

  std::unique_ptr<Transport> transport_;
  std::string name_;
  Options options_;
  FrameParser parser_;
  FrameHead head_{};     // of the frame in hand
  std::string control_;  // what it holds, if it is a control frame
  Message message_;      // of which frames have come
  Utf8Check utf8_;       // of it
  std::string out_;
  std::list<Message> messages_;
  std::size_t kept_ = 0;
  std::unique_ptr<compress::Decoder> decoder_;
  Handle<uv_timer_t> ping_timer_;
  Handle<uv_timer_t> close_timer_;
  WaitPoint point_;
  std::vector<Waiting*> waiting_;
  Drain* draining_ = nullptr;  // while reading waits for it
  std::size_t pending_before_ = 0;
  std::string peer_reason_;
  std::string reason_;
  int peer_code_ = 0;
  int code_ = 0;  // once it is over
  bool is_in_message_ = false;
  bool is_coded_ = false;    // the message
  bool is_damaged_ = false;  // what it holds, once it is decoded
  bool is_reading_ = false;
  bool is_closing_ = false;  // we have sent our close frame
  bool has_ended_ = false;
  bool is_asked_ = false;  // a ping is on its way
  bool was_asked_ = false;
  bool is_alive_ = true;  // something has come since
  int turns_left_ = 0;    // of the loop, after the timeout
};

}  // namespace rille::websocket
