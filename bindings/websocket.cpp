// rille.core.websocket: the frames of WebSocket, by wslay, over any transport.
#include <dlfcn.h>
#include <sys/random.h>

#include <algorithm>
#include <list>
#include <optional>
#include <vector>

#include "codec.h"
#include "json_text.h"
#include "stream.h"
#include "wait_point.h"
#include "websocket_frames.h"

namespace rille::websocket {

namespace {

constexpr std::size_t kMostKept = 1 << 20;     // of messages that nobody comes for
constexpr std::size_t kMessageCost = 96;       // of each, besides what it holds
constexpr std::size_t kMostPending = 1 << 18;  // of pongs that the peer does not take
constexpr std::size_t kWorthCoding = 128;      // shorter messages go out as they are
constexpr int kTurns = 3;                      // that a pong may be late because we are
constexpr int kPeerClosed = -1;                // in the place of a fault's code

struct Options {
  bool is_server = false;
  bool deflates = false;
  bool keeps_history = false;  // the peer's messages are compressed with those before them
  std::uint64_t most = 0;      // bytes of a message; 0: any
  std::uint64_t ping_interval_ms = 0;
  std::uint64_t ping_timeout_ms = 0;
  std::optional<std::uint64_t> close_timeout_ms;  // without one the peer may take its time
};

class WebSocket;

bool deflate(std::string_view data, std::string* out) {
  // Without a history over messages: it would cost memory for every connection.
  std::string error;
  auto encoder = compress::make_encoder("message", 0, &error);
  return encoder && encoder->write(data, compress::Encoder::Mode::kFlush, out) &&
         (out->resize(out->size() - 4), true);
}

// A message to many: what servers send is the same for all, but for the compression.
class Broadcast {
 public:
  Broadcast(std::string_view data, bool is_binary) : data_(data), is_binary_(is_binary) {}

  std::string_view data() const { return data_; }
  bool is_binary() const { return is_binary_; }

  const std::string& frame(bool deflates) {
    bool is_coded = deflates && data_.size() >= kWorthCoding;
    std::string& frame = is_coded ? coded_ : plain_;
    if (!frame.empty()) return frame;
    std::string coded;
    is_coded = is_coded && deflate(data_, &coded);
    append_frame(&frame, is_binary_ ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, is_coded,
                 is_coded ? coded : data_, false);
    return frame;
  }

 private:
  std::string_view data_;
  bool is_binary_;
  std::string plain_;
  std::string coded_;
};

// A task that waits for the answer to its ping, or for the end.
struct Waiting {
  WebSocket* socket;
  rille_waiter* waiter = nullptr;
  std::string payload;
  std::uint64_t begun = 0;
  std::uint64_t ended = 0;  // 0: there was no answer
  bool is_ping = false;

  static int push(lua_State* L, void* data) {
    std::unique_ptr<Waiting> self(static_cast<Waiting*>(data));
    if (!L) return 0;
    lua_pushnil(L);
    if (!self->is_ping) return 1;
    if (self->ended == 0) {
      lua_pushnil(L);
    } else {
      lua_pushnumber(L, static_cast<double>(self->ended - self->begun) / 1e9);
    }
    return 2;
  }
};

class WebSocket final : Transport::Sink, FrameParser::Sink {
 public:
  static constexpr char kName[] = "rille.WebSocket";

  WebSocket(std::unique_ptr<Transport> transport, std::string name, const Options& options)
      : transport_(std::move(transport)), name_(std::move(name)), options_(options) {}

  ~WebSocket() {
    cut_off();
    for (Waiting* w : waiting_) w->socket = nullptr;
  }

  void start(std::string_view early) {
    if (options_.ping_interval_ms > 0) make_timer(&ping_timer_);
    expect_life();
    if (!early.empty()) received(early.data(), early.size());
    if (transport_ && !has_ended_) go_on_reading();
  }

  // Waits for a message: nil, the data and whether it is binary; or nil and nil at the end.
  int recv(lua_State* L) {
    if (point_.is_taken()) return luaL_error(L, "another task receives from this WebSocket");
    if (!messages_.empty() || is_over()) return push_message(L);
    go_on_reading();
    return point_.wait(
        L,
        [](lua_State* l, void* self) {
          return l ? static_cast<WebSocket*>(self)->push_message(l) : 0;
        },
        this);
  }

