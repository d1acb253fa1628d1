// rille.core.websocket: the frames of WebSocket, by wslay, over any transport.
#include <dlfcn.h>
#include <sys/random.h>
#include <wslay/wslay.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <vector>

#include "codec.h"
#include "json_text.h"
#include "stream.h"
#include "wait_point.h"

namespace rille::websocket {

namespace {

constexpr std::size_t kMostKept = 1 << 20;     // of messages that nobody comes for
constexpr std::size_t kMostPending = 1 << 18;  // of pongs that the peer does not take
constexpr std::size_t kWorthCoding = 128;      // shorter messages go out as they are

enum Code { kNoStatus = 1005, kCutOff = 1006 };

struct Options {
  bool is_server = false;
  bool deflates = false;
  std::uint64_t most = 0;  // bytes of a message; 0: any
  std::uint64_t ping_interval_ms = 0;
  std::uint64_t ping_timeout_ms = 0;
  std::uint64_t close_timeout_ms = 0;
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

class WebSocket final : Transport::Sink {
 public:
  static constexpr char kName[] = "rille.WebSocket";

  WebSocket(std::unique_ptr<Transport> transport, std::string name, const Options& options)
      : transport_(std::move(transport)), name_(std::move(name)), options_(options) {
    wslay_event_callbacks callbacks{};
    callbacks.recv_callback = on_recv;
    callbacks.send_callback = on_send;
    callbacks.genmask_callback = on_genmask;
    callbacks.on_msg_recv_callback = on_message;
    auto init =
        options.is_server ? wslay_event_context_server_init : wslay_event_context_client_init;
    if (init(&context_, &callbacks, this) != 0) throw std::bad_alloc();
    if (options.most > 0) wslay_event_config_set_max_recv_msg_length(context_, options.most);
    if (options.deflates) wslay_event_config_set_allowed_rsv_bits(context_, WSLAY_RSV1_BIT);
  }

  ~WebSocket() {
    cut_off();
    for (Waiting* w : waiting_) w->socket = nullptr;
    wslay_event_context_free(context_);
  }

