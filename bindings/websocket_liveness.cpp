// The times of a WebSocket: pings that ask whether the peer is still there, and its time to close.
#include <utility>

#include "websocket_connection.h"

namespace rille::websocket {

namespace {

constexpr int kTurns = 3;  // of the loop that a pong may be late because we are

}  // namespace

// They never keep the program going.
void WebSocket::make_timer(Handle<uv_timer_t>* timer) {
  timer->reset(new uv_timer_t);
  uv_timer_init(transport_->handle()->loop, timer->get());
  uv_unref(reinterpret_cast<uv_handle_t*>(timer->get()));
  (*timer)->data = this;
}

// Asks now and then whether the peer is still there.
void WebSocket::expect_life() {
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

void WebSocket::check_life_after(std::uint64_t ms) {
  auto fired = [](uv_timer_t* t) { static_cast<WebSocket*>(t->data)->check_life(); };
  uv_timer_start(ping_timer_.get(), fired, ms, 0);
}

void WebSocket::check_life() {
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

void WebSocket::give_time_to_close() {
  if (close_timer_ || !options_.close_timeout_ms) return;
  make_timer(&close_timer_);
  auto fired = [](uv_timer_t* t) { static_cast<WebSocket*>(t->data)->cut_off(); };
  uv_timer_start(close_timer_.get(), fired, *options_.close_timeout_ms, 0);
}

}  // namespace rille::websocket