  // Queues a message and puts it out; the task sleeps while the peer is slow. nil and false if
  // nothing can be sent any more.
  int send(lua_State* L, std::string_view data, bool is_binary) {
    if (is_closing()) {
      lua_pushnil(L);
      lua_pushboolean(L, 0);
      return 2;
    }
    queue(data, is_binary);
    std::string out = put_out();
    if (out.empty()) return 0;
    return write_and_wait(L, transport_.get(), name_, std::move(out));
  }

  // The same without waiting, of a message that goes to others too.
  void post(Broadcast* message) {
    if (options_.is_server) {
      out_.append(message->frame(options_.deflates));
    } else {
      queue(message->data(), message->is_binary());  // with a mask of its own
    }
    flush();
  }

  // Waits for the pong: nil and the seconds it took; or nil and nil if the end came first.
  int ping(lua_State* L, std::string_view payload) {
    auto w = std::make_unique<Waiting>();
    w->is_ping = true;
    w->payload = payload;
    w->begun = uv_hrtime();
    send_ping(payload);
    return wait(L, std::move(w));
  }

  // Begins the closing handshake, if that has not been done.
  void close(int code, std::string_view reason) {
    if (is_over() || is_closing_) return;
    send_close(code, reason);
    flush();
    messages_.clear();
    kept_ = 0;
    go_on_reading();
    give_time_to_close();
  }

  int wait_for_end(lua_State* L) {
    if (is_over()) {
      lua_pushnil(L);
      return 1;
    }
    return wait(L, std::make_unique<Waiting>());
  }

  // Ends the connection there and then.
  void cut_off() {
    if (draining_) std::exchange(draining_, nullptr)->socket = nullptr;
    transport_.reset();
    ping_timer_.reset();
    close_timer_.reset();
    if (code_ == 0) code_ = kCutOff;
    wake_all();
  }

  bool is_over() const { return code_ != 0; }
  bool is_closing() const { return is_closing_ || is_over(); }
  int code() const { return code_; }
  const std::string& reason() const { return reason_; }
  std::size_t backlog() const { return transport_ ? transport_->pending() : 0; }

 private:
  struct Message {
    std::string data;
    bool is_binary;
  };

  // ---- waiting ----------------------------------------------------------------------------------

  int wait(lua_State* L, std::unique_ptr<Waiting> w) {
    w->socket = this;
    w->waiter = rille_prepare(
        L,
        [](rille_waiter* waiter, void* data) {
          auto* self = static_cast<Waiting*>(data);
          if (self->socket) std::erase(self->socket->waiting_, self);
          rille_complete(waiter, Waiting::push, self);
        },
        w.get());
    rille_waiter* waiter = w->waiter;
    waiting_.push_back(w.release());
    return rille_park(L, waiter);
  }

  void wake_all() {
    for (Waiting* w : std::exchange(waiting_, {})) rille_complete(w->waiter, Waiting::push, w);
    point_.wake();
  }

  int push_message(lua_State* L) {
    lua_pushnil(L);
    if (messages_.empty()) {
      lua_pushnil(L);
      return 2;
    }
    Message& m = messages_.front();
    lua_pushlstring(L, m.data.data(), m.data.size());
    lua_pushboolean(L, m.is_binary);
    kept_ -= m.data.size() + kMessageCost;
    messages_.pop_front();
    if (kept_ <= kMostKept / 2 && !is_over()) go_on_reading();
    return 3;
  }

  // ---- in -------------------------------------------------------------------------------------

  void go_on_reading() {
    if (is_reading_ || has_ended_ || !transport_) return;
    is_reading_ = true;
    transport_->read(this);
  }

  void stop_reading() {
    is_reading_ = false;
    transport_->pause();
  }

  // Is told when all that is to be written now has been written.
  struct Drain final : Transport::Writer {
    explicit Drain(WebSocket* s) : socket(s) {}
    WebSocket* socket;  // null once that has ended

    void written(const Failure&) override {
      std::unique_ptr<Drain> self(this);
      if (!socket) return;
      socket->draining_ = nullptr;
      if (socket->kept_ <= kMostKept) socket->go_on_reading();
    }
  };