  void start(std::string_view early) {
    uv_loop_t* loop = transport_->handle()->loop;
    for (auto* timer : {&ping_timer_, &close_timer_}) {
      timer->reset(new uv_timer_t);
      uv_timer_init(loop, timer->get());
      uv_unref(reinterpret_cast<uv_handle_t*>(timer->get()));
      (*timer)->data = this;
    }
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

  // Queues a message and puts it out. With `waits`, the task sleeps while the peer is slow.
  int send(lua_State* L, std::string_view data, bool is_binary, bool waits) {
    wslay_event_msg message{};
    message.opcode = is_binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME;
    message.msg = reinterpret_cast<const std::uint8_t*>(data.data());
    message.msg_length = data.size();
    std::uint8_t rsv = WSLAY_RSV_NONE;
    std::string coded;
    if (options_.deflates && data.size() >= kWorthCoding && deflate(data, &coded)) {
      message.msg = reinterpret_cast<const std::uint8_t*>(coded.data());
      message.msg_length = coded.size();
      rsv = WSLAY_RSV1_BIT;
    }
    if (wslay_event_queue_msg_ex(context_, &message, rsv) != 0) {
      return luaL_error(L, "not enough memory");
    }
    wslay_event_send(context_);
    std::string out = put_out();
    if (out.empty()) return 0;
    if (waits) return write_and_wait(L, transport_.get(), name_, std::move(out));
    transport_->write(std::move(out), nullptr);
    return 0;
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
    is_closing_ = true;
    auto* text = reinterpret_cast<const std::uint8_t*>(reason.data());
    wslay_event_queue_close(context_, static_cast<std::uint16_t>(code), text, reason.size());
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
    kept_ -= m.data.size();
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

  void received(const char* data, std::size_t size) override {
    std::string held = std::exchange(held_, {});
    if (!held.empty()) held.append(data, size);
    in_ = held.empty() ? std::string_view(data, size) : held;
    is_alive_ = true;
    int rc = wslay_event_recv(context_);
    held_ = in_;
    in_ = {};
    bool has_closed = wslay_event_get_close_received(context_) != 0 && !has_half_code_;
    bool has_failed = !has_closed && fault_ == 0 && wslay_event_get_read_enabled(context_) == 0;
    // What the peer has to know: pongs, the answer to its close, what it has done wrong.
    wslay_event_send(context_);
    int sent = has_failed ? name_fault() : 0;
    flush();
    if (!transport_) return;
    if (has_closed) {
      int code = wslay_event_get_status_code_received(context_);
      end_with(code == 0 ? kNoStatus : code, close_reason_);
    } else if (fault_ != 0) {
      end_with(fault_, fault_reason_);
    } else if (has_failed || rc != 0) {
      end_with(has_failed ? sent : kCutOff, what_is_wrong(sent));
    } else if (kept_ > kMostKept || transport_->pending() > kMostPending) {
      is_reading_ = false;
      transport_->pause();
    }
    if (!messages_.empty()) point_.wake();
  }

  // wslay closes without a code where a frame's head is wrong: there should be one.
  // Returns the code that is sent.
  int name_fault() {
    constexpr std::size_t kHead = 2;
    constexpr std::size_t kMask = 4;
    int code = wslay_event_get_status_code_sent(context_);
    if (code != 0 && code != kNoStatus) return code;
    std::size_t size = kHead + (options_.is_server ? 0 : kMask);
    if (out_.size() >= size) {
      std::string frame = out_.substr(out_.size() - size);
      out_.resize(out_.size() - size);
      char payload[] = {static_cast<char>(WSLAY_CODE_PROTOCOL_ERROR >> 8),
                        static_cast<char>(WSLAY_CODE_PROTOCOL_ERROR & 0xff)};
      for (int i = 0; i < 2 && !options_.is_server; ++i) payload[i] ^= frame[kHead + i];
      frame[1] = static_cast<char>(frame[1] | 2);
      out_.append(frame).append(payload, 2);
    }
    return WSLAY_CODE_PROTOCOL_ERROR;
  }

  static const char* what_is_wrong(int code) {
    switch (code) {
      case WSLAY_CODE_MESSAGE_TOO_BIG:
        return "the message is too long";
      case WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA:
        return "the text is not UTF-8";
      default:
        return "the peer broke the protocol";
    }
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
    if (fault_ == 0 && ping_timer_) uv_timer_stop(ping_timer_.get());
    transport_->shutdown(nullptr);
    give_time_to_close();
    wake_all();
  }

  void fail(int code, const char* reason) {
    fault_ = code;
    fault_reason_ = reason;
    wslay_event_queue_close(context_, static_cast<std::uint16_t>(code),
                            reinterpret_cast<const std::uint8_t*>(reason), std::strlen(reason));
    wslay_event_shutdown_read(context_);
  }

  static ssize_t on_recv(wslay_event_context_ptr context, std::uint8_t* buffer, std::size_t size,
                         int, void* data) {
    auto* self = static_cast<WebSocket*>(data);
    size = self->next_portion(size);
    if (size == 0) {
      wslay_event_set_error(context, WSLAY_ERR_WOULDBLOCK);
      return -1;
    }
    std::memcpy(buffer, self->in_.data(), size);
    self->in_.remove_prefix(size);
    return static_cast<ssize_t>(size);
  }

  // How many of the bytes that have come wslay is given. A close frame it gets whole: of each piece
  // of one it takes the first two bytes for a code, and looks for UTF-8 in what follows.
  std::size_t next_portion(std::size_t most) {
    constexpr std::uint64_t kLongestClose = 131;
    most = std::min(most, in_.size());
    std::size_t n = 0;
    while (n < most) {
      if (frame_left_ == 0) {
        std::string_view rest = in_.substr(n);
        std::uint64_t size = frame_size(rest);
        bool is_close = (rest[0] & 0x0f) == WSLAY_CONNECTION_CLOSE && size <= kLongestClose;
        if (size == 0 || (is_close && (n > 0 || size > most))) return n;
        frame_left_ = size;
      }
      auto part = static_cast<std::size_t>(std::min<std::uint64_t>(frame_left_, most - n));
      n += part;
      frame_left_ -= part;
    }
    return n;
  }

  // Of the frame that begins there; 0 if too little of its head has come to tell.
  static std::uint64_t frame_size(std::string_view in) {
    constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
    if (in.size() < 2) return 0;
    auto byte_at = [&](std::size_t i) { return static_cast<unsigned char>(in[i]); };
    std::uint64_t length = byte_at(1) & 0x7f;
    std::size_t head = length == 126 ? 4 : length == 127 ? 10 : 2;
    if (in.size() < head) return 0;
    if (head > 2) length = 0;
    for (std::size_t i = 2; i < head; ++i) length = length << 8 | byte_at(i);
    return head + (byte_at(1) & 0x80 ? 4 : 0) + std::min(length, kMost);
  }

  static void on_message(wslay_event_context_ptr, const wslay_event_on_msg_recv_arg* arg,
                         void* data) {
    static_cast<WebSocket*>(data)->take(arg);
  }

  void take(const wslay_event_on_msg_recv_arg* arg) {
    std::string_view text(reinterpret_cast<const char*>(arg->msg), arg->msg_length);
    switch (arg->opcode) {
      case WSLAY_PONG:
        return answer(text);
      case WSLAY_CONNECTION_CLOSE:
        if (text.size() > 2) close_reason_ = text.substr(2);
        has_half_code_ = text.size() == 1;
        return;
      case WSLAY_TEXT_FRAME:
      case WSLAY_BINARY_FRAME:
        break;
      default:
        return;
    }
    if (is_closing_ || fault_ != 0) return;
    Message m{{}, arg->opcode == WSLAY_BINARY_FRAME};
    if (arg->rsv & WSLAY_RSV1_BIT) {
      if (!inflate(text, &m.data)) return;
      const char* end = m.data.data() + m.data.size();
      if (!m.is_binary && !json::is_utf8(m.data.data(), end)) {
        return fail(WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA, "the text is not UTF-8");
      }
    } else {
      m.data = text;
    }
    kept_ += m.data.size();
    messages_.push_back(std::move(m));
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

  static ssize_t on_send(wslay_event_context_ptr, const std::uint8_t* data, std::size_t size, int,
                         void* self) {
    static_cast<WebSocket*>(self)->out_.append(reinterpret_cast<const char*>(data), size);
    return static_cast<ssize_t>(size);
  }

  static int on_genmask(wslay_event_context_ptr, std::uint8_t* buffer, std::size_t size, void*) {
    return getrandom(buffer, size, 0) == static_cast<ssize_t>(size) ? 0 : -1;
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
    wslay_event_send(context_);
    std::string rest = put_out();
    if (!rest.empty()) transport_->write(std::move(rest), nullptr);
  }

  void send_ping(std::string_view payload) {
    wslay_event_msg message{};
    message.opcode = WSLAY_PING;
    message.msg = reinterpret_cast<const std::uint8_t*>(payload.data());
    message.msg_length = payload.size();
    wslay_event_queue_msg(context_, &message);
    flush();
  }

  // ---- permessage-deflate: RFC 7692 -----------------------------------------------------------

  bool deflate(std::string_view data, std::string* out) {
    // Without a history over messages: it would cost memory for every connection.
    std::string error;
    auto encoder = compress::make_encoder("message", 0, &error);
    return encoder && encoder->write(data, compress::Encoder::Mode::kFlush, out) &&
           (out->resize(out->size() - 4), true);
  }

  bool inflate(std::string_view data, std::string* out) {
    constexpr std::string_view kTail("\0\0\xff\xff", 4);
    std::string error;
    if (!decoder_) decoder_ = compress::make_decoder("message", &error);
    if (!decoder_) return fail(WSLAY_CODE_INTERNAL_SERVER_ERROR, error.c_str()), false;
    decoder_->feed(data, false);
    decoder_->feed(kTail, false);
    for (;;) {
      std::size_t before = out->size();
      if (!decoder_->read(out, 65536)) {
        fail(WSLAY_CODE_INVALID_FRAME_PAYLOAD_DATA, "the compressed message is damaged");
        return false;
      }
      if (out->size() == before) return true;
      if (options_.most > 0 && out->size() > options_.most) {
        fail(WSLAY_CODE_MESSAGE_TOO_BIG, "the message is too long");
        return false;
      }
    }
  }

  // ---- time -----------------------------------------------------------------------------------

  // Asks now and then whether the peer is still there.
  void expect_life() {
    if (options_.ping_interval_ms == 0) return;
    auto fired = [](uv_timer_t* t) { static_cast<WebSocket*>(t->data)->check_life(); };
    std::uint64_t ms = is_asked_ ? options_.ping_timeout_ms : options_.ping_interval_ms;
    uv_timer_start(ping_timer_.get(), fired, ms, 0);
  }

  void check_life() {
    if (is_over()) return;
    if (is_asked_ && !is_alive_ && options_.ping_timeout_ms > 0) {
      reason_ = "the peer did not answer a ping";
      return cut_off();
    }
    bool asks = !is_asked_ || is_alive_;
    is_asked_ = options_.ping_timeout_ms > 0;
    is_alive_ = false;
    if (asks) send_ping("?");
    expect_life();
  }

  void give_time_to_close() {
    if (!close_timer_ || uv_is_active(reinterpret_cast<uv_handle_t*>(close_timer_.get()))) return;
    auto fired = [](uv_timer_t* t) { static_cast<WebSocket*>(t->data)->cut_off(); };
    uv_timer_start(close_timer_.get(), fired, options_.close_timeout_ms, 0);
  }

  std::unique_ptr<Transport> transport_;
  std::string name_;
  Options options_;
  wslay_event_context_ptr context_ = nullptr;
  std::string_view in_;
  std::string held_;              // came, and wslay does not get it yet
  std::uint64_t frame_left_ = 0;  // how much of the present frame it has not got
  std::string out_;
  std::deque<Message> messages_;
  std::size_t kept_ = 0;
  std::unique_ptr<compress::Decoder> decoder_;
  Handle<uv_timer_t> ping_timer_;
  Handle<uv_timer_t> close_timer_;
  WaitPoint point_;
  std::vector<Waiting*> waiting_;
  std::string close_reason_;
  std::string reason_;
  const char* fault_reason_ = "";
  int fault_ = 0;  // what we have found
  int code_ = 0;   // once it is over
  bool is_reading_ = false;
  bool has_half_code_ = false;  // the peer's close frame
  bool is_closing_ = false;
  bool has_ended_ = false;
  bool is_asked_ = false;  // a ping is on its way
  bool is_alive_ = true;   // something has come since
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
// close_timeout) -> socket
int open(lua_State* L) {
  Stream* stream = check_stream(L, 1, "open");
  Options options;
  options.is_server = lua_toboolean(L, 3) != 0;
  options.deflates = lua_toboolean(L, 4) != 0;
  options.most = static_cast<std::uint64_t>(luaL_checknumber(L, 5));
  options.ping_interval_ms = ms_of(L, 6);
  options.ping_timeout_ms = ms_of(L, 7);
  options.close_timeout_ms = ms_of(L, 8);
  std::string early = stream->take_input();
  early.append(view(L, 2));
  std::string name = stream->name();
  auto* socket = Class<WebSocket>::push(L, stream->release(), std::move(name), options);
  socket->start(early);
  return 1;
}

// recv(socket) -> data, is_binary; nil at the end
int recv(lua_State* L) { return check(L)->recv(L); }

// send(socket, data, is_binary) -> false if it is closing
int send(lua_State* L) {
  WebSocket* s = check(L);
  std::string_view data = view(L, 2);
  return s->send(L, data, lua_toboolean(L, 3) != 0, true);
}

// post(socket, data, is_binary): the same, without waiting.
int post(lua_State* L) { return check(L)->send(L, view(L, 2), lua_toboolean(L, 3) != 0, false); }

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

// backlog(socket) -> bytes that the peer has not taken
int backlog(lua_State* L) {
  lua_pushnumber(L, static_cast<lua_Number>(check(L)->backlog()));
  return 1;
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
  void* library = dlopen("libcrypto.so.3", RTLD_LAZY | RTLD_LOCAL);
  auto* digest = library ? reinterpret_cast<Sha1*>(dlsym(library, "SHA1")) : nullptr;
  if (!digest) {
    lua_pushnil(L);
    lua_pushstring(L, dlerror());
    return 2;
  }
  unsigned char out[20];
  std::string_view text = view(L, 1);
  digest(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out);
  lua_pushlstring(L, reinterpret_cast<char*>(out), sizeof out);
  return 1;
}

const rille_reg kFunctions[] = {{"open", open, 0},
                                {"recv", recv, RILLE_WAITS},
                                {"send", send, RILLE_WAITS},
                                {"post", post, 0},
                                {"ping", ping, RILLE_WAITS},
                                {"close", close, 0},
                                {"wait_for_end", wait_for_end, RILLE_WAITS},
                                {"cut_off", cut_off, 0},
                                {"state", state, 0},
                                {"backlog", backlog, 0},
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
