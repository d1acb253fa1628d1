#include "websocket_connection.h"

#include <utility>

#include "stream.h"

namespace rille::websocket {

namespace {

constexpr std::size_t kWorthCoding = 128;  // shorter messages go out as they are

bool deflate(std::string_view data, std::string* out) {
  // Without a history over messages: it would cost memory for every connection.
  std::string error;
  auto encoder = compress::make_encoder("message", 0, &error);
  return encoder && encoder->write(data, compress::Encoder::Mode::kFlush, out) &&
         (out->resize(out->size() - 4), true);
}

}  // namespace

const std::string& Broadcast::frame(bool deflates) {
  bool is_coded = deflates && data_.size() >= kWorthCoding;
  std::string& frame = is_coded ? coded_ : plain_;
  if (!frame.empty()) return frame;
  std::string coded;
  is_coded = is_coded && deflate(data_, &coded);
  append_frame(&frame, is_binary_ ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, is_coded,
               is_coded ? coded : data_, false);
  return frame;
}

int Waiting::push(lua_State* L, void* data) {
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

// ---- what tasks do ------------------------------------------------------------------------------

WebSocket::~WebSocket() {
  cut_off();
  for (Waiting* w : waiting_) w->socket = nullptr;
}

void WebSocket::start(std::string_view early) {
  if (options_.ping_interval_ms > 0) make_timer(&ping_timer_);
  expect_life();
  if (!early.empty()) received(early.data(), early.size());
  if (transport_ && !has_ended_) go_on_reading();
}

int WebSocket::recv(lua_State* L) {
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

int WebSocket::send(lua_State* L, std::string_view data, bool is_binary) {
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

void WebSocket::post(Broadcast* message) {
  if (options_.is_server) {
    out_.append(message->frame(options_.deflates));
  } else {
    queue(message->data(), message->is_binary());  // with a mask of its own
  }
  flush();
}

int WebSocket::ping(lua_State* L, std::string_view payload) {
  auto w = std::make_unique<Waiting>();
  w->is_ping = true;
  w->payload = payload;
  w->begun = uv_hrtime();
  send_ping(payload);
  return wait(L, std::move(w));
}

void WebSocket::close(int code, std::string_view reason) {
  if (is_over() || is_closing_) return;
  send_close(code, reason);
  flush();
  messages_.clear();
  kept_ = 0;
  go_on_reading();
  give_time_to_close();
}

int WebSocket::wait_for_end(lua_State* L) {
  if (is_over()) {
    lua_pushnil(L);
    return 1;
  }
  return wait(L, std::make_unique<Waiting>());
}

void WebSocket::cut_off() {
  if (draining_) std::exchange(draining_, nullptr)->socket = nullptr;
  transport_.reset();
  ping_timer_.reset();
  close_timer_.reset();
  if (code_ == 0) code_ = kCutOff;
  wake_all();
}

// ---- waiting ------------------------------------------------------------------------------------

int WebSocket::wait(lua_State* L, std::unique_ptr<Waiting> w) {
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

void WebSocket::wake_all() {
  for (Waiting* w : std::exchange(waiting_, {})) rille_complete(w->waiter, Waiting::push, w);
  point_.wake();
}

int WebSocket::push_message(lua_State* L) {
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

void WebSocket::end_with(int code, std::string reason) {
  if (is_over()) return;
  code_ = code;
  reason_ = std::move(reason);
  ping_timer_.reset();
  transport_->shutdown(nullptr);
  give_time_to_close();
  wake_all();
}

// ---- out ----------------------------------------------------------------------------------------

void WebSocket::queue(std::string_view data, bool is_binary) {
  std::string coded;
  bool is_coded = options_.deflates && data.size() >= kWorthCoding && deflate(data, &coded);
  send_frame(is_binary ? WSLAY_BINARY_FRAME : WSLAY_TEXT_FRAME, is_coded ? coded : data, is_coded);
}

void WebSocket::send_frame(unsigned opcode, std::string_view payload, bool is_coded) {
  append_frame(&out_, opcode, is_coded, payload, !options_.is_server);
}

void WebSocket::send_close(int code, std::string_view reason) {
  if (std::exchange(is_closing_, true)) return;
  std::string payload;
  if (code != kNoStatus) {
    payload.push_back(static_cast<char>(code >> 8));
    payload.push_back(static_cast<char>(code & 0xff));
    payload.append(reason);
  }
  send_frame(WSLAY_CONNECTION_CLOSE, payload, false);
}

std::string WebSocket::put_out() {
  std::string out = std::exchange(out_, {});
  if (out.empty() || !transport_) return {};
  uv_buf_t buffer = buffer_of(out);
  ssize_t n = transport_->try_write(&buffer, 1);
  // If the connection has failed, reading says so.
  if (n < 0) return {};
  out.erase(0, static_cast<std::size_t>(n));
  return out;
}

void WebSocket::flush() {
  std::string rest = put_out();
  if (!rest.empty()) transport_->write(std::move(rest), nullptr);
}

void WebSocket::send_ping(std::string_view payload) {
  send_frame(WSLAY_PING, payload, false);
  flush();
}

}  // namespace rille::websocket