  // Nobody else may come by and read on. A pong that nobody has asked for says nothing, and stands
  // behind everything else: RFC 6455, section 5.5.3.
  void wait_for_drain() {
    if (draining_) return;
    std::string frame;
    append_frame(&frame, WSLAY_PONG, false, {}, !options_.is_server);
    draining_ = new Drain(this);
    transport_->write(std::move(frame), draining_);
  }

  void received(const char* data, std::size_t size) override {
    is_alive_ = true;
    if (is_over()) return;  // what comes behind the end
    int fault = parser_.feed({data, size}, this);
    if (fault != 0 && fault != kPeerClosed) {
      peer_code_ = fault;
      peer_reason_ = is_damaged_ ? "the compressed message is damaged" : what_is_wrong(fault);
      send_close(fault, peer_reason_);
    }
    flush();
    if (!transport_) return;
    if (fault != 0) {
      end_with(peer_code_, std::move(peer_reason_));
    } else if (kept_ > kMostKept) {
      stop_reading();
    } else if (transport_->pending() > kMostPending && !is_closing_) {
      stop_reading();
      wait_for_drain();
    }
    if (!messages_.empty()) point_.wake();
  }

  static const char* what_is_wrong(int code) {
    switch (code) {
      case kTooBig:
        return "the message is too long";
      case kBadData:
        return "the text is not UTF-8";
      case kInternalError:
        return "the message cannot be read";
      default:
        return "the peer broke the protocol";
    }
  }

  // ---- frames: RFC 6455, section 5 --------------------------------------------------------------

  int frame_begins(const FrameHead& head) override {
    head_ = head;
    // Clients mask what they send, servers do not.
    if (head.is_masked != options_.is_server) return kProtocolError;
    bool is_control = wslay_is_ctrl_frame(head.opcode);
    bool goes_on = head.opcode == WSLAY_CONTINUATION_FRAME;
    unsigned allowed = options_.deflates && !is_control && !goes_on ? WSLAY_RSV1_BIT : 0;
    if ((head.rsv & ~allowed) != 0) return kProtocolError;
    if (is_control) {
      control_.clear();
      return head.opcode > WSLAY_PONG ? kProtocolError : 0;
    }
    if (head.opcode > WSLAY_BINARY_FRAME || goes_on != is_in_message_) return kProtocolError;
    if (!goes_on) {
      is_in_message_ = true;
      message_.is_binary = head.opcode == WSLAY_BINARY_FRAME;
      is_coded_ = (head.rsv & WSLAY_RSV1_BIT) != 0;
      utf8_.reset();
    }
    std::uint64_t most = options_.most;
    if (most > 0 && (head.length > most || message_.data.size() > most - head.length)) {
      return kTooBig;
    }
    return 0;
  }

  int frame_holds(std::string_view data) override {
    if (wslay_is_ctrl_frame(head_.opcode)) {
      control_.append(data);
    } else if (!is_closing_) {
      message_.data.append(data);
      if (is_text() && !utf8_.goes_on(message_.data)) return kBadData;
    }
    return 0;
  }

  int frame_ends() override {
    switch (head_.opcode) {
      case WSLAY_PING:
        if (!is_closing_) send_frame(WSLAY_PONG, control_, false);
        return 0;
      case WSLAY_PONG:
        answer(control_);
        return 0;
      case WSLAY_CONNECTION_CLOSE:
        return take_close();
      default:
        if (!head_.is_last) return 0;
        is_in_message_ = false;
        return take_message();
    }
  }

  bool is_text() const { return !message_.is_binary && !is_coded_; }

  int take_close() {
    peer_code_ = kNoStatus;
    if (!control_.empty()) {
      if (control_.size() < 2) return kProtocolError;
      auto byte = [&](int i) { return static_cast<unsigned char>(control_[i]); };
      int code = byte(0) << 8 | byte(1);
      const char* text = control_.data();
      if (!may_stand_in_frame(code)) return kProtocolError;
      if (!json::is_utf8(text + 2, text + control_.size())) return kBadData;
      peer_code_ = code;
      peer_reason_ = control_.substr(2);
    }
    send_close(peer_code_, peer_reason_);
    return kPeerClosed;
  }

  int take_message() {
    Message m = std::exchange(message_, {});
    if (is_closing_) return 0;
    if (is_coded_) {
      Message coded{std::move(m.data), m.is_binary};
      m.data.clear();
      if (int code = inflate(coded.data, &m.data)) return code;
      const char* text = m.data.data();
      if (!m.is_binary && !json::is_utf8(text, text + m.data.size())) return kBadData;
    } else if (!m.is_binary && !utf8_.ends_well(m.data)) {
      return kBadData;
    }
    kept_ += m.data.size() + kMessageCost;
    messages_.push_back(std::move(m));
    return 0;
  }

  void ended(const Failure&) override {
    is_reading_ = false;
    has_ended_ = true;
    cut_off();
  }

  // No message follows. Our side of the connection is closed in order; the peer may take its time
  // to close its own, but not for ever.
  void end_with(int code, std::string reason) {
    if (is_over()) return;
    code_ = code;
    reason_ = std::move(reason);
    ping_timer_.reset();
    transport_->shutdown(nullptr);
    give_time_to_close();
    wake_all();
  }

  // A pong answers its ping and all before it: RFC 6455, section 5.5.3.
  void answer(std::string_view payload) {
    auto is_asked = [&](Waiting* w) { return w->is_ping && w->payload == payload; };
    auto it = std::find_if(waiting_.begin(), waiting_.end(), is_asked);
    if (it == waiting_.end()) return;
    auto last = static_cast<std::size_t>(it - waiting_.begin());
    std::vector<Waiting*> left;
    std::vector<Waiting*> answered;
    for (std::size_t i = 0; i < waiting_.size(); ++i) {
      (waiting_[i]->is_ping && i <= last ? answered : left).push_back(waiting_[i]);
    }
    waiting_ = left;
    for (Waiting* w : answered) {
      w->ended = uv_hrtime();
      rille_complete(w->waiter, Waiting::push, w);
    }
  }

  // ---- out ------------------------------------------------------------------------------------

  void queue(std::string_view data, bool is_binary) {
    std::string coded;
    bool is_coded = options_.deflates && data.size() >= kWorthCoding && deflate(data, &coded);
    send_frame(is_binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, is_coded ? coded : data,
               is_coded);
  }

  void send_frame(unsigned opcode, std::string_view payload, bool is_coded) {
    append_frame(&out_, opcode, is_coded, payload, !options_.is_server);
  }

  // The closing handshake's half that is ours; nothing is sent after it.
  void send_close(int code, std::string_view reason) {
    if (std::exchange(is_closing_, true)) return;
    std::string payload;
    if (code != kNoStatus) {
      payload.push_back(static_cast<char>(code >> 8));
      payload.push_back(static_cast<char>(code & 0xff));
      payload.append(reason);
    }
    send_frame(WSLAY_CONNECTION_CLOSE, payload, false);
  }

  // Writes what can be written without waiting; gives the rest.
  std::string put_out() {
    std::string out = std::exchange(out_, {});
    if (out.empty() || !transport_) return {};
    uv_buf_t buffer;
    buffer.base = out.data();
    buffer.len = out.size();
    ssize_t n = transport_->try_write(&buffer, 1);
    // If the connection has failed, reading says so.
    if (n < 0) return {};
    out.erase(0, static_cast<std::size_t>(n));
    return out;
  }

  void flush() {
    std::string rest = put_out();
    if (!rest.empty()) transport_->write(std::move(rest), nullptr);
  }

  void send_ping(std::string_view payload) {
    send_frame(WSLAY_PING, payload, false);
    flush();
  }

  // ---- permessage-deflate: RFC 7692 -----------------------------------------------------------

  // Returns 0, or the code with which the connection has to be closed.
  int inflate(std::string_view data, std::string* out) {
    constexpr std::string_view kTail("\0\0\xff\xff", 4);
    std::string error;
    if (!decoder_) decoder_ = compress::make_decoder("message", &error);
    if (!decoder_) return kInternalError;
    decoder_->feed(data, false);
    decoder_->feed(kTail, false);
    for (;;) {
      std::size_t before = out->size();
      is_damaged_ = !decoder_->read(out, 65536);
      if (is_damaged_) return kBadData;
      if (out->size() == before) break;
      if (options_.most > 0 && out->size() > options_.most) return kTooBig;
    }
    if (!options_.keeps_history) decoder_.reset();
    return 0;
  }

  // ---- time -----------------------------------------------------------------------------------

  // They never keep the program going.
  void make_timer(Handle<uv_timer_t>* timer) {
    timer->reset(new uv_timer_t);
    uv_timer_init(transport_->handle()->loop, timer->get());
    uv_unref(reinterpret_cast<uv_handle_t*>(timer->get()));
    (*timer)->data = this;
  }

  // Asks now and then whether the peer is still there.
  void expect_life() {
    if (!ping_timer_) return;
    std::uint64_t ms = options_.ping_interval_ms;
    std::uint64_t timeout = options_.ping_timeout_ms;
    // The time that it took to wait for an answer is of the next interval.
    if (is_asked_) {
      ms = timeout;
    } else if (was_asked_) {
      ms = ms > timeout ? ms - timeout : 0;
    }
    check_life_after(ms);
  }

  void check_life_after(std::uint64_t ms) {
    auto fired = [](uv_timer_t* t) { static_cast<WebSocket*>(t->data)->check_life(); };
    uv_timer_start(ping_timer_.get(), fired, ms, 0);
  }

  void check_life() {
    if (is_over()) return;
    // As long as we do not listen, it may say what it wants.
    bool takes_nothing = draining_ && transport_->pending() >= pending_before_;
    if (is_asked_ && !is_alive_ && (is_reading_ || takes_nothing)) {
      // If we were late ourselves, its answer lies there and has not been read yet.
      if (turns_left_-- > 0) {
        return check_life_after(0);
      }
      reason_ = "the peer did not answer a ping";
      return cut_off();
    }
    was_asked_ = std::exchange(is_asked_, !is_asked_ && options_.ping_timeout_ms > 0);
    if (is_asked_ || options_.ping_timeout_ms == 0) {
      is_alive_ = false;
      turns_left_ = kTurns;
      if (!is_closing_) send_ping("?");
      pending_before_ = backlog();
    }
    expect_life();
  }

  void give_time_to_close() {
    if (close_timer_ || !options_.close_timeout_ms) return;
    make_timer(&close_timer_);
    auto fired = [](uv_timer_t* t) { static_cast<WebSocket*>(t->data)->cut_off(); };
    uv_timer_start(close_timer_.get(), fired, *options_.close_timeout_ms, 0);
  }

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

// ---- Lua ----------------------------------------------------------------------------------------

WebSocket* check(lua_State* L) { return Class<WebSocket>::check(L, 1); }

std::string_view view(lua_State* L, int index) {
  std::size_t size = 0;
  const char* text = luaL_optlstring(L, index, "", &size);
  return {text, size};
}

std::uint64_t ms_of(lua_State* L, int index) {
  lua_Number seconds = luaL_optnumber(L, index, 0);
  return seconds > 0 && seconds < 1e12 ? static_cast<std::uint64_t>(seconds * 1e3) + 1 : 0;
}

// open(stream, early, is_server, deflates, max_message, ping_interval, ping_timeout,
// close_timeout, keeps_history) -> socket. Times are in seconds; 0 is none; close_timeout may be
// nil for that.
int open(lua_State* L) {
  Stream* stream = check_stream(L, 1, "open");
  Options options;
  options.is_server = lua_toboolean(L, 3) != 0;
  options.deflates = lua_toboolean(L, 4) != 0;
  options.most = static_cast<std::uint64_t>(luaL_checknumber(L, 5));
  options.ping_interval_ms = ms_of(L, 6);
  options.ping_timeout_ms = ms_of(L, 7);
  if (lua_isnumber(L, 8)) options.close_timeout_ms = ms_of(L, 8);
  options.keeps_history = lua_toboolean(L, 9) != 0;
  std::string early = stream->take_input();
  early.append(view(L, 2));
  std::string name = stream->name();
  auto* socket = Class<WebSocket>::push(L, stream->release(), std::move(name), options);
  socket->start(early);
  return 1;
}

// recv(socket) -> data, is_binary; nil at the end
int recv(lua_State* L) { return check(L)->recv(L); }

// send(socket, data, is_binary) -> false if nothing can be sent any more
int send(lua_State* L) {
  WebSocket* s = check(L);
  return s->send(L, view(L, 2), lua_toboolean(L, 3) != 0);
}

// broadcast(list, data, is_binary, most) -> how many it went to. Does not wait; whoever has more
// than `most` bytes to take yet is closed. REQUIRES: tables with a socket at _socket.
int broadcast(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  auto n = static_cast<int>(lua_objlen(L, 1));
  auto most = static_cast<std::size_t>(luaL_checknumber(L, 4));
  auto socket_at = [&](int i) {
    lua_settop(L, 4);
    lua_rawgeti(L, 1, i);
    lua_pushliteral(L, "_socket");
    lua_rawget(L, -2);
    return Class<WebSocket>::check(L, -1);
  };
  for (int i = 1; i <= n; ++i) socket_at(i);  // raises before there is anything to free
  int reached = 0;
  Broadcast message(view(L, 2), lua_toboolean(L, 3) != 0);
  for (int i = 1; i <= n; ++i) {
    WebSocket* s = socket_at(i);
    if (s->is_closing()) continue;
    if (s->backlog() > most) {
      s->close(1013, "too slow");
    } else {
      s->post(&message);
      ++reached;
    }
  }
  lua_pushinteger(L, reached);
  return 1;
}

// ping(socket, payload) -> seconds, or nil if the end came first
int ping(lua_State* L) { return check(L)->ping(L, view(L, 2)); }

// close(socket, code, reason): does not wait.
int close(lua_State* L) {
  check(L)->close(luaL_checkint(L, 2), view(L, 3));
  return 0;
}

// wait_for_end(socket)
int wait_for_end(lua_State* L) { return check(L)->wait_for_end(L); }

int cut_off(lua_State* L) {
  check(L)->cut_off();
  return 0;
}

// state(socket) -> whether nothing can be sent any more, and, once it is over, code and reason
int state(lua_State* L) {
  WebSocket* s = check(L);
  lua_pushboolean(L, s->is_closing());
  if (!s->is_over()) return 1;
  lua_pushinteger(L, s->code());
  lua_pushlstring(L, s->reason().data(), s->reason().size());
  return 3;
}

int is_utf8(lua_State* L) {
  std::string_view text = view(L, 1);
  lua_pushboolean(L, json::is_utf8(text.data(), text.data() + text.size()));
  return 1;
}

// random(n) -> so many random bytes
int random(lua_State* L) {
  char bytes[64];
  auto n = std::min<std::size_t>(static_cast<std::size_t>(luaL_checkint(L, 1)), sizeof bytes);
  if (getrandom(bytes, n, 0) != static_cast<ssize_t>(n)) return luaL_error(L, "no random numbers");
  lua_pushlstring(L, bytes, n);
  return 1;
}

// sha1(text) -> its digest; or nil and why there is none
int sha1(lua_State* L) {
  using Sha1 = unsigned char*(const unsigned char*, std::size_t, unsigned char*);
  static void* const kLibrary = dlopen("libcrypto.so.3", RTLD_LAZY | RTLD_LOCAL);
  static auto* const kDigest =
      kLibrary ? reinterpret_cast<Sha1*>(dlsym(kLibrary, "SHA1")) : nullptr;
  if (!kDigest) {
    lua_pushnil(L);
    lua_pushliteral(L, "libcrypto.so.3 cannot be loaded");
    return 2;
  }
  unsigned char out[20];
  std::string_view text = view(L, 1);
  kDigest(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out);
  lua_pushlstring(L, reinterpret_cast<char*>(out), sizeof out);
  return 1;
}

const rille_reg kFunctions[] = {{"open", open, 0},
                                {"recv", recv, RILLE_WAITS},
                                {"send", send, RILLE_WAITS},
                                {"broadcast", broadcast, 0},
                                {"ping", ping, RILLE_WAITS},
                                {"close", close, 0},
                                {"wait_for_end", wait_for_end, RILLE_WAITS},
                                {"cut_off", cut_off, 0},
                                {"state", state, 0},
                                {"is_utf8", is_utf8, 0},
                                {"random", random, 0},
                                {"sha1", sha1, 0},
                                {nullptr, nullptr, 0}};
const rille_reg kNone[] = {{nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::websocket

extern "C" int luaopen_rille_core_websocket(lua_State* L) {
  using namespace rille::websocket;
  rille::Class<WebSocket>::define(L, kNone);
  rille_newlib(L, kFunctions);
  return 1;
}
